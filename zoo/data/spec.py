"""What the other rooms know of a data set: its shape, its splits, its options and where it comes from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor

from zoo.errors import UsageError, ZooError

__all__ = ["SMALLEST_SIDE", "DataOptions", "DataSource", "DataSpec", "DataWarning", "Dataset", "Split"]

SMALLEST_SIDE = 8  # pixels; below it the strided stages of the networks have nothing left to halve


class DataWarning(UserWarning):
    """Part of a data set was left out, replaced or not cached; the message says which part and why."""


@attrs.frozen(eq=False)
class DataSpec:
    """What a network may depend on: everything about a data set except its images.

    Args:
        name: The data set's name, without any path.
        shape: (C, H, W) of one image, in pixels.
        classes: Class names, indexed by label; () when unlabelled.
        mean: The mean training image in [−1, 1], float32, with shape (C, H, W); None where a saved run is
            loaded, because its networks already hold what they took from it.
    """

    name: str
    shape: tuple[int, int, int]
    classes: tuple[str, ...] = ()
    mean: Tensor | None = None


@attrs.frozen(eq=False)
class Split:
    """Images, and their labels where there are any.

    Args:
        images: uint8 in 0..255, with shape (N, C, H, W) and C of 1 (gray) or 3 (RGB).
        labels: int64 class indices with shape (N,), or None when unlabelled.

    Raises:
        ZooError: if a shape or a dtype is another.
    """

    images: Tensor
    labels: Tensor | None = None

    def __attrs_post_init__(self) -> None:
        if self.images.dtype != torch.uint8 or self.images.ndim != 4 or self.images.shape[1] not in (1, 3):
            found = f"{self.images.dtype} {tuple(self.images.shape)}"
            raise ZooError(f"images must be uint8 with shape (N, 1 or 3, H, W), not {found}.")
        if self.labels is not None and (self.labels.dtype != torch.int64 or self.labels.shape != self.images.shape[:1]):
            found = f"{self.labels.dtype} {tuple(self.labels.shape)}"
            raise ZooError(f"labels must be int64 with shape ({len(self.images)},), not {found}.")

    def __len__(self) -> int:
        return len(self.images)


@attrs.frozen(eq=False)
class Dataset:
    """A data set held in memory: a training split, a test split, and what describes them.

    Args:
        name: As users type it; for a folder, `folder:` and the folder's own name.
        train: What models are trained on.
        test: What they are judged on; never seen in training.
        classes: Class names, indexed by label; () when unlabelled.
        epochs: A sensible number of passes over `train`, used when the user names none.

    Raises:
        ZooError: if a split is empty, the splits differ in shape, or labels and classes do not agree.
    """

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...] = ()
    epochs: int = 20

    def __attrs_post_init__(self) -> None:
        if not len(self.train) or not len(self.test):
            raise ZooError(f"{self.name}: a split is empty ({len(self.train)} train, {len(self.test)} test).")
        if self.train.images.shape[1:] != self.test.images.shape[1:]:
            shapes = [tuple(split.images.shape[1:]) for split in (self.train, self.test)]
            raise ZooError(f"{self.name}: train and test images differ in shape, {shapes[0]} and {shapes[1]}.")
        for split in (self.train, self.test):
            if (split.labels is None) != (not self.classes):
                raise ZooError(f"{self.name}: labels need class names, and class names need labels.")
            if split.labels is not None:
                low, high = int(split.labels.min()), int(split.labels.max())
                if low < 0 or high >= len(self.classes):
                    raise ZooError(f"{self.name}: labels span {low}..{high} for {len(self.classes)} classes.")

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image, in pixels."""
        c, h, w = self.train.images.shape[1:]
        return c, h, w

    @cached_property
    def spec(self) -> DataSpec:
        """What networks may depend on; its mean is taken over `train` alone."""
        total = torch.zeros(self.shape, dtype=torch.float64)
        for start in range(0, len(self.train), 4096):  # the whole set as float would take 8 times its memory
            total += self.train.images[start : start + 4096].to("cpu", torch.float64).sum(0)
        mean = (total / len(self.train) / 127.5 - 1).float()
        return DataSpec(self.name, self.shape, self.classes, mean)

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) over shapes, pixels and labels of both splits: equal digests, equal data."""
        sha = hashlib.sha256()
        for split in (self.train, self.test):
            sha.update(repr(tuple(split.images.shape)).encode())
            sha.update(split.images.cpu().contiguous().numpy().data)
            sha.update(b"unlabelled" if split.labels is None else b"labelled")
            if split.labels is not None:
                sha.update(split.labels.cpu().numpy().astype("<i8").tobytes())
        return sha.hexdigest()


def _path(value: str | Path | None) -> Path | None:
    return None if value is None else Path(value).expanduser()


def _size(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value  # TOML has lists where Python has tuples


@attrs.frozen
class DataOptions:
    """How a data set is found and shaped; the same for every source.

    Args:
        data_dir: A torchvision-style root (`MNIST/raw/*.gz` and so on). None: `$ZOO_DATA`, else the user's
            data directory.
        image_size: (H, W) in pixels, at least 8 each; None: the data set's own.
        crop: What happens when the aspect ratios differ. "center": the shorter side is fitted and the middle
            is kept; "none": the whole image is squeezed.
        channels: 1 (luma) or 3 (RGB); None: the data set's own.
        download: Whether what is missing may be downloaded.

    Raises:
        UsageError: if a value is not allowed.
    """

    data_dir: Path | None = attrs.field(default=None, converter=_path)
    image_size: tuple[int, int] | None = attrs.field(default=None, converter=_size)
    crop: str = "center"
    channels: int | None = None
    download: bool = True

    def __attrs_post_init__(self) -> None:
        size = self.image_size
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


@attrs.frozen
class DataSource:
    """What a plugin registers: a name, and how to load what it names.

    Args:
        name: What users type after `--dataset`.
        help: One line for `zoo list datasets`.
        load: Called with the options; returns the data set, or raises `ZooError` with the remedy.
        shape: (C, H, W) with default options, or None where it is known only after loading.
        epochs: The default number of epochs.
        train_images: Number of training images, or None where it is known only after loading.
    """

    name: str
    help: str
    load: Callable[[DataOptions], Dataset]
    shape: tuple[int, int, int] | None = None
    epochs: int = 20
    train_images: int | None = None
