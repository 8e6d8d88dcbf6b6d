"""Batches of training images that lie on the device, in an order fixed by the seed."""

from __future__ import annotations

import torch
from torch import Tensor

from zoo.data import from_uint8
from zoo.engine.ranks import Ranks
from zoo.errors import UsageError

__all__ = ["BatchStream"]


class BatchStream:
    """Endless sequence of batches, indexed by position 0, 1, …

    The batch at a position depends on the seed and the position alone, so a resumed run sees the same batches on any
    device. Each epoch is reshuffled and drops its last partial batch.

    Args:
        images: uint8 (N, C, H, W).
        batch: batch size, at most N; over all processes.
        seed: seed of the order.
        device: device that holds the images and the batches.
        labels: int64 (N,), or None.
        ranks: processes that share each batch; this one gets its share only.

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
    ) -> None:
        if batch > len(images):
            raise UsageError(
                f"batch: {batch} is not allowed; the data set has {len(images)} training images, use at most that"
            )
        self.ranks = ranks or Ranks()
        if batch % self.ranks.size:
            raise UsageError(
                f"batch: {batch} is not allowed with {self.ranks.size} processes; must be a multiple of their number"
            )
        self.images = images.to(device)
        self.labels = None if labels is None else labels.to(device)
        self.batch, self.seed, self.device = batch, seed, device
        self.per_epoch = len(images) // batch
        self._epoch = -1
        self._order: Tensor = torch.empty(0)

    def __getitem__(self, position: int) -> Tensor:
        """Images at ``position``: float (B, C, H, W) in [−1, 1]."""
        return self.load(self.indices(position))[0]

    def indices(self, position: int) -> Tensor:
        """Indices of the images at ``position``: int64 (B,), on the device."""
        epoch, i = divmod(position, self.per_epoch)
        if epoch != self._epoch:
            # Shuffled on the CPU: the order must not depend on the device.
            generator = torch.Generator().manual_seed((self.seed * 1_000_003 + epoch) % 2**63)
            self._order = torch.randperm(len(self.images), generator=generator).to(self.device)
            self._epoch = epoch
        share = self.batch // self.ranks.size
        start = i * self.batch + self.ranks.rank * share
        return self._order[start : start + share]

    def load(self, indices: Tensor, labels: bool = False) -> tuple[Tensor, ...]:
        """Batch of the images with these indices: (x,), or (x, y) with their labels."""
        x = from_uint8(self.images.index_select(0, indices))
        if not labels:
            return (x,)
        assert self.labels is not None
        return x, self.labels[indices]

    def subset(self, n: int) -> BatchStream:
        """Stream of ``n`` labeled images, balanced over the classes and chosen by this stream's seed.

        Raises:
            UsageError: if the data set has no labels, or fewer than ``n`` images.
        """
        if self.labels is None:
            raise UsageError(f"labels: {n} is not allowed; the data set has no labels, use 0")
        if n > len(self.images):
            raise UsageError(f"labels: {n} is not allowed; the data set has {len(self.images)} training images")
        labels = self.labels.cpu()
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(self.seed))
        rank_in_class = torch.empty_like(labels)
        for k in range(int(labels.max()) + 1):
            members = order[labels[order] == k]
            rank_in_class[members] = torch.arange(len(members))
        chosen = order[rank_in_class[order].argsort(stable=True)[:n]].to(self.device)
        batch = min(self.batch, n // self.ranks.size * self.ranks.size)
        return BatchStream(self.images[chosen], batch, self.seed, self.device, self.labels[chosen], self.ranks)
