"""Images of a run: grids of samples, reconstructions, interpolations and nearest neighbors, and training curves."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from zoo.data import Dataset, Split, from_uint8, take, to_uint8
from zoo.evaluation.extractors import Classifier, Extractor
from zoo.files import write_atomically
from zoo.metrics.distances import nearest_images
from zoo.run.run_folder import RunFolder
from zoo.run.tiles import WHITE, grid
from zoo.run.trained import TrainedAutoencoder, TrainedModel

if TYPE_CHECKING:
    pass

__all__ = ["draw_curves", "draw_images", "grid", "save_grid", "save_pairs"]

_CLASSIFIED = 300
"""Number of samples sorted by class: enough for ten of most classes, and quick to draw."""
_NEIGHBORS = 20


def save_grid(images: Tensor, path: Path, columns: int) -> None:
    """Write a :func:`grid` as PNG."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(grid(images, columns)).save(buffer, "PNG")
    write_atomically(path, buffer.getvalue())


def save_pairs(x: Tensor, rec: Tensor, path: Path, columns: int = 10) -> None:
    """Write pairs of uint8 images (N, C, H, W) as PNG: rows of ``x`` alternate with rows of ``rec``."""
    columns = min(columns, len(x))
    blank = x.new_full((-len(x) % columns, *x.shape[1:]), WHITE)
    x, rec = torch.cat([x, blank]), torch.cat([rec, blank])
    rows = [part for i in range(0, len(x), columns) for part in (x[i : i + columns], rec[i : i + columns])]
    save_grid(torch.cat(rows), path, columns)


def draw_images(
    folder: RunFolder, trained: TrainedModel, data: Dataset, extractor: Extractor | None = None
) -> list[Path]:
    """Write the images of a trained model; none is selected by hand.

    - ``samples.png``: the first 100 samples of seed 0.
    - ``reconstructions.png``: the first test images, each above its reconstruction; autoencoders only.
    - ``interpolations.png``: linear interpolations between codes of test images, or of the prior without an encoder.
    - ``neighbors.png``: the first samples, each above the nearest training image in pixel space.
    - ``class_samples.png``: per class, the first samples classified as it; if the extractor knows the classes.

    Returns:
        The files written.
    """
    root, written = folder.path, ["samples.png", "interpolations.png", "neighbors.png"]
    samples = to_uint8(trained.sample(100, seed=0)).cpu()
    save_grid(samples, root / "samples.png", 10)
    x = data.test.images[:50].cpu()
    if isinstance(trained, TrainedAutoencoder):
        y = trained.only_if_conditional(None if data.test.labels is None else data.test.labels[:50])
        save_pairs(x, to_uint8(trained.reconstruct(from_uint8(x), y)).cpu(), root / "reconstructions.png")
        written.insert(1, "reconstructions.png")
    _draw_interpolations(root / "interpolations.png", trained, data.test)
    neighbors = take(data.train.images, nearest_images(samples[:_NEIGHBORS], data.train.images)).cpu()
    save_pairs(samples[:_NEIGHBORS], neighbors, root / "neighbors.png")
    if isinstance(extractor, Classifier) and data.name in extractor.labels:
        more = to_uint8(trained.sample(_CLASSIFIED, seed=0)).cpu()
        _draw_classes(root / "class_samples.png", more, extractor, len(data.classes))
        written.append("class_samples.png")
    return [root / name for name in written if (root / name).is_file()]


def _draw_interpolations(path: Path, trained: TrainedModel, test: Split, ways: int = 6, steps: int = 10) -> None:
    if isinstance(trained, TrainedAutoencoder):
        y = trained.only_if_conditional(None if test.labels is None else test.labels[: 2 * ways])
        z = trained.encode(from_uint8(test.images[: 2 * ways].cpu()), y)
    else:
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            z = trained.objective.prior(torch.empty(0), 2 * ways).to(trained.device)
    ways = len(z) // 2
    a, b = z[:ways, None], z[ways : 2 * ways, None]
    t = torch.linspace(0, 1, steps, device=z.device)[None, :, None]
    if ways:
        rows = torch.arange(ways) % max(1, len(trained.data.classes))  # a conditional model: one class per row
        classes = trained.only_if_conditional(rows.repeat_interleave(steps))
        save_grid(to_uint8(trained.decode(torch.lerp(a, b, t).flatten(0, 1), classes)).cpu(), path, steps)


def _draw_classes(path: Path, samples: Tensor, extractor: Classifier, classes: int, columns: int = 10) -> None:
    read = extractor.classify(samples).argmax(1).cpu()
    rows = []
    for k in range(classes):
        mine = samples[read == k][:columns]
        rows += [mine, samples.new_full((columns - len(mine), *samples.shape[1:]), WHITE)]
    save_grid(torch.cat(rows), path, columns)


def draw_curves(folder: RunFolder) -> list[Path]:
    """Write ``curves.png``: loss terms and gradient norms against images seen. Returns the files written."""
    from matplotlib.figure import Figure  # pyplot takes half a second to import and keeps figures alive

    lines = folder.logged()
    if not lines:
        return []
    images = [line["images"] for line in lines]
    names = list(dict.fromkeys(name for line in lines for name in line["terms"]))  # some turns are rare
    columns = min(3, len(names) + 1)
    rows = -(-(len(names) + 1) // columns)
    width, height = 4 * columns, 2.8 * rows  # inches, as are the margins; tight_layout would be slow
    figure = Figure(figsize=(width, height))
    axes = figure.subplots(rows, columns, squeeze=False)
    figure.subplots_adjust(0.6 / width, 0.5 / height, 1 - 0.2 / width, 1 - 0.35 / height, wspace=0.22, hspace=0.42)
    for axis, name in zip(axes.flat, names, strict=False):
        known = [(line["images"], line["terms"][name]) for line in lines if name in line["terms"]]
        axis.plot(*zip(*known, strict=True), linewidth=1.2)
        axis.set_title(name, fontsize=10, loc="left")
    last = axes.flat[len(names)]
    for name in dict.fromkeys(name for line in lines for name in line["gradients"]):
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
    path = folder.path / "curves.png"
    write_atomically(path, buffer.getvalue())
    return [path]
