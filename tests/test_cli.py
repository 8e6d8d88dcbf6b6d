"""The command line: one-line errors, exit statuses, and the output of each command."""

from __future__ import annotations

import io
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest
import torch
from conftest import SMALL
from PIL import Image
from rich.console import Console

import zoo
from zoo.cli.main import cli as group
from zoo.cli.progress import LiveProgress, PlainProgress, score_table
from zoo.options import get_options
from zoo.registry import registry
from zoo.run import RunSettings
from zoo.run.run_folder import RunFolder

pytestmark = pytest.mark.usefixtures("own_cache")
QUICK = ["--family", "mlp", "--width", "4", "--epochs", "1", "--extractor", "none"]


def weights(run: Path) -> bytes:
    return (run / "model.safetensors").read_bytes()


def test_help_is_laid_out(cli):
    text = cli("--help").out
    assert "\\b" not in text
    assert "  zoo run vaegan --dataset mnist" in text


# Wrong usage


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["rnu", "vae"], ["unknown command 'rnu'", "Did you mean 'run'"]),
        (["--color"], ["--color"]),
        (["run"], ["model", "zoo list models"]),
        (["run", "vaegn"], ["unknown model 'vaegn'", "Did you mean 'vaegan'", "Available: "]),
        (["run", "--epochs", "1", "vaegn"], ["unknown model 'vaegn'"]),
        (["run", "vaegn", "--gamma", "1"], ["unknown model 'vaegn'"]),
        (["run", "vae", "gan"], ["gan"]),
        (["run", "vae", "--wdth", "3"], ["option of zoo run vae", "--wdth", "Did you mean '--width'"]),
        (["run", "vae", "--gamma", "1"], ["option of zoo run vae", "'--gamma'"]),
        (["run", "vae", "--epcohs", "1"], ["option of zoo run vae", "Did you mean '--epochs'"]),
        (["run", "--epcohs", "1", "vae"], ["setting of zoo run", "Did you mean '--epochs'"]),
        (["run", "--width", "4", "vae"], ["--width", "must follow", "zoo run vae --width"]),
        (["run", "--beta1=0", "--epochs", "1"], ["--beta1", "must follow", "zoo run aae --beta1"]),
        (["run", "--saturating"], ["--saturating", "must follow", "zoo run"]),
        (["run", "vae", "--width"], ["--width"]),
        (["run", "vae", "--epochs"], ["--epochs"]),
        (["run", "vae", "--width", "wide"], ["--width", "'wide'", "integer"]),
        (["run", "vae", "--width", "0"], ["width: 0 is not allowed", "at least 1"]),
        (["run", "vae", "--lr", "0"], ["lr: 0.0 is not allowed", "above 0"]),
        (["run", "vae", "--beta1", "1"], ["beta1", "below 1"]),
        (["run", "vae", "--likelihood", "cauchy"], ["likelihood", "'cauchy'", "gaussian"]),
        (["run", "vaegan", "--gamma", "nan"], ["gamma: nan is not allowed"]),
        (["run", "vae", "--epochs", "-1"], ["epochs: -1 is not allowed", "at least 0"]),
        (["run", "vae", "--batch", "5000"], ["batch: 5000 is not allowed", "1,297"]),
        (["run", "vae", "--batch", "1"], ["batch: 1 is not allowed", "at least 2"]),
        (["run", "vae", "--seed", "-1"], ["seed: -1 is not allowed"]),
        (["run", "vae", "--seed", "99999999999999999999"], ["seed", "not allowed"]),
        (["run", "vae", "--precision", "fp8"], ["precision", "fp32"]),
        (["run", "vae", "--device", "tpu"], ["device", "'tpu'"]),
        (["run", "vae", "--image-size", "5"], ["image_size: '5' is not allowed", "between 8 and 128"]),
        (["run", "vae", "--image-size", "big"], ["image_size: 'big' is not allowed", "64x48"]),
        (["run", "vae", "--channels", "2"], ["channels", "1 or 3"]),
        (["run", "vae", "--samples", "1"], ["samples: 1 is not allowed"]),
        (["run", "vae", "--extractor", "clasifier"], ["unknown extractor", "Did you mean 'classifier'"]),
        (["run", "vae", "--dataset", "digts"], ["unknown data set 'digts'", "Did you mean 'digits'"]),
        (["run", "vae", "--dataset", "folder:/no/such"], ["/no/such"]),
        (["run", "vae", "--dataset", "folder:"], ["folder:", "path"]),
        (["run", "vae", "--data-dir", "/no/such"], ["data_dir", "/no/such"]),
        (["run", "--config", "/no/such.toml"], ["config", "/no/such.toml"]),
        (["show", "vaegn"], ["Did you mean 'vaegan'"]),
        (["list", "modles"], ["modles"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) and value[0] in ("run", "show", "list", "rnu") else "",
)
def test_wrong_usage(cli, tmp_path, args, words):
    """The argument, the value, what is allowed; status 2; and no folder is left behind."""
    out = tmp_path / "run"
    cli(*args, *(["--out", out] if args[0] == "run" else [])).refused(2, *words)
    assert not out.exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('model = "vae"\nepoch = 3', ["unknown setting 'epoch'", "Did you mean 'epochs'"]),
        ('model = "vae"\n[options]\nwdth = 3', ["unknown option of VAE 'wdth'", "Did you mean 'width'"]),
        ('model = "vea"', ["unknown model 'vea'", "Did you mean 'vae'"]),
        ('model = "vae"\nepochs = "3"', ["epochs: '3' is not allowed", "int"]),
        ('model = "vae"\nseed = true', ["seed: True is not allowed", "int"]),
        ('model = "vae"\n[options]\nlatent = 2.5', ["latent: 2.5 is not allowed", "int"]),
        ('model = "vae"\n[options]\nlr = nan', ["lr: nan is not allowed"]),
        ('model = "vae"\noptions = 3', ["'options' a table"]),
        ("model = vae", ["is not TOML"]),
        ("\0\1", ["is not TOML"]),
        ("", ["model"]),
    ],
)
def test_wrong_config(cli, tmp_path, text, words):
    """A settings file is checked like flags are."""
    (tmp_path / "config.toml").write_text(text)
    cli("run", "--config", tmp_path / "config.toml", "--out", tmp_path / "run").refused(2, *words)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("content", [b"\xff\xfe", None], ids=["not utf-8", "a folder"])
