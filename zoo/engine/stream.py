"""The training images as the engine sees them: resident on the device, in an order that seed and position fix."""

from __future__ import annotations

import torch
from torch import Tensor

from zoo.data import to_unit
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
    """

    def __init__(self, images: Tensor, batch: int, seed: int, device: torch.device) -> None:
        if batch > len(images):
            raise UsageError(
                f"batch: {batch} is not allowed; the data set has {len(images)} training images, use at most that"
            )
        self.images = images.to(device)
        self.batch, self.seed, self.device = batch, seed, device
        self.per_epoch = len(images) // batch
        self._epoch = -1
        self._order: Tensor = torch.empty(0)

    def __getitem__(self, position: int) -> Tensor:
        """The batch at ``position`` (0, 1, …): float (B, C, H, W) in [−1, 1]."""
        epoch, i = divmod(position, self.per_epoch)
        if epoch != self._epoch:
            # Drawn on the CPU whatever the device: the order belongs to the seed, not to the hardware.
            generator = torch.Generator().manual_seed((self.seed * 1_000_003 + epoch) % 2**63)
            self._order = torch.randperm(len(self.images), generator=generator).to(self.device)
            self._epoch = epoch
        return to_unit(self.images[self._order[i * self.batch : (i + 1) * self.batch]])
