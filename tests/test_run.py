"""``zoo.train`` and ``zoo.load``: a run is a function of its settings; the content of its folder."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from conftest import SMALL

import zoo
from zoo.data import DataOptions, load_dataset
from zoo.registry import registry
from zoo.run import RunSettings
from zoo.run.run_folder import RunFolder

pytestmark = pytest.mark.usefixtures("own_cache")


def weights(run: Path) -> bytes:
    return (run / "model.safetensors").read_bytes()


def strict_json(text: str):
    """JSON as the standard has it: Python also reads and writes NaN."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


class StopAt(zoo.Callback):
    """Stops a run from within, as soon as so many images were seen and its terms read."""

    def __init__(self, images: int) -> None:
        self.images = images

    def step_logged(self, step, images_seen, epoch, terms, gradients):
        if images_seen >= self.images:
            raise zoo.ZooError("stopped")


@pytest.fixture
def unfinished(tmp_path: Path) -> Path:
    """A run of two epochs that stopped within the first."""
    out = tmp_path / "unfinished"
    with pytest.raises(zoo.ZooError, match="stopped"):
        zoo.train("vae", out=out, epochs=2, seed=3, checkpoint_seconds=0.0, callbacks=[StopAt(640)], **SMALL)
    assert (out / "checkpoint" / "state.safetensors").is_file()
    return out


# What a run leaves


def test_result(runs):
    """The scores, the protocol they are worth nothing without, and where they come from."""
    result = strict_json((runs / "vae" / "result.json").read_text())
    assert (result["model"], result["dataset"], result["seed"]) == ("vae", "digits", 0)
    assert set(result["scores"]) == {
        "FD-classifier",
        "FD-classifier (train)",
        "FD-classifier floor",
        "FD-classifier standard error",
        "FD-classifier standard error (test images)",
        "FD-autoencoder (second opinion)",
        "FD-autoencoder (second opinion) floor",
        "reconstruction MSE",
        "PSNR",
        "SSIM",
        "perceptual distance (efficientnet)",
        "reconstruction FD-classifier",
        "classes covered",
        "smallest class share",
        "class entropy",
    }
    undefined = [name for name, value in result["scores"].items() if not isinstance(value, float)]
    assert undefined == ["perceptual distance (efficientnet)"]  # not defined for images of 8x8 pixels
    assert len(result["class_shares"]) == 10
    assert math.isclose(sum(result["class_shares"]), 1.0)
    assert len(result["fingerprint"]) == 64
    assert result["protocol"]["n_generated"] == 1297
    cost = result["cost"]
    assert cost["images_seen"] == 20 * 64  # 1,297 images are 20 whole batches
    assert cost["seconds"] > 0
    assert cost["images_per_second"] > 0
    # By hand, with 16 units a width: 64 pixels to 64, to 64, to mean and log σ² of 16; batch norm has 2 a unit.
    hidden, code = 16 * SMALL["width"], 16
    encoder = (64 * hidden + hidden * hidden) + (hidden + 1) * 2 * code
    assert encoder < cost["parameters"]["encoder"] <= encoder + 6 * hidden
    assert result["plugin"]["package"] == "latent-zoo"
    assert result["provenance"]["torch"] == torch.__version__
    assert result["settings"]["options"]["width"] == SMALL["width"]


def test_score_that_is_not_defined_is_null(runs):
    """A model without an encoder has no reconstruction error, which is not an error of nought."""
    result = strict_json((runs / "blind" / "result.json").read_text())
    assert result["scores"]["reconstruction MSE"] is None
    assert isinstance(result["scores"]["FD-classifier"], float)
    assert not (runs / "blind" / "reconstructions.png").exists()


def test_unscored_run(runs):
    """With ``extractor="none"`` nothing is scored, and nothing pretends to be."""
    result = strict_json((runs / "color" / "result.json").read_text())
    assert result["scores"] == {}
    assert result["protocol"] is None
    assert result["fingerprint"] is None


