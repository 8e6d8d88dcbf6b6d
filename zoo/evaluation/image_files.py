"""Anyone's images, to be scored under the same protocol: a folder of files, or one array."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import UnidentifiedImageError
from torch import Tensor

from zoo.data.image_format import ImageFormat
from zoo.data.images import in_threads, probe, read
from zoo.errors import UsageError

__all__ = ["read_images"]

_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff")


def read_images(source: Path, shape: tuple[int, int, int], name: str) -> Tensor:
    """The images of a folder (and those below it), in the order of their paths, or of a ``.npy``.

    Images are not resized: the resize rule affects scores and is left to the author of the images.

    Args:
        source: the folder; or an array, uint8, with shape (N, H, W) or (N, H, W, C).
        shape: (C, H, W), what each must be.
        name: Name of the reference data set, for error messages.

    Returns:
        uint8, with shape (N, C, H, W).

    Raises:
        UsageError: where there is no image, one cannot be read, or one has another size.
    """
    channels, height, width = shape
    wanted = f"{name}'s are {width}×{height} pixels: resize them yourself, by the rule that you report"
    if source.suffix == ".npy":
        try:
            array = np.load(source, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise UsageError(f"images: {source} cannot be read: {error}") from None
        if array.ndim == 3:
            array = array[..., None]
        if array.dtype != np.uint8 or array.shape[1:] != (height, width, channels) or not len(array):
            raise UsageError(f"images: {source} holds {array.dtype} {array.shape}; {wanted}, uint8, N×H×W or N×H×W×3")
        return torch.from_numpy(array).permute(0, 3, 1, 2).contiguous()
    if not source.is_dir():
        raise UsageError(f"images: {source} is neither a folder nor a .npy file")
    files = sorted(p for p in source.rglob("*") if p.suffix.lower() in _ENDINGS and not p.name.startswith("."))
    if not files:
        raise UsageError(f"images: {source} holds no images ({', '.join(_ENDINGS)})")

    def one(path: Path) -> Any:
        try:
            size = probe(path)[1]
            if size != (height, width):
                raise UsageError(f"images: {path} has {size[1]}×{size[0]} pixels; {wanted}")
            return read(path, ImageFormat((height, width), channels, "none"))
        except (OSError, UnidentifiedImageError, ValueError) as error:
            raise UsageError(f"images: {path} cannot be read: {error}") from None

    return torch.from_numpy(np.stack(in_threads(one, files)))
