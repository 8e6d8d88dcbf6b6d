"""Memorization: whether generated images are copies of training images."""

from __future__ import annotations

import math
from typing import Any, Self

import attrs
import torch
from torch import Tensor

from zoo.metrics.distances import check_features, nearest
from zoo.metrics.metric import MAX_SAMPLES, Metric, ReferenceData, concatenate, scalar
from zoo.metrics.score_info import ScoreInfo

__all__ = ["QUANTILE", "Memorization", "MemorizationResult", "compare_with_training"]

QUANTILE = 0.01
"""A generated image is a near copy if it is nearer to the training set than all but this share of the test images."""


@attrs.frozen(eq=False)
class MemorizationResult:
    """Distances g of generated vectors to their nearest training vector, compared with those t of test vectors."""

    probability: float
    """P(g < t) + ½ P(g = t): 0.5 if generated images are as near to the training set as test images are, 1 for copies.
    Below 0.5 they are farther away, which is no merit."""
    ratio: float | None
    """Median of g over median of t: 1 for real images, 0 for copies. None if most test images are training images."""
    near_copies: float
    """Share of g up to the first percentile of t: 0.01 for real images. Detects a few copies among many images."""
    distances: Tensor
    """g, float64 (N,)."""
    indices: Tensor
    """Index of each generated vector's nearest training vector, int64 (N,)."""


def compare_with_training(generated: Tensor, train: Tensor, test_distances: Tensor) -> MemorizationResult:
    """Compare distances to the nearest training vector.

    Meehan, Chaudhuri & Dasgupta, arXiv:2004.05675, make the same comparison per cell of a partition; ``probability`` is
    their statistic on the whole space. torchmetrics' MiFID measures the reverse, the distance of training images to
    generated ones: it rates a model that copies a few images as original.

    Args:
        generated: Features of generated images.
        train: Features of all training images.
        test_distances: Distances t of test vectors to ``train``, from `nearest`.

    Shape:
        generated: (N, d).
        train: (M, d).
        test_distances: (K,).

    Raises:
        ZooError: If a set is empty or a value is not finite.
    """
    check_features("generated", generated)
    check_features("train", train)
    t = check_features("test distances", test_distances.double()[:, None])[:, 0].sort().values
    g, indices = nearest(generated, train)
    # Features of identical images differ by float32's rounding errors; their distance is zero.
    scale = train.double().std(0, correction=0).norm() if len(train) > 1 else train.double().norm()
    g, t = (d.where(d > 1e-6 * scale, torch.zeros_like(d)) for d in (g, t))
    above = len(t) - torch.searchsorted(t, g, right=True)
    equal = torch.searchsorted(t, g, right=True) - torch.searchsorted(t, g)
    middle = float(t.quantile(0.5)) if len(t) else 0.0
    return MemorizationResult(
        probability=float((above + 0.5 * equal).double().mean()) / len(t),
        ratio=float(g.quantile(0.5)) / middle if middle > 0 else None,
        near_copies=float((g <= t[int(QUANTILE * (len(t) - 1))]).double().mean()),
        distances=g,
        indices=indices,
    )


class Memorization(Metric):
    """Distances of generated images to the training set, compared with those of test images.

    Args:
        train: Features of all training images (M, d).
        test_distances: Distance of each test image to the nearest training image (K,).
        **options: See `torchmetrics.Metric`.

    >>> import torch
    >>> metric = Memorization(torch.tensor([[0.0], [10.0]]), torch.tensor([1.0, 3.0]))
    >>> metric.update(torch.tensor([[0.0], [10.0]]))
    >>> {name: float(value) for name, value in metric.compute().items()}
    {'memorization': 1.0, 'memorization ratio': 0.0, 'near copies': 1.0}
    """

    scores = (
        ScoreInfo(
            "memorization",
            "probability to be nearer to the training set than a test image; 0.5 for real images, 1 for copies",
        ),
        ScoreInfo(
            "memorization ratio",
            "median distance to the training set over that of test images; 1 for real images, 0 for copies",
            column=False,
        ),
        ScoreInfo(
            "near copies",
            "share nearer to the training set than all but 1 % of the test images; 0.01 for real images",
            column=False,
        ),
    )
    needs = ("features",)
    paper = "Meehan et al., arXiv:2004.05675"
    protocol = (
        f"nearest of all training images, Euclidean; at most {MAX_SAMPLES} a side; "
        f"near copies: percentile {100 * QUANTILE:g}"
    )
    max_samples = MAX_SAMPLES
    train_features: Tensor
    test_distances: Tensor
    features: list[Tensor]

    def __init__(self, train: Tensor, test_distances: Tensor, **options: Any) -> None:
        super().__init__(**options)
        self.register_buffer("train_features", train, persistent=False)
        self.register_buffer("test_distances", test_distances, persistent=False)
        self.add_state("features", [], dist_reduce_fx="cat")
        self.result: MemorizationResult | None = None

    @classmethod
    def from_reference(cls, reference: ReferenceData) -> Self | None:
        """Compare with the distances of the test images."""
        return cls(reference.train_features, reference.test_to_train_distances())

    def update(self, features: Tensor) -> None:
        """Add features of generated images (B, d)."""
        self.features.append(features)

    def compute(self) -> dict[str, Tensor]:
        """``memorization``, ``memorization ratio`` and ``near copies``; `result` then has the distances."""
        self.result = compare_with_training(concatenate(self.features), self.train_features, self.test_distances)
        ratio = math.nan if self.result.ratio is None else self.result.ratio
        values = (self.result.probability, ratio, self.result.near_copies)
        return {info.name: scalar(value) for info, value in zip(self.scores, values, strict=True)}
