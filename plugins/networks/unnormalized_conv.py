"""Published convolutional networks without normalization, for ``--family``; ``--width`` has no effect."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

import zoo

from .layers import Halve, ToUnitRange

Layers = list[nn.Module]


class WGANGPConv(zoo.Family):
    """WGAN-GP for MNIST, authors' code: 5×5, 64-128-256 channels, no normalization (arXiv:1704.00028)."""

    def trunk(self, data: zoo.DataSpec) -> tuple[nn.Module, int]:
        """Trunk of encoder and critic, (C, 28, 28) → 256·4·4, and its number of features."""
        if data.shape[1:] != (28, 28):
            raise zoo.UnsupportedError("images must be 28×28 pixels")
        wide = (data.shape[0], 64, 128, 256)
        stages = [m for a, b in itertools.pairwise(wide) for m in (nn.Conv2d(a, b, 5, 2, 2), nn.LeakyReLU(0.2))]
        return nn.Sequential(ToUnitRange(), *stages), 256 * 16

    def encoder(self, data: zoo.DataSpec, latent: int, width: int, *, norm: str, posterior: Any) -> zoo.Encoder:
        return zoo.BodyEncoder(*self.trunk(data), latent, posterior)

    def decoder(self, data: zoo.DataSpec, latent: int, width: int, *, norm: str, likelihood: Any) -> zoo.Decoder:
        self.trunk(data)
        body = nn.Sequential(
            nn.Linear(latent, 256 * 16),
            nn.Unflatten(1, (256, 4, 4)),
            nn.ReLU(),
            nn.ConvTranspose2d(256, 128, 5, 2, 2, 1),
            Crop(7),
            nn.ReLU(),
            nn.ConvTranspose2d(128, 64, 5, 2, 2, 1),
            nn.ReLU(),
            nn.ConvTranspose2d(64, data.shape[0], 5, 2, 2, 1),
            *([] if likelihood == "bernoulli" else [Halve()]),
        )
        return zoo.BodyDecoder(body, data.shape, likelihood)

    def critic(self, data: zoo.DataSpec, width: int, *, inputs: Any, **rest: Any) -> zoo.Critic:
        if inputs != "x":
            raise zoo.UnsupportedError("it has a critic of images only")
        trunk, features = self.trunk(data)
        return zoo.BodyCritic("x", trunk, None, nn.Linear(features, 1))


class BetaVAEConv(zoo.Family):
    """β-VAE for 64×64 pixels: 4×4 strided, 32-32-64-64, FC 256, ReLU (Higgins et al. 2017, table 1)."""

    def encoder(self, data: zoo.DataSpec, latent: int, width: int, *, norm: str, posterior: Any) -> zoo.Encoder:
        if data.shape[1:] != (64, 64):
            raise zoo.UnsupportedError("images must be 64×64 pixels")
        wide = (data.shape[0], 32, 32, 64, 64)
        stages = [m for a, b in itertools.pairwise(wide) for m in (nn.Conv2d(a, b, 4, 2, 1), nn.ReLU())]
        return zoo.BodyEncoder(
            nn.Sequential(*stages, nn.Flatten(), nn.Linear(1024, 256), nn.ReLU()), 256, latent, posterior
        )

    def decoder(self, data: zoo.DataSpec, latent: int, width: int, *, norm: str, likelihood: Any) -> zoo.Decoder:
        if data.shape[1:] != (64, 64):
            raise zoo.UnsupportedError("images must be 64×64 pixels")
        layers: Layers = [
            nn.Linear(latent, 256),
            nn.ReLU(),
            nn.Linear(256, 1024),
            nn.ReLU(),
            nn.Unflatten(1, (64, 4, 4)),
        ]
        for a, b in ((64, 64), (64, 32), (32, 32)):
            layers += [nn.ConvTranspose2d(a, b, 4, 2, 1), nn.ReLU()]
        layers += [nn.ConvTranspose2d(32, data.shape[0], 4, 2, 1)]
        return zoo.BodyDecoder(nn.Sequential(*layers), data.shape, likelihood)


class Crop(nn.Module):
    """Crop to the upper left ``side`` × ``side`` pixels."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, x: Tensor) -> Tensor:
        return x[..., : self.side, : self.side]


@zoo.hookimpl
def zoo_families() -> Mapping[str, type[zoo.Family]]:
    return {"wgan-gp-conv": WGANGPConv, "beta-vae-conv": BetaVAEConv}
