"""Run and benchmark folders from other people: no write leaves them, nothing in them is trusted, all output is text."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import stat
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.torch
import tomli_w
import torch
from conftest import SMALL
from PIL import Image

import zoo
from zoo.run.run_folder import RunFolder
from zoo.terminal import make_console, printable

pytestmark = pytest.mark.usefixtures("own_cache")

ESCAPES = "\x1b[2J\x1b]0;title\x07\u202e\u2066\x9b31m\r\x08"
"""Clears the screen, sets the title, reverses the text, colors it, overwrites the line."""


@pytest.fixture
def run(runs: Path, tmp_path: Path) -> Path:
    """A finished run of its own."""
    return Path(shutil.copytree(runs / "vae", tmp_path / "run"))


def contents(*folders: Path) -> dict[str, object]:
    """Every path below the folders with its type and content."""
    found: dict[str, object] = {}
    for path in (p for folder in folders for p in [folder, *folder.rglob("*")]):
        if path.is_symlink():
            found[str(path)] = os.readlink(path)
        else:
            found[str(path)] = path.read_bytes() if path.is_file() else stat.S_IFMT(path.stat().st_mode)
    return found


def is_clean(text: str) -> bool:
    return printable(text, keep="\n\t") == text


# Facts of the networks


def rewrite_model(run: Path, change: dict, tensors: dict | None = None, metadata: dict | None = None) -> None:
    """Alone in a folder, so that nothing but the file itself says what it is."""
    with safetensors.safe_open(run / "model.safetensors", "pt") as file:
        facts = json.loads(file.metadata()["zoo"])
    kept = safetensors.torch.load_file(run / "model.safetensors") if tensors is None else tensors
    facts = {k: v for k, v in {**facts, **change}.items() if v is not None and k != "sha256"}
    for path in [p for p in run.iterdir() if p.is_file()]:
        path.unlink()
    safetensors.torch.save_file(kept, run / "model.safetensors", metadata=metadata or {"zoo": json.dumps(facts)})


@pytest.mark.parametrize(
    ("change", "metadata", "words"),
    [
        ({"options": {"family": "mlp", "latent": 10**9}}, None, "its options ask for larger networks than its"),
        ({"options": {"family": "conv", "width": 10**6}}, None, "its options ask for larger networks than its"),
        ({"options": {"latent": 10**30}}, None, "latent: 1000000"),
        ({"options": 3}, None, "malformed: options is of another type"),
        ({"options": {"latent": [1]}}, None, "malformed: option latent"),
        ({"shape": [1, 10**6, 10**6]}, None, "malformed: shape must be"),
        ({"shape": [1, "8", 8]}, None, "malformed: shape must be"),
        ({"shape": [3, 4096, 4096]}, None, "its options ask for larger networks than its"),
        ({"classes": [1]}, None, "malformed: classes must be"),
        ({"model": None}, None, "malformed: model is missing"),
        ({"model": "vea"}, None, "unknown model 'vea'"),
        ({}, {"zoo": "{x"}, "not JSON"),
        ({}, {"zoo": "[]"}, "malformed: they are not an object"),
        ({}, {"zoo": "[" * 100_000}, "nested too deeply"),
        ({}, {"other": "{}"}, "not a file of a zoo run"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_facts_are_checked_before_networks_are_built(cli, run, change, metadata, words):
    rewrite_model(run, change, metadata=metadata)
    done = cli("sample", run)
    done.refused(done.status, words)
    assert done.status in (1, 2)
    assert is_clean(done.err)


def test_networks_that_do_not_fit_are_counted(cli, run):
    """Not torch's page of names."""
    tensors = safetensors.torch.load_file(run / "model.safetensors")
    first, second = [name for name in tensors if name.endswith("weight")][:2]
    tensors.pop(first)
    tensors[second] = tensors[second][:1].double().contiguous()
    tensors["x" + ESCAPES] = torch.zeros(1)
    rewrite_model(run, {}, tensors)
    done = cli("sample", run)
    done.refused(
        1,
        "does not fit the networks that vae now builds: 1 tensor missing",
        "1 tensor unknown",
        "1 tensor of another shape or type",
        "float64",
    )
    assert is_clean(done.err)


