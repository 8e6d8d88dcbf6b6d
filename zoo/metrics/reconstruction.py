"""Reconstruction error: mean squared error of reconstructed images."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from zoo.metrics.metric import MetricSet
from zoo.metrics.running_mean import RunningMean
from zoo.metrics.score_info import ScoreInfo

__all__ = ["ReconstructionError"]

_PART_BYTES = 500 * 64 * 64 * 3
"""Bytes of uint8 images that are compared at a time, in float64."""


class ReconstructionError(RunningMean):
    """Mean over images, channels and pixels of the squared error, with pixels in [0, 1].

    Both sides are uint8 images divided by 255, as an image file would hold them.

    >>> import torch
    >>> metric = ReconstructionError()
    >>> images = torch.zeros(4, 1, 8, 8, dtype=torch.uint8)
    >>> metric.update(images, images + 51)
    >>> metric.compute()
    tensor(0.0400, dtype=torch.float64)
    """

    scores = (
        ScoreInfo(
            "reconstruction MSE",
            "mean squared error of reconstructed test images, pixels in [0, 1]",
            higher_is_better=False,
        ),
    )
    needs = ("images", "reconstructions")
    metric_set: ClassVar[MetricSet] = "quick"
    plot_lower_bound = 0.0

    def update(self, images: Tensor, reconstructions: Tensor) -> None:
        """Add images and their reconstructions, both uint8 (B, C, H, W)."""
        size = max(1, _PART_BYTES // max(1, images[:1].nbytes))
        parts = zip(torch.split(images, size), torch.split(reconstructions.to(images.device), size), strict=True)
        for x, y in parts:
            self.add(((y.double() - x.double()) / 255).square())
