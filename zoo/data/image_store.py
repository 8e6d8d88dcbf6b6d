"""Decoded images kept in the cache: made once, in blocks that survive interruption, then loaded or mapped."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from math import prod
from typing import Any

import attrs
import numpy as np
import torch
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from torch import Tensor

from zoo.data.array_cache import cache_dir, load_arrays, save_arrays
from zoo.data.images import in_threads
from zoo.data.mapped import map_images
from zoo.data.spec import DataOptions, Dataset, DataWarning, Split, StoredStatistics
from zoo.errors import ZooError
from zoo.files import open_atomic

__all__ = ["DamagedImageError", "Decoded", "ImageStore", "Stored", "hash_inputs"]

BLOCK_BYTES = 2**25
"""Decoded bytes per block: the most that is decoded again after an interruption."""
_FORMAT = "images 1"

Shape = tuple[int, int, int]


class DamagedImageError(Exception):
    """An image cannot be decoded and is to be left out; the message is the reason."""


def hash_inputs(*facts: object) -> str:
    """A digest of all that determines decoded images."""
    return hashlib.sha256(repr((_FORMAT, *facts)).encode("utf-8", "surrogateescape")).hexdigest()


@attrs.frozen(eq=False)
class Decoded:
    """Images as decoded.

    Args:
        shape: (N, C, H, W).
        damaged: Reasons of the damaged images, by row; their pixels are 0.
        images: The pixels, if they are in memory and not in an unfinished file.
    """

    shape: tuple[int, ...]
    damaged: dict[int, str]
    images: NDArray[np.uint8] | None = None


@attrs.frozen(eq=False)
class Stored:
    """A data set from the cache, and the other arrays stored with it."""

    dataset: Dataset
    arrays: Mapping[str, NDArray[Any]]


class ImageStore:
    """One data set in the cache: a file of its pixels, training images first, and a metadata file, written last.

    Args:
        name: Name of the data set.
        kind: Kind of source, the beginning of the file names.
        key: Digest of all that determines the images; see `hash_inputs`.
        options: Their `memory` and `progress`.
    """

    def __init__(self, name: str, kind: str, key: str, options: DataOptions) -> None:
        self._name, self._options, folder, stem = name, options, cache_dir() / "data", f"{kind}-{key}"
        self._pixels, self._facts = folder / f"{stem}.images", folder / f"{stem}.npz"
        self._part, self._progress = folder / f".{stem}.part", folder / f".{stem}.part.json"
        self._lock = folder / f".{stem}.lock"
        self._unwritable = ""  # why the cache cannot be written, if so

    def find(self) -> Stored | None:
        """The stored data set; None if there is none or its files are damaged."""
        facts = load_arrays(self._facts)
        if facts is None or not {"shape", "train", "stamp", "digest", "mean", "classes"} <= facts.keys():
            return None
        try:
            shape, stat = tuple(facts["shape"].tolist()), self._pixels.stat()
            if [stat.st_size, stat.st_mtime_ns] != facts["stamp"].tolist():
                return None
            images = self._open(shape)
            known = StoredStatistics(str(facts["digest"]), torch.from_numpy(facts["mean"]))
            stored = known if images.nbytes > self._options.memory_limit else None
            labels = torch.from_numpy(facts["labels"]) if "labels" in facts else None
            classes = tuple(facts["classes"].tolist())
            return Stored(self._dataset(images, int(facts["train"]), labels, classes, stored), facts)
        except (OSError, ValueError, TypeError, ZooError):
            return None

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes from making the same images; they wait, and then find them."""
        try:
            self._lock.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self._lock)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                warnings.warn(f"{self._name}: waiting for another process that decodes it.", DataWarning, stacklevel=2)
                lock.acquire()
        except OSError as error:
            self._unwritable = str(error)
            yield
            return
        try:
            yield
        finally:
            lock.release()

    def decode(self, count: int, shape: Shape, pixels: Callable[[int], NDArray[np.uint8]]) -> Decoded:
        """Decode images on several threads; continues where an interrupted process stopped.

        Args:
            count: Number of images.
            shape: (C, H, W) of each.
            pixels: From a row to its image; raises `DamagedImageError` for one to leave out.

        Raises:
            ZooError: If the images exceed the memory limit and cannot be written to the cache.
        """
        size = count * prod(shape)
        if not self._unwritable:
            try:
                self._require_space(size)
                return self._decode_to_file(count, shape, pixels)
            except OSError as error:
                self._unwritable = str(error)
        if size > self._options.memory_limit:
            raise ZooError(
                f"{self._name}: its {size / 1e9:.1f} GB of images exceed the memory limit and are not cached, "
                f"{self._unwritable}; set ZOO_CACHE to a directory with space, use a smaller --image-size, or raise "
                "--data-memory"
            )
        text = f"decoded images are not cached, {self._unwritable}; set ZOO_CACHE to a directory that can be written."
        warnings.warn(text, DataWarning, stacklevel=2)
        images = np.empty((count, *shape), np.uint8)
        damaged: dict[int, str] = {}
        for first in range(0, count, step := self._block(shape)):
            damaged |= _fill(images[first : first + step], first, pixels)
            self._report(min(first + step, count), count)
        return Decoded(images.shape, damaged, images)

    def finish(
        self,
        decoded: Decoded,
        rows: NDArray[np.int64],
        train: int,
        labels: NDArray[np.int64] | None,
        classes: tuple[str, ...],
        arrays: Mapping[str, NDArray[Any]] | None = None,
    ) -> Stored:
        """Store decoded images as a data set.

        Args:
            decoded: The images.
            rows: Those to keep, the training images first.
            train: Number of training images.
            labels: Class indices of ``rows``; None without labels.
            classes: Class names.
            arrays: Further arrays to store.
        """
        arrays, y = dict(arrays or {}), None if labels is None else torch.from_numpy(labels)
        if decoded.images is not None:
            return Stored(self._dataset(torch.from_numpy(decoded.images[rows]), train, y, classes, None), arrays)
        shape = (len(rows), *decoded.shape[1:])
        self._facts.unlink(missing_ok=True)
        if np.array_equal(rows, np.arange(decoded.shape[0])):
            os.replace(self._part, self._pixels)
        else:
            step = self._block(shape[1:])
            with open_atomic(self._pixels, sync=False) as file:
                for start in range(0, len(rows), step):  # mapped anew each time, which bounds the memory
                    pixels = np.memmap(self._part, np.uint8, "r", shape=decoded.shape)
                    file.write(pixels[rows[start : start + step]].data)
                file.flush()
                os.fdatasync(file.fileno())
            self._part.unlink()
        self._progress.unlink(missing_ok=True)
        dataset = self._dataset(self._open(shape), train, y, classes, None)
        mean, stat = dataset.spec.mean, self._pixels.stat()
        assert mean is not None
        facts = {
            **arrays,
            "shape": np.array(shape),
            "train": np.array(train),
            "stamp": np.array([stat.st_size, stat.st_mtime_ns]),
            "digest": np.array(dataset.digest),
            "mean": mean.numpy(),
            "classes": np.array(classes, dtype=np.str_),
            **({} if labels is None else {"labels": labels}),
        }
        save_arrays(self._facts, facts)
        return Stored(attrs.evolve(dataset, stored=StoredStatistics(dataset.digest, mean)), facts)

    def _open(self, shape: tuple[int, ...]) -> Tensor:
        if prod(shape) > self._options.memory_limit:
            return map_images(self._pixels, shape)
        return torch.from_numpy(np.fromfile(self._pixels, np.uint8).reshape(shape))

    def _dataset(
        self,
        images: Tensor,
        train: int,
        labels: Tensor | None,
        classes: tuple[str, ...],
        stored: StoredStatistics | None,
    ) -> Dataset:
        parts = (slice(None, train), slice(train, None))
        splits = [Split(images[part], None if labels is None else labels[part]) for part in parts]
        return Dataset(self._name, splits[0], splits[1], classes, stored=stored)

    def _decode_to_file(self, count: int, shape: Shape, pixels: Callable[[int], NDArray[np.uint8]]) -> Decoded:
        task = [count, *shape]
        first, damaged = self._resume(task)
        row, step = prod(shape), self._block(shape)
        with self._part.open("r+b" if first else "wb") as file:
            file.truncate(first * row)
            file.seek(first * row)
            for start in range(first, count, step):
                block = np.empty((min(step, count - start), *shape), np.uint8)
                damaged |= _fill(block, start, pixels)
                file.write(block.data)
                file.flush()
                os.fdatasync(file.fileno())
                done = start + len(block)
                with open_atomic(self._progress, sync=False) as progress:
                    progress.write(json.dumps({"task": task, "done": done, "damaged": damaged}).encode())
                self._report(done, count)
        return Decoded((count, *shape), damaged)

    def _resume(self, task: list[int]) -> tuple[int, dict[int, str]]:
        try:
            found = json.loads(self._progress.read_text())
            done, damaged = int(found["done"]), {int(k): str(v) for k, v in found["damaged"].items()}
            if found["task"] == task and self._part.stat().st_size >= done * prod(task[1:]):
                return done, damaged
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            pass  # nothing to continue
        return 0, {}

    def _require_space(self, size: int) -> None:
        unfinished = self._part.stat().st_size if self._part.is_file() else 0
        free = shutil.disk_usage(self._part.parent).free + unfinished
        if free < size:
            raise OSError(f"{size / 1e9:.1f} GB are needed and {free / 1e9:.1f} GB are free")

    def _report(self, done: int, count: int) -> None:
        if self._options.progress is not None:
            self._options.progress(done, count)

    @staticmethod
    def _block(shape: tuple[int, ...]) -> int:
        return max(1, BLOCK_BYTES // prod(shape))


def _fill(block: NDArray[np.uint8], first: int, pixels: Callable[[int], NDArray[np.uint8]]) -> dict[int, str]:
    """Decode images into a block; returns the reasons of damaged ones by row of the whole."""

    def one(row: int) -> str:
        try:
            block[row] = pixels(first + row)
        except DamagedImageError as error:
            block[row] = 0
            return str(error) or "damaged"
        return ""

    return {first + row: reason for row, reason in enumerate(in_threads(one, range(len(block)))) if reason}