def test_config_that_cannot_be_read(cli, tmp_path, content):
    path = tmp_path / "config.toml"
    path.mkdir() if content is None else path.write_bytes(content)
    cli("run", "--config", path, "--out", tmp_path / "run").refused(2, "cannot be read", str(path))


def test_missing_gpu(cli, tmp_path, monkeypatch):
    """A GPU that was asked for and is not there is never replaced in silence."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    cli("run", "vae", *QUICK, "--device", "cuda", "--out", tmp_path / "run").refused(1, "CUDA", "--device cpu")
    assert not (tmp_path / "run").exists()


def test_missing_data(cli, tmp_path, monkeypatch):
    """A download that fails says how to supply the file by hand; nothing is left."""

    def offline(url, *_args, **_kwargs):
        raise OSError("no network")

    monkeypatch.setattr("torchvision.datasets.utils.download_url", offline)
    monkeypatch.setenv("ZOO_DATA", str(tmp_path))
    cli("run", "vae", *QUICK, "--dataset", "mnist", "--out", tmp_path / "run").refused(1, "no network", "by hand")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("place", ["below a file", "a file", "/proc/zoo"])
def test_unwritable_folder(cli, tmp_path, place):
    """Where no folder can be made, the run ends before it began."""
    (tmp_path / "file").write_text("mine")
    out = {"below a file": tmp_path / "file" / "run", "a file": tmp_path / "file"}.get(place, Path(place))
    cli("run", "vae", *QUICK, "--out", out).refused(2, f"cannot write to {out}")
    assert (tmp_path / "file").read_text() == "mine"


def test_foreign_folder(cli, tmp_path):
    """A folder with something else in it is not touched: no lock, no settings, nothing tidied away."""
    (tmp_path / "holiday.jpg").write_text("beach")
    (tmp_path / ".draft.tmp").write_text("poem")
    for resume in ([], ["--resume"]):
        cli("run", "vae", *QUICK, "--out", tmp_path, *resume).refused(2, "not a run folder", "holiday.jpg", "--out")
        assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"holiday.jpg": "beach", ".draft.tmp": "poem"}


def test_folder_of_another_run(cli, runs):
    """A finished run is not overwritten, and its folder takes no other."""
    before = {p: p.read_bytes() for p in (runs / "vae").rglob("*") if p.is_file()}
    cli("run", "vae", *QUICK, "--out", runs / "vae").refused(2, "a finished run (vae on digits, seed 0)", "--out")
    cli("run", "vae", "--resume", "--seed", "1", "--out", runs / "vae").refused(2, "seed 0, here 1")
    cli("run", "vaegan", "--resume", "--out", runs / "vae").refused(2, "model 'vae', here 'vaegan'")
    assert {p: p.read_bytes() for p in (runs / "vae").rglob("*") if p.is_file()} == before


def test_folder_in_use(cli, tmp_path):
    """Two processes never write one run."""
    folder = RunFolder(tmp_path / "run")
    folder.open(
        RunSettings(model="vae", epochs=1, extractor="none", options={"family": "mlp", "width": 4}), resume=False
    )
    try:
        cli("run", "vae", "--resume", "--out", folder.path).refused(1, "another process")
    finally:
        folder.close()


def test_empty_value(cli, tmp_path):
    """An empty value is a mistake in a script, not a wish for the default."""
    cli("run", "vae", "--width=", "--out", tmp_path / "run").refused(2, "--width")


@pytest.mark.usefixtures("toys")
def test_plugin_that_fails(cli, tmp_path):
    """Someone's bug is one line; ``--debug`` has the traceback."""
    args = ["run", "broken", "--epochs", "1", "--out", tmp_path / "run"]
    cli(*args).refused(1, "ValueError: two lines; --debug shows the traceback")
    assert not (tmp_path / "run").exists()
    from zoo.cli import main

    for debug in (["--debug", *args], [*args, "--debug"]):
        with pytest.raises(ValueError, match="two lines"):
            main([str(a) for a in debug])


