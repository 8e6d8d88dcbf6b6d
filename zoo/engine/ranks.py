"""The processes that train one run together, as ``torchrun`` starts them. One process alone needs none of this."""

from __future__ import annotations

import atexit
import os
from collections.abc import Sequence
from typing import Self

import attrs
import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["Ranks"]


@attrs.frozen
class Ranks:
    """A process among those of its run.

    Each sees its share of every batch; gradients are averaged over all before any parameter moves, so networks stay
    equal. Batch statistics, and losses that are no means over images (an MMD), are each process's own.
    """

    rank: int = 0
    """This process, from 0."""
    size: int = 1
    """How many there are."""

    @classmethod
    def here(cls) -> Self:
        """As torchrun's environment says; joins the group where there are several."""
        size = int(os.environ.get("WORLD_SIZE", "1"))
        if size == 1:
            return cls()
        if not dist.is_initialized():
            dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
            atexit.register(_leave)
        return cls(dist.get_rank(), size)

    @property
    def leads(self) -> bool:
        """Whether this process writes the run folder."""
        return self.rank == 0

    def device(self, device: torch.device) -> torch.device:
        """The device of this process: with several processes on GPUs, one each."""
        if self.size == 1 or device.type != "cuda":
            return device
        found = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(found)
        return found

    def mean_(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by their means over the processes, in place; one message for each kind of number."""
        if self.size == 1:
            return
        kinds: dict[torch.dtype, list[Tensor]] = {}
        for tensor in tensors:
            kinds.setdefault(tensor.dtype, []).append(tensor)
        for together in kinds.values():
            flat = torch.cat([t.reshape(-1) for t in together])
            dist.all_reduce(flat)
            flat /= self.size
            at = 0
            for tensor in together:
                tensor.copy_(flat[at : at + tensor.numel()].view_as(tensor))
                at += tensor.numel()

    def gather(self, tensor: Tensor) -> list[Tensor]:
        """The tensor of every process, in order; of one shape everywhere."""
        if self.size == 1:
            return [tensor]
        found = [torch.empty_like(tensor) for _ in range(self.size)]
        dist.all_gather(found, tensor)
        return found

    def agree(self, flag: bool, device: torch.device) -> bool:
        """What the leading process says, on all."""
        if self.size == 1:
            return flag
        said = torch.tensor(int(flag), device=device)
        dist.broadcast(said, 0)
        return bool(said)


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()
