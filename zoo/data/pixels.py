"""Between stored pixels, uint8 in 0..255, and what networks see, floats in [−1, 1]."""

from __future__ import annotations

import torch
from torch import Tensor

from zoo.errors import ZooError

__all__ = ["from_uint8", "to_uint8"]


def from_uint8(images: Tensor) -> Tensor:
    """Stored pixels as networks see them: x / 127.5 − 1, so 0 becomes −1 and 255 becomes 1.

    Args:
        images: uint8 of any shape.

    Returns:
        float32 in [−1, 1], of the same shape, on the same device.

    Raises:
        ZooError: if the images are not uint8 (converted already, most likely).

    >>> from_uint8(torch.tensor([0, 255], dtype=torch.uint8))
    tensor([-1.,  1.])
    """
    if images.dtype != torch.uint8:
        raise ZooError(f"from_uint8 takes uint8 images, not {images.dtype}; were they converted already?")
    return images.float().div_(127.5).sub_(1)  # in place: as many bits, two allocations fewer


def to_uint8(x: Tensor) -> Tensor:
    """Images of a network as pixels: rounded to the nearest of 0..255; what lies outside [−1, 1] is clipped.

    `to_uint8(from_uint8(images))` is `images` exactly.

    Args:
        x: Floats, nominally in [−1, 1], of any shape.

    Raises:
        ZooError: if a value is NaN or infinite, because as a pixel it would pass for a real one.

    >>> to_uint8(torch.tensor([-1.0, 0.0, 1.0, 1.5]))
    tensor([  0, 128, 255, 255], dtype=torch.uint8)
    """
    finite = torch.isfinite(x)
    if not finite.all():
        bad = x.numel() - int(finite.sum())
        raise ZooError(f"{bad} of {x.numel()} image values are NaN or infinite; the network has diverged.")
    return ((x.float() + 1) / 2).mul(255).round().clamp(0, 255).to(torch.uint8)
