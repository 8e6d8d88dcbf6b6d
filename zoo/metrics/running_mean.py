"""Base class of metrics that are a mean over images or pixels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.metrics.metric import Metric

__all__ = ["RunningMean"]


class RunningMean(Metric):
    """A mean, summed in float64 over batches and processes. ``update`` of a subclass calls ``add``."""

    total: Tensor
    count: Tensor

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for name in ("total", "count"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def add(self, values: Tensor) -> None:
        """Add values of any shape to the mean."""
        self.total += values.double().sum().to(self.device)
        self.count += values.numel()

    def compute(self) -> Tensor:
        """The mean, float64 ()."""
        if not self.count:
            raise ZooError(f"{self.scores[0].name}: no images were added; call update before compute")
        return self.total / self.count
