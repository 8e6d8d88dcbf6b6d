"""Parts of a run that benchmarks need: a budget in images, the command that repeats it, pictures."""

from __future__ import annotations

import hashlib
import json
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import zoo
from zoo.data import Dataset, Split, from_uint8
from zoo.errors import UsageError
from zoo.evaluation import PinnedClassifier
from zoo.run.image_grids import draw_images, grid
from zoo.run.run_folder import RunFolder
from zoo.run.settings import RunSettings, differences

SMALL: dict[str, Any] = {"family": "mlp", "width": 4, "samples": 64}


@pytest.fixture(scope="module")
def budgeted(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """A run of 1,000 images under a protocol, its data root named."""
    root = tmp_path_factory.mktemp("budgeted")
    (root / "data").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_CACHE", str(cache))
        given = {"images": 1000, "protocol": "p@3#0123456789ab", "data_dir": root / "data", **SMALL}
        zoo.train("vae", out=root / "run", likelihood="gaussian", **given)
    return root / "run"


def result(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "result.json").read_text())
    return found


def test_a_budget_in_images_is_kept_to_the_last_whole_batch(budgeted, tmp_path, own_cache):
    """15 batches of 64; a model that draws several a step pays for them all; less than a step is one."""
    assert result(budgeted)["cost"]["images_seen"] == 960
    for model, images, seen in (("wgan-gp", 1000, 896), ("vae", 10, 64)):
        options = {"n_critic": 2} if model == "wgan-gp" else {}
        zoo.train(model, images=images, extractor="none", out=tmp_path / model, family="mlp", width=4, **options)
        assert result(tmp_path / model)["cost"]["images_seen"] == seen


def test_a_budget_is_named_in_one_way(cli, tmp_path, budgeted):
    """Epochs and images together are refused; a flag takes the place of what a file says in the other way."""
    cli("run", "vae", "--images", 100, "--epochs", 1, "--out", tmp_path / "x").refused(2, "images: 100", "epochs 1")
    cli("run", "vae", "--images", 0, "--out", tmp_path / "x").refused(2, "images: 0")
    outcome = cli("run", "--config", budgeted / "config.toml", "--epochs", 1, "--out", tmp_path / "y")
    assert outcome.status == 0, outcome.err
    there = RunFolder(tmp_path / "y").settings()
    assert (there.epochs, there.images) == (1, None)
    cli("run", "--resume", "--epochs", 5, "--out", budgeted).refused(2, "epochs None, here 5", "images 1000, here None")


def test_the_data_root_is_no_part_of_a_run(budgeted, tmp_path, cli):
    """A run that was begun on one machine goes on on another, whose data lie elsewhere; no path is in its result."""
    a, b = RunSettings(data_dir="/here"), RunSettings(data_dir="/there")
    assert not differences(a, b)
    outcome = cli("run", "--resume", "--data-dir", tmp_path, "--out", budgeted)
    assert outcome.status == 0, outcome.err
    assert str(budgeted.parent) not in (budgeted / "result.json").read_text()
    assert "data_dir" not in result(budgeted)["settings"]


def test_a_folder_of_images_is_named_without_its_path(tmp_path, own_cache):
    pictures = tmp_path / "faces"
    pictures.mkdir()
    for i in range(20):
        pixels = np.random.default_rng(i).integers(0, 256, (9, 9), dtype=np.uint8)
        Image.fromarray(pixels).save(pictures / f"{i}.png")
    zoo.train("vae", dataset=f"folder:{pictures}", images=64, batch=8, extractor="none", out=tmp_path / "run", width=4)
    found = result(tmp_path / "run")
    assert found["settings"]["dataset"] == found["dataset"] == "folder:faces"
    assert "--dataset folder:faces " in found["command"]
    assert str(tmp_path) not in json.dumps(found)


def test_the_recorded_command_repeats_the_run(budgeted, tmp_path, cli, own_cache):
    """Typed as it stands, it trains the same weights to the bit."""
    found = result(budgeted)
    words = shlex.split(found["command"])
    assert words[:2] == ["zoo", "run"]
    assert "--out" not in words
    assert "--data-dir" not in words
    outcome = cli(*words[1:], "--out", tmp_path / "again")
    assert outcome.status == 0, outcome.err
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (budgeted / "model.safetensors").read_bytes()
    assert result(tmp_path / "again")["scores"] == found["scores"]
    assert found["options_changed"] == {"family": "mlp", "width": 4, "likelihood": "gaussian"}
    assert found["weights_sha256"] == hashlib.sha256((budgeted / "model.safetensors").read_bytes()).hexdigest()