@pytest.mark.usefixtures("toys")
def test_divergence(cli, tmp_path):
    """A loss that explodes ends the run with the term, the step and a remedy."""
    args = ["--epochs", "1", "--good", "4", "--checkpoint-seconds", "0", "--out", tmp_path / "run"]
    cli("run", "doomed", *args).refused(1, "term 'match' is nan by step 5", "--lr")
    assert (tmp_path / "run" / "checkpoint" / "state.safetensors").is_file()


def test_interruption_while_loading(cli, tmp_path, monkeypatch):
    """Ctrl-C has a status of its own, at any time."""

    def interrupted(*_args):
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["zoo.run.train"], "load_data", interrupted)
    done = cli("run", "vae", *QUICK, "--out", tmp_path / "run")
    assert done.status == 130
    assert done.err.strip().startswith("zoo: error: interrupted")


# Flags, settings files and stored settings


def test_flags_go_before_the_config(cli, runs, tmp_path):
    """``--config`` brings the model too: its options can be given without naming it again."""
    config = runs / "vae" / "config.toml"
    done = cli("run", "--config", config, "--width", "5", "--extractor", "none", "--out", tmp_path / "run")
    assert done.status == 0, done.err
    there, here = RunFolder(runs / "vae").settings(), RunFolder(tmp_path / "run").settings()
    assert here.options == {**there.options, "width": 5}
    assert (here.extractor, here.epochs, here.seed) == ("none", there.epochs, there.seed)