def test_networks_whose_bits_have_changed_are_refused(cli, run):
    """Also without a result that has their digest."""
    (run / "result.json").unlink()
    content = bytearray((run / "model.safetensors").read_bytes())
    content[-3] ^= 1
    (run / "model.safetensors").write_bytes(content)
    cli("sample", run).refused(1, "model.safetensors is damaged: its content has changed")


@pytest.mark.parametrize("name", ["config.toml", "result.json", "model.safetensors"])
def test_a_file_of_another_seed_is_refused(cli, run, tmp_path, name):
    """Each of the three names the run that it belongs to."""
    other = tmp_path / "other"
    zoo.train("vae", out=other, epochs=1, seed=1, **SMALL)
    shutil.copy(other / name, run / name)
    cli("sample", run).refused(1, "is of another run than")
    cli("eval", run).refused(1, "is of another run than")
    if name == "model.safetensors":
        (run / "result.json").unlink()
        cli("sample", run).refused(1, "is of another run than config.toml: seed 1")
    else:
        cli("compare", run, other).refused(1, "result.json is of another run than config.toml: seed")
    if name != "model.safetensors":
        done = cli("run", "--resume", "--out", run)
        done.refused(done.status, "seed")
        assert "finished" not in done.out


def test_a_checkpoint_whose_bits_have_changed_is_refused(cli, tmp_path):
    args = [
        "run",
        "vae",
        "--family",
        "mlp",
        "--width",
        4,
        "--epochs",
        1,
        "--extractor",
        "none",
        "--out",
        tmp_path / "r",
    ]
    assert cli(*args).status == 0
    for name in ("result.json", "model.safetensors"):
        (tmp_path / "r" / name).unlink()
    state = tmp_path / "r" / "checkpoint" / "state.safetensors"
    content = bytearray(state.read_bytes())
    content[-9] ^= 4
    state.write_bytes(content)
    cli(*args, "--resume").refused(1, "is damaged: its content has changed", "delete it, and --resume begins anew")