def test_a_command_has_every_kind_of_option(tmp_path, own_cache):
    """Booleans as --flag or --no-flag; and the record holds the game as these options make it."""
    options = {"family": "mlp", "width": 2, "gamma": 0.25, "equilibrium": True}
    zoo.train("vaegan", images=64, extractor="none", out=tmp_path / "run", **options)
    found = result(tmp_path / "run")
    assert found["command"].endswith(" --equilibrium")
    assert "--extractor none" in found["command"]
    assert found["protocol_file"] is None
    card = found["card"]
    assert card["paper"].startswith("Larsen")
    rows = {name: row["weights"] for row in card["game"][0]["rows"] for name in row["networks"]}
    assert rows["decoder"]["like"] == 0.25
    assert set(card["game"][0]["terms"]) >= {"prior", "like", "gan"}


def test_a_protocol_is_claimed_only_by_runs_that_keep_to_it(budgeted, tmp_path, cli, own_cache):
    """Another seed is still the same protocol; any other change of a setting or an option is a run by itself."""
    assert result(budgeted)["protocol_file"] == {"name": "p", "version": 3, "digest": "0123456789ab"}
    for flags, kept in ((["--seed", 1], True), (["--samples", 65], False), (["--latent", 3], False)):
        out = tmp_path / str(flags[0])
        outcome = cli("run", "--config", budgeted / "config.toml", *flags, "--out", out)
        assert outcome.status == 0, outcome.err
        assert (result(out)["protocol_file"] is not None) == kept, flags


class Copies:
    """Stands for a trained model that has learnt its first training images by heart."""

    device = torch.device("cpu")
    objective = SimpleNamespace(prior=lambda like, n: torch.arange(float(n))[:, None])
    data = SimpleNamespace(classes=())

    def __init__(self, images: torch.Tensor) -> None:
        self.images = images

    def sample(self, n: int, *, seed: int) -> torch.Tensor:
        assert seed == 0
        return from_uint8(self.images[:n])

    def only_if_conditional(self, y: object) -> None:
        return None

    def decode(self, z: torch.Tensor, y: None = None) -> torch.Tensor:
        """Gray by the code, so that a way from one to another is a ramp."""
        return (z / 6 - 1).reshape(-1, 1, 1, 1).expand(-1, 1, 8, 8)


def tiles(path: Path, size: int = 56, gap: int = 2) -> list[list[np.ndarray[Any, Any]]]:
    sheet = np.asarray(Image.open(path))
    step = size + gap
    return [
        [sheet[top : top + size, left : left + size] for left in range(gap, sheet.shape[1] - 1, step)]
        for top in range(gap, sheet.shape[0] - 1, step)
    ]


def test_pictures_show_what_they_say(tmp_path):
    """NearestTraining are the nearest training images; each way is even; each row of classes holds that class alone."""
    from zoo.data import DataOptions
    from zoo.data.digits import load_digits

    digits = load_digits(DataOptions())
    order = torch.randperm(len(digits.train), generator=torch.Generator().manual_seed(0))
    shuffled = Split(digits.train.images[order], digits.train.labels[order])
    data = Dataset("digits", shuffled, digits.test, digits.classes)
    draw_images(RunFolder(tmp_path), Copies(digits.train.images), data, PinnedClassifier())
    neighbors = tiles(tmp_path / "neighbors.png")
    assert (len(neighbors), len(neighbors[0])) == (4, 10)
    for row in (0, 2):
        for one, nearest in zip(neighbors[row], neighbors[row + 1], strict=True):
            assert np.array_equal(one, nearest)
    ways = tiles(tmp_path / "interpolations.png")
    assert (len(ways), len(ways[0])) == (6, 10)
    grays = [int(tile[0, 0]) for tile in ways[0]]
    steps = np.diff(grays)
    assert grays[0] == 0
    assert steps.min() > 0
    assert np.ptp(steps) <= 1
    by_class = tiles(tmp_path / "class_samples.png")
    assert (len(by_class), len(by_class[0])) == (10, 10)
    images, labels = digits.train.images[:300], digits.train.labels[:300]
    assert int(labels.bincount().min()) >= 10
    for k in (0, 7):
        expected = grid(images[labels == k][:10], 10)
        assert np.array_equal(np.stack(by_class[k]), np.stack(tiles_of(expected)))
    assert all(path.stat().st_size < 60_000 for path in tmp_path.glob("*.png"))


def tiles_of(sheet: np.ndarray[Any, Any], size: int = 56, gap: int = 2) -> list[np.ndarray[Any, Any]]:
    return [sheet[gap : gap + size, left : left + size] for left in range(gap, sheet.shape[1] - 1, size + gap)]


def test_settings_refuse_both_budgets():
    with pytest.raises(UsageError, match="omit one of them"):
        RunSettings(images=5, epochs=1)
    assert RunSettings.from_table({"model": "vae", "protocol": "p@1#a"}).protocol == "p@1#a"
    with pytest.raises(UsageError, match="must be strings"):
        RunSettings.from_table({"model": "vae", "protocol": 3})
