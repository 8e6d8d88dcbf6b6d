"""Convolutional networks of ALI and AGE, for ``--family``; ``--width`` and ``--norm`` have no effect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

import zoo

from .layers import conv, deconv, initialized

Layers = list[nn.Module]


class ALIConv(zoo.Family):
    """ALI for CIFAR-10: convolutions without padding from 32 pixels down to one, maxout critic (arXiv:1606.00704)."""

    momentum = 0.05
    """Momentum of batch statistics."""

    def check(self, data: zoo.DataSpec) -> None:
        if data.shape[1:] != (32, 32):
            raise zoo.UnsupportedError("images must be 32×32 pixels")

    def encoder(self, data: zoo.DataSpec, latent: int, width: int, *, norm: str, posterior: Any) -> zoo.Encoder:
        self.check(data)
        layers: Layers = []
        channels = data.shape[0]
        for k, s, wide in ((5, 1, 32), (4, 2, 64), (4, 1, 128), (4, 2, 256), (4, 1, 512), (1, 1, 512)):
            layers += conv(channels, wide, k, s, nn.LeakyReLU(0.1), 0, self.momentum)
            channels = wide
        body = nn.Sequential(*layers)
        if posterior == "point":
            return initialized(zoo.BodyEncoder(body, 512, latent, posterior), 0.01)
        return initialized(GaussianByLogStd(body, 512, latent), 0.01)

    def decoder(self, data: zoo.DataSpec, latent: int, width: int, *, norm: str, likelihood: Any) -> zoo.Decoder:
        self.check(data)
        layers: Layers = [nn.Unflatten(1, (latent, 1, 1))]
        channels = latent
        for k, s, wide in ((4, 1, 256), (4, 2, 128), (4, 1, 64), (4, 2, 32), (5, 1, 32), (1, 1, 32)):
            layers += deconv(channels, wide, k, s, nn.LeakyReLU(0.1), 0, self.momentum)
            channels = wide
        bias = zoo.PixelBias(data, 1.0 if likelihood == "bernoulli" else 0.5)
        body = nn.Sequential(*layers, nn.Conv2d(32, data.shape[0], 1, bias=False), bias)
        return initialized(zoo.BodyDecoder(body, data.shape, likelihood), 0.01)

    def critic(self, data: zoo.DataSpec, width: int, *, inputs: Any, latent: int | None, **rest: Any) -> zoo.Critic:
        trunk = codes = None
        if "x" in inputs:
            self.check(data)
            layers: Layers = []
            channels = data.shape[0]
            for i, (k, s, wide) in enumerate(((5, 1, 32), (4, 2, 64), (4, 1, 128), (4, 2, 256), (4, 1, 512))):
                layers += [nn.Dropout(0.5 if i else 0.2), nn.Conv2d(channels, wide, k, s), Maxout()]
                channels = wide // 2
            trunk = nn.Sequential(*layers)
        if latent:
            codes = nn.Sequential(*maxout(0.2, latent, 512, bias=False), *maxout(0.5, 256, 512, bias=False))
        features = 256 * ((trunk is not None) + (codes is not None))
        head = nn.Sequential(*maxout(0.5, features, 1024), *maxout(0.5, 512, 1024), nn.Dropout(0.5), nn.Linear(512, 1))
        return initialized(zoo.BodyCritic(inputs, trunk, codes, head), 0.01)


class GaussianByLogStd(zoo.Encoder):
    """Encoder with one linear layer to μ and log σ, as in ALI's code."""

    def __init__(self, body: nn.Module, features: int, latent: int) -> None:
        super().__init__()
        self.body, self.head = body, nn.Linear(features, 2 * latent)

    def forward(self, x: Tensor) -> zoo.Posterior:
        mean, log_std = self.head(self.body(x).flatten(1)).chunk(2, dim=1)
        return zoo.GaussianPosterior(mean, 2 * log_std)


class Maxout(nn.Module):
    """Maximum over pairs of channels: (B, 2C, …) → (B, C, …) (Goodfellow et al., arXiv:1302.4389)."""

    def forward(self, h: Tensor) -> Tensor:
        b, c, *rest = h.shape
        return h.view(b, c // 2, 2, *rest).amax(2)


def maxout(dropout: float, a: int, b: int, bias: bool = True) -> Layers:
    """Dropout, linear, maxout: a → b → b/2 features."""
    return [nn.Dropout(dropout), nn.Linear(a, b, bias=bias), Maxout()]


class AGEConv(zoo.Family):
    """AGE: DCGAN of pytorch/examples, 4×4, 64 channels doubled in each stage; 32 or 64 pixels (arXiv:1704.02304)."""

    def check(self, data: zoo.DataSpec) -> int:
        """Side of the images."""
        side: int = data.shape[1]
        if data.shape[1:] not in ((32, 32), (64, 64)):
            raise zoo.UnsupportedError("images must be 32×32 or 64×64 pixels")
        return side

    def encoder(self, data: zoo.DataSpec, latent: int, width: int, *, norm: str, posterior: Any) -> zoo.Encoder:
        large = self.check(data) == 64
        act = nn.LeakyReLU(0.2)
        layers: Layers = [nn.Conv2d(data.shape[0], 64, 4, 2, 1, bias=False), act]
        for a, b in ((64, 128), (128, 256), *([(256, 512)] if large else [])):
            layers += conv(a, b, 4, 2, act)
        size = latent * (2 if posterior == "gaussian" else 1)
        # To one pixel: a 4×4 convolution at 64 pixels, a strided one and an average over 2×2 at 32.
        top: Layers = [nn.Conv2d(512, size, 4)] if large else [nn.Conv2d(256, size, 4, 2, 1), nn.AvgPool2d(2)]
        return initialized(ConvEncoder(nn.Sequential(*layers, *top), posterior))

    def decoder(self, data: zoo.DataSpec, latent: int, width: int, *, norm: str, likelihood: Any) -> zoo.Decoder:
        large = self.check(data) == 64
        layers: Layers = [nn.Unflatten(1, (latent, 1, 1)), *deconv(latent, 512, 4, 1, nn.ReLU(), 0)]
        for a, b in ((512, 256), (256, 128), (128, 64 if large else 128)):
            layers += deconv(a, b, 4, 2, nn.ReLU())
        if large:
            layers += [nn.ConvTranspose2d(64, data.shape[0], 4, 2, 1, bias=False)]
        else:
            layers += [nn.Conv2d(128, data.shape[0], 1)]
        return initialized(zoo.BodyDecoder(nn.Sequential(*layers), data.shape, likelihood))


class ConvEncoder(zoo.Encoder):
    """Encoder whose convolutions end in one pixel, the parameters of the posterior."""

    def __init__(self, body: nn.Module, posterior: str) -> None:
        super().__init__()
        self.body, self.posterior = body, posterior

    def forward(self, x: Tensor) -> zoo.Posterior:
        h = self.body(x).flatten(1)
        if self.posterior == "point":
            return zoo.PointPosterior(h)
        return zoo.GaussianPosterior(*h.chunk(2, dim=1))


@zoo.hookimpl
def zoo_families() -> Mapping[str, type[zoo.Family]]:
    return {"ali-conv": ALIConv, "age-conv": AGEConv}
