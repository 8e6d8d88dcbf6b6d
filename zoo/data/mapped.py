"""Images mapped from a file: tensors whose pixels the system reads on demand, and reading them in bounded memory."""

from __future__ import annotations

import math
import mmap
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import attrs
import numpy as np
import torch
from torch import Tensor

from zoo.memory import release_free_memory

__all__ = ["chunks", "is_mapped", "map_images", "take"]

RELEASE_BYTES = 2**27
"""Mapped bytes after whose reading the pages are released: the most that a mapped file adds to a process's memory."""
FAULT_BYTES = 2**21
"""Most bytes that Linux maps around an address that is read for the first time: 64 KiB, or a folio of its cache."""


@attrs.define(eq=False)
class _Map:
    memory: mmap.mmap
    address: int
    lock: threading.Lock = attrs.field(factory=threading.Lock)
    read: int = 0

    def count(self, size: int) -> bool:
        """Count bytes read; release the pages after `RELEASE_BYTES` of them, and return whether that happened.

        Released pages stay in the system's cache and are mapped again when they are read, at any time and by any
        thread: this changes the memory of the process only.
        """
        with self.lock:
            self.read += size
            if self.read < RELEASE_BYTES:
                return False
            self.read = 0
        self.advise("MADV_DONTNEED")
        return True

    def advise(self, name: str, start: int = 0, length: int | None = None) -> None:
        """Advise the system how a range of the file will be read, where it takes such advice."""
        if hasattr(mmap, name):
            start, aligned = start - start % mmap.PAGESIZE, start % mmap.PAGESIZE
            length = len(self.memory) - start if length is None else min(length + aligned, len(self.memory) - start)
            self.memory.madvise(getattr(mmap, name), start, length)


# For the life of the process: a tensor does not say when its storage is freed.
_MAPS: dict[int, _Map] = {}
_OPEN: dict[tuple[int, int, int, int], mmap.mmap] = {}


def map_images(path: Path, shape: tuple[int, ...]) -> Tensor:
    """Map a file of uint8 pixels. A write to the tensor would change this process's copy only, never the file.

    Args:
        path: The file; its length is that of the images.
        shape: (N, C, H, W).

    Raises:
        OSError: If the file cannot be mapped.
        ValueError: If it has another length.
    """
    with path.open("rb") as file:
        facts = os.fstat(file.fileno())
        identity = (facts.st_dev, facts.st_ino, facts.st_mtime_ns, facts.st_size)
        memory = _OPEN.get(identity) or mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    images = torch.frombuffer(memory, dtype=torch.uint8)
    if images.numel() != math.prod(shape):
        raise ValueError(f"{path} has {images.numel()} bytes, not {math.prod(shape)}")
    if identity not in _OPEN:
        _OPEN[identity] = memory
        _MAPS[images.data_ptr()] = _Map(memory, images.data_ptr())
        _MAPS[images.data_ptr()].advise("MADV_RANDOM")  # no read-ahead: batches are random rows
    return images.view(shape)


def is_mapped(images: Tensor) -> bool:
    """Whether a tensor, or the one that it is a view of, comes from `map_images`."""
    return _find(images) is not None


def take(images: Tensor, indices: Tensor) -> Tensor:
    """Images at ``indices`` (B,), in memory: ``images[indices]`` that does not keep the pages of mapped images.

    Shape:
        images: (N, ...).
        indices: (B,), int64.
    """
    found = _find(images)
    if found is None:
        return images[indices.to(images.device)]
    taken = torch.empty((len(indices), *images.shape[1:]), dtype=images.dtype)
    row = max(1, images[:1].nbytes)
    step = max(1, RELEASE_BYTES // (row + FAULT_BYTES))
    for start in range(0, len(indices), step):
        part = indices[start : start + step].cpu()
        # NumPy reads with one thread, so that a prefetching thread does not occupy the cores of the training step.
        np.take(images.numpy(), part.numpy(), 0, out=taken[start : start + step].numpy(), mode="clip")
        found.count(len(part) * (row + FAULT_BYTES))
    return taken


def chunks(images: Tensor, size: int) -> Iterator[Tensor]:
    """Consecutive parts of ``size`` images, as ``torch.split``, that does not keep the pages of mapped images."""
    found = _find(images)
    for part in torch.split(images, size):
        if found is not None:
            found.advise("MADV_WILLNEED", part.data_ptr() - found.address, part.nbytes)
        yield part
        if found is not None and found.count(part.nbytes):
            release_free_memory()


def _find(images: Tensor) -> _Map | None:
    return _MAPS.get(images.untyped_storage().data_ptr()) if images.device.type == "cpu" else None
