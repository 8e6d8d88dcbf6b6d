"""A mistake gives one line with the argument, the value and what is allowed; it costs no memory, time or run."""

from __future__ import annotations

import ast
import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import SMALL
from PIL import Image

import zoo
from zoo.errors import unknown_name
from zoo.run.run_folder import RunFolder

pytestmark = pytest.mark.usefixtures("own_cache")

ZOO = Path(sys.executable).with_name("zoo")
QUICK = ["--family", "mlp", "--width", "4", "--epochs", "1", "--extractor", "none"]
LONG = "x" * 256
HUGE = str(10**20)


@pytest.fixture
def run(runs: Path, tmp_path: Path) -> Path:
    """A finished run of its own."""
    return Path(shutil.copytree(runs / "vae", tmp_path / "run"))


@pytest.fixture(autouse=True)
def _in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


RUN = ["run", "vae", *QUICK]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([*RUN, "--image-size", "²"], ["image_size: '²' is not allowed"]),
        ([*RUN, "--out", LONG], ["out: ", "at most 255 bytes, not 256"]),
        ([*RUN, "--out", f"a/{LONG}/b"], ["out: ", "at most 255 bytes"]),
        ([*RUN, "--config", LONG], ["config: ", "at most 255 bytes"]),
        ([*RUN, "--out", ""], ["out: '' is not allowed; must be a path"]),
        ([*RUN, "--config", ""], ["config: '' is not allowed"]),
        ([*RUN, "--data-dir", ""], ["data_dir: '' is not allowed"]),
        ([*RUN, "--out", "r\udcff"], ["out: 'r\\udcff' is not allowed; must be UTF-8"]),
        ([*RUN, "--dataset", "folder:r\udcff"], ["dataset: ", "is not allowed; must be UTF-8"]),
        ([*RUN, "--latent", HUGE], [f"latent: {HUGE} is not allowed; must be between", str(2**63 - 1)]),
        ([*RUN, "--latent", str(10**18)], ["latent, width: networks of more than", "memory"]),
        ([*RUN, "--latent", str(10**10)], ["latent, width: networks of more than", "memory"]),
        (["run", "vae", "--epochs", "1", "--width", "1000000"], ["latent, width: networks of more than"]),
        ([*RUN, "--samples", str(10**9)], ["samples: 1000000000 is not allowed; must be between 2 and 1000000"]),
        ([*RUN, "--batch", str(10**9)], ["batch: 1000000000 is not allowed", "1,297 training images"]),
        (["sample", LONG], ["run: ", "at most 255 bytes"]),
        (["sample", ""], ["run: '' is not allowed"]),
        (["sample", "RUN", "--out", ""], ["out: '' is not allowed"]),
        (["sample", "RUN", "--out", LONG + ".png"], ["out: ", "at most 255 bytes"]),
        (["sample", "RUN", "--seed", str(2**64)], ["--seed", str(2**64), "0<=x<=18446744073709551615"]),
        (["sample", "RUN", "-n", str(10**9)], ["n: 1,000,000,000 is not allowed", "memory", "use a smaller -n"]),
        (["sample", "RUN", "-n", str(10**5)], ["n: 100,000 is not allowed; a picture of", "--out FILE.npy"]),
        (["traverse", "RUN", "--steps", str(10**5)], ["steps: 100,000 is not allowed; a picture of"]),
        (["traverse", "RUN", "--steps", str(10**12)], ["steps: 1,000,000,000,000 is not allowed"]),
        (["interpolate", "RUN", "--steps", str(10**9)], ["rows: 8 is not allowed; a picture of", "--steps"]),
        (["eval", "RUN", "-n", str(10**9)], ["-n", "2<=x<=1000000"]),
        (["eval", "RUN", "--out", ""], ["out: '' is not allowed"]),
        (["encode", "RUN", "--out", ""], ["out: '' is not allowed"]),
        (["leaderboard", "RUN", "--out", ""], ["out: '' is not allowed"]),
        (["leaderboard", ""], ["directories: '' is not allowed"]),
        (["compare", "RUN", ""], ["run_b: '' is not allowed"]),
        (["bench", "--out", ""], ["out: '' is not allowed"]),
        (
            ["bench", "--out", "b", "--seeds", str(10**12), "--dry-run"],
            ["seeds: 1e+12 is not allowed", "at most 1,000"],
        ),
        (["bench", "--out", "b", "--protocol", LONG], ["protocol", "at most 255 bytes"]),
        (["new", "x", "--out", ""], ["out: '' is not allowed"]),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else None,
)
def test_a_value_that_is_not_allowed(cli, runs, args, words):
    cli(*(runs / "vae" if a == "RUN" else a for a in args)).refused(2, *words)
    assert not (Path.cwd() / "runs").exists()