def test_metrics(runs):
    """A line a logged step: what curves and trackers are drawn from."""
    lines = [strict_json(line) for line in (runs / "vae" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 21))
    assert [line["images"] for line in lines] == list(range(64, 1281, 64))
    assert np.all(np.diff([line["seconds"] for line in lines]) >= 0)
    for line in lines:
        assert set(line["terms"]) == {"nll", "kl"}
        assert set(line["gradients"]) == {"encoder+decoder"}  # equal rows of the game are one player
        assert line["gradients"]["encoder+decoder"] > 0
    assert lines[-1]["terms"]["nll"] < lines[0]["terms"]["nll"]


def test_untrained_networks_can_be_scored(tmp_path):
    """Zero epochs: the scores of the initial weights, the point that training has to beat."""
    zoo.train("vae", out=tmp_path / "run", epochs=0, seed=5, **SMALL)
    result = strict_json((tmp_path / "run" / "result.json").read_text())
    assert result["cost"]["images_seen"] == 0
    assert result["scores"]["FD-classifier"] > 0
    assert not (tmp_path / "run" / "curves.png").exists()
    assert (tmp_path / "run" / "samples.png").is_file()


# A run is a function of its settings


def test_seed_decides_all(runs, tmp_path):
    """The same seed gives the same bits in another process state; another seed gives others."""
    torch.rand(7)  # what the caller did to the generator before plays no part
    zoo.train("vae", out=tmp_path / "again", epochs=1, **SMALL)
    zoo.train("vae", out=tmp_path / "other", epochs=1, seed=1, **SMALL)
    assert weights(tmp_path / "again") == weights(runs / "vae")
    assert weights(tmp_path / "other") != weights(runs / "vae")
    again, first = (strict_json((run / "result.json").read_text()) for run in (tmp_path / "again", runs / "vae"))
    assert again["scores"] == first["scores"]


def test_saving_changes_nothing(runs, tmp_path):
    """How often a checkpoint is written has no part in the weights."""
    zoo.train("vae", out=tmp_path / "run", epochs=1, checkpoint_seconds=0.0, **SMALL)
    assert weights(tmp_path / "run") == weights(runs / "vae")


def test_config_repeats_the_run(runs, tmp_path):
    """``config.toml`` is all that is needed, and what is said beside it goes before it."""
    config = runs / "vae" / "config.toml"
    zoo.train(config=config, out=tmp_path / "same")
    zoo.train(config=config, out=tmp_path / "wider", width=5)
    assert weights(tmp_path / "same") == weights(runs / "vae")
    assert (tmp_path / "same" / "config.toml").read_bytes() == config.read_bytes()
    there, wider = (RunFolder(p).settings() for p in (runs / "vae", tmp_path / "wider"))
    assert wider.options == {**there.options, "width": 5}


def test_settings_survive_toml(tmp_path):
    """Every setting comes back as it was written, whatever is in it."""
    settings = RunSettings(
        model="vae",
        dataset='folder:/a "b"/ü\\c',
        epochs=0,
        batch=2,
        seed=10**9,
        samples=7,
        image_size="8x9",
        channels=3,
        checkpoint_seconds=0.25,
        options={"width": 3, "lr": 1e-7, "family": "mlp"},
    )
    (tmp_path / "config.toml").write_text(settings.to_toml(), encoding="utf-8")
    assert RunSettings.from_file(tmp_path / "config.toml") == settings


def test_paths_in_a_config_are_absolute(runs, tmp_path, monkeypatch):
    """A run that was begun with a relative path can be repeated from anywhere."""
    monkeypatch.chdir(runs)
    zoo.train(
        "vae",
        out=tmp_path / "run",
        dataset="folder:pictures",
        batch=8,
        epochs=0,
        extractor="none",
        data_dir=".",
        **SMALL,
    )
    settings = RunFolder(tmp_path / "run").settings()
    assert settings.dataset == f"folder:{runs / 'pictures'}"
    assert settings.data_dir == str(runs)
    assert strict_json((tmp_path / "run" / "result.json").read_text())["dataset"] == "folder:pictures"


