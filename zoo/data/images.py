"""Decoding of image files of any kind to uint8 pixels of one format.

Resizing is Pillow's LANCZOS. Its support grows with the reduction factor, so reductions are antialiased, and it is the
sharpest filter for which that holds; BOX is exact only at whole factors and aliases between them. Transparent images
are laid on white, as browsers show them. 16-bit grays are divided by 257, the same for every image, so 65535 becomes
255; Pillow's own conversion would clip them.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeVar

import attrs
import numpy as np
from numpy.typing import NDArray

from zoo.data.image_format import ImageFormat

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

__all__ = ["in_threads", "is_gray", "probe", "read", "render"]

_ORIENTATION = 0x0112  # EXIF tag; values 5 to 8 swap width and height
_DECODED_BYTES = 2**29  # of images that are decoded at the same time; a larger one is decoded alone
_PIXEL_BYTES = 12  # as decoded, converted to RGBA, and composited

T = TypeVar("T")
R = TypeVar("R")


@attrs.define(eq=False)
class _Budget:
    """Bytes that several threads share."""

    free: int
    total: int
    changed: threading.Condition = attrs.field(factory=threading.Condition)

    @contextmanager
    def reserve(self, size: int) -> Iterator[None]:
        """Wait for ``size`` bytes; for all of them if there are fewer."""
        size = min(size, self.total)
        with self.changed:
            self.changed.wait_for(lambda: self.free >= size)
            self.free -= size
        try:
            yield
        finally:
            with self.changed:
                self.free += size
                self.changed.notify_all()


_BUDGET = _Budget(_DECODED_BYTES, _DECODED_BYTES)


def is_gray(mode: str) -> bool:
    """Whether a Pillow mode holds gray values only: bilevel, 8-bit, with alpha, 16-bit and wider integers."""
    return mode in ("1", "L", "LA") or mode.startswith("I")


def probe(source: Path | IO[bytes]) -> tuple[str, tuple[int, int]]:
    """Pillow mode and upright (H, W) of an image file, from its header alone."""
    from PIL import Image

    with Image.open(source) as image:
        width, height = image.size
        turned = image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
        return image.mode, (width, height) if turned else (height, width)


def read(source: Path | IO[bytes], form: ImageFormat) -> NDArray[np.uint8]:
    """Decode an image file (its first frame), turn it upright by its EXIF orientation, and render it."""
    from PIL import Image, ImageOps

    with Image.open(source) as image, _BUDGET.reserve(image.width * image.height * _PIXEL_BYTES):
        return render(ImageOps.exif_transpose(image), form)


def render(image: Picture, form: ImageFormat) -> NDArray[np.uint8]:
    """An image as uint8 with shape (C, H, W).

    Raises:
        ValueError: if the pixels are floating-point: they have no standard range.
    """
    from PIL import Image, ImageOps

    channels, height, width = form.shape
    image = _eight_bit(image, channels)
    if image.size != (width, height):
        if form.crop == "center":
            image = ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS)
        else:
            image = image.resize((width, height), Image.Resampling.LANCZOS)
    pixels = np.asarray(image, dtype=np.uint8)
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)


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


def in_threads(work: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """`[work(item) for item in items]` on several threads; Pillow decodes outside the interpreter lock."""
    from PIL import Image

    Image.init()  # all formats now: importing them lazily from several threads at once is a race
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        return list(pool.map(work, items))
