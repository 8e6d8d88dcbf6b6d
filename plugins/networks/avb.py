"""Convolutional networks of AVB on MNIST, for ``--family``; ``--width`` and ``--norm`` have no effect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

import zoo

from .layers import Halve, ToUnitRange, glorot_

Layers = list[nn.Module]


class AVBConv(zoo.Family):
    """AVB for MNIST: 5×5, 64-128-256-512 channels, ELU; a critic of inner products (arXiv:1701.04722)."""

    def check(self, data: zoo.DataSpec) -> tuple[int, int]:
        """Size after two halvings."""
        _, h, w = data.shape
        if h % 4 or w % 4 or not 16 <= min(h, w) < 32:
            raise zoo.UnsupportedError("sides must be multiples of 4 pixels, at least 16 and below 32")
        return h // 4, w // 4

    def encoder(self, data: zoo.DataSpec, latent: int, width: int, *, norm: str, posterior: Any) -> zoo.Encoder:
        h, w = self.check(data)
        layers: Layers = []
        channels = data.shape[0]
        for stride, wide in ((1, 64), (1, 128), (2, 256)):
            layers += same_conv(channels, wide, stride)
            layers += [nn.BatchNorm2d(wide, eps=1e-3, momentum=1e-3), nn.ELU()]
            channels = wide
        layers += [*same_conv(256, 512, 2, bias=True), nn.ELU()]
        return glorot_(zoo.BodyEncoder(nn.Sequential(*layers), 512 * h * w, latent, posterior))

    def decoder(self, data: zoo.DataSpec, latent: int, width: int, *, norm: str, likelihood: Any) -> zoo.Decoder:
        h, w = self.check(data)
        layers: Layers = [nn.Linear(latent, 512 * h * w), nn.ELU(), nn.Unflatten(1, (512, h, w))]
        for stride, a, b in ((2, 512, 256), (2, 256, 128), (1, 128, 64)):
            layers += [nn.ConvTranspose2d(a, b, 5, stride, 2, stride - 1), nn.ELU()]
        layers += [nn.ConvTranspose2d(64, data.shape[0], 5, 1, 2), *([] if likelihood == "bernoulli" else [Halve()])]
        return glorot_(zoo.BodyDecoder(nn.Sequential(*layers), data.shape, likelihood))

    def critic(self, data: zoo.DataSpec, width: int, *, inputs: Any, latent: int | None, **rest: Any) -> zoo.Critic:
        if inputs != "xz":
            raise zoo.UnsupportedError("it has a critic of pairs only")
        return glorot_(InnerProductCritic(data.shape, latent or 0))


class InnerProductCritic(zoo.Critic):
    """T(x, z) = ⟨θ(x), s(z)⟩ + T_x(x) + T_z(z) + ½‖z‖²."""

    inputs = "xz"

    def __init__(self, shape: tuple[int, int, int], latent: int) -> None:
        super().__init__()
        pixels = shape[0] * shape[1] * shape[2]
        self.flat = nn.Sequential(nn.Flatten(), ToUnitRange())
        self.theta = nn.Sequential(*hidden(pixels), nn.Linear(1024, 8192), nn.ELU())
        self.s = nn.Sequential(*hidden(latent), nn.Linear(1024, 8192))
        self.x_only = nn.Sequential(*hidden(pixels), nn.Linear(1024, 1))
        self.z_only = nn.Sequential(*hidden(latent), nn.Linear(1024, 1))

    def forward(self, *inputs: Tensor) -> zoo.CriticOutput:
        x, z = self.flat(inputs[0]), inputs[1]
        product = self.theta(x) * self.s(z)
        logits = product.sum(1) + self.x_only(x).squeeze(1) + self.z_only(z).squeeze(1)
        return zoo.CriticOutput(logits.float() + z.square().sum(1) / 2, product)


def same_conv(a: int, b: int, stride: int, bias: bool = False) -> Layers:
    """5×5 convolution, padded as TensorFlow's ``SAME``: for even sides and stride 2, one pixel less at the top left."""
    pad = (1, 2, 1, 2) if stride == 2 else (2, 2, 2, 2)
    return [nn.ZeroPad2d(pad), nn.Conv2d(a, b, 5, stride, bias=bias)]


def hidden(features: int) -> Layers:
    """Three layers of 1024 LeakyReLU(0.2)."""
    sizes = (features, 1024, 1024)
    return [m for size in sizes for m in (nn.Linear(size, 1024), nn.LeakyReLU(0.2))]


@zoo.hookimpl
def zoo_families() -> Mapping[str, type[zoo.Family]]:
    return {"avb-conv": AVBConv}
