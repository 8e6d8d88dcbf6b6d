"""Faster kernels for some torch layers, by device: optional, exact up to rounding."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["accelerate", "available_kernels", "restore"]


def accelerate(networks: nn.Module, device: torch.device, *, bf16: bool = False) -> dict[str, int]:
    """Let torch's own layers use the fastest memory format and kernels of a device; :func:`restore` undoes the latter.

    Parameters keep their names and values; results differ by rounding.

    Args:
        networks: module whose layers are changed, in place.
        device: device of the networks. Only CPUs have kernels here.
        bf16: whether the networks will run under bfloat16 autocast.

    Returns:
        Number of changed layers by class name.
    """
    if device.type != "cpu":
        return {}
    from zoo.accelerators import cpu

    networks.to(memory_format=torch.channels_last)  # convolutions are 4 to 21 % faster
    return cpu.accelerate(networks, bf16=bf16)


def restore(networks: nn.Module) -> None:
    """Give accelerated layers torch's kernels back."""
    from zoo.accelerators import cpu

    cpu.restore(networks)


def available_kernels() -> list[str]:
    """Names of the kernels that this machine's processor can use."""
    from zoo.accelerators import cpu

    available = {
        "float32 products by oneDNN": cpu.AMD,
        "last deconvolutions as convolutions": cpu.AVX512,
        "bfloat16 weight gradients as products": cpu.BF16,
    }
    return [name for name, here in available.items() if here]
