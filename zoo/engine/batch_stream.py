"""Batches of training images, on the device or mapped from a file, in an order fixed by the seed."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from zoo.data import from_uint8, is_mapped, take
from zoo.engine.distributed import Ranks
from zoo.engine.prefetch import Prefetcher
from zoo.errors import UsageError
from zoo.terminal import count

__all__ = ["BatchStream"]


class BatchStream:
    """Endless sequence of batches, indexed by position 0, 1, …

    The batch at a position depends on the seed and the position alone, so a resumed run sees the same batches on any
    device. Each epoch is reshuffled and drops its last partial batch. Mapped images give the same batches: they are
    read ahead by another thread, into pinned memory for a GPU.

    Args:
        images: uint8 (N, C, H, W), moved to the device unless mapped (`zoo.data.is_mapped`).
        batch: batch size, at most N; over all processes.
        seed: seed of the order.
        device: device that holds the images and the batches.
        labels: int64 (N,), or None.
        ranks: processes that share each batch; this one gets its share only.
        rows: indices of the images that the stream consists of; None for all.
        with_labels: whether a batch is (x, y) instead of (x,); see :meth:`subset`.

    Raises:
        UsageError: for a batch larger than the data set, or not a multiple of the number of processes.
    """

    def __init__(
        self,
        images: Tensor,
        batch: int,
        seed: int,
        device: torch.device,
        labels: Tensor | None = None,
        ranks: Ranks | None = None,
        rows: Tensor | None = None,
        *,
        with_labels: bool = False,
    ) -> None:
        self.with_labels = with_labels
        self._size = len(images) if rows is None else len(rows)
        if batch > self._size:
            raise UsageError(
                f"batch: {batch} is not allowed; the data set has {count(self._size, 'training image')}, use at "
                "most that"
            )
        self.ranks = ranks or Ranks()
        if batch % self.ranks.size:
            raise UsageError(
                f"batch: {batch} is not allowed with {self.ranks.size} processes; must be a multiple of their number"
            )
        self._rows = rows
        self.images = images
        self.labels = None if labels is None else labels.to(device)
        self._ahead: Prefetcher | None = None
        if is_mapped(images):
            self._ahead = Prefetcher(self._read, pin=device.type == "cuda")
        elif rows is not None:
            self.images, self._rows = images[rows.to(images.device)].to(device), None
        else:
            self.images = images.to(device)
        if rows is not None and self.labels is not None:
            self.labels = self.labels[rows.to(device)]
        self.batch, self.seed, self.device = batch, seed, device
        self.per_epoch = self._size // batch
        self._epoch = -1
        self._order: Tensor = torch.empty(0)

    def __getitem__(self, position: int) -> Tensor:
        """Images at ``position``: float (B, C, H, W) in [−1, 1]."""
        return self.load(self.fetch(position))[0]

    def indices(self, position: int) -> Tensor:
        """Indices of the images at ``position``: int64 (B,), on the CPU for mapped images, else on the device."""
        epoch, i = divmod(position, self.per_epoch)
        if epoch != self._epoch:
            # Shuffled on the CPU: the order must not depend on the device.
            generator = torch.Generator().manual_seed((self.seed * 1_000_003 + epoch) % 2**63)
            order = torch.randperm(self._size, generator=generator)
            self._order = order if self._ahead else order.to(self.device)
            self._epoch = epoch
        share = self.batch // self.ranks.size
        start = i * self.batch + self.ranks.rank * share
        return self._order[start : start + share]

    def fetch(self, position: int) -> list[Tensor]:
        """Inputs of :meth:`load` for the batch at ``position``, on the device; their shapes are equal at all positions.

        These are the indices and, if the images are mapped, the uint8 images.
        """
        if self._ahead is None:
            return [self.indices(position)]
        return [tensor.to(self.device, non_blocking=True) for tensor in self._ahead[position]]

    def _read(self, position: int) -> tuple[Tensor, Tensor]:
        indices = self.indices(position)
        return indices, take(self.images, indices if self._rows is None else self._rows[indices])

    def load(self, fetched: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Batch from what :meth:`fetch` returned: (x,), or (x, y) if the stream is ``with_labels``."""
        indices = fetched[0]
        x = from_uint8(fetched[1] if self._ahead else self.images.index_select(0, indices))
        if not self.with_labels:
            return (x,)
        assert self.labels is not None
        return x, self.labels[indices]

    def labeled(self) -> BatchStream:
        """Stream of the same images in batches (x, y).

        Raises:
            UsageError: if the data set has no labels.
        """
        if self.labels is None:
            raise UsageError("dataset: one without labels is not allowed; the model is conditional on them")
        stream = copy.copy(self)
        stream.with_labels = True
        return stream

    def subset(self, n: int) -> BatchStream:
        """Stream of ``n`` images with their labels, balanced over the classes and chosen by this stream's seed.

        Raises:
            UsageError: if the data set has no labels, or fewer than ``n`` images.
        """
        if self.labels is None:
            raise UsageError(f"labels: {n} is not allowed; the data set has no labels, use 0")
        if n > self._size:
            raise UsageError(f"labels: {n} is not allowed; the data set has {self._size} training images")
        labels = self.labels.cpu()
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(self.seed))
        rank_in_class = torch.empty_like(labels)
        for k in range(int(labels.max()) + 1):
            members = order[labels[order] == k]
            rank_in_class[members] = torch.arange(len(members))
        chosen = order[rank_in_class[order].argsort(stable=True)[:n]]
        batch = min(self.batch, n // self.ranks.size * self.ranks.size)
        return BatchStream(
            self.images, batch, self.seed, self.device, self.labels, self.ranks, chosen, with_labels=True
        )
