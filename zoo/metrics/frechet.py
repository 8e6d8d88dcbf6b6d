"""Fréchet distance between two sets of features, each modeled as a Gaussian."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.metrics.metric import Metric, MetricSet, ReferenceData, concatenate, scalar
from zoo.metrics.moments import Moments, ReferenceMoments
from zoo.metrics.score_info import ScoreInfo

__all__ = [
    "FloorFrechetDistance",
    "FrechetDistance",
    "ReconstructionFrechetDistance",
    "SecondFloorFrechetDistance",
    "SecondFrechetDistance",
    "TrainFrechetDistance",
    "frechet_distance",
]

# Relative to the total variance. The root of an eigenvalue that is zero up to rounding is 1e-8 of the largest one, and
# up to 2048 of them add up.
_TOLERANCE = 1e-4


def frechet_distance(reference: ReferenceMoments | Moments, moments: Moments) -> float:
    """Squared Fréchet distance |μ₁ − μ₂|² + tr Σ₁ + tr Σ₂ − 2 tr (Σ₁Σ₂)^½, at least 0.

    The last trace is that of (S Σ₂ S)^½ with S = Σ₁^½. This matrix is symmetric, so its eigenvalues are real and fast
    to compute, also with fewer vectors than features. On Inception's features the distance is FID.

    References:
        Dowson, Landau, *The Fréchet distance between multivariate normal distributions*, 1982, eq. 4.
        Heusel et al., arXiv:1706.08500, eq. 6.

    Args:
        reference: Moments of real features; with their root if many distances are computed.
        moments: Moments of the features to compare, of the same length.

    Raises:
        ZooError: If the numbers of features differ, or rounding errors dominate the result.
    """
    if isinstance(reference, Moments):
        reference = ReferenceMoments.from_moments(reference)
    real = reference.moments
    if len(real.mean) != len(moments.mean):
        raise ZooError(f"moments: {len(moments.mean)} features, but the reference has {len(real.mean)}")
    product = reference.root @ moments.cov @ reference.root
    if not bool(torch.isfinite(product).all()):
        raise ZooError("Fréchet distance: the covariances are not finite; the features are too large to be squared")
    eigenvalues = torch.linalg.eigvalsh((product + product.T) / 2)
    traces = float(real.cov.trace() + moments.cov.trace())
    shift = float((real.mean - moments.mean).square().sum())
    distance = shift + traces - 2 * float(eigenvalues.clamp(min=0).sqrt().sum())
    if not distance >= -_TOLERANCE * abs(traces):
        raise ZooError(f"Fréchet distance: {distance:g} for a total variance of {traces:g}; the moments are not valid")
    return max(distance, 0.0)


class FrechetDistance(Metric):
    """Fréchet distance of generated to test images; FID on Inception's features.

    Args:
        reference: Moments of real features.
        **options: See `torchmetrics.Metric`.

    >>> import torch
    >>> real, generated = Moments(), torch.tensor([[0.0], [2.0], [4.0]])
    >>> real.update(generated + 3)
    >>> metric = FrechetDistance(real)
    >>> metric.update(generated)
    >>> metric.compute()
    tensor(9., dtype=torch.float64)
    """

    scores = (ScoreInfo("{FD}", "Fréchet distance of generated to test images", higher_is_better=False),)
    needs = ("features",)
    paper = "Heusel et al., arXiv:1706.08500"
    metric_set: ClassVar[MetricSet] = "quick"
    min_samples = 2
    n: list[Tensor]
    mean: list[Tensor]
    scatter: list[Tensor]

    def __init__(self, reference: ReferenceMoments | Moments, **options: Any) -> None:
        super().__init__(**options)
        self.real = ReferenceMoments.from_moments(reference) if isinstance(reference, Moments) else reference
        # One entry per process after a synchronization; an update merges all entries into one.
        for name in ("n", "mean", "scatter"):
            self.add_state(name, [], dist_reduce_fx="cat")

    @classmethod
    def from_reference(cls, reference: ReferenceData) -> Self | None:
        """Compare with the test images."""
        return cls(reference.test_moments)

    def update(self, features: Tensor | Moments) -> None:
        """Add features (B, d), or the moments of many."""
        moments = self.moments()
        if isinstance(features, Moments):
            moments.merge(features)
        else:
            moments.update(features)
        if moments.n:
            self.n = [torch.tensor([moments.n], device=self.device)]
            self.mean = [moments.mean[None].to(self.device)]
            self.scatter = [moments.scatter[None].to(self.device)]

    def moments(self) -> Moments:
        """Moments of all features added so far."""
        moments = Moments()
        if len(self.n):
            states = (concatenate(state) for state in (self.n, self.mean, self.scatter))
            for n, mean, scatter in zip(*states, strict=True):
                moments.merge(Moments.from_scatter(int(n), mean, scatter))
        return moments

    def compute(self) -> Tensor:
        """The distance, float64 ()."""
        return scalar(frechet_distance(self.real, self.moments()))


class TrainFrechetDistance(FrechetDistance):
    """Fréchet distance of generated to training images."""

    scores = (
        ScoreInfo(
            "{FD} (train)", "Fréchet distance of generated to training images", higher_is_better=False, column=False
        ),
    )

    @classmethod
    def from_reference(cls, reference: ReferenceData) -> Self | None:
        """Compare with the training images."""
        return cls(reference.train_moments)


class FloorFrechetDistance(FrechetDistance):
    """Fréchet distance of real training images to test images: the value of a perfect generator."""

    scores = (
        ScoreInfo("{FD} floor", "Fréchet distance of as many training images: lower means a bug or memorization"),
    )
    needs = ("floor_moments",)
    protocol = "training images drawn with seed 0"


class SecondFrechetDistance(FrechetDistance):
    """Fréchet distance of generated to test images in the features of a second, unlike extractor.

    It shows how far a ranking depends on the extractor, and never ranks itself.
    """

    scores = (
        ScoreInfo(
            "{second_FD} (second opinion)",
            "Fréchet distance of generated to test images in another extractor's features",
            higher_is_better=False,
            undefined_name="",
        ),
    )
    needs = ("second_features",)

    @classmethod
    def from_reference(cls, reference: ReferenceData) -> Self | None:
        """Compare with the test images; not defined without a second extractor."""
        return None if reference.second is None else cls(reference.second.test_moments)


class SecondFloorFrechetDistance(SecondFrechetDistance):
    """Fréchet distance of real training images to test images in the features of the second extractor."""

    scores = (
        ScoreInfo(
            "{second_FD} (second opinion) floor",
            "Fréchet distance of as many training images in the other extractor's features",
            column=False,
            undefined_name="",
        ),
    )
    needs = ("second_floor_moments",)


class ReconstructionFrechetDistance(FrechetDistance):
    """Fréchet distance of reconstructed test images to the test images."""

    scores = (
        ScoreInfo(
            "reconstruction {FD}",
            "Fréchet distance of reconstructed test images to test images",
            higher_is_better=False,
        ),
    )
    needs = ("reconstruction_features",)
