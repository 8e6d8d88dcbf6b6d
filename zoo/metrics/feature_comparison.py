"""Base class of metrics that compare features of generated images with those of the test images."""

from __future__ import annotations

from typing import Any, Self

from torch import Tensor

from zoo.metrics.metric import Metric, ReferenceData

__all__ = ["FeatureComparison"]


class FeatureComparison(Metric):
    """Collects features of generated images, to be compared with ``real``.

    Args:
        real: Features of real images, with shape (N, d).
        **options: See `torchmetrics.Metric`.
    """

    needs = ("features",)
    real: Tensor
    features: list[Tensor]

    def __init__(self, real: Tensor, **options: Any) -> None:
        super().__init__(**options)
        self.register_buffer("real", real, persistent=False)
        self.add_state("features", [], dist_reduce_fx="cat")

    @classmethod
    def from_reference(cls, reference: ReferenceData) -> Self | None:
        """Compare with the test images."""
        return cls(reference.test_features)

    def update(self, features: Tensor) -> None:
        """Add features of generated images (B, d)."""
        self.features.append(features)
