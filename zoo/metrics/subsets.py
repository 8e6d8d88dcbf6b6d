"""Random subsets that repeat: chosen by a seed, independent of torch's global random state."""

from __future__ import annotations

import torch
from torch import Tensor

from zoo.data import take

__all__ = ["random_indices", "random_rows"]


def random_indices(total: int, size: int, seed: int = 0) -> Tensor:
    """Indices of ``size`` of ``total`` items in random order; all, in their order, if there are no more.

    >>> random_indices(3, 5).tolist()
    [0, 1, 2]
    """
    if total <= size:
        return torch.arange(total)
    return torch.randperm(total, generator=torch.Generator().manual_seed(seed))[:size]


def random_rows(x: Tensor, size: int, seed: int = 0) -> Tensor:
    """Rows of x at `random_indices`."""
    return take(x, random_indices(len(x), size, seed))
