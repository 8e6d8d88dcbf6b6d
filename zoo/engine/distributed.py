"""Processes that train one run together, as ``torchrun`` starts them."""

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
    """Rank of this process and number of processes; collective operations that do nothing with one process.

    Each process sees its share of every batch. Gradients are averaged over all processes before any parameter changes,
    so the networks stay equal. Batch statistics, and losses that are not means over images (MMD), are computed per
    process.
    """

    rank: int = 0
    """Rank of this process, from 0."""
    size: int = 1
    """Number of processes."""

    @classmethod
    def from_environment(cls) -> Self:
        """Ranks from torchrun's environment variables; joins the process group if there are several."""
        size = int(os.environ.get("WORLD_SIZE", "1"))
        if size == 1:
            return cls()
        if not dist.is_initialized():
            dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
            atexit.register(_destroy_process_group)
        return cls(dist.get_rank(), size)

    @property
    def is_main(self) -> bool:
        """Whether this process writes the run folder."""
        return self.rank == 0

    def device(self, device: torch.device) -> torch.device:
        """Device of this process: with several processes on CUDA, one GPU per process."""
        if self.size == 1 or device.type != "cuda":
            return device
        local = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(local)
        return local

    def all_reduce_mean_(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by their means over the processes, in place; one message per dtype."""
        if self.size == 1:
            return
        by_dtype: dict[torch.dtype, list[Tensor]] = {}
        for tensor in tensors:
            by_dtype.setdefault(tensor.dtype, []).append(tensor)
        for group in by_dtype.values():
            flat = torch.cat([t.reshape(-1) for t in group])
            dist.all_reduce(flat)
            flat /= self.size
            start = 0
            for tensor in group:
                tensor.copy_(flat[start : start + tensor.numel()].view_as(tensor))
                start += tensor.numel()

    def all_gather(self, tensor: Tensor) -> list[Tensor]:
        """Tensors of all processes, in order of rank; they must have one shape."""
        if self.size == 1:
            return [tensor]
        gathered = [torch.empty_like(tensor) for _ in range(self.size)]
        dist.all_gather(gathered, tensor)
        return gathered

    def broadcast(self, flag: bool, device: torch.device) -> bool:
        """The main process's ``flag``, on every process."""
        if self.size == 1:
            return flag
        tensor = torch.tensor(int(flag), device=device)
        dist.broadcast(tensor, 0)
        return bool(tensor)


def _destroy_process_group() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()