# Going on


def test_resume_takes_the_stored_settings(unfinished, tmp_path):
    """Nothing needs to be said again; the result is that of the run in one go."""
    zoo.train(resume=True, out=unfinished)
    zoo.train("vae", out=tmp_path / "whole", epochs=2, seed=3, **SMALL)
    assert weights(unfinished) == weights(tmp_path / "whole")
    assert len((unfinished / "metrics.jsonl").read_text().splitlines()) == 40


@pytest.mark.parametrize(
    ("model", "given", "words"),
    [
        ("vae", {"epochs": 3}, "epochs 2, here 3"),
        ("vae", {"seed": 4, "width": 8}, "seed 3, here 4; width 4, here 8"),
        ("vaegan", {}, "model 'vae', here 'vaegan'"),
    ],
)
def test_resume_names_what_conflicts(unfinished, model, given, words):
    """A setting that contradicts the folder is an error: neither of the two would be what was asked for."""
    before = {p: p.read_bytes() for p in unfinished.rglob("*") if p.is_file()}
    with pytest.raises(zoo.UsageError, match=words):
        zoo.train(model, out=unfinished, resume=True, **given)
    assert {p: p.read_bytes() for p in unfinished.rglob("*") if p.is_file()} == before


def test_resume_accepts_what_agrees(unfinished):
    """To say again what is so, and to save more often, contradicts nothing."""
    trained = zoo.train("vae", out=unfinished, resume=True, epochs=2, checkpoint_seconds=5.0, **SMALL)
    assert trained.objective.width == SMALL["width"]
    assert strict_json((unfinished / "result.json").read_text())["settings"]["checkpoint_seconds"] == 5.0


def test_resume_of_nothing_begins(tmp_path, runs):
    """``resume`` can always be there, as in a job that is started again until it succeeds."""
    zoo.train("vae", out=tmp_path / "new", resume=True, epochs=1, **SMALL)
    assert weights(tmp_path / "new") == weights(runs / "vae")


def test_resume_of_a_finished_run_changes_nothing(tmp_path):
    zoo.train("vae", out=tmp_path / "run", epochs=1, **SMALL)
    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in (tmp_path / "run").rglob("*") if p.is_file()}
    trained = zoo.train(out=tmp_path / "run", resume=True)
    assert {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in before} == before
    assert torch.equal(trained.sample(3, seed=0), zoo.load(tmp_path / "run").sample(3, seed=0))


def test_lost_weights_are_made_again(tmp_path):
    """Whoever deletes ``model.safetensors`` gets it back by the remedy that the error names."""
    zoo.train("vae", out=tmp_path / "run", epochs=1, **SMALL)
    before = weights(tmp_path / "run")
    (tmp_path / "run" / "model.safetensors").unlink()
    with pytest.raises(zoo.UsageError, match="--resume"):
        zoo.load(tmp_path / "run")
    zoo.train(out=tmp_path / "run", resume=True)
    assert weights(tmp_path / "run") == before


@pytest.mark.parametrize("damage", ["truncated", "empty", "other", "text"])
def test_damaged_checkpoint(unfinished, damage):
    """A checkpoint that cannot be read is named, with what to do; it is never half used."""
    file = unfinished / "checkpoint" / "state.safetensors"
    content = file.read_bytes()
    if damage == "other":
        content = safetensors.torch.save({"a": torch.zeros(1)})
    file.write_bytes({"truncated": content[:-7], "empty": b"", "text": b"hello " * 99}.get(damage, content))
    with pytest.raises(zoo.ZooError, match=r"state\.safetensors.*delete it") as error:
        zoo.train(out=unfinished, resume=True)
    assert error.value.exit_status == 1
    file.unlink()
    zoo.train(out=unfinished, resume=True)
    assert (unfinished / "result.json").is_file()


# Checkpoints and weights of other runs


