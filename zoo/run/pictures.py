"""The pictures of a run: samples, reconstructions, curves."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from zoo.data import Dataset, to_uint8, to_unit
from zoo.run.folder import RunFolder, write_atomically
from zoo.run.trained import Trained, TrainedAutoencoder, as_files

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["draw_curves", "draw_pictures", "grid", "save_grid", "save_pairs"]

_PAPER, _GAP = 255, 2


def grid(images: Tensor, columns: int, *, height: int = 56) -> NDArray[np.uint8]:
    """Images uint8 (N, C, H, W) in rows of ``columns``, each enlarged by a whole factor to about ``height`` pixels."""
    tiles = as_files(images)
    factor = max(1, round(height / tiles.shape[1]))
    tiles = tiles.repeat(factor, axis=1).repeat(factor, axis=2)
    n, h, w, *rest = tiles.shape
    rows = -(-n // columns)
    sheet = np.full((rows * (h + _GAP) + _GAP, columns * (w + _GAP) + _GAP, *rest), _PAPER, np.uint8)
    for i, tile in enumerate(tiles):
        top, left = _GAP + (i // columns) * (h + _GAP), _GAP + (i % columns) * (w + _GAP)
        sheet[top : top + h, left : left + w] = tile
    return sheet


def save_grid(images: Tensor, path: Path, columns: int) -> None:
    """Write a :func:`grid` as PNG."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(grid(images, columns)).save(buffer, "PNG")
    write_atomically(path, buffer.getvalue())


def save_pairs(x: Tensor, rec: Tensor, path: Path, columns: int = 10) -> None:
    """Write images and their reconstructions, uint8 (N, C, H, W): a row of images, below it what became of each."""
    columns = min(columns, len(x))
    blank = x.new_full((-len(x) % columns, *x.shape[1:]), _PAPER)
    x, rec = torch.cat([x, blank]), torch.cat([rec, blank])
    rows = [part for i in range(0, len(x), columns) for part in (x[i : i + columns], rec[i : i + columns])]
    save_grid(torch.cat(rows), path, columns)


def draw_pictures(folder: RunFolder, trained: Trained, data: Dataset) -> None:
    """``samples.png``: the first 100 of seed 0, none chosen. ``reconstructions.png``: the first test images."""
    save_grid(to_uint8(trained.sample(100, seed=0)).cpu(), folder.path / "samples.png", 10)
    if isinstance(trained, TrainedAutoencoder):
        x = data.test.images[:50]
        save_pairs(x, to_uint8(trained.reconstruct(to_unit(x))).cpu(), folder.path / "reconstructions.png")


def draw_curves(folder: RunFolder) -> None:
    """``curves.png``: every term, and every gradient's norm, against images seen."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    lines = folder.logged()
    if not lines:
        return
    images = [line["images"] for line in lines]
    names = list(lines[-1]["terms"])
    columns = min(3, len(names) + 1)
    rows = -(-(len(names) + 1) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(4 * columns, 2.8 * rows), squeeze=False, layout="constrained")
    for axis, name in zip(axes.flat, names, strict=False):
        axis.plot(images, [line["terms"][name] for line in lines], linewidth=1.2)
        axis.set_title(name, fontsize=10, loc="left")
    last = axes.flat[len(names)]
    for name in lines[-1]["gradients"]:
        last.plot(images, [line["gradients"].get(name) for line in lines], linewidth=1.0, label=name)
    last.set_yscale("log")
    last.set_title("gradient norms", fontsize=10, loc="left")
    last.legend(fontsize=7, frameon=False)
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
        axis.set_xlabel("images seen", fontsize=8)
    for axis in list(axes.flat)[len(names) + 1 :]:
        axis.set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=120)
    plt.close(figure)
    write_atomically(folder.path / "curves.png", buffer.getvalue())
