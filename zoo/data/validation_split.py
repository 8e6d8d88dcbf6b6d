"""A validation split: training images that are held out, so that choices never see the test split."""

from __future__ import annotations

import attrs
import torch
from torch import Tensor

from zoo.data.mapped import is_mapped
from zoo.data.spec import Dataset, Split
from zoo.errors import UsageError

__all__ = ["count_held_out", "hold_out"]

_SEED = 0


def count_held_out(images: int, fraction: float) -> int:
    """Number of training images that :func:`hold_out` holds out."""
    return round(images * fraction)


def hold_out(data: Dataset, fraction: float) -> Dataset:
    """Replace the test split by a random fraction of the training split, which is no longer trained on.

    The images are drawn with seed 0: equal fractions of a data set hold out equal images.

    Args:
        data: The data set.
        fraction: Fraction of the training images.

    Raises:
        UsageError: If a split would have fewer than two images, or the images are mapped from disk.
    """
    n = count_held_out(len(data.train), fraction)
    if min(n, len(data.train) - n) < 2:
        raise UsageError(
            f"validation: {fraction:g} is not allowed; {data.name} has {len(data.train)} training images, and both "
            "splits need at least two"
        )
    if is_mapped(data.train.images):
        raise UsageError(
            f"validation: {data.name} is mapped from disk, and images can be held out in memory only; use a smaller "
            "--image-size or a larger --data-memory"
        )
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(_SEED))
    held, kept = (_select(data.train, part.sort().values) for part in (order[:n], order[n:]))
    return attrs.evolve(data, train=kept, test=held, evaluation_split="validation", stored=None)


def _select(split: Split, indices: Tensor) -> Split:
    return Split(split.images[indices], None if split.labels is None else split.labels[indices])