def test_a_name_too_long_in_a_path_of_images(cli):
    cli(*RUN, "--dataset", f"folder:/tmp/{LONG}", "--out", "r").refused(1, "File name too long")


def test_the_largest_seed_of_torch_is_allowed(cli, runs):
    assert cli("sample", runs / "vae", "--seed", 2**64 - 1, "-n", 2, "--out", "a.npy").status == 0


def test_the_python_interface_refuses_an_empty_path():
    with pytest.raises(zoo.UsageError, match="out: '' is not allowed"):
        zoo.train("vae", out="", **SMALL)


# TOML


def test_a_byte_order_mark_is_allowed(cli):
    Path("c.toml").write_bytes(b'\xef\xbb\xbfmodel = "vae"\nepochs = 0\nextractor = "none"\n')
    assert cli("run", "--config", "c.toml", "--out", "r").status == 0


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"a = " + b"[" * 20_000, "nested too deeply"),
        (b"a = " + b"{b = " * 5_000, "nested too deeply"),
        (b"\xff\xfe", "not UTF-8"),
        (b"a = " + b"9" * 5_000, "is not TOML"),
        (b"#" * (5 << 20), "more than 4,194,304 bytes"),
    ],
    ids=["lists", "tables", "UTF-16", "digits", "size"],
)
@pytest.mark.parametrize("command", [["run", "--config"], ["bench", "--out", "b", "--protocol"]], ids=["run", "bench"])
def test_toml_that_cannot_be_read(cli, content, word, command):
    Path("c.toml").write_bytes(content)
    cli(*command, "c.toml").refused(2, "c.toml", word)


# Names


@pytest.mark.parametrize("name", ["none", "true", "false", "tensor", "mapping", "class-var", "exception", "my-model"])
def test_a_new_package_is_valid_python(cli, name):
    assert cli("new", name, "--out", "p").status == 0
    files = list(Path("p").rglob("*.py"))
    for file in files:
        ast.parse(file.read_text())
    module = next(f for f in files if f.parent.name == "p").read_text()
    cls = next(node.name for node in ast.walk(ast.parse(module)) if isinstance(node, ast.ClassDef))
    assert cls not in ("Tensor", "Mapping", "ClassVar", "Exception")


@pytest.mark.parametrize(
    ("name", "known", "suggested"),
    [
        ("gna", ["gan", "vae"], "gan"),
        ("vagan", ["vae", "vaegan"], "vaegan"),
        ("mnst", ["mnist", "kmnist"], "mnist"),
        ("sample", ["aae", "alpha-gan"], None),
        ("hello", ["encode", "eval", "leaderboard"], None),
        ("xyz", ["vae", "avb"], None),
        ("cifar100", ["cifar10", "celeba"], "cifar10"),
    ],
)
def test_only_a_similar_name_is_suggested(name, known, suggested):
    text = str(unknown_name("model", name, known))
    assert ("Did you mean" in text) is (suggested is not None)
    if suggested:
        assert repr(suggested) in text


# Plural


def test_one_is_singular(cli, run):
    done = cli(*RUN, "--out", "r")
    assert "(1 epoch, " in done.out
    assert cli("sample", run, "-n", 1).out.startswith("wrote 1 image to ")
    assert cli("traverse", run, "--dims", 1).out.startswith("wrote 1 traversal to ")


# Data


def pictures(folder: Path, count: int) -> Path:
    folder.mkdir(parents=True)
    for i in range(count):
        Image.fromarray(np.full((10, 10), i, np.uint8)).save(folder / f"{i}.png")
    return folder


