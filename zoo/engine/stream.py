"""The training images as the engine sees them: resident on the device, in an order that seed and position fix."""

from __future__ import annotations

import torch
from torch import Tensor

from zoo.data import from_uint8
from zoo.engine.ranks import Ranks
from zoo.errors import UsageError

__all__ = ["Stream"]


class Stream:
    """An endless sequence of batches of a data set that lies on the device as uint8.

    The batch at a position is a function of (seed, position) alone: a resumed run sees what the uninterrupted one
    sees, on any device. The last images of an epoch that fill no batch are left out; another shuffle, others are.

    Arguments:
        images: uint8 (N, C, H, W).
        batch: images a batch; at most N.
        seed: of the order.
        device: where the images are kept and the batches made.
        labels: int64 (N,), where there are any.
        ranks: the processes that share each batch: this one sees its part only.
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
        """The batch at ``position`` (0, 1, …): float (B, C, H, W) in [−1, 1]."""
        return self.batch_at(self.places(position))[0]

    def batch_at(self, places: Tensor, labels: bool = False) -> tuple[Tensor, ...]:
        """The images at ``places`` (int64, (B,)) as a batch x, or x and their labels y."""
        x = from_uint8(self.images.index_select(0, places))
        if not labels:
            return (x,)
        assert self.labels is not None
        return x, self.labels[places]

    def places(self, position: int) -> Tensor:
        """Where the images of the batch at ``position`` lie: int64 (B,), on the stream's device."""
        epoch, i = divmod(position, self.per_epoch)
        if epoch != self._epoch:
            # Drawn on the CPU whatever the device: the order belongs to the seed, not to the hardware.
            generator = torch.Generator().manual_seed((self.seed * 1_000_003 + epoch) % 2**63)
            self._order = torch.randperm(len(self.images), generator=generator).to(self.device)
            self._epoch = epoch
        share = self.batch // self.ranks.size
        first = i * self.batch + self.ranks.rank * share
        return self._order[first : first + share]

    def subset(self, n: int) -> Stream:
        """A stream of n labelled images, as many of each class as can be, chosen by this stream's seed.

        Raises:
            UsageError: where the data set has no labels, or not so many.
        """
        if self.labels is None:
            raise UsageError(f"labels: {n} is not allowed; the data set has no labels, use 0")
        if n > len(self.images):
            raise UsageError(f"labels: {n} is not allowed; the data set has {len(self.images)} training images")
        labels = self.labels.cpu()
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(self.seed))
        rank = torch.empty_like(labels)  # how many of its class come before it
        for k in range(int(labels.max()) + 1):
            mine = order[labels[order] == k]
            rank[mine] = torch.arange(len(mine))
        chosen = order[rank[order].argsort(stable=True)[:n]].to(self.device)
        batch = min(self.batch, n // self.ranks.size * self.ranks.size)
        return Stream(self.images[chosen], batch, self.seed, self.device, self.labels[chosen], self.ranks)
