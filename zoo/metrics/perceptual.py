"""Perceptual distance of reconstructed images to their originals, in features of EfficientNet-Lite0."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from zoo.metrics.metric import MetricSet, ReferenceData
from zoo.metrics.running_mean import RunningMean
from zoo.metrics.score_info import ScoreInfo

__all__ = ["PerceptualDistance", "perceptual_distance"]

_MIN_SIDE = 16
_BATCH = 50
"""Images that the network processes at a time, fewer of more than 64×64 pixels."""

_EPSILON = 1e-10


def perceptual_distance(features: Sequence[Tensor], others: Sequence[Tensor]) -> Tensor:
    """Distance of each pair of images in the activations of several stages of a network, from 0 to 4.

    The channels at each position are scaled to unit length; the squared difference is summed over the channels and
    averaged over positions and stages. This is the distance of LPIPS without its weights, which were fitted to human
    judgments.

    References:
        Zhang et al., *The unreasonable effectiveness of deep features as a perceptual metric*, arXiv:1801.03924, eq. 1.

    Args:
        features: Activations of the images, one tensor (B, c, h, w) per stage.
        others: Activations of the images to compare with, of the same shapes.

    Returns:
        float32 (B,).

    >>> x, y = torch.tensor([3.0, 4.0]).reshape(1, 2, 1, 1), torch.tensor([4.0, 3.0]).reshape(1, 2, 1, 1)
    >>> round(perceptual_distance([x], [y]).item(), 4)
    0.08
    """
    stages = [(_unit(x) - _unit(y)).square().sum(1).flatten(1).mean(1) for x, y in zip(features, others, strict=True)]
    return torch.stack(stages).mean(0)


def _unit(x: Tensor) -> Tensor:
    unit: Tensor = x / (x.norm(dim=1, keepdim=True) + _EPSILON)
    return unit


class PerceptualDistance(RunningMean):
    """Mean over images of `perceptual_distance`.

    Args:
        network: From uint8 images (B, 1 or 3, H, W) to the activations of several stages, each (B, c, h, w).
        **options: See `torchmetrics.Metric`.

    >>> def halves(images):
    ...     return [images[..., :4].float(), images[..., 4:].float()]
    >>> metric = PerceptualDistance(halves)
    >>> images = torch.full((2, 3, 8, 8), 7, dtype=torch.uint8)
    >>> metric.update(images, images)
    >>> metric.compute()
    tensor(0., dtype=torch.float64)
    """

    scores = (
        ScoreInfo(
            "perceptual distance (efficientnet)",
            "LPIPS-like distance of reconstructed to test images, without learned weights; made for photographs",
            higher_is_better=False,
        ),
    )
    needs = ("images", "reconstructions")
    paper = "Zhang et al., arXiv:1801.03924"
    metric_set: ClassVar[MetricSet] = "quick"
    compared_separately = True
    max_images = 500
    protocol = (
        "EfficientNet-Lite0 (weights 579344248a93), stages 1 to 5, unit-length channels, squared difference, mean over "
        f"positions and stages; {max_images} test images drawn with seed 0; at least {_MIN_SIDE} pixels per side; "
        "shorter side below 64 enlarged to 64 bicubic antialias=True; 1 channel replicated to 3"
    )
    plot_lower_bound = 0.0

    def __init__(self, network: Callable[[Tensor], Sequence[Tensor]], **options: Any) -> None:
        super().__init__(**options)
        self.network = network

    @classmethod
    def from_reference(cls, reference: ReferenceData) -> Self | None:
        """Not defined for images of less than 16 pixels per side, which an ImageNet network sees as blurred blocks."""
        if min(reference.test_images.shape[2:]) < _MIN_SIDE:
            return None
        network = reference.perceptual_network
        return None if network is None else cls(network)

    def update(self, images: Tensor, reconstructions: Tensor) -> None:
        """Add images and their reconstructions, both uint8 (B, C, H, W)."""
        size = max(1, min(_BATCH, _BATCH * 64 * 64 // (images.shape[2] * images.shape[3])))
        parts = zip(torch.split(images, size), torch.split(reconstructions, size), strict=True)
        for x, y in parts:
            self.add(perceptual_distance(self.network(x), self.network(y.to(x.device))))
