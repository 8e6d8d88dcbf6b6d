"""Reading batches ahead of the training step, in another thread."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from torch import Tensor

__all__ = ["Prefetcher"]

AHEAD = 4
"""Batches that are read ahead of the last one that was asked for."""

Batch = tuple[Tensor, ...]


class Prefetcher:
    """A sequence of batches that reads those after the last one asked for.

    Args:
        read: From a position to its batch, on the CPU; called in one thread only.
        pin: Whether to put batches into pinned memory, from which copies to a GPU need not be waited for.
    """

    def __init__(self, read: Callable[[int], Batch], *, pin: bool) -> None:
        self._read, self._pin = read, pin
        self._thread = ThreadPoolExecutor(1, "zoo-prefetch")
        self._coming: dict[int, Future[Batch]] = {}

    def __getitem__(self, position: int) -> Batch:
        """The batch at ``position``."""
        wanted = range(position, position + AHEAD + 1)
        for passed in [p for p in self._coming if p not in wanted]:
            self._coming.pop(passed).cancel()
        for coming in wanted:
            if coming not in self._coming:
                self._coming[coming] = self._thread.submit(self._load, coming)
        return self._coming.pop(position).result()

    def _load(self, position: int) -> Batch:
        batch = self._read(position)
        return tuple(tensor.pin_memory() for tensor in batch) if self._pin else batch
