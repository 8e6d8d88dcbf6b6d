"""The format that images are brought to: size, channels and crop rule."""

from __future__ import annotations

from typing import Any

import attrs

from zoo.errors import UsageError

__all__ = ["SMALLEST_SIDE", "ImageFormat", "parse_size"]

SMALLEST_SIDE = 8
"""Smallest side in pixels: the strided stages of the networks halve it."""
LARGEST_SIDE = 128
"""Largest side in pixels that a setting may ask for."""


def _pair(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value  # TOML has lists, not tuples


@attrs.frozen
class ImageFormat:
    """Size, channels and crop rule of images; what is None stays as a data set has it.

    Args:
        size: (H, W) in pixels, at least 8 each.
        channels: 1 (luma) or 3 (RGB).
        crop: How to change the aspect ratio. ``center``: fit the shorter side and keep the middle; ``none``: stretch
            the whole image.

    Raises:
        UsageError: If a value is not allowed.
    """

    size: tuple[int, int] | None = attrs.field(default=None, converter=_pair)
    channels: int | None = None
    crop: str = "center"

    def __attrs_post_init__(self) -> None:
        size = self.size
        if size is not None and not (
            isinstance(size, tuple)
            and len(size) == 2
            and all(isinstance(side, int) and side >= SMALLEST_SIDE for side in size)
        ):
            raise UsageError(f"image_size must be (H, W), each at least {SMALLEST_SIDE} pixels, not {size!r}.")
        if self.crop not in ("center", "none"):
            raise UsageError(f"crop must be 'center' or 'none', not {self.crop!r}.")
        if self.channels not in (None, 1, 3):
            raise UsageError(f"channels must be 1 or 3, not {self.channels!r}.")

    def resolve(self, shape: tuple[int, int, int]) -> ImageFormat:
        """The same format with what is None taken from images of ``shape`` (C, H, W)."""
        return ImageFormat(self.size or shape[1:], self.channels or shape[0], self.crop)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of a resolved format."""
        if self.size is None or self.channels is None:
            raise ValueError("the format has no size or no channels: resolve it first")
        return self.channels, *self.size


def parse_size(text: str | None) -> tuple[int, int] | None:
    """Parse ``64`` or ``64x48`` (height x width) as (H, W).

    >>> parse_size("64x48"), parse_size("32")
    ((64, 48), (32, 32))
    """
    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(p.isascii() and p.isdigit() for p in parts):
        raise UsageError(f"image_size: {text!r} is not allowed; must be N or HxW pixels, such as 64 or 64x48")
    sides = [int(p) for p in parts if len(p) < 10] or [LARGEST_SIDE + 1]
    if any(not SMALLEST_SIDE <= s <= LARGEST_SIDE for s in sides):
        raise UsageError(
            f"image_size: {text!r} is not allowed; sides must be between {SMALLEST_SIDE} and {LARGEST_SIDE} pixels"
        )
    return sides[0], sides[-1]
