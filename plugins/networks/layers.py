"""Layers that several published networks share."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn

import zoo

N = TypeVar("N", bound=nn.Module)

__all__ = ["Halve", "ToUnitRange", "conv", "deconv", "glorot_", "initialized"]


class ToUnitRange(nn.Module):
    """Images in [−1, 1] to [0, 1], for networks that were published for that range."""

    def forward(self, x: Tensor) -> Tensor:
        return (x + 1) / 2


class Halve(nn.Module):
    """Last layer before tanh, which then acts as a sigmoid: tanh(u/2) = 2·sigmoid(u) − 1."""

    def forward(self, u: Tensor) -> Tensor:
        return u / 2


def conv(
    a: int, b: int, k: int, s: int, act: nn.Module, pad: int | None = None, momentum: float = 0.1
) -> list[nn.Module]:
    """Convolution, batch normalization, activation."""
    padding = (k - 1) // 2 if pad is None else pad
    return [nn.Conv2d(a, b, k, s, padding, bias=False), nn.BatchNorm2d(b, momentum=momentum), act]


def deconv(
    a: int, b: int, k: int, s: int, act: nn.Module, pad: int | None = None, momentum: float = 0.1
) -> list[nn.Module]:
    """Transposed convolution that multiplies the size by s exactly if k ≥ s; batch normalization; activation."""
    p = (k - s + 1) // 2 if pad is None else pad
    out = 0 if pad is not None else s - k + 2 * p
    return [nn.ConvTranspose2d(a, b, k, s, p, out, bias=False), nn.BatchNorm2d(b, momentum=momentum), act]


@torch.no_grad()
def glorot_(network: N) -> N:
    """Glorot's uniform weights, biases 0."""
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network


def initialized(network: N, std: float = 0.02) -> N:
    """N(0, std²) weights."""
    zoo.init_(network, std)
    return network