def without_identity(run: Path) -> None:
    """Replace the facts of the checkpoint by those that zoo 0.1.0 wrote."""
    folder = RunFolder(run)
    tensors, facts = folder.load_checkpoint()
    folder.save_checkpoint(tensors, {"seconds": facts["seconds"], "steps": facts["steps"]})


def refuses_to_resume(run: Path, words: str) -> None:
    """One line, and nothing in the folder changes."""
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    with pytest.raises(zoo.UsageError, match=words) as error:
        zoo.train(out=run, resume=True)
    assert "\n" not in str(error.value)
    assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("seed = 3", "seed = 4", "resume: .*seed 3, here 4; restore config.toml"),
        ("epochs = 2", "epochs = 3", "epochs 2, here 3"),
        ('model = "vae"', 'model = "beta-vae"', "model 'vae', here 'beta-vae'"),
        ("lr = 0.001", "lr = 0.002", "lr 0.001, here 0.002"),
    ],
)
def test_resume_refuses_an_edited_config(unfinished, old, new, words):
    config = unfinished / "config.toml"
    text = config.read_text()
    assert text.count(old) == 1
    config.write_text(text.replace(old, new))
    refuses_to_resume(unfinished, words)


def test_resume_refuses_the_checkpoint_of_another_run(unfinished, tmp_path):
    """Of the same shapes, so that nothing else tells the two apart."""
    other = tmp_path / "other"
    zoo.train("vae", out=other, epochs=1, seed=9, extractor="none", **SMALL)
    place = Path("checkpoint", "state.safetensors")
    (unfinished / place).write_bytes((other / place).read_bytes())
    refuses_to_resume(unfinished, "epochs 1, here 2; seed 9, here 3")


def test_a_checkpoint_that_does_not_fit_is_one_line(unfinished, tmp_path):
    other = tmp_path / "other"
    zoo.train("vae", out=other, epochs=1, extractor="none", family="mlp", width=5)
    without_identity(other)
    place = Path("checkpoint", "state.safetensors")
    (unfinished / place).write_bytes((other / place).read_bytes())
    with pytest.raises(zoo.ZooError, match=r"does not fit this run: .*delete it") as error:
        zoo.train(out=unfinished, resume=True)
    assert "\n" not in str(error.value)


def test_resume_refuses_changed_images(runs, tmp_path):
    pictures, out = tmp_path / "pictures", tmp_path / "run"
    shutil.copytree(runs / "pictures", pictures)
    given = {"dataset": f"folder:{pictures}", "batch": 8, "extractor": "none", **SMALL}
    with pytest.raises(zoo.ZooError, match="stopped"):
        zoo.train("vae", out=out, epochs=2, checkpoint_seconds=0.0, callbacks=[StopAt(16)], **given)
    shutil.copy(pictures / "1.png", pictures / "0.png")
    refuses_to_resume(out, "images of folder:pictures have changed")
    shutil.copy(runs / "pictures" / "0.png", pictures / "0.png")
    zoo.train(out=out, resume=True)


def test_resume_of_a_checkpoint_of_0_1_0(unfinished, tmp_path):
    """It does not name its run, and resumes to the same bits."""
    without_identity(unfinished)
    zoo.train(out=unfinished, resume=True)
    zoo.train("vae", out=tmp_path / "whole", epochs=2, seed=3, **SMALL)
    assert weights(unfinished) == weights(tmp_path / "whole")


@pytest.mark.parametrize("finished", [True, False])
def test_weights_of_another_model_are_refused(runs, tmp_path, cli, finished):
    """By ``load``, ``sample``, ``eval`` and ``--resume`` alike."""
    run = tmp_path / "run"
    shutil.copytree(runs / "vae", run)
    zoo.train("beta-vae", out=tmp_path / "other", epochs=0, extractor="none", **SMALL)
    shutil.copy(tmp_path / "other" / "model.safetensors", run)
    if not finished:
        (run / "result.json").unlink()
    with pytest.raises(zoo.ZooError, match=r"another run than config\.toml: model 'beta-vae', not 'vae'"):
        zoo.load(run)
    cli("sample", run, "-n", 4).refused(1, "another run than config.toml")
    cli("eval", run, "--metrics", "quick").refused(1, "another run than config.toml")
    assert not (run / "grid.png").exists()


