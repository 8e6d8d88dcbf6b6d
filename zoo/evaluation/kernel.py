"""The kernel distance (KID): an unbiased squared maximum mean discrepancy between two sets of features."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.evaluation.distances import checked

__all__ = ["SEED", "SIZE", "SUBSETS", "kid"]

SUBSETS = 100
SIZE = 1000
SEED = 2020
"""torch-fidelity's default, whose subsets are drawn here in the same way."""


def kid(
    real: Tensor, generated: Tensor, *, subsets: int = SUBSETS, size: int = SIZE, seed: int = SEED
) -> tuple[float, float]:
    """MMD² under the kernel (x·y/d + 1)³, unbiased, as mean and standard deviation over random subsets.

    The mean may be slightly below zero where the sets are alike. The subsets are torch-fidelity's for the same seed:
    drawn by position, hence the caller's order of the vectors matters to them.

    References:
        Bińkowski et al., *Demystifying MMD GANs*, arXiv:1801.01401, section 4.

    Args:
        real: with shape (N, d), of any floating type; computed in float64 where they are.
        generated: with shape (M, d).
        subsets: how many pairs of subsets.
        size: vectors in a subset; where a set has fewer, as many as the smaller set has.
        seed: of the subsets.

    Raises:
        ZooError: where a set has fewer than 2 vectors or a value is not finite.
    """
    checked("real", real, 2)
    checked("generated", generated, 2)
    if real.shape[1] != generated.shape[1]:
        raise ZooError(f"generated: {generated.shape[1]} features, but the real ones have {real.shape[1]}")
    size = min(size, len(real), len(generated))
    random = np.random.RandomState(seed)  # its stream is frozen for good, a Generator's is not
    found = np.empty(subsets)
    for i in range(subsets):
        x, y = (
            features[torch.from_numpy(random.choice(len(features), size, replace=False)).to(features.device)].double()
            for features in (real, generated)
        )
        within = _off_diagonal(x) + _off_diagonal(y)
        found[i] = within / (size * (size - 1)) - 2 * float(_kernel(x, y).sum()) / size**2
    with np.errstate(over="ignore"):
        mean, std = float(found.mean()), float(found.std())
    if not (np.isfinite(mean) and np.isfinite(std)):
        raise ZooError("KID: the features are too large to be cubed; look at the extractor")
    return mean, std


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    inner = (x @ y.T).div_(x.shape[1]).add_(1)
    return inner.square().mul_(inner)


def _off_diagonal(x: Tensor) -> float:
    kernel = _kernel(x, x)
    return float(kernel.fill_diagonal_(0).sum())