def test_config_repeats_the_run(cli, runs, tmp_path):
    assert cli("run", "--config", runs / "vae" / "config.toml", "--out", tmp_path / "run").status == 0
    assert weights(tmp_path / "run") == weights(runs / "vae")


def test_settings_stand_before_or_after_the_model(cli, tmp_path):
    """The value of a model's option that is also a model's name remains a value."""
    before, after = ["--seed=2", "--out", tmp_path / "run"], ["--epochs", "0", "--norm", "none"]
    done = cli("run", *before, "vae", "--width", "4", "--family=mlp", *after, "--extractor", "none")
    assert done.status == 0, done.err
    settings = RunFolder(tmp_path / "run").settings()
    assert (settings.model, settings.seed, settings.epochs, settings.extractor) == ("vae", 2, 0, "none")
    assert [settings.options[name] for name in ("width", "family", "norm")] == [4, "mlp", "none"]


def test_resume_without_saying_anything_again(cli, runs, tmp_path):
    """The folder knows the model: even its options can be repeated, or contradicted, without its name."""
    out = tmp_path / "run"
    cli("run", "vae", *QUICK, "--out", out)
    before = weights(out)
    (out / "result.json").unlink()
    assert cli("run", "--resume", "--out", out).status == 0
    assert weights(out) == before
    assert cli("run", "--resume", "--width", "4", "--out", out).status == 0
    cli("run", "--resume", "--width", "5", "--out", out).refused(2, "width 4, here 5")


def test_default_folder(cli, tmp_path, monkeypatch):
    """``runs/MODEL-DATASET-seedK``, told in the output."""
    monkeypatch.chdir(tmp_path)
    done = cli("run", "vae", *QUICK[:-4], "--epochs", "0", "--seed", "3")
    assert (tmp_path / "runs" / "vae-digits-seed3" / "result.json").is_file(), done.err
    assert "runs/vae-digits-seed3" in done.out


# What a run shows


def test_pipe(cli, tmp_path):
    """Plain lines, no control characters, and everything that matters in them."""
    done = cli("run", "vae", *QUICK[:-2], "--out", tmp_path / "run")
    assert done.status == 0
    assert done.err == ""
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", done.out)
    assert re.search(r"^vae trains on 1,280 images of digits \(1 epoch, batch 64, seed 0\)", done.out)
    assert re.search(
        r"^epoch 1\.0: 1,280 of 1,280 images, [\d,]+ images/s, 0:00 left; loss terms: nll [\d.]+, kl [\d.]+$",
        done.out,
        re.M,
    )
    for name in ("FD-classifier", "reconstruction MSE", "classes covered", "training"):
        assert re.search(rf"^{name} +[\d.]+", done.out, re.M)
    assert str(tmp_path / "run") in done.out
    for line in done.out.splitlines():
        assert len(line) <= 80 or str(tmp_path) in line or line.startswith(("epoch", "wrote"))


@pytest.mark.usefixtures("toys")
def test_what_is_not_defined_reads_so(cli, tmp_path):
    done = cli("run", "blind", "--epochs", "0", "--out", tmp_path / "run")
    assert re.search(r"^not defined here +n/a +reconstruction MSE, PSNR", done.out, re.M)


