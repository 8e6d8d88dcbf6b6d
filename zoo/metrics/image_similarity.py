"""Similarity of reconstructed images to their originals: PSNR and SSIM."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Self

import torch
from torch import Tensor

from zoo.errors import UsageError
from zoo.metrics.metric import MetricSet, ReferenceData
from zoo.metrics.running_mean import RunningMean
from zoo.metrics.score_info import ScoreInfo

__all__ = ["PSNR", "SSIM", "peak_signal_noise_ratio", "structural_similarity"]

_MIN_MSE = 1 / 12
"""Variance of the rounding to gray levels, which two equal uint8 images hide: 58.9 dB."""

_PART_BYTES = 2**21
"""Bytes of uint8 images that are compared at a time; SSIM takes about 60 times as much."""

_SIGMA, _RADIUS = 1.5, 5
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def peak_signal_noise_ratio(images: Tensor, others: Tensor) -> Tensor:
    """Peak signal-to-noise ratio 10 log₁₀(255² / MSE) of each pair of images, in decibels.

    An MSE below 1/12, the variance of the rounding to gray levels, counts as 1/12: equal images give 58.9 dB.

    Shape:
        images: uint8 (B, C, H, W).
        others: uint8 (B, C, H, W).

    Returns:
        float64 (B,).

    >>> black = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    >>> round(peak_signal_noise_ratio(black, black + 51).item(), 3)
    13.979
    """
    _check(images, others)
    mse = _in_parts(lambda x, y: (x.double() - y.double()).square().flatten(1).mean(1), images, others)
    return 10 * torch.log10(255**2 / mse.clamp(min=_MIN_MSE))


def structural_similarity(images: Tensor, others: Tensor) -> Tensor:
    """Structural similarity of each pair of images, at most 1.

    Local statistics are taken under a Gaussian window of 11×11 pixels, σ = 1.5. Images are reflected at their borders,
    and the similarity is averaged over all pixels and channels. torchmetrics 1.9 does the same.

    References:
        Wang, Bovik, Sheikh, Simoncelli, *Image quality assessment: from error visibility to structural similarity*,
        IEEE TIP 2004, eq. 13 to 16.

    Shape:
        images: uint8 (B, C, H, W), both sides at least 6 pixels.
        others: uint8 (B, C, H, W).

    Returns:
        float32 (B,).

    >>> gray = torch.full((1, 1, 8, 8), 128, dtype=torch.uint8)
    >>> structural_similarity(gray, gray).item()
    1.0
    """
    _check(images, others)
    if min(images.shape[2:]) <= _RADIUS:
        height, width = images.shape[2:]
        raise UsageError(f"images: {height}×{width} pixels are not allowed; SSIM needs at least {_RADIUS + 1} per side")
    down, across = (_window(size, images.device) for size in images.shape[2:])

    def similarity(x: Tensor, y: Tensor) -> Tensor:
        # Centered: in float32, E[x²] − E[x]² loses fewer digits. Variances do not depend on the center.
        x, y = (part.float() - 127.5 for part in (x, y))
        mean_x, mean_y, xx, yy, xy = (down @ part @ across.T for part in (x, y, x * x, y * y, x * y))
        var_x, var_y, cov = (xx - mean_x**2).clamp(min=0), (yy - mean_y**2).clamp(min=0), xy - mean_x * mean_y
        mean_x, mean_y = mean_x + 127.5, mean_y + 127.5
        luminance = (2 * mean_x * mean_y + _C1) / (mean_x**2 + mean_y**2 + _C1)
        return (luminance * (2 * cov + _C2) / (var_x + var_y + _C2)).flatten(1).mean(1)

    return _in_parts(similarity, images, others)


def _in_parts(function: Callable[[Tensor, Tensor], Tensor], images: Tensor, others: Tensor) -> Tensor:
    """Values of a function of pairs of images, computed a few at a time: floats take many times the memory."""
    size = max(1, _PART_BYTES // max(1, images[:1].nbytes))
    parts = zip(torch.split(images, size), torch.split(others, size), strict=True)
    return torch.cat([function(x, y) for x, y in parts])


def _window(size: int, device: torch.device) -> Tensor:
    """Matrix (size, size) of the Gaussian filter along one axis, with reflection at both ends."""
    offsets = torch.arange(-_RADIUS, _RADIUS + 1)
    weights = torch.exp(-offsets.double().square() / (2 * _SIGMA**2))
    position = (torch.arange(size)[:, None] + offsets).abs()
    position = torch.where(position < size, position, 2 * (size - 1) - position)
    matrix = torch.zeros(size, size, dtype=torch.float64)
    matrix.scatter_add_(1, position, (weights / weights.sum()).expand(size, -1))
    return matrix.float().to(device)


def _check(images: Tensor, others: Tensor) -> None:
    if images.dtype != torch.uint8 or images.dim() != 4:
        raise UsageError(f"images: {images.dtype} {tuple(images.shape)} is not allowed; must be uint8 (B, C, H, W)")
    if others.dtype != torch.uint8 or others.shape != images.shape:
        raise UsageError(
            f"others: {others.dtype} {tuple(others.shape)} is not allowed; must be uint8 {tuple(images.shape)}"
        )


class PSNR(RunningMean):
    """Mean over images of `peak_signal_noise_ratio`.

    >>> images = torch.zeros(4, 1, 8, 8, dtype=torch.uint8)
    >>> metric = PSNR()
    >>> metric.update(images, images + 51)
    >>> metric.compute()
    tensor(13.9794, dtype=torch.float64)
    """

    scores = (
        ScoreInfo(
            "PSNR",
            "peak signal-to-noise ratio of reconstructed test images, mean over images",
            higher_is_better=True,
            unit="dB",
        ),
    )
    needs = ("images", "reconstructions")
    metric_set: ClassVar[MetricSet] = "quick"
    compared_separately = True
    protocol = "mean over images of 10 log10(255²/MSE) in gray levels; MSE at least 1/12, the variance of rounding"

    def update(self, images: Tensor, reconstructions: Tensor) -> None:
        """Add images and their reconstructions, both uint8 (B, C, H, W)."""
        self.add(peak_signal_noise_ratio(images, reconstructions.to(images.device)))


class SSIM(RunningMean):
    """Mean over images of `structural_similarity`.

    >>> images = torch.arange(64, dtype=torch.uint8).reshape(1, 1, 8, 8)
    >>> metric = SSIM()
    >>> metric.update(images, images)
    >>> metric.compute()
    tensor(1., dtype=torch.float64)
    """

    scores = (
        ScoreInfo(
            "SSIM",
            "structural similarity of reconstructed test images; 1 for equal images",
            higher_is_better=True,
        ),
    )
    needs = ("images", "reconstructions")
    metric_set: ClassVar[MetricSet] = "quick"
    compared_separately = True
    paper = "Wang et al., IEEE TIP 2004"
    protocol = (
        "Gaussian window of 11x11, σ 1.5, reflected at the borders; K1 0.01, K2 0.03, range 255; mean over all pixels, "
        "channels and images; at least 6 pixels per side"
    )

    @classmethod
    def from_reference(cls, reference: ReferenceData) -> Self | None:
        """Not defined for images of less than 6 pixels per side."""
        return cls() if min(reference.test_images.shape[2:]) > _RADIUS else None

    def update(self, images: Tensor, reconstructions: Tensor) -> None:
        """Add images and their reconstructions, both uint8 (B, C, H, W)."""
        self.add(structural_similarity(images, reconstructions.to(images.device)))
