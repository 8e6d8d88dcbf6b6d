"""Precision, recall, density and coverage: fidelity and diversity by k-nearest-neighbor balls."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.metrics.distances import check_features, kth_neighbor_distances, squared_distance_blocks
from zoo.metrics.metric import MAX_SAMPLES, Metric, ReferenceData, concatenate, scalar
from zoo.metrics.score_info import ScoreInfo

__all__ = ["NEIGHBORS", "PRDC", "compute_prdc"]

NEIGHBORS = 5

# A distance that equals a radius up to rounding is outside the ball, as in exact arithmetic.
_TIE = 1 + 1e-9


def compute_prdc(
    real: Tensor, generated: Tensor, *, k: int = NEIGHBORS, squared_radii: Tensor | None = None
) -> dict[str, float]:
    """Compare two sets by the balls around each vector that reach to its k-th nearest neighbor in the same set.

    References:
        Kynkäänniemi et al., arXiv:1904.06991 (precision, recall); Naeem et al., arXiv:2002.09797, equations 3 to 6.

    Args:
        real: Any floating type; computed in float64, in blocks.
        generated: Same type and device.
        k: Neighbor that a ball reaches to.
        squared_radii: Squared radii of the real balls, from `kth_neighbor_distances`; computed if None.

    Shape:
        real: (N, d) with N > k.
        generated: (M, d) with M > k.
        squared_radii: (N,).

    Returns:
        ``precision``: share of generated vectors inside a real ball; ``recall``: share of real vectors inside a
        generated ball; ``density``: mean number of real balls around a generated vector, divided by k, can exceed 1;
        ``coverage``: share of real balls that contain a generated vector.

    Raises:
        ZooError: If there are too few vectors, a value is not finite, or all real vectors are equal.
    """
    check_features("real", real, k + 1)
    check_features("generated", generated, k + 1)
    real_radii = kth_neighbor_distances(real, k) if squared_radii is None else squared_radii
    if not bool((real_radii > 0).any()):
        raise ZooError(f"real: each vector has {k} others at distance 0; precision and recall are not defined")
    generated_radii = kth_neighbor_distances(generated, k)
    covered = torch.zeros(len(real), dtype=torch.bool, device=real.device)
    recalled = torch.zeros_like(covered)
    precise = pairs = 0
    for rows, block in squared_distance_blocks(generated, real):
        block = block.mul_(_TIE)
        inside = block < real_radii
        precise += int(inside.any(1).sum())
        pairs += int(inside.sum())
        covered |= inside.any(0)
        recalled |= (block < generated_radii[rows, None]).any(0)
    return {
        "precision": precise / len(generated),
        "recall": float(recalled.double().mean()),
        "density": pairs / (k * len(generated)),
        "coverage": float(covered.double().mean()),
    }


class PRDC(Metric):
    """Precision, recall, density and coverage of generated against test images.

    Args:
        real: Features of real images (N, d).
        k: Neighbor that a ball reaches to.
        squared_radii: Squared radii of the real balls (N,); computed if None.
        **options: See `torchmetrics.Metric`.

    >>> import torch
    >>> real = torch.arange(8.0)[:, None]
    >>> metric = PRDC(real, k=2)
    >>> metric.update(real + 100)
    >>> {name: float(value) for name, value in metric.compute().items()}
    {'precision': 0.0, 'recall': 0.0, 'density': 0.0, 'coverage': 0.0}
    """

    scores = (
        ScoreInfo("precision", "share of generated images inside a test image's 5-NN ball", higher_is_better=True),
        ScoreInfo("recall", "share of test images inside a generated image's 5-NN ball", higher_is_better=True),
        ScoreInfo(
            "density",
            "test images' 5-NN balls around a generated image, over 5; 1 for real images",
            higher_is_better=True,
        ),
        ScoreInfo("coverage", "share of test images with a generated image in their 5-NN ball", higher_is_better=True),
    )
    needs = ("features",)
    paper = "Kynkäänniemi et al., arXiv:1904.06991; Naeem et al., arXiv:2002.09797"
    protocol = f"k = {NEIGHBORS}; at most {MAX_SAMPLES} a side, drawn with seed 0 or by digest"
    min_samples = NEIGHBORS + 1
    max_samples = MAX_SAMPLES
    plot_lower_bound = 0.0
    real: Tensor
    squared_radii: Tensor | None
    features: list[Tensor]

    def __init__(
        self, real: Tensor, *, k: int = NEIGHBORS, squared_radii: Tensor | None = None, **options: Any
    ) -> None:
        super().__init__(**options)
        self.k = k
        self.register_buffer("real", real, persistent=False)
        self.register_buffer("squared_radii", squared_radii, persistent=False)
        self.add_state("features", [], dist_reduce_fx="cat")

    @classmethod
    def from_reference(cls, reference: ReferenceData) -> Self | None:
        """Compare with the test images."""
        return cls(reference.test_features, squared_radii=reference.test_radii(NEIGHBORS))

    def update(self, features: Tensor) -> None:
        """Add features of generated images (B, d)."""
        self.features.append(features)

    def compute(self) -> dict[str, Tensor]:
        """``precision``, ``recall``, ``density`` and ``coverage``."""
        found = compute_prdc(self.real, concatenate(self.features), k=self.k, squared_radii=self.squared_radii)
        return {name: scalar(value) for name, value in found.items()}
