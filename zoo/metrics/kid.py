"""Kernel distance (KID): unbiased squared maximum mean discrepancy between two sets of features."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.metrics.distances import check_features
from zoo.metrics.feature_comparison import FeatureComparison
from zoo.metrics.metric import MAX_SAMPLES, concatenate, scalar
from zoo.metrics.score_info import ScoreInfo

__all__ = ["SEED", "SUBSETS", "SUBSET_SIZE", "KernelDistance", "kernel_distance"]

SUBSETS = 100
SUBSET_SIZE = 1000
SEED = 2020
"""torch-fidelity's default; the subsets are drawn in the same way."""


def kernel_distance(
    real: Tensor, generated: Tensor, *, subsets: int = SUBSETS, size: int = SUBSET_SIZE, seed: int = SEED
) -> tuple[float, float]:
    """Unbiased MMD² with the kernel (x·y/d + 1)³: mean and standard deviation over random subsets.

    The mean can be slightly negative for similar sets. Subsets are drawn by position, as torch-fidelity draws them for
    the same seed; the order of the vectors therefore matters.

    References:
        Bińkowski et al., *Demystifying MMD GANs*, arXiv:1801.01401, section 4.

    Args:
        real: Any floating type; computed in float64 on its device.
        generated: Same type and device.
        subsets: Number of pairs of subsets.
        size: Vectors per subset; at most the size of the smaller set.
        seed: Seed of the subsets.

    Shape:
        real: (N, d).
        generated: (M, d).

    Raises:
        ZooError: If a set has fewer than 2 vectors or a value is not finite.
    """
    check_features("real", real, 2)
    check_features("generated", generated, 2)
    if real.shape[1] != generated.shape[1]:
        raise ZooError(f"generated: {generated.shape[1]} features, but the real ones have {real.shape[1]}")
    size = min(size, len(real), len(generated))
    random = np.random.RandomState(seed)  # unlike Generator's, its stream never changes between versions
    found = np.empty(subsets)
    for i in range(subsets):
        x, y = (
            features[torch.from_numpy(random.choice(len(features), size, replace=False)).to(features.device)].double()
            for features in (real, generated)
        )
        same_set = _off_diagonal_sum(x) + _off_diagonal_sum(y)
        found[i] = same_set / (size * (size - 1)) - 2 * float(_kernel(x, y).sum()) / size**2
    with np.errstate(over="ignore"):
        mean, std = float(found.mean()), float(found.std())
    if not (np.isfinite(mean) and np.isfinite(std)):
        raise ZooError("KID: the features are too large to be cubed; check the extractor")
    return mean, std


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    inner = (x @ y.T).div_(x.shape[1]).add_(1)
    return inner.square().mul_(inner)


def _off_diagonal_sum(x: Tensor) -> float:
    kernel = _kernel(x, x)
    return float(kernel.fill_diagonal_(0).sum())


class KernelDistance(FeatureComparison):
    """Kernel distance of generated to test images.

    Args:
        real: Features of real images (N, d).
        subsets: Number of pairs of subsets.
        size: Vectors per subset.
        seed: Seed of the subsets.
        **options: See `torchmetrics.Metric`.

    >>> import torch
    >>> metric = KernelDistance(torch.tensor([[0.0], [1.0]]), subsets=3)
    >>> metric.update(torch.tensor([[2.0], [3.0]]))
    >>> metric.compute()["KID"]
    tensor(297.5000, dtype=torch.float64)
    """

    scores = (
        ScoreInfo("{KID}", "unbiased squared kernel distance of generated to test images", higher_is_better=False),
        ScoreInfo("{KID} std", "standard deviation of the kernel distance over its subsets", column=False),
    )
    paper = "Bińkowski et al., arXiv:1801.01401"
    protocol = (
        f"MMD², unbiased, (x·y/d + 1)³; {SUBSETS} subsets of {SUBSET_SIZE} or the smaller side, RandomState({SEED})"
    )
    min_samples = 2
    max_samples = MAX_SAMPLES

    def __init__(
        self, real: Tensor, *, subsets: int = SUBSETS, size: int = SUBSET_SIZE, seed: int = SEED, **options: Any
    ) -> None:
        super().__init__(real, **options)
        self.subsets, self.size, self.seed = subsets, size, seed

    def compute(self) -> dict[str, Tensor]:
        """``KID`` and ``std``, its standard deviation over the subsets."""
        mean, std = kernel_distance(
            self.real, concatenate(self.features), subsets=self.subsets, size=self.size, seed=self.seed
        )
        return {"KID": scalar(mean), "std": scalar(std)}
