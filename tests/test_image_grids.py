"""Image grids of a run show every pixel unchanged."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

import zoo
from zoo.data import DataOptions, load_dataset
from zoo.registry import registry
from zoo.run.image_grids import draw_curves, grid, save_pairs
from zoo.run.run_folder import RunFolder
from zoo.run.scoring import metrics_line

pytestmark = pytest.mark.usefixtures("own_cache")


def untile(sheet: np.ndarray, columns: int, shape: tuple[int, int]) -> np.ndarray:
    """The images of a sheet, (rows × columns, H, W, …), back at their own size; margins of two pixels between them."""
    side = (sheet.shape[1] - 2) / columns - 2
    factor = round(side / shape[1])
    assert factor * shape[1] == side
    h, w = factor * shape[0], factor * shape[1]
    rows = (sheet.shape[0] - 2) // (h + 2)
    tiles = [
        sheet[2 + r * (h + 2) :, 2 + c * (w + 2) :][:h:factor, :w:factor] for r in range(rows) for c in range(columns)
    ]
    return np.stack(tiles)


@pytest.mark.parametrize(
    ("shape", "n", "columns", "size"),
    [
        ((1, 8, 8), 10, 4, (3 * 42 + 2, 4 * 42 + 2)),  # five times as large, 40 pixels and a margin of 2
        ((3, 10, 12), 3, 3, (42 + 2, 3 * 50 + 2, 3)),  # four times
        ((1, 28, 28), 1, 1, (28 + 4, 28 + 4)),  # 40 / 28 is nearer 1
        ((3, 64, 64), 2, 1, (2 * 66 + 2, 66 + 2, 3)),  # never made smaller
    ],
)
def test_grid(shape, n, columns, size):
    """Whole multiples of each image, row by row, on white."""
    images = torch.randint(0, 255, (n, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    sheet = grid(images, columns, height=40)
    assert sheet.shape == size
    assert sheet.dtype == np.uint8
    tiles = untile(sheet, columns, shape[1:])
    expected = images.permute(0, 2, 3, 1).numpy()
    assert np.array_equal(tiles[:n].reshape(expected.shape), expected)
    assert (tiles[n:] == 255).all()
    assert (sheet[:2] == 255).all()
    assert (sheet[:, -2:] == 255).all()


def test_pairs(tmp_path):
    """Rows of images and, below each, rows of what became of them; a last short row is kept."""
    x = torch.full((13, 1, 8, 8), 10, dtype=torch.uint8) + torch.arange(13, dtype=torch.uint8)[:, None, None, None]
    save_pairs(x, x + 100, tmp_path / "pairs.png", columns=10)
    tiles = untile(np.asarray(Image.open(tmp_path / "pairs.png")), 10, (8, 8))
    assert tiles[:, 0, 0].tolist() == [
        *range(10, 20),
        *range(110, 120),
        *range(20, 23),
        *[255] * 7,
        *range(120, 123),
        *[255] * 7,
    ]


def test_samples_of_a_run(runs):
    """``samples.png`` holds the first hundred samples of seed 0: none is chosen."""
    with Image.open(runs / "vae" / "samples.png") as image:
        assert image.format == "PNG"
        tiles = untile(np.asarray(image), 10, (8, 8))
    assert np.array_equal(tiles, zoo.load(runs / "vae").images(100, seed=0))


def test_color_samples_of_a_run(runs):
    """Colors stay, and so does a shape that is not square."""
    tiles = untile(np.asarray(Image.open(runs / "color" / "samples.png")), 10, (10, 12))
    assert np.array_equal(tiles, zoo.load(runs / "color").images(100, seed=0))


def test_reconstructions_of_a_run(runs):
    """``reconstructions.png`` holds the first fifty test images, each above its reconstruction."""
    tiles = untile(np.asarray(Image.open(runs / "vae" / "reconstructions.png")), 10, (8, 8)).reshape(5, 2, 10, 8, 8)
    x = load_dataset("digits", DataOptions(), registry().sources()).test.images[:50]
    trained = zoo.load(runs / "vae")
    assert isinstance(trained, zoo.TrainedAutoencoder)
    assert np.array_equal(tiles[:, 0].reshape(50, 8, 8), x[:, 0].numpy())
    assert np.array_equal(tiles[:, 1].reshape(50, 8, 8), zoo.to_uint8(trained.reconstruct(x))[:, 0].numpy())


def test_curves(runs, tmp_path):
    """``curves.png`` is there and has something on it; a norm that was not finite leaves a gap."""
    with Image.open(runs / "vae" / "curves.png") as image:
        assert len(image.getcolors(maxcolors=1 << 20)) > 10
    folder = RunFolder(tmp_path)
    for step, norm in enumerate([1.0, float("inf"), float("nan"), 2.0], 1):
        folder.append_metrics(metrics_line(step, 64 * step, step / 10, {"nll": 1.0 / step}, {"decoder": norm}))
    assert [line["gradients"]["decoder"] for line in folder.logged()] == [1.0, None, None, 2.0]
    draw_curves(folder)
    with Image.open(tmp_path / "curves.png") as image:
        assert min(image.size) > 200
