"""Sensitivity of the scores: real MNIST images with five artifacts at five strengths each.

    python benchmarks/sensitivity.py --data-dir DIR      # DIR/MNIST/raw/*.gz

Half of the test split stands in for generated images, the other half is the reference; training images are
all 60,000. Writes a table, docs/images/sensitivity.png and benchmarks/records/sensitivity.json, and fails if a score
does not change in the expected direction.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import itertools
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from torch import Tensor

from zoo.data import DataOptions, bundled_sources, load_dataset
from zoo.evaluation import PinnedClassifier
from zoo.metrics import (
    Moments,
    ReferenceMoments,
    compare_with_training,
    compute_prdc,
    frechet_distance,
    kernel_distance,
)
from zoo.metrics.distances import kth_neighbor_distances, nearest
from zoo.metrics.prdc import NEIGHBORS

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs/images/sensitivity.png"
RECORD = ROOT / "benchmarks/records/sensitivity.json"

UP, DOWN = 1, -1
# Precision is left out for blur and noise: a light blur moves images to where the real ones are densest, and under
# heavy noise they gather in the wide ball of one outlier, so that it rises (density rises with the blur too).
EXPECTED: dict[str, dict[str, int]] = {
    "blur": {"FD": UP, "KID": UP, "recall": DOWN, "coverage": DOWN},
    "noise": {"FD": UP, "KID": UP, "recall": DOWN, "density": DOWN, "coverage": DOWN},
    "shift": {"FD": UP, "KID": UP, "precision": DOWN, "recall": DOWN, "density": DOWN, "coverage": DOWN},
    "dropped classes": {"FD": UP, "KID": UP, "recall": DOWN, "coverage": DOWN},
    "training copies": {"memorization": UP, "memorization ratio": DOWN, "near copies": UP},
}
STRENGTHS: dict[str, tuple[str, list[float]]] = {
    "blur": ("σ, pixels", [0.5, 0.75, 1.0, 1.5, 2.0]),
    "noise": ("σ, gray levels", [10, 20, 40, 60, 90]),
    "shift": ("pixels", [1, 2, 3, 4, 5]),
    "dropped classes": ("of 10", [1, 2, 3, 4, 5]),
    "training copies": ("share", [0.1, 0.25, 0.5, 0.75, 1.0]),
}
SLACK = {"FD": 0.0, "KID": 0.0}  # of the others, shares of images, 0.01 is taken for no move: 0 stays 0


def quantize(x: Tensor) -> Tensor:
    """Gray levels as an image file holds them."""
    return x.round().clamp(0, 255).to(torch.uint8)


def blur(x: Tensor, sigma: float) -> Tensor:
    """A Gaussian blur of so many pixels."""
    r = torch.arange(-8, 9, dtype=torch.float32)
    w = torch.exp(-0.5 * (r / sigma) ** 2)
    w = w / w.sum()
    y = torch.nn.functional.conv2d(x.float(), w.view(1, 1, 1, -1), padding=(0, 8))
    return quantize(torch.nn.functional.conv2d(y, w.view(1, 1, -1, 1), padding=(8, 0)))


def noise(x: Tensor, sigma: float) -> Tensor:
    """Gaussian noise of so many gray levels."""
    return quantize(x.float() + sigma * torch.randn(x.shape, generator=torch.Generator().manual_seed(1)))


def shift(x: Tensor, pixels: float) -> Tensor:
    """Each image moved to the left or to the right by so many pixels."""
    right = torch.nn.functional.pad(x, (int(pixels), 0))[..., : x.shape[-1]]
    left = torch.nn.functional.pad(x, (0, int(pixels)))[..., int(pixels) :]
    side = torch.rand(len(x), 1, 1, 1, generator=torch.Generator().manual_seed(2)) < 0.5
    return torch.where(side, left, right)


def main() -> None:
    """Measure, print, draw, record, assert."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, default=os.environ.get("ZOO_DATA"))
    parser.add_argument("-n", type=int, default=2500, help="images in each cell, at most 2500")
    arguments = parser.parse_args()
    start = time.perf_counter()
    options = DataOptions(data_dir=arguments.data_dir, download=False)
    data = load_dataset("mnist", options, {s.name: s for s in bundled_sources()})
    labels = data.test.labels
    assert labels is not None
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    base, held = data.test.images[order[:5000]], data.test.images[order[5000:]]
    base_labels, n = labels[order[:5000]], arguments.n
    extractor = PinnedClassifier()

    def features(images: Tensor) -> Tensor:
        return torch.cat([extractor(part) for part in images.split(500)])

    real, train = features(held), features(data.train.images)
    moments = Moments()
    moments.update(real)
    reference, radii = ReferenceMoments.from_moments(moments), kth_neighbor_distances(real, NEIGHBORS)
    test_distances = nearest(real, train)[0]

    def scores(images: Tensor) -> dict[str, float]:
        found, seen = features(images[:n]), Moments()
        seen.update(found)
        copied = compare_with_training(found, train, test_distances)
        assert copied.ratio is not None
        return {
            "FD": frechet_distance(reference, seen),
            "KID": kernel_distance(real, found, subsets=50)[0],
            **compute_prdc(real, found, squared_radii=radii),
            "memorization": copied.probability,
            "memorization ratio": copied.ratio,
            "near copies": copied.near_copies,
        }

    smallest = base_labels.bincount(minlength=10).argsort()
    copies = data.train.images[torch.randperm(60000, generator=torch.Generator().manual_seed(3))[:n]]

    def drop(x: Tensor, classes: float) -> Tensor:
        return x[~torch.isin(base_labels, smallest[: int(classes)])]

    def copy(x: Tensor, share: float) -> Tensor:
        return torch.cat([copies[: int(share * n)], x[int(share * n) :]])

    spoil: dict[str, Callable[[Tensor, float], Tensor]] = {
        "blur": blur,
        "noise": noise,
        "shift": shift,
        "dropped classes": drop,
        "training copies": copy,
    }
    clean = scores(base)
    table: dict[str, list[dict[str, float]]] = {}
    print(f"{'':24}" + "".join(f"{name:>13.12}" for name in clean))
    print(f"{'clean':24}" + "".join(f"{v:13.4g}" for v in clean.values()))
    for name, change in spoil.items():
        rows = [scores(change(base, strength)) for strength in STRENGTHS[name][1]]
        table[name] = rows
        for strength, row in zip(STRENGTHS[name][1], rows, strict=True):
            print(f"{name + ' ' + format(strength, 'g'):24}" + "".join(f"{v:13.4g}" for v in row.values()), flush=True)
    wrong = []
    for name, wanted in EXPECTED.items():
        for score, sign in wanted.items():
            values = [clean[score], *(row[score] for row in table[name])]
            slack = SLACK.get(score, 0.01)
            steps = [sign * (b - a) for a, b in itertools.pairwise(values)]
            if min(steps) < -slack or sign * (values[-1] - values[0]) <= slack:
                wrong.append(f"{score} under {name}: {', '.join(f'{v:.4g}' for v in values)}")
    draw(clean, table, [(name, spoil[name](base, STRENGTHS[name][1][2])[0, 0]) for name in spoil])
    record: dict[str, Any] = {
        "dataset_digest": data.digest,
        "extractor_digest": extractor.digest,
        "n_generated": n,
        "n_real": len(held),
        "clean": clean,
        "strengths": {name: {"unit": unit, "values": values} for name, (unit, values) in STRENGTHS.items()},
        "scores": table,
        "not_monotone": wrong,
        "torch": importlib.metadata.version("torch"),
        "seconds": round(time.perf_counter() - start, 1),
    }
    RECORD.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"{record['seconds']} s; wrote {PICTURE.relative_to(ROOT)} and {RECORD.relative_to(ROOT)}")
    assert not wrong, "not monotone: " + "; ".join(wrong)