@pytest.mark.parametrize(("count", "words"), [(1, "has 1 image; at least 3"), (2, "has 2 images; at least 3")])
def test_a_folder_of_too_few_images_says_how_many_it_takes(cli, tmp_path, count, words):
    dataset = f"folder:{pictures(tmp_path / 'p', count)}"
    cli(*RUN, "--dataset", dataset, "--batch", 2, "--out", "r").refused(2, words)


def test_the_smallest_folder_trains(cli, tmp_path):
    dataset = f"folder:{pictures(tmp_path / 'p', 3)}"
    assert cli(*RUN, "--dataset", dataset, "--batch", 2, "--out", "r").status == 0


def test_labels_of_another_file_name_files_and_set(cli, tmp_path):
    def idx(name: str, shape: tuple[int, ...]) -> None:
        header = b"\0\0\x08" + bytes([len(shape)]) + b"".join(n.to_bytes(4, "big") for n in shape)
        (raw / name).write_bytes(header + bytes(int(np.prod(shape))))

    raw = tmp_path / "data" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part, labels in (("train", 50), ("t10k", 10)):
        idx(f"{part}-images-idx3-ubyte", (60 if part == "train" else 10, 28, 28))
        idx(f"{part}-labels-idx1-ubyte", (labels,))
    done = cli(*RUN, "--dataset", "mnist", "--data-dir", tmp_path / "data", "--out", "r")
    done.refused(1, "mnist: train-images-idx3-ubyte", "train-labels-idx1-ubyte", "(60, 28, 28) and (50,)", "raw")


def test_a_validation_folder_is_named(tmp_path):
    """It was dropped without a word: now used where there is no test folder, else named as unused."""
    from zoo.data import DataOptions, open_folder

    for part in ("train", "validation", "test"):
        pictures(tmp_path / "all" / part, 4)
    with pytest.warns(match=r"only train/ and test/ are read, not validation/"):
        data = open_folder(tmp_path / "all", DataOptions())
    assert (len(data.train), len(data.test)) == (4, 4)
    shutil.rmtree(tmp_path / "all" / "test")
    with pytest.warns(match=r"there is no test/; validation/ is the test split"):
        data = open_folder(tmp_path / "all", DataOptions())
    assert (len(data.train), len(data.test), data.classes) == (4, 4, ())


@pytest.mark.slow
@pytest.mark.parametrize("extractor", ["inception", "dinov2"])
def test_weights_of_an_extractor_are_checked_before_training(cli, runs, tmp_path, monkeypatch, extractor):
    (tmp_path / "weights").write_bytes(b"not weights")
    monkeypatch.setenv(f"ZOO_{extractor.upper()}_WEIGHTS", str(tmp_path / "weights"))
    args = ["run", "vae", *QUICK[:-1], extractor, "--dataset", f"folder:{runs / 'pictures'}", "--batch", 8]
    cli(*args, "--out", "r").refused(1, f"{extractor}: ", str(tmp_path / "weights"))
    assert not Path("r").exists()


# Results and metrics


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"xx", "not JSON"),
        (b"[]", "no scores"),
        (b"\xff\xfe", "not UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"scores": {"FD-classifier": NaN}, "protocol": {}}', "NaN is not a number of JSON"),
        (b'{"scores": {"FD-classifier": "1"}, "protocol": {}}', "score FD-classifier is not a number"),
        (b'{"scores": {"FD-classifier": 1e999}, "protocol": {}}', "score FD-classifier is not a number"),
        (b'{"scores": {}, "protocol": "x"}', "its protocol is not an object"),
        (b'{"scores": {}, "settings": {"seed": "x"}, "model": "vae"}', "seed: 'x' is not allowed"),
        (b'{"scores": {}, "settings": {}, "model": 3}', "must be strings"),
    ],
    ids=["text", "list", "UTF-16", "nested", "NaN", "string", "infinite", "protocol", "settings", "model"],
)
def test_a_result_that_cannot_be_read(cli, run, runs, content, words):
    """One line from every command, and ``--resume`` does not call it finished."""
    (run / "result.json").write_bytes(content)
    for command in (["compare", run, runs / "vae"], ["run", "--resume", "--out", run], ["sample", run], ["eval", run]):
        done = cli(*command)
        done.refused(1, str(run / "result.json"), words, "delete it")
        assert "finished" not in done.out
    (run / "result.json").unlink()
    assert cli("run", "--resume", "--out", run).status == 0
    assert cli("compare", run, runs / "vae").status == 0


