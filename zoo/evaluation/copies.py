"""Whether generated images are copies of training images: in the direction that a copy cannot hide from."""

from __future__ import annotations

import attrs
import torch
from torch import Tensor

from zoo.evaluation.distances import checked, nearest

__all__ = ["QUANTILE", "Memorization", "memorization"]

QUANTILE = 0.01
"""A generated image nearer to training data than all but this share of test images is a near copy."""


@attrs.frozen(eq=False)
class Memorization:
    """Distances g of generated vectors to their nearest training vector, judged by those t of test vectors."""

    probability: float
    """P(g < t) + ½ P(g = t): 0.5 where generated images lie as near to training data as test images do, 1 for copies.
    Below 0.5 they lie further off, which is no merit."""
    ratio: float | None
    """Median g over median t: 1 like test images, 0 for copies. None where most test images are training images."""
    near_copies: float
    """Share of g that are at most the first percentile of t: 0.01 like test images. It sees a few copies among many."""
    distances: Tensor
    """Each generated vector's g, float64 (N,)."""
    indices: Tensor
    """Each generated vector's nearest training vector, int64 (N,)."""


def memorization(generated: Tensor, train: Tensor, test_distances: Tensor) -> Memorization:
    """Compare the distances to the nearest training vector.

    Meehan, Chaudhuri & Dasgupta, arXiv:2004.05675, make the same comparison cell by cell; theirs is the statistic
    behind ``probability``. torchmetrics' MiFID asks how near training images lie to generated ones, the reverse:
    there a model that copies a few images scores as original.

    Args:
        generated: with shape (N, d).
        train: with shape (M, d); all that the model has seen.
        test_distances: t, of test vectors, as `nearest` gives them, (K,).

    Raises:
        ZooError: where a set is empty or a value is not finite.
    """
    checked("generated", generated)
    checked("train", train)
    t = checked("test distances", test_distances.double()[:, None])[:, 0].sort().values
    g, indices = nearest(generated, train)
    # Of identical pictures the features differ by float32's rounding: that distance is zero.
    scale = train.double().std(0, correction=0).norm() if len(train) > 1 else train.double().norm()
    g, t = (d.where(d > 1e-6 * scale, torch.zeros_like(d)) for d in (g, t))
    above = len(t) - torch.searchsorted(t, g, right=True)
    equal = torch.searchsorted(t, g, right=True) - torch.searchsorted(t, g)
    middle = float(t.quantile(0.5)) if len(t) else 0.0
    return Memorization(
        probability=float((above + 0.5 * equal).double().mean()) / len(t),
        ratio=float(g.quantile(0.5)) / middle if middle > 0 else None,
        near_copies=float((g <= t[int(QUANTILE * (len(t) - 1))]).double().mean()),
        distances=g,
        indices=indices,
    )
