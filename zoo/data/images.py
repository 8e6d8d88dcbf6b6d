"""From an image file of any kind to uint8 pixels of one shape.

Resizing is Pillow's LANCZOS. Its support grows with the reduction factor, so reductions are antialiased, and
it is the sharpest filter of which that holds; BOX is exact only at whole factors and aliases between them.
Pictures with transparency are laid on white, as a browser or a page shows them. Sixteen-bit grays are divided
by 257, the same for every image, so 65535 becomes 255; Pillow's own conversion would clip them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeVar

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.data.spec import DataOptions

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

__all__ = ["Frame", "conform", "in_threads", "is_gray", "probe", "read", "render"]

_ORIENTATION = 0x0112  # EXIF tag; values 5 to 8 swap width and height

T = TypeVar("T")
R = TypeVar("R")


@attrs.frozen
class Frame:
    """The shape that images are rendered to: size (H, W) in pixels, 1 or 3 channels, and the crop rule."""

    size: tuple[int, int]
    channels: int
    crop: str

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return self.channels, *self.size


def is_gray(mode: str) -> bool:
    """Whether a Pillow mode holds gray values only: bilevel, 8-bit, with alpha, 16-bit and wider integers."""
    return mode in ("1", "L", "LA") or mode.startswith("I")


def probe(source: Path) -> tuple[str, tuple[int, int]]:
    """Pillow mode and upright (H, W) of an image file, from its header alone."""
    from PIL import Image

    with Image.open(source) as image:
        width, height = image.size
        turned = image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
        return image.mode, (width, height) if turned else (height, width)


def read(source: Path | IO[bytes], frame: Frame) -> NDArray[np.uint8]:
    """Decode an image file (its first frame), turn it upright by its EXIF orientation, and render it."""
    from PIL import Image, ImageOps

    with Image.open(source) as image:
        return render(ImageOps.exif_transpose(image), frame)


def render(image: Picture, frame: Frame) -> NDArray[np.uint8]:
    """An image as uint8 with shape (C, H, W).

    Raises:
        ValueError: if the pixels are floating-point, whose range no format states.
    """
    from PIL import Image, ImageOps

    image = _eight_bit(image, frame.channels)
    height, width = frame.size
    if image.size != (width, height):
        if frame.crop == "center":
            image = ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS)
        else:
            image = image.resize((width, height), Image.Resampling.LANCZOS)
    pixels = np.asarray(image, dtype=np.uint8)
    return pixels[None] if frame.channels == 1 else pixels.transpose(2, 0, 1)


def _eight_bit(image: Picture, channels: int) -> Picture:
    """Opaque and in mode L (one channel) or RGB (three)."""
    from PIL import Image

    if image.mode == "F":
        raise ValueError("floating-point pixels have no stated range")
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.float64) / 257
        image = Image.fromarray(values.round().clip(0, 255).astype(np.uint8))
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("L" if channels == 1 else "RGB")


def conform(images: Tensor, options: DataOptions) -> Tensor:
    """Give stored images the size and channels that were asked for; the same tensor when they have them.

    Args:
        images: uint8 with shape (N, C, H, W).
        options: `image_size`, `crop` and `channels` are used.
    """
    from PIL import Image

    own = tuple(images.shape[1:])
    frame = Frame(options.image_size or (own[1], own[2]), options.channels or own[0], options.crop)
    if frame.shape == own:
        return images
    out = np.empty((len(images), *frame.shape), np.uint8)
    for index, pixels in enumerate(images.permute(0, 2, 3, 1).numpy()):
        out[index] = render(Image.fromarray(pixels[..., 0] if own[0] == 1 else pixels), frame)
    return torch.from_numpy(out)


def in_threads(work: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """`[work(item) for item in items]` on several threads; Pillow decodes outside the interpreter lock."""
    from PIL import Image

    Image.init()  # all formats now: importing them lazily from several threads at once is a race
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        return list(pool.map(work, items))