def test_damaged_pictures_are_told(cli, runs, tmp_path):
    """A warning of the library is a line among the others."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for file in (runs / "pictures").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "7.png").write_bytes(b"no png")
    done = cli("run", "vae", *QUICK, "--batch", "8", "--dataset", f"folder:{folder}", "--out", tmp_path / "run")
    assert done.status == 0
    assert re.search(r"^note: .*1 of 40 files.*7\.png", done.out, re.M)


def test_terminal(tmp_path):
    """On a terminal of 80 columns: a bar with epoch and speed, the terms under it, and the table in the end."""
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, width=80, highlight=False, legacy_windows=False)
    with LiveProgress(console) as report:
        report._bar.refresh()
        zoo.train("vae", out=tmp_path / "run", epochs=1, callbacks=[report], **SMALL)
    text = shown.getvalue()
    assert "\x1b[" in text
    lines = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", text).replace("\r", "\n").splitlines()
    bars = [line for line in lines if "images/s" in line and "━" in line]
    assert bars
    assert all(re.search(r"^vae .*epoch \d\.\d", line) for line in bars if line.startswith("vae"))
    assert any(re.search(r"^loss terms +nll [\d.e+]+ +kl [\d.e+]+", line) for line in lines)
    assert any(line.startswith("FD-classifier ") for line in lines)
    assert (
        max(len(line) for line in lines if str(tmp_path) not in line and not line.startswith(("wrote", "epoch"))) <= 80
    )


def test_terminal_is_given_back(tmp_path):
    """A run that fails leaves no hidden cursor behind."""
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, width=80)

    class Failing(LiveProgress):
        def step_logged(self, *logged):
            super().step_logged(*logged)
            raise zoo.ZooError("failed")

    with pytest.raises(zoo.ZooError), Failing(console) as report:
        zoo.train("vae", out=tmp_path / "run", epochs=1, extractor="none", callbacks=[report], **SMALL)
    text = shown.getvalue()
    assert "\x1b[?25l" in text
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")


def test_table_of_scores():
    """Four digits, a standard error behind its score, undefined scores in one row, and descriptions."""
    result = {
        "scores": {
            "FD-x": 12.345678,
            "FD-x standard error": 0.4321,
            "FD-x standard error (test images)": 0.1,
            "FD-x (train)": 11.0,
            "reconstruction MSE": None,
            "PSNR": None,
            "smallest class share": 0.0,
        },
        "protocol": {"extractor": "x", "n_generated": 1234, "n_real": 500},
        "class_shares": [0.5, 0.5],
        "cost": {"seconds": 2.0, "images_per_second": 3210.9, "device": "cpu (somewhere)"},
    }
    out = io.StringIO()
    Console(file=out, width=120).print(score_table(result))
    rows = [re.split(r" {2,}", line.strip()) for line in out.getvalue().splitlines()]
    assert rows == [
        ["FD-x", "12.35 ± 0.43", "Fréchet distance of generated to test images, 1,234 against 500"],
        ["FD-x (train)", "11", "Fréchet distance of generated to training images"],
        ["smallest class share", "0", "smallest share of the generated images in a class; 1 / classes if even"],
        ["not defined here", "n/a", "reconstruction MSE, PSNR"],
        ["training", "2.0 s", "3,211 images/s, cpu (somewhere)"],
    ]


def test_lines_in_a_log_are_few(tmp_path):
    """A CI log gets a line every ten seconds and the last one, not one a step."""
    out = io.StringIO()
    report = PlainProgress(Console(file=out, width=80))
    report.started(RunSettings(model="vae", epochs=1).to_table(), tmp_path, 1000, 0)
    for images in range(10, 1001, 10):
        report.step_logged(images // 10, images, images / 1000, {"nll": 1.0}, {})
    assert [line.split()[1] for line in out.getvalue().splitlines() if line.startswith("epoch")] == ["1.0:"]


def test_terminal_without_accents(tmp_path):
    """Output that cannot spell 'Fréchet' is no reason for a run to fail."""
    command = "import sys; from zoo.cli import main; main(sys.argv[1:])"
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    args = ["show", "vaegan"]
    done = subprocess.run([sys.executable, "-c", command, *args], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Larsen" in done.stdout


# What a trained model makes


def test_sample_array(cli, runs, tmp_path):
    """uint8, (N, H, W) for gray and (N, H, W, C) for color, at the data set's own size; a seed's own images."""
    arrays = {}
    for name, run, seed in (("a", "vae", 1), ("b", "vae", 1), ("c", "vae", 2), ("d", "color", 1)):
        out = tmp_path / f"{name}.npy"
        assert cli("sample", runs / run, "-n", "13", "--seed", seed, "--out", out).status == 0
        arrays[name] = np.load(out, allow_pickle=False)
    assert {name: (a.dtype, a.shape) for name, a in arrays.items()} == {
        "a": (np.uint8, (13, 8, 8)),
        "b": (np.uint8, (13, 8, 8)),
        "c": (np.uint8, (13, 8, 8)),
        "d": (np.uint8, (13, 10, 12, 3)),
    }
    assert np.array_equal(arrays["a"], arrays["b"])
    assert not np.array_equal(arrays["a"], arrays["c"])
    assert np.array_equal(arrays["a"], zoo.load(runs / "vae").images(13, seed=1))
    assert arrays["a"].std() > 0


def test_sample_folder(cli, runs, tmp_path):
    """A folder of single PNGs with the same pixels as the array, in the order of their names."""
    out = tmp_path / "new" / "samples"
    assert cli("sample", runs / "color", "-n", "11", "--out", f"{out}/").status == 0
    files = sorted(out.iterdir())
    assert [f.name for f in files] == [f"{i:02d}.png" for i in range(11)]
    pixels = np.stack([np.asarray(Image.open(f)) for f in files])
    assert np.array_equal(pixels, zoo.load(runs / "color").images(11, seed=0))


def test_sample_grid(cli, runs, tmp_path):
    """Nine images in a square of three."""
    assert cli("sample", runs / "vae", "-n", "9", "--out", tmp_path / "grid.png").status == 0
    width, height = Image.open(tmp_path / "grid.png").size
    assert width == height
    assert cli("sample", runs / "vae", "-n", "4").status == 0
    (runs / "vae" / "grid.png").unlink()  # written where --out is not given; other tests share the folder


def test_pictures_of_a_model(cli, runs, tmp_path):
    """Reconstructions, ways between codes and along them, each as wide as asked."""

    def tiles(name: str, *args: object) -> tuple[int, int]:
        done = cli(*args, "--out", tmp_path / name)
        assert done.status == 0, done.err
        width, height = Image.open(tmp_path / name).size
        one = Image.open(tmp_path / "one.png").size[0] - 2
        return (width - 2) // one, (height - 2) // one

    assert tiles("one.png", "sample", runs / "vae", "-n", "1") == (1, 1)
    assert tiles("a.png", "reconstruct", runs / "vae", "-n", "13") == (10, 4)  # 10 pairs, then 3
    assert tiles("b.png", "reconstruct", runs / "vae", "-n", "4") == (4, 2)
    assert tiles("c.png", "interpolate", runs / "vae", "--rows", "3", "--steps", "5") == (5, 3)
    assert tiles("d.png", "traverse", runs / "vae", "--dims", "4", "--steps", "7") == (7, 4)
    assert tiles("e.png", "traverse", runs / "vae", "--dims", "99", "--steps", "3") == (3, 16)  # z has 16


def test_encode(cli, runs, tmp_path):
    """Codes and labels of both splits, to be read without pickle."""
    assert cli("encode", runs / "vae", "--out", tmp_path / "codes.npz").status == 0
    with np.load(tmp_path / "codes.npz", allow_pickle=False) as codes:
        assert {k: codes[k].shape for k in codes} == {
            "z_train": (1297, 16),
            "labels_train": (1297,),
            "z_test": (500, 16),
            "labels_test": (500,),
        }
        from sklearn.datasets import load_digits

        found = np.concatenate([codes["labels_train"], codes["labels_test"]])
        assert np.array_equal(np.bincount(found), np.bincount(load_digits().target))
    assert cli("encode", runs / "color", "--out", tmp_path / "plain.npz").status == 0
    with np.load(tmp_path / "plain.npz", allow_pickle=False) as codes:
        assert sorted(codes) == ["z_test", "z_train"]  # a flat folder has no labels


@pytest.mark.usefixtures("toys")
def test_model_without_encoder(cli, runs, tmp_path):
    """It samples, and goes between codes of the prior; what needs an encoder is refused."""
    for command, name in (("reconstruct", "a.png"), ("encode", "a.npz")):
        cli(command, runs / "blind", "--out", tmp_path / name).refused(2, "no encoder")
        assert not (tmp_path / name).exists()
    for command in ("sample", "interpolate", "traverse"):
        assert cli(command, runs / "blind", "--out", tmp_path / f"{command}.png").status == 0


@pytest.mark.parametrize(
    ("args", "status", "words"),
    [
        (["sample", "RUN", "--out", "x.jpg"], 2, ["'x.jpg' is not allowed", ".png or .npy"]),
        (["encode", "RUN", "--out", "x.csv"], 2, ["'x.csv' is not allowed", ".npz"]),
        (["traverse", "RUN", "--out", "x.npy"], 2, ["'x.npy' is not allowed", ".png"]),
        (["sample", "RUN", "-n", "0"], 2, ["-n"]),
        (["sample", "RUN", "--seed", "-1"], 2, ["--seed"]),
        (["sample"], 2, ["RUN", "zoo sample --help"]),
        (["sample", "/no/such"], 2, ["/no/such is not a run folder"]),
        (["encode", "/no/such"], 2, ["/no/such is not a run folder"]),
        (["sample", "RUN", "--out", "FILE/x.png"], 1, ["cannot write to"]),
        (["sample", "RUN", "--out", "FILE"], 1, ["cannot write to"]),
        (["encode", "RUN", "--out", "FILE/x.npz"], 1, ["cannot write to"]),
        (["sample", "RUN", "--out", "FOLDER.png"], 1, ["cannot write"]),
    ],
)
def test_wrong_production(cli, runs, tmp_path, monkeypatch, args, status, words):
    monkeypatch.chdir(tmp_path)
    Path("FILE").write_text("mine")
    Path("FOLDER.png").mkdir()
    cli(*(str(runs / "vae") if a == "RUN" else a for a in args)).refused(status, *words)
    assert {p.name for p in tmp_path.iterdir()} == {"FILE", "FOLDER.png"}
    assert Path("FILE").read_text() == "mine"


# Help and what there is


def test_help_is_quick():
    """``zoo --help`` imports no torch and takes under 0.4 s of processor time, the best of a few."""
    code = "import sys; from zoo.cli import main\ntry: main(['--help'])\nfinally: print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.endswith("False\n"), done.stderr
    best = float("inf")
    for _ in range(10):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([Path(sys.executable).with_name("zoo"), "--help"], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        best = min(best, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        if best < 0.4:
            break
    assert best < 0.4


@pytest.mark.parametrize("name", list(group.commands))
def test_every_command_has_help(cli, name):
    done = cli(name, "--help")
    assert done.status == 0
    assert done.out.startswith(f"Usage: zoo {name}")
    command = group.commands[name]
    assert command.get_short_help_str()
    for parameter in command.params:
        assert not isinstance(parameter, click.Option) or parameter.help, f"{name}: {parameter.name} has no help"
    assert name in cli("--help").out


def test_run_help_shows_every_setting(cli):
    """Each setting of a run is a flag with its help, also before a model is named."""
    shown = " ".join(cli("run", "--help").out.split())
    for info in get_options(RunSettings).values():
        assert re.search(rf"{info.flag}\b", shown), info.flag
        assert " ".join(info.help.split())[:30] in shown.replace("- ", "-")
    for flag in ("--out", "--resume", "--config"):
        assert flag in shown


def test_run_help_shows_every_option_of_each_model(cli):
    """Each option of each model is a flag with its help and default."""
    for name, entry in registry().models.items():
        shown = cli("run", name, "--help").out
        assert 0 < shown.index("Settings of the run:") < shown.index(f"Options of {name}:")
        for info in get_options(entry.value).values():
            assert re.search(rf"^ +{info.flag}\b", shown, re.M), f"{name}: {info.flag}"


def test_run_help_names_every_model_and_settings_choose_the_help(cli, runs):
    """``--help`` is that of the model named, or of the model of ``--config`` if options follow."""
    shown = cli("run", "--help").out
    assert shown.startswith("Usage: zoo run [SETTINGS] [MODEL [OPTIONS]]")
    for name in registry().models:
        assert re.search(rf"^  {name} +\w", shown, re.M), name
    for args in (["vaegan", "--help"], ["--help", "vaegan"], ["-h", "--epochs", "3", "vaegan", "--gamma", "1"]):
        assert cli("run", *args).out.startswith("Usage: zoo run vaegan [SETTINGS] [OPTIONS]")
    config = runs / "vae" / "config.toml"
    assert cli("run", "--config", config, "--width", "3", "--help").out.startswith("Usage: zoo run vae ")


def test_no_arguments_show_the_help(cli):
    done = cli()
    assert done.status == 0
    assert done.out.startswith("Usage: zoo")
    assert cli("--version").out.strip().endswith(zoo.__version__)


def test_list(cli):
    """Every registered name, whole, in a pipe."""
    found = registry()
    for kind, names in (
        ("models", found.models),
        ("datasets", [*found.datasets, "folder:PATH"]),
        ("extractors", found.extractors),
        ("plugins", [p.name for p in found.plugins]),
    ):
        done = cli("list", kind)
        assert done.status == 0
        assert set(names) <= {line.split()[0] for line in done.out.splitlines()[1:]}


def test_show(cli):
    """The card of VAE-GAN: its paper and the game of its Algorithm 1, a row a player."""
    done = cli("show", "vaegan")
    assert done.status == 0
    assert "arXiv:1512.09300" in done.out
    rows = {line.split()[0]: line.split()[1:5] for line in done.out.splitlines() if line and line[0] != " "}
    head = next(line.split() for line in done.out.splitlines() if line.strip().startswith("prior"))
    assert head[:4] == ["prior", "like", "fool", "gan"]
    assert rows["encoder"] == ["1", "1", "·", "·"]
    assert rows["decoder"] == ["·", "0.004", "1", "·"]
    assert rows["critic"] == ["·", "·", "·", "1"]
    for info in get_options(registry().model("vaegan")).values():
        assert re.search(rf"^{info.flag} ", done.out, re.M)


def test_show_every_model(cli):
    for name in registry().models:
        done = cli("show", name)
        assert done.status == 0, done.err
        assert done.out.startswith(name)


def test_doctor(cli, monkeypatch):
    """A broken plugin is named with its reason, and is a failure; without one, all is well."""
    from zoo.accelerators import probe
    from zoo.registry import FailedPlugin

    monkeypatch.setattr(probe, "speedups", lambda kernels, folder: {"linear": 0.5, "deconvolution": 1.75})
    well = cli("doctor")
    assert well.status == 0
    rows = ("cpu", "kernels", "cache", "inception", "dinov2", "plugins")
    assert [row for row in rows if f"\n{row} " not in well.out] == []
    if torch._C._has_mkldnn:
        assert "speed relative to torch's layers: linear 0.50, deconvolution 1.75" in " ".join(well.out.split())

    monkeypatch.setattr(registry(), "failures", [FailedPlugin("bad", "bad-package", "ImportError: no [brackets]")])
    done = cli("doctor")
    assert done.status == 1
    assert "plugin 'bad' (bad-package): ImportError: no [brackets]" in " ".join(done.out.split())
    assert "bad-package" in cli("list").err
    cli("run", "badmodel").refused(2, "unknown model", "bad-package")
