"""Snapshots: samples at moments of training that leave the training as it is, and the animation of them."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import SMALL
from PIL import Image
from test_image_grids import untile
from torch import nn

import zoo
from zoo.engine.ema import WeightEMA
from zoo.registry import registry
from zoo.run.snapshots import Snapshots, evaluation_mode, snapshot_files, snapshot_steps

pytestmark = pytest.mark.usefixtures("own_cache")


def weights(run: Path) -> bytes:
    return (run / "model.safetensors").read_bytes()


def snapshots(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (run / "snapshots").iterdir()}


class StopAt(zoo.Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def step_logged(self, step, images_seen, epoch, terms, gradients):
        if step == self.step:
            raise zoo.ZooError("stopped")


@pytest.mark.parametrize("steps", [0, 1, 20, 400, 93_750])
def test_moments_begin_untrained_end_trained_and_spread(steps):
    found = snapshot_steps(steps, 14)
    assert (found[0], found[-1]) == (0, steps)
    assert found == sorted(set(found))
    assert len(found) == 14 if steps > 2000 else len(found) <= 14
    gaps = np.diff(found)
    assert (gaps[1:] >= gaps[:-1] - 1).all()  # rounding


def test_a_run_keeps_its_samples_over_time(runs):
    """Each snapshot has the same codes; the last one shows the trained model."""
    run = runs / "vae"
    assert list(snapshot_files(run)) == snapshot_steps(20, 14)
    tiles = [untile(np.asarray(Image.open(path)), 8, (8, 8)) for path in snapshot_files(run).values()]
    assert np.array_equal(tiles[-1], zoo.load(run).images(64, seed=0))
    assert not np.array_equal(tiles[0], tiles[-1])
    assert [tile.shape for tile in tiles] == [(64, 8, 8)] * len(tiles)


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("vae", SMALL),
        ("vaegan", {"width": 2, "equilibrium": True}),  # batch statistics, and a gate
        ("avb", SMALL),  # networks that draw noise
        ("vae", {"width": 2, "ema_decay": 0.9}),
    ],
)
def test_weights_do_not_depend_on_snapshots(tmp_path, model, options):
    for count in (0, 14, 100):
        zoo.train(model, out=tmp_path / str(count), images=640, snapshots=count, extractor="none", **options)
    assert weights(tmp_path / "0") == weights(tmp_path / "14") == weights(tmp_path / "100")
    assert not (tmp_path / "0" / "snapshots").exists()
    assert not (tmp_path / "0" / "samples.gif").exists()
    assert len(snapshots(tmp_path / "100")) == 11  # every step


@pytest.mark.slow
@pytest.mark.parametrize("model", sorted(registry().models))
def test_weights_of_no_bundled_model_depend_on_snapshots(tmp_path, model):
    for count in (0, 100):
        zoo.train(model, out=tmp_path / str(count), images=640, snapshots=count, extractor="none", width=2)
    assert weights(tmp_path / "0") == weights(tmp_path / "100")


def test_an_average_of_the_weights_is_what_a_snapshot_shows(tmp_path):
    zoo.train("vae", out=tmp_path, images=640, ema_decay=0.9, extractor="none", **SMALL)
    *_, last = snapshot_files(tmp_path).values()
    assert np.array_equal(untile(np.asarray(Image.open(last)), 8, (8, 8)), zoo.load(tmp_path).images(64, seed=0))


@pytest.mark.parametrize("stop", [7, 13])
def test_a_stopped_and_resumed_run_keeps_the_same_snapshots(runs, tmp_path, stop):
    """Also if it stopped without a checkpoint of its last steps, whose snapshots are taken again."""
    given = {"out": tmp_path, "epochs": 1, "checkpoint_seconds": 0.0 if stop == 7 else 1e6, **SMALL}
    with pytest.raises(zoo.ZooError, match="stopped"):
        zoo.train("vae", callbacks=[StopAt(stop)], **given)
    assert 0 < len(snapshots(tmp_path)) < len(snapshots(runs / "vae"))
    zoo.train(resume=True, **{**given, "model": "vae"})
    assert snapshots(tmp_path) == snapshots(runs / "vae")
    assert (tmp_path / "samples.gif").read_bytes() == (runs / "vae" / "samples.gif").read_bytes()


def test_a_run_that_fails_at_once_leaves_no_folder(tmp_path, toys):
    with pytest.raises(ValueError, match="two lines"):
        zoo.train("broken", out=tmp_path / "run", epochs=1)
    assert not (tmp_path / "run").exists()


def test_a_diverged_run_has_the_snapshots_from_before(tmp_path, toys):
    with pytest.raises(zoo.ZooError, match="diverged: term 'match'"):
        zoo.train("doomed", out=tmp_path / "run", epochs=1, good=3, checkpoint_seconds=0.0)
    assert list(snapshot_files(tmp_path / "run")) == [0, 1, 2, 3]


def test_evaluation_mode_restores_each_module_and_each_bit():
    networks = zoo.Networks({"a": nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), "b": nn.Dropout()})
    networks.train()
    networks.b.eval()  # a part that a model keeps in evaluation mode
    ema = WeightEMA(networks, 0.5)
    networks.a(torch.randn(8, 2))
    with torch.no_grad():
        networks.a[0].weight.add_(1.0)
    before = {name: value.clone() for name, value in networks.state_dict().items()}
    with contextlib.suppress(ZeroDivisionError), evaluation_mode(networks, ema):
        assert not any(module.training for module in networks.modules())
        assert torch.allclose(networks.a[0].weight, before["a.0.weight"] - 1, atol=1e-6)
        _ = 1 / 0
    assert [module.training for module in networks.modules()] == [True, True, True, True, False]
    assert all(torch.equal(value, before[name]) for name, value in networks.state_dict().items())


def test_only_the_first_of_several_processes_takes_snapshots(tmp_path):
    engine = SimpleNamespace(ranks=zoo.engine.Ranks(1, 2), step_count=0)
    snapshots = Snapshots(None, None, engine, 100, 14)  # it would fail if it did anything
    snapshots.take()
    assert not snapshots.steps


def test_the_animation_shows_the_snapshots_in_order(runs):
    with Image.open(runs / "vae" / "samples.gif") as gif:
        paths = list(snapshot_files(runs / "vae").values())
        assert gif.n_frames == len(paths)
        assert gif.info["loop"] == 0
        for i, path in enumerate(paths):
            gif.seek(i)
            assert np.array_equal(np.asarray(gif.convert("L")), np.asarray(Image.open(path)))
        assert gif.info["duration"] == 2000  # the last stays longer


def test_the_animation_of_color_images_keeps_its_colors(runs):
    with Image.open(runs / "color" / "samples.gif") as gif:
        *_, last = snapshot_files(runs / "color").values()
        gif.seek(gif.n_frames - 1)
        shown, stored = (np.asarray(image.convert("RGB"), dtype=float) for image in (gif, Image.open(last)))
        assert np.abs(shown - stored).mean() < 8