def test_weights_of_another_seed_are_refused(runs, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(runs / "vae", run)
    zoo.train("vae", out=tmp_path / "other", epochs=1, seed=1, extractor="none", **SMALL)
    shutil.copy(tmp_path / "other" / "model.safetensors", run)
    for use in (zoo.load, lambda out: zoo.train(out=out, resume=True)):
        with pytest.raises(zoo.ZooError, match=r"another run than"):
            use(run)


# The amount of training


def test_epochs_are_rounded_once(tmp_path):
    """5 epochs of 3 batches are 3 steps of 5 batches, not 5 times none."""
    small = {"extractor": "none", "width": 2, "family": "mlp"}
    zoo.train("wgan-gp", out=tmp_path / "run", epochs=5, batch=400, n_critic=5, **small)
    assert strict_json((tmp_path / "run" / "result.json").read_text())["cost"]["images_seen"] == 15 * 400
    with pytest.raises(zoo.UsageError, match=r"draws 5 batches per step, but has 3 in 1 epoch"):
        zoo.train("wgan-gp", out=tmp_path / "short", epochs=1, batch=400, n_critic=5, **small)


def test_too_few_images_to_score_are_refused_before_training(runs, tmp_path):
    for n, split in enumerate(("train", "train", "train", "train", "test")):
        (tmp_path / "few" / split).mkdir(parents=True, exist_ok=True)
        shutil.copy(runs / "pictures" / f"{n}.png", tmp_path / "few" / split)
    given = {"dataset": f"folder:{tmp_path / 'few'}", "out": tmp_path / "run", "epochs": 1, "batch": 2, **SMALL}
    with pytest.raises(zoo.UsageError, match=r"folder:few has 4 training and 1 test images; .*--extractor none"):
        zoo.train("vae", extractor="classifier", **given)
    assert not (tmp_path / "run").exists()
    zoo.train("vae", extractor="none", **given)


# What goes wrong


@pytest.mark.usefixtures("toys")
def test_divergence(tmp_path):
    """The term and the step are named; the last checkpoint is of the step before."""
    out = tmp_path / "run"
    with pytest.raises(zoo.ZooError, match=r"term 'match' is nan by step 4\b") as error:
        zoo.train("doomed", out=out, epochs=1, good=3, checkpoint_seconds=0.0)
    assert error.value.exit_status == 1
    tensors, _ = RunFolder(out).load_checkpoint()
    assert int(tensors["position"][0]) == 3
    assert int(tensors["net/decoder.calls"]) == 3
    assert tensors["net/decoder.line.weight"].isfinite().all()
    assert not (out / "model.safetensors").exists()
    assert not (out / "result.json").exists()
    assert len((out / "metrics.jsonl").read_text().splitlines()) == 3


@pytest.mark.usefixtures("toys")
def test_divergence_in_the_last_update(tmp_path):
    """Terms that are finite to the end do not hide weights that are not: they would be scored as pictures."""
    out = tmp_path / "run"
    with pytest.raises(zoo.ZooError, match=r"decoder\.line\.weight is not finite after step 1"):
        zoo.train("doomed", out=out, epochs=1, batch=1297, good=0, slope=True)
    assert not (out / "model.safetensors").exists()
    assert not (out / "checkpoint" / "state.safetensors").exists()
    (line,) = (out / "metrics.jsonl").read_text().splitlines()
    assert strict_json(line)["gradients"] == {"decoder": None}


@pytest.mark.usefixtures("toys")
def test_failed_start_leaves_nothing(tmp_path):
    """A plugin that fails in its first step does not occupy the folder; nor does the next, good run mind."""
    out = tmp_path / "deep" / "run"
    with pytest.raises(ValueError, match="two lines"):
        zoo.train("broken", out=out, epochs=1)
    assert not out.exists()
    out.mkdir()
    with pytest.raises(ValueError, match="two lines"):
        zoo.train("broken", out=out, epochs=1)
    assert {p.name for p in out.iterdir()} <= {".lock"}  # the folder was the user's, and stays
    zoo.train("blind", out=out, epochs=1, extractor="none")


def test_run_without_the_power_to_sample(tmp_path, monkeypatch):
    """What cannot be scored is refused before it is trained, not after."""

    @zoo.frozen
    class Mute(zoo.Objective):
        def networks(self, data):
            return {"net": torch.nn.Linear(2, 2)}

        def players(self):
            return {"net": {"t": 1.0}}

        def terms(self, net, x):
            raise AssertionError("trained all the same")

    from zoo.registry import Plugin, Registered

    monkeypatch.setitem(registry().models, "mute", Registered("mute", Mute, Plugin("toys", "toy-package", "1")))
    with pytest.raises(zoo.UsageError, match="cannot sample"):
        zoo.train("mute", out=tmp_path / "run", epochs=1)
    assert not (tmp_path / "run").exists()


# A trained model


@pytest.fixture
def vae(runs) -> zoo.TrainedAutoencoder:
    trained = zoo.load(runs / "vae")
    assert isinstance(trained, zoo.TrainedAutoencoder)
    return trained


@pytest.fixture(scope="module")
def digits() -> torch.Tensor:
    return load_dataset("digits", DataOptions(), registry().sources()).test.images


def test_abilities(vae, digits):
    """Shapes and ranges of all that a trained autoencoder does."""
    x = zoo.from_uint8(digits[:5])
    z = vae.encode(x)
    assert vae.sample(3).shape == (3, 1, 8, 8)
    assert z.shape == (5, 16)
    assert vae.decode(z).shape == vae.reconstruct(x).shape == (5, 1, 8, 8)
    assert torch.equal(vae.decode(z), vae.reconstruct(x))
    for images in (vae.sample(50), vae.reconstruct(x)):
        assert images.dtype == torch.float32
        assert not images.requires_grad
        assert -1 <= images.min() < images.max() <= 1
    assert vae.images(3, seed=0).shape == (3, 8, 8)
    assert vae.images(3, seed=0).dtype == np.uint8


def test_loaded_equals_trained(tmp_path, digits):
    """What is loaded is what was trained, batch normalization's running figures included."""
    trained = zoo.train("vae", out=tmp_path / "run", epochs=1, extractor="none", **SMALL)
    loaded = zoo.load(tmp_path / "run")
    assert torch.equal(trained.encode(digits), loaded.encode(digits))
    # Evaluation mode: an image's code does not hang on the company it is in.
    assert torch.allclose(loaded.encode(digits[:1]), loaded.encode(digits)[:1], atol=1e-5)


def test_networks_train_in_training_mode(runs):
    """Batch normalization learns its running figures in every step, not in none."""
    tensors, _ = RunFolder(runs / "vae").load_model()
    counts = {int(v) for k, v in tensors.items() if k.endswith("num_batches_tracked")}
    assert counts == {20}


def test_pixels_may_be_uint8(vae, digits):
    """0..255 and [−1, 1] are the same images, as tensors and as arrays; other integers could be either."""
    x = digits[:4]
    expected = vae.encode(x.float() / 127.5 - 1)
    assert torch.allclose(vae.encode(x), expected, atol=1e-6)
    assert torch.allclose(vae.encode(x.numpy()), expected, atol=1e-6)
    assert torch.allclose(vae.encode(x.double() / 127.5 - 1), expected, atol=1e-6)
    with pytest.raises(zoo.UsageError, match="int64"):
        vae.encode(x.long())


def test_batch_size_is_no_matter(vae, digits):
    assert torch.allclose(vae.encode(digits, batch=7), vae.encode(digits), atol=1e-5)
    assert torch.allclose(vae.reconstruct(digits, batch=7), vae.reconstruct(digits), atol=1e-5)


def test_samples_belong_to_their_seed(runs):
    """With a seed the same images, however many at a time; the caller's own generator is left alone."""
    vae = zoo.load(runs / "vae")
    first = vae.sample(23, seed=4)
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    assert torch.equal(vae.sample(23, seed=4), first)
    assert torch.equal(torch.rand(1), expected)
    assert not torch.equal(vae.sample(23, seed=5), first)
    assert not torch.equal(vae.sample(23), vae.sample(23))


@pytest.mark.usefixtures("toys")
def test_samples_do_not_depend_on_the_batch(runs):
    """Three dimensions: torch draws normal numbers sixteen at a time, so parts of 7·3 would be other codes."""
    blind = zoo.load(runs / "blind")
    assert torch.allclose(blind.sample(23, seed=4, batch=7), blind.sample(23, seed=4), atol=1e-6)


@pytest.mark.usefixtures("toys")
def test_a_model_may_sample_in_its_own_way(runs, monkeypatch):
    """A model that defines ``sample`` is asked for it."""
    blind = zoo.load(runs / "blind")
    monkeypatch.setattr(type(blind.objective), "sample", lambda self, net, n: torch.full((n, 1, 8, 8), 0.5))
    assert torch.equal(blind.sample(5, batch=2), torch.full((5, 1, 8, 8), 0.5))


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda m: m.encode(torch.zeros(2, 3, 8, 8)), r"x: shape \(2, 3, 8, 8\).*\(B, 1, 8, 8\)"),
        (lambda m: m.reconstruct(torch.zeros(1, 8, 8)), r"must be \(B, 1, 8, 8\)"),
        (lambda m: m.decode(torch.zeros(2, 5)), r"z: shape \(2, 5\).*\(B, 16\)"),
        (lambda m: m.decode(torch.zeros(16)), r"must be \(B, 16\)"),
        (lambda m: m.sample(0), "n: 0 is not allowed"),
    ],
)
def test_wrong_shapes(vae, ask, words):
    with pytest.raises(zoo.UsageError, match=words):
        ask(vae)


