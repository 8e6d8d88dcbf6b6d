"""A data set: its shape, its splits, its options and its source."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path

import attrs
import torch
from torch import Tensor

from zoo.data.image_format import ImageFormat
from zoo.data.mapped import chunks
from zoo.data.memory_limit import half_of_available
from zoo.errors import ZooError

__all__ = ["DataOptions", "DataSource", "DataSpec", "DataWarning", "Dataset", "Split", "StoredStatistics"]


_PART_BYTES = 2**22
"""Bytes of images that are converted at a time."""


class DataWarning(UserWarning):
    """Part of a data set was left out, replaced or not cached; the message names the part and the reason."""


@attrs.frozen(eq=False)
class DataSpec:
    """All that networks may depend on: everything about a data set except its images.

    Args:
        name: Name of the data set, without any path.
        shape: (C, H, W) of one image, in pixels.
        classes: Class names, indexed by label; () without labels.
        mean: Mean training image in [−1, 1], float32 (C, H, W); None for a saved run, whose networks already contain
            what they took from it.
    """

    name: str
    shape: tuple[int, int, int]
    classes: tuple[str, ...] = ()
    mean: Tensor | None = None


@attrs.frozen(eq=False)
class Split:
    """Images, and their labels if there are any.

    Args:
        images: uint8 in 0..255, (N, C, H, W) with C of 1 (gray) or 3 (RGB): a tensor in memory, or one mapped from a
            file, which `zoo.data.take` and `zoo.data.chunks` read without keeping its pages in memory.
        labels: int64 class indices (N,), or None.

    Raises:
        ZooError: If a shape or a dtype is invalid.
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
class StoredStatistics:
    """Statistics of a whole data set, kept beside its mapped images.

    Args:
        digest: See `Dataset.digest`.
        mean: See `DataSpec.mean`.
    """

    digest: str
    mean: Tensor


@attrs.frozen(eq=False)
class Dataset:
    """A training split, a test split, and their description.

    Args:
        name: As users type it; for a folder, `folder:` and the folder's own name.
        train: Images to train on.
        test: Images to evaluate on; never seen in training.
        classes: Class names, indexed by label; () without labels.
        epochs: Default number of passes over `train`.
        evaluation_split: Name of the split in `test`: ``validation`` if it was held out of the training images.
        stored: Statistics computed when the images were stored; None computes them on first use.

    Raises:
        ZooError: If a split is empty, the splits differ in shape, or labels and classes do not agree.
    """

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...] = ()
    epochs: int = 20
    evaluation_split: str = attrs.field(default="test", kw_only=True)
    stored: StoredStatistics | None = attrs.field(default=None, kw_only=True)

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

    @property
    def nbytes(self) -> int:
        """Bytes of the images of both splits."""
        return self.train.images.nbytes + self.test.images.nbytes

    @cached_property
    def spec(self) -> DataSpec:
        """Description for networks; its mean is that of `train` alone."""
        if self.stored is not None:
            return DataSpec(self.name, self.shape, self.classes, self.stored.mean)
        total = torch.zeros(self.shape, dtype=torch.float64)
        for part in self._parts(self.train):  # as float64, 8 times the memory
            total += part.to("cpu", torch.float64).sum(0)
        mean = (total / len(self.train) / 127.5 - 1).float()
        return DataSpec(self.name, self.shape, self.classes, mean)

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) over shapes, pixels and labels of both splits: equal digests, equal data."""
        if self.stored is not None:
            return self.stored.digest
        sha = hashlib.sha256()
        for split in (self.train, self.test):
            sha.update(repr(tuple(split.images.shape)).encode())
            for part in self._parts(split):
                sha.update(part.cpu().contiguous().numpy().data)
            sha.update(b"unlabelled" if split.labels is None else b"labelled")
            if split.labels is not None:
                sha.update(split.labels.cpu().numpy().astype("<i8").tobytes())
        return sha.hexdigest()

    def _parts(self, split: Split) -> Iterator[Tensor]:
        return chunks(split.images, max(1, _PART_BYTES // split.images[:1].nbytes))


def _path(value: str | Path | None) -> Path | None:
    return None if value is None else Path(value).expanduser()


@attrs.frozen
class DataOptions:
    """Location and format of a data set; the same options for every source.

    Args:
        data_dir: A torchvision-style root (`MNIST/raw/*.gz` and so on). None: `$ZOO_DATA`, else the user's
            data directory.
        format: Size, channels and crop rule of the images.
        download: Whether missing files may be downloaded.
        memory: Bytes of images up to which a data set stays in memory; a larger one is mapped from a file in the
            cache. None: half of the available memory. Has no effect on the images.
        progress: Called while images are decoded, with their number so far and in total.
    """

    data_dir: Path | None = attrs.field(default=None, converter=_path)
    format: ImageFormat = attrs.field(factory=ImageFormat)
    download: bool = True
    memory: int | None = None
    progress: Callable[[int, int], None] | None = attrs.field(default=None, eq=False)

    @property
    def memory_limit(self) -> int:
        """``memory``, or its default."""
        return half_of_available() if self.memory is None else self.memory


@attrs.frozen
class DataSource:
    """A data set that a plugin registers.

    Args:
        name: Value of `--dataset`.
        help: One line for `zoo list datasets`.
        load: Called with the options; returns the data set, or raises `ZooError` with the remedy. Images of another
            format than `options.format` are converted by the caller.
        shape: (C, H, W) with default options, or None if it is known only after loading.
        epochs: Default number of epochs.
        train_images: Number of training images, or None if it is known only after loading.
    """

    name: str
    help: str
    load: Callable[[DataOptions], Dataset]
    shape: tuple[int, int, int] | None = None
    epochs: int = 20
    train_images: int | None = None
