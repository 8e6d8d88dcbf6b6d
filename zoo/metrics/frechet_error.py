"""Standard error of a Fréchet distance: how far it would move with other test images and other samples."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from zoo.metrics.distances import check_features
from zoo.metrics.feature_comparison import FeatureComparison
from zoo.metrics.metric import MAX_SAMPLES, MetricSet, concatenate, scalar
from zoo.metrics.score_info import ScoreInfo

__all__ = ["FrechetStandardError", "frechet_standard_errors"]

_RANK_TOLERANCE = 1e-10


def frechet_standard_errors(real: Tensor, generated: Tensor) -> tuple[float, float]:
    """Standard error of the Fréchet distance by the choice of the generated and of the real features.

    By the infinitesimal jackknife. With A = S (S Σ₂ S)^-½ S and S = Σ₁^½, the influence of a generated vector y on the
    distance is 2(μ₂ − μ₁)·(y − μ₂) + (y − μ₂)ᵀ(I − A)(y − μ₂) up to a constant, and its variance over the N vectors,
    divided by N, is that of the distance. The same holds for the real vectors with the sides exchanged. The estimate is
    of first order: it vanishes for two samples of one distribution, whose distance varies by its bias alone.

    References:
        Efron, Stein, *The jackknife estimate of variance*, 1981.

    Args:
        real: Features of real images, any floating type; computed in float64 on their device.
        generated: Features of generated images.

    Shape:
        real: (N, d).
        generated: (M, d).

    Returns:
        The standard errors by the choice of generated and of real images. Their squares add up to that of the distance.

    Raises:
        ZooError: If a set has fewer than 2 vectors or a value is not finite.
    """
    sides = []
    for name, features in (("real", real), ("generated", generated)):
        x = check_features(name, features, 2).double()
        mean = x.mean(0)
        x = x - mean
        cov = x.T @ x / (len(x) - 1)
        sides.append((x, mean, cov, _power(cov, 0.5)))
    first, second = sides
    return _standard_error(first, second), _standard_error(second, first)


def _standard_error(fixed: tuple[Tensor, ...], varied: tuple[Tensor, ...]) -> float:
    _, fixed_mean, _, root = fixed
    x, mean, cov, _ = varied
    transport = root @ _power(root @ cov @ root, -0.5) @ root
    influence = 2 * x @ (mean - fixed_mean) + x.square().sum(1) - (x @ transport * x).sum(1)
    return float((influence.var() / len(x)).sqrt())


def _power(matrix: Tensor, exponent: float) -> Tensor:
    """Power of a symmetric matrix; directions without variance stay at zero."""
    values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
    kept = values > _RANK_TOLERANCE * values[-1].clamp(min=0)
    power: Tensor = (vectors * torch.where(kept, values.clamp(min=1e-300) ** exponent, 0.0)) @ vectors.T
    return power


class FrechetStandardError(FeatureComparison):
    """Standard error of the Fréchet distance to the test images, `frechet_standard_errors`.

    Args:
        real: Features of test images (N, d).
        **options: See `torchmetrics.Metric`.

    >>> metric = FrechetStandardError(torch.tensor([[-1.0], [1.0]]))
    >>> metric.update(torch.tensor([[2.0], [4.0]]))
    >>> [round(float(value), 3) for value in metric.compute().values()]
    [8.485, 6.0]
    """

    scores = (
        ScoreInfo(
            "{FD} standard error",
            "standard error of the Fréchet distance by the choice of the test images and of the samples",
            column=False,
        ),
        ScoreInfo(
            "{FD} standard error (test images)",
            "its part by the choice of the test images, which all results on a data set share",
            column=False,
        ),
    )
    paper = "Efron & Stein, Ann. Statist. 1981"
    metric_set: ClassVar[MetricSet] = "quick"
    compared_separately = True
    protocol = f"infinitesimal jackknife, first order; at most {MAX_SAMPLES} images per side"
    min_samples = 2
    max_samples = MAX_SAMPLES

    def compute(self) -> dict[str, Tensor]:
        """``standard error``, and its part by ``test images``."""
        generated, real = frechet_standard_errors(self.real, concatenate(self.features))
        return {"standard error": scalar((generated**2 + real**2) ** 0.5), "test images": scalar(real)}
