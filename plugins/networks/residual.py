"""Residual networks of Soft-IntroVAE, for ``--family``; ``--width`` and ``--norm`` have no effect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

import zoo

from .layers import ToUnitRange


class IntroVAEConv(zoo.Family):
    """Soft-IntroVAE for MNIST: residual blocks of 64 and 128 channels, average pooling (arXiv:2012.13253)."""

    def small(self, data: zoo.DataSpec) -> tuple[int, int]:
        """Size after two halvings."""
        _, h, w = data.shape
        if h % 4 or w % 4:
            raise zoo.UnsupportedError("sides must be multiples of 4 pixels")
        return h // 4, w // 4

    def encoder(self, data: zoo.DataSpec, latent: int, width: int, *, norm: str, posterior: Any) -> zoo.Encoder:
        h, w = self.small(data)
        body = nn.Sequential(
            ToUnitRange(),
            nn.Conv2d(data.shape[0], 64, 5, 1, 2, bias=False),
            nn.BatchNorm2d(64),
            nn.LeakyReLU(0.2),
            nn.AvgPool2d(2),
            Residual(64, 128),
            nn.AvgPool2d(2),
            Residual(128, 128),
        )
        return zoo.BodyEncoder(body, 128 * h * w, latent, posterior)

    def decoder(self, data: zoo.DataSpec, latent: int, width: int, *, norm: str, likelihood: Any) -> zoo.Decoder:
        h, w = self.small(data)
        body = nn.Sequential(
            nn.Linear(latent, 128 * h * w),
            nn.ReLU(),
            nn.Unflatten(1, (128, h, w)),
            Residual(128, 128),
            nn.Upsample(scale_factor=2),
            Residual(128, 64),
            nn.Upsample(scale_factor=2),
            Residual(64, 64),
            nn.Conv2d(64, data.shape[0], 5, 1, 2),
        )
        return zoo.BodyDecoder(body, data.shape, likelihood) if likelihood else LinearDecoder(body)


class LinearDecoder(zoo.Decoder):
    """Decoder without a last activation: values for the range [0, 1], in evaluation clipped to it."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, z: Tensor) -> Tensor:
        image: Tensor = 2 * self.body(z).float() - 1
        return image if self.training else image.clamp(-1, 1)


class Residual(nn.Module):
    """Two 3×3 convolutions plus the input, projected by a 1×1 convolution if the channels differ."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__()
        self.shortcut = nn.Identity() if a == b else nn.Conv2d(a, b, 1, bias=False)
        self.branch = nn.Sequential(
            nn.Conv2d(a, b, 3, 1, 1, bias=False),
            nn.BatchNorm2d(b),
            nn.LeakyReLU(0.2),
            nn.Conv2d(b, b, 3, 1, 1, bias=False),
            nn.BatchNorm2d(b),
        )
        self.activation = nn.LeakyReLU(0.2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.activation(self.branch(x) + self.shortcut(x))
        return out


@zoo.hookimpl
def zoo_families() -> Mapping[str, type[zoo.Family]]:
    return {"soft-introvae-conv": IntroVAEConv}