# Links and special files


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder that nobody may touch."""
    folder = tmp_path / "outside"
    (folder / "checkpoint").mkdir(parents=True)
    for name in ("file", "checkpoint/.x.tmp", "checkpoint/state.safetensors"):
        (folder / name).write_bytes(b"mine")
    return folder


@pytest.mark.parametrize(
    ("name", "target"),
    [
        *((name, "file") for name in (".lock", "metrics.jsonl", "samples.png", "curves.png", "config.toml")),
        (".progress.json", "file"),
        ("log.txt", "file"),
        ("samples.gif", "file"),
        ("checkpoint", "checkpoint"),
        ("snapshots", "checkpoint"),
    ],
)
def test_no_write_follows_a_link_in_a_run_folder(cli, run, outside, name, target):
    before = contents(outside)
    shutil.rmtree(run / name) if (run / name).is_dir() else (run / name).unlink(missing_ok=True)
    (run / "result.json").unlink()
    (run / name).symlink_to(outside / target)
    done = cli("run", "--resume", "--out", run)
    done.refused(2, str(run / name), "symbolic link") if name != "config.toml" else done.refused(2, "config.toml")
    assert contents(outside) == before


@pytest.mark.parametrize("name", ["grid.png", "codes.npz", "eval-classifier.json"])
def test_no_output_follows_a_link(cli, run, outside, name):
    before = contents(outside)
    (run / name).symlink_to(outside / "file")
    command = {"grid.png": "sample", "codes.npz": "encode", "eval-classifier.json": "eval"}[name]
    args = ["--metrics", "quick"] if command == "eval" else []
    cli(command, run, *args).refused(1, str(run / name), "symbolic link")
    assert contents(outside) == before


BENCH = ["bench", "--models", "vae", "--seeds", 1, "--jobs", 1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("digits", "checkpoint"),
        ("digits/vae", "checkpoint"),
        ("digits/vae/seed0", "checkpoint"),
        ("digits/vae/seed0/.bench.lock", "file"),
        ("digits/vae/seed0/log.txt", "file"),
        ("digits/vae/seed0/.progress.json", "file"),
        ("digits/vae/seed0/.progress.tmp", "file"),
        ("digits/vae/seed0/failed.json", "file"),
        ("digits/vae/seed0/checkpoint", "checkpoint"),
        ("protocol.toml", "file"),
        (".protocol.lock", "file"),
    ],
)
def test_no_write_follows_a_link_in_a_benchmark(cli, tmp_path, outside, name, target):
    out, before = tmp_path / "bench", contents(outside)
    (tmp_path / "p.toml").write_text(
        'name = "small"\nversion = 1\n[train]\nimages = 640\n[options]\nfamily = "mlp"\nwidth = 4\n'
        '[evaluate]\nextractor = "none"\n'
    )
    (out / name).parent.mkdir(parents=True)
    if name not in ("protocol.toml", ".protocol.lock"):
        from zoo.bench.bench_protocol import BenchProtocol

        (out / "protocol.toml").write_text(BenchProtocol.from_file(tmp_path / "p.toml").to_toml())
    (out / name).symlink_to(outside / target)
    done = cli(*BENCH, "--protocol", tmp_path / "p.toml", "--out", out)
    assert done.status in (1, 2), done.out
    assert "link" in done.out + done.err
    assert done.err.count("\n") == 1
    assert contents(outside) == before


@pytest.mark.parametrize("device", ["full", "null"])
def test_a_device_is_not_replaced(cli, run, runs, tmp_path, device):
    """Whoever runs as root would lose it."""
    node = Path("/dev") / device
    before = node.stat().st_mode, node.stat().st_rdev
    assert stat.S_ISCHR(before[0])
    cli("sample", run, "-n", 2, "--out", node).refused(1, str(node))
    cli("leaderboard", runs, "--format", "md", "--out", node).refused(1, str(node), "not a regular file")
    (tmp_path / "x.png").symlink_to(node)
    cli("sample", run, "-n", 2, "--out", tmp_path / "x.png").refused(1, "symbolic link")
    assert (node.stat().st_mode, node.stat().st_rdev) == before


# Output


def test_every_command_prints_through_one_filter():
    """No other print, echo or console in the command line and the benchmark."""
    root = Path(zoo.__file__).parent
    for path in [*(root / "cli").rglob("*.py"), *(root / "bench").rglob("*.py")]:
        text = path.read_text()
        if path.name != "console.py":
            assert "click.echo(" not in text, path
            assert " Console(" not in text.replace("-> Console(", ""), path
        for line in text.splitlines():
            if line.lstrip().startswith("print("):
                assert "printable(" in line or "json.dumps(" in line, f"{path}: {line}"


def test_a_console_prints_no_control_characters():
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=ESCAPES)
    table.add_column(ESCAPES)
    table.add_row(escape(ESCAPES))
    console = make_console(width=200)
    console.file = io.StringIO()
    console.print(table)
    console.print(ESCAPES, markup=False)
    assert is_clean(console.file.getvalue())
    assert "\\x1b[2J" in console.file.getvalue()


def test_printable_keeps_text():
    for text in ("plain", "vaegan → 1.5 ± 0.2", "图像", "é" + "e\u0301", "नमस्ते"):
        assert printable(text).isprintable()
        assert "\\" not in printable(text)
    assert printable("a\nb") == "a\\nb"
    assert printable("a\nb", keep="\n") == "a\nb"


def test_escapes_in_a_config_reach_no_terminal(cli, run, runs, tmp_path):
    with (run / "config.toml").open("rb") as file:
        config = __import__("tomllib").load(file)
    (run / "config.toml").write_text(tomli_w.dumps({**config, "dataset": f"folder:/{ESCAPES}"}))
    for command in (["sample", run], ["run", "--resume", "--out", run], ["run", "--config", run / "config.toml"]):
        done = cli(*command)
        assert done.status != 0
        assert is_clean(done.out + done.err), command
    found = json.loads((run / "result.json").read_text())
    del found["content_sha256"]
    value = found["scores"].pop("FD-classifier")
    found["scores"][f"FD-{ESCAPES}"] = value
    found["model"] = ESCAPES
    (tmp_path / "a.json").write_text(json.dumps(found))
    done = cli("compare", tmp_path / "a.json", runs / "vae" / "result.json")
    assert is_clean(done.out + done.err)
    found["protocol"]["resize"] = ESCAPES
    (tmp_path / "a.json").write_text(json.dumps(found))
    done = cli("compare", tmp_path / "a.json", runs / "vae" / "result.json")
    done.refused(1, "protocol's resize is not a line of text")
    assert is_clean(done.out + done.err)
    protocol = {"name": ESCAPES, "version": 1, "about": ESCAPES, "options": {ESCAPES: 1}, "train": {"epochs": 1}}
    (tmp_path / "p.toml").write_text(tomli_w.dumps(protocol))
    for dataset in ("digits", ESCAPES):
        args = ["--models", "vae", "--datasets", dataset, "--seeds", 1, "--protocol", tmp_path / "p.toml", "--dry-run"]
        done = cli("bench", *args, "--out", tmp_path / "b")
        assert is_clean(done.out + done.err), done.out + done.err


def test_names_of_images_reach_no_terminal(cli, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(12):
        Image.fromarray(np.full((10, 10), i, np.uint8)).save(folder / f"{i}.png")
    (folder / f"{ESCAPES}.png").write_bytes(b"no image")
    args = ["run", "vae", "--family", "mlp", "--width", 4, "--epochs", 1, "--batch", 4, "--extractor", "none"]
    done = cli(*args, "--dataset", f"folder:{folder}", "--out", tmp_path / "run")
    assert done.status == 0, done.err
    assert "\\x1b[2J" in done.out
    assert is_clean(done.out + done.err)


@pytest.mark.parametrize("command", ["reconstruct", "encode", "interpolate", "eval"])
def test_a_command_says_which_images_of_this_machine_it_reads(cli, runs, tmp_path, command):
    run = Path(shutil.copytree(runs / "color", tmp_path / "run"))
    args = ["--extractor", "classifier", "--metrics", "quick"] if command == "eval" else []
    done = cli(command, run, *args)
    assert done.status == 0, done.err
    assert f"note: reads the images in {runs / 'pictures'}, which {run} names" in done.err


def test_a_progress_file_is_shown_as_text(tmp_path):
    from zoo.bench.cells import read_progress

    for content in (
        b"[" * 50_000,
        b"5",
        b'{"images": "a"}',
        b"\xff",
        b'{"images": 1, "total": 2, "phase": 3, "pid": 4}',
    ):
        (tmp_path / ".progress.json").write_bytes(content)
        found = read_progress(tmp_path)
        assert found is None or found.phase == "3"


def test_a_folder_without_a_config_is_not_read_through_a_pipe(cli, run):
    for name in ("model.safetensors", "config.toml", "result.json", "metrics.jsonl"):
        (run / name).unlink()
        os.mkfifo(run / name)
    for command in (["sample", run], ["compare", run, run], ["eval", run], ["run", "--resume", "--out", run]):
        assert cli(*command).status in (1, 2)


def test_digests_of_files_are_those_of_their_content(run):
    facts = RunFolder(run).load_model()[1]
    assert facts["settings"]["seed"] == 0
    assert "data_dir" not in facts["settings"]
    digest = hashlib.sha256((run / "model.safetensors").read_bytes()).hexdigest()
    assert json.loads((run / "result.json").read_text())["weights_sha256"] == digest
    assert sys.getrecursionlimit() >= 1000