def test_a_changed_score_is_noticed(cli, run, runs, tmp_path):
    text = (run / "result.json").read_text()
    _, value = next(iter(json.loads(text)["scores"].items()))
    (run / "result.json").write_text(text.replace(repr(value), repr(value / 2)))
    cli("compare", run, runs / "vae").refused(1, "result.json is damaged: its content has changed")
    done = cli("leaderboard", run)
    done.refused(1, "no results to rank", "changed after it was written")


@pytest.mark.parametrize(
    "change",
    [
        {"protocol": {"extractor": 3}},
        {"protocol": {"extractor": "x"}},
        {"score_info": {"FD": 3}},
        {"scores": {"[red]x[/nothing]": 1.0}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_entries_of_an_evaluation_are_checked(cli, run, runs, change):
    found = {**json.loads((run / "result.json").read_text()), **change}
    found.pop("content_sha256")
    Path("a.json").write_text(json.dumps(found))
    done = cli("compare", "a.json", runs / "vae" / "result.json")
    if "scores" in change:
        assert "[red]x[/nothing]" in done.out  # no markup
    else:
        done.refused(1, "a.json")


@pytest.mark.parametrize(
    "line", [b"5", b"null", b'{"step": "a"}', b'{"step": 1}', b"\xff", b"[" * 50_000, b'{"step": 1']
)
def test_a_malformed_line_of_metrics_is_left_out_and_named(cli, run, line):
    (run / "result.json").unlink()
    lines = (run / "metrics.jsonl").read_bytes().splitlines()
    (run / "metrics.jsonl").write_bytes(b"\n".join([*lines[:5], line, *lines[5:]]) + b"\n")
    done = cli("run", "--resume", "--out", run)
    assert done.status == 0, done.err
    assert "1 malformed line removed" in done.out
    assert (run / "metrics.jsonl").read_bytes() == b"\n".join(lines) + b"\n"
    assert len(RunFolder(run).logged()) == len(lines)


# Output


@pytest.mark.slow
@pytest.mark.parametrize("pipe", ["| head -1", "> /dev/full", ">&-", ">&- 2>&-"])
def test_output_that_fails_costs_no_training(tmp_path, pipe, cache):
    """A closed pipe or a full disk takes the messages, not the run."""
    if "full" in pipe and not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system")
    command = f"{ZOO} {' '.join(RUN)} --out r {pipe}"
    env = {**os.environ, "ZOO_CACHE": str(cache)}
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, env=env, check=False)
    assert (tmp_path / "r" / "result.json").is_file(), done.stderr
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr
    assert b"Exception ignored" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("pipe", "error"), [("| head -0", b""), ("> /dev/full", b"No space left on device")])
def test_a_command_whose_output_is_its_result_fails_in_one_line(pipe, error):
    command = f"set -o pipefail; {ZOO} list models {pipe}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, check=False)
    assert done.returncode == (1 if error else done.returncode)  # a pipe may be closed after the last line
    assert error in done.stderr
    assert done.stderr.count(b"\n") <= 1


def test_memory_that_runs_out_is_one_line(cli, runs, monkeypatch):
    import zoo.run

    def fail(run: object) -> None:
        np.empty(1 << 60, np.uint8)

    monkeypatch.setattr(zoo.run, "load", fail)
    cli("sample", runs / "vae").refused(1, "out of memory; use a smaller batch")


def test_the_limit_of_the_process_counts(monkeypatch):
    from zoo.memory import total_memory

    monkeypatch.setattr(resource, "getrlimit", lambda which: (1 << 30, 1 << 30))
    assert total_memory() == 1 << 30