def draw(clean: dict[str, float], table: dict[str, list[dict[str, float]]], tiles: list[tuple[str, Tensor]]) -> None:
    """A column for each way of spoiling, a row for each family of scores, and what it looks like."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    families = [("FD",), ("KID",), ("precision", "recall", "density", "coverage"), ("memorization", "near copies")]
    colors = {"FD": "#333", "KID": "#333", "precision": "#1b6ca8", "recall": "#d1495b", "density": "#7fb3d5"}
    colors |= {"coverage": "#edae49", "memorization": "#d1495b", "near copies": "#6a4c93"}
    figure, axes = plt.subplots(5, len(tiles), figsize=(12, 9.5), height_ratios=[0.8, 1, 1, 1, 1], sharey="row")
    for column, (name, tile) in enumerate(tiles):
        unit, strengths = STRENGTHS[name]
        head = axes[0, column]
        head.imshow(tile.numpy(), cmap="gray_r", vmin=0, vmax=255)
        head.set_title(name, fontsize=11)
        head.axis("off")
        for axis, family in zip(axes[1:, column], families, strict=True):
            for score in family:
                values = [clean[score], *(row[score] for row in table[name])]
                axis.plot(range(6), values, ".-", color=colors[score], label=score)
            axis.set_xticks(range(6), ["0", *(format(s, "g") for s in strengths)], fontsize=8)
            axis.tick_params(axis="y", labelsize=8)
            axis.spines[["top", "right"]].set_visible(False)
            axis.grid(axis="y", alpha=0.3)
        axes[-1, column].axhline(0.5, color="#d1495b", lw=0.7, ls=":")
        axes[-1, column].set_xlabel(unit, fontsize=9)
    for axis, title in zip(axes[1:, 0], ("FD-classifier", "KID-classifier", "shares", "memorization"), strict=True):
        axis.set_ylabel(title, fontsize=10)
    for row in (1, 2):
        axes[row, 0].set_yscale("symlog", linthresh=1 if row == 1 else 0.1)
        axes[row, 0].set_ylim(bottom=-0.02)
    for row in (3, 4):
        axes[row, -1].legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    figure.tight_layout()
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(PICTURE, dpi=80)


if __name__ == "__main__":
    main()