@pytest.mark.usefixtures("toys")
def test_types_have_only_what_they_can_do(runs):
    """A model without an encoder has no ``encode`` to call."""
    blind = zoo.load(runs / "blind")
    assert type(blind) is zoo.TrainedModel
    assert not hasattr(blind, "encode")
    assert not hasattr(blind, "reconstruct")
    assert blind.sample(2).shape == (2, 1, 8, 8)
    assert isinstance(zoo.load(runs / "vae"), zoo.TrainedAutoencoder)


def test_color(runs):
    """Images that are neither gray nor square."""
    trained = zoo.load(runs / "color")
    assert isinstance(trained, zoo.TrainedAutoencoder)
    assert trained.data.shape == (3, 10, 12)
    assert trained.sample(2).shape == (2, 3, 10, 12)
    assert trained.images(2).shape == (2, 10, 12, 3)


def test_load_refuses(runs, tmp_path, unfinished):
    """No run, an unfinished one, a model that is not installed, weights that are not this model's: each is told."""
    with pytest.raises(zoo.UsageError, match="not a run folder"):
        zoo.load(tmp_path / "nowhere")
    with pytest.raises(zoo.UsageError, match=r"no trained networks yet.*--resume"):
        zoo.load(unfinished)
    with pytest.raises(zoo.UsageError, match="unknown model 'blind'"):
        zoo.load(runs / "blind")  # the toys are registered for the tests that ask for them only
    folder = RunFolder(tmp_path / "changed")
    folder.path.mkdir()
    tensors, facts = RunFolder(runs / "vae").load_model()
    facts["options"]["width"] = 7
    folder.save_model(tensors, facts)
    with pytest.raises(zoo.ZooError, match="does not fit the networks that vae now builds"):
        zoo.load(folder.path)
    folder.model.write_bytes(folder.model.read_bytes()[:-1])
    with pytest.raises(zoo.ZooError, match=r"model\.safetensors cannot be read"):
        zoo.load(folder.path)
