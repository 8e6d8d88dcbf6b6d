"""Images as arrays, and grids of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["GAP", "WHITE", "grid", "to_image_array"]

WHITE, GAP = 255, 2
"""Color and width, in pixels, of the lines of a grid."""


def to_image_array(images: Tensor) -> NDArray[np.uint8]:
    """Convert uint8 images (N, C, H, W) to an array (N, H, W) for one channel, (N, H, W, C) for three."""
    array = images.cpu().permute(0, 2, 3, 1).numpy()
    return array[..., 0] if array.shape[-1] == 1 else array


def grid(images: Tensor, columns: int, *, height: int = 56) -> NDArray[np.uint8]:
    """Arrange uint8 images (N, C, H, W) in rows of ``columns``, each enlarged to about ``height`` pixels."""
    tiles = to_image_array(images)
    factor = max(1, round(height / tiles.shape[1]))
    tiles = tiles.repeat(factor, axis=1).repeat(factor, axis=2)
    n, h, w, *rest = tiles.shape
    rows = -(-n // columns)
    sheet = np.full((rows * (h + GAP) + GAP, columns * (w + GAP) + GAP, *rest), WHITE, np.uint8)
    for i, tile in enumerate(tiles):
        top, left = GAP + (i // columns) * (h + GAP), GAP + (i % columns) * (w + GAP)
        sheet[top : top + h, left : left + w] = tile
    return sheet
