"""A random choice of generated images from a stream, independent of their order and batch size."""

from __future__ import annotations

import hashlib
import heapq
import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import IO

import torch
from torch import Tensor

from zoo.data.array_cache import cache_dir

__all__ = ["SampleBuffer"]

MEMORY_BYTES = 2**27
"""Bytes of images that stay in memory; more are written to a temporary file in the cache."""


class SampleBuffer:
    """Images and features of at most ``capacity`` samples, chosen and ordered by a hash of their pixels.

    The key of an image is the digest of its pixels and of the number of equal images before it; the samples with the
    smallest keys are stored, in the order of the keys. Equal sets of images therefore give equal contents in any order
    of arrival, and subsets drawn from them by position are equal too.

    Args:
        capacity: Most samples stored.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._counts: Counter[bytes] = Counter()
        self._heap: list[tuple[int, int]] = []  # of each stored sample: minus its key, and its slot
        self._features: Tensor | None = None
        self._images: _Slots | None = None

    def add(self, images: Tensor, features: Tensor) -> None:
        """Add uint8 images (B, C, H, W) and their features (B, d)."""
        images, chosen = images.cpu().contiguous(), {}  # chosen: the row of each slot that changes
        for row, image in enumerate(images):
            slot = self._slot(image.numpy().tobytes())
            if slot is not None:
                chosen[slot] = row
        if self._features is None or self._images is None:
            self._features = features.new_empty((self._capacity, *features.shape[1:]))
            self._images = _Slots(self._capacity, images.shape[1:])
        slots, rows = (torch.tensor(list(part), dtype=torch.int64) for part in (chosen, chosen.values()))
        self._features[slots.to(features.device)] = features[rows.to(features.device)]
        self._images.write(images, chosen)

    def _slot(self, pixels: bytes) -> int | None:
        """The slot that an image takes; None if its key is larger than those of a full buffer."""
        digest = hashlib.blake2b(pixels, digest_size=16).digest()
        key = hashlib.blake2b(digest + self._counts[digest].to_bytes(8), digest_size=16).digest()
        self._counts[digest] += 1
        entry = -int.from_bytes(key)
        if len(self._heap) < self._capacity:
            heapq.heappush(self._heap, (entry, len(self._heap)))
            return len(self._heap) - 1
        largest, slot = self._heap[0]
        if entry < largest:
            return None
        heapq.heapreplace(self._heap, (entry, slot))
        return slot

    @property
    def _order(self) -> list[int]:
        return [slot for _, slot in sorted(self._heap, reverse=True)]

    def features(self) -> Tensor:
        """Features (M, d) of the stored samples."""
        if self._features is None:
            return torch.empty(0, 0)
        return self._features[torch.tensor(self._order, dtype=torch.int64, device=self._features.device)]

    def images(self, indices: Tensor | None = None) -> Tensor:
        """Images (M, C, H, W) of the stored samples, or of those at ``indices``."""
        if self._images is None:
            return torch.empty(0, 0, 0, 0, dtype=torch.uint8)
        order = self._order
        return self._images.read(order if indices is None else [order[i] for i in indices.tolist()])

    def contents(self) -> tuple[Tensor, Tensor]:
        """Features (M, d) and images (M, C, H, W) of the stored samples."""
        return self.features(), self.images()


class _Slots:
    """Images by slot, in memory or, where they exceed `MEMORY_BYTES` and the disk has space, in a temporary file."""

    def __init__(self, count: int, shape: Sequence[int]) -> None:
        self._shape, self._row = tuple(shape), torch.Size(shape).numel()
        self._file: IO[bytes] | None = None
        size = count * self._row
        if size > MEMORY_BYTES:
            with suppress(OSError):
                folder = cache_dir()
                folder.mkdir(parents=True, exist_ok=True)
                if shutil.disk_usage(folder).free > size:
                    self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - open as long as the buffer
        # The system provides the memory of a slot when it is first written.
        self._memory = torch.empty((0 if self._file else count, *self._shape), dtype=torch.uint8)

    def write(self, images: Tensor, chosen: Mapping[int, int]) -> None:
        for slot, row in chosen.items():
            if self._file is None:
                self._memory[slot] = images[row]
            else:
                self._file.seek(slot * self._row)
                self._file.write(images[row].numpy().data)

    def read(self, slots: Sequence[int]) -> Tensor:
        if self._file is None:
            return self._memory[torch.tensor(slots, dtype=torch.int64)]
        found = torch.empty((len(slots), *self._shape), dtype=torch.uint8)
        for image, slot in zip(found, slots, strict=True):
            self._file.seek(slot * self._row)
            self._file.readinto(image.numpy().data)  # type: ignore[attr-defined]
        return found
