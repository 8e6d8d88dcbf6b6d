"""Fully connected networks of VAE, IWAE, BiGAN and AAE on MNIST, for ``--family``; any image size.

The sizes are the papers': ``--width`` and ``--norm`` have no effect.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

import zoo

from .layers import Halve, ToUnitRange, glorot_, initialized

N = TypeVar("N", bound=nn.Module)


class VAEFlat(zoo.Family):
    """VAE on MNIST: one layer of 500 tanh each, parameters ~ N(0, 0.1²) (arXiv:1312.6114, section 5)."""

    def encoder(self, data: zoo.DataSpec, latent: int, width: int, *, norm: str, posterior: Any) -> zoo.Encoder:
        body = nn.Sequential(nn.Flatten(), ToUnitRange(), nn.Linear(math.prod(data.shape), 500), nn.Tanh())
        return normal_(zoo.BodyEncoder(body, 500, latent, posterior))

    def decoder(self, data: zoo.DataSpec, latent: int, width: int, *, norm: str, likelihood: Any) -> zoo.Decoder:
        last = [nn.Linear(500, math.prod(data.shape)), *([] if likelihood == "bernoulli" else [Halve()])]
        return normal_(zoo.BodyDecoder(nn.Sequential(nn.Linear(latent, 500), nn.Tanh(), *last), data.shape, likelihood))


class GaussianByStd(zoo.Encoder):
    """Encoder with one linear layer each for μ and log σ, as in IWAE's code."""

    def __init__(self, body: nn.Module, features: int, latent: int) -> None:
        super().__init__()
        self.body = body
        self.mean, self.log_std = nn.Linear(features, latent), nn.Linear(features, latent)

    def forward(self, x: Tensor) -> zoo.Posterior:
        h = self.body(x)
        return zoo.GaussianPosterior(self.mean(h), 2 * self.log_std(h))


class IWAEFlat(zoo.Family):
    """IWAE with one stochastic layer: 200-200 tanh, Glorot, output bias from the mean image (arXiv:1509.00519)."""

    def encoder(self, data: zoo.DataSpec, latent: int, width: int, *, norm: str, posterior: Any) -> zoo.Encoder:
        hidden = (nn.Linear(math.prod(data.shape), 200), nn.Tanh(), nn.Linear(200, 200), nn.Tanh())
        body = nn.Sequential(nn.Flatten(), ToUnitRange(), *hidden)
        if posterior == "point":
            return glorot_(zoo.BodyEncoder(body, 200, latent, posterior))
        return glorot_(GaussianByStd(body, 200, latent))

    def decoder(self, data: zoo.DataSpec, latent: int, width: int, *, norm: str, likelihood: Any) -> zoo.Decoder:
        last = nn.Linear(200, math.prod(data.shape), bias=False)
        bias = zoo.PixelBias(data, 1.0 if likelihood == "bernoulli" else 0.5)
        body = nn.Sequential(nn.Linear(latent, 200), nn.Tanh(), nn.Linear(200, 200), nn.Tanh(), last, bias)
        return glorot_(zoo.BodyDecoder(body, data.shape, likelihood))


class BiGANFlat(zoo.Family):
    """Permutation-invariant BiGAN: 1024 units, no biases, weights ~ N(0, 0.02²) (arXiv:1605.09782)."""

    def encoder(self, data: zoo.DataSpec, latent: int, width: int, *, norm: str, posterior: Any) -> zoo.Encoder:
        first = (nn.Flatten(), ToUnitRange(), nn.Linear(math.prod(data.shape), 1024), leaky())
        body = nn.Sequential(*first, *dense(1024, leaky()))
        return small(zoo.BodyEncoder(body, 1024, latent, posterior))

    def decoder(self, data: zoo.DataSpec, latent: int, width: int, *, norm: str, likelihood: Any) -> zoo.Decoder:
        return small(zoo.BodyDecoder(SkipGenerator(latent, math.prod(data.shape)), data.shape, likelihood))

    def critic(self, data: zoo.DataSpec, width: int, *, inputs: Any, latent: int | None, **rest: Any) -> zoo.Critic:
        layers = (nn.Flatten(), ToUnitRange(), nn.Linear(math.prod(data.shape), 1024), leaky())
        trunk = nn.Sequential(*layers) if "x" in inputs else None
        codes = nn.Identity() if latent else None
        features = (1024 if trunk else 0) + (latent or 0)
        # Linear of (h, z) together is the paper's FC(h) + FC(z).
        head = nn.Sequential(*dense(features, leaky()), nn.Linear(1024, 1))
        return small(zoo.BodyCritic(inputs, trunk, codes, head))


class SkipGenerator(nn.Module):
    """BiGAN's generator: z (B, d) → 1024 → concatenated with z → 1024 → pixels."""

    def __init__(self, latent: int, pixels: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Linear(latent, 1024), bare_norm(), nn.ReLU())
        self.second = nn.Sequential(
            nn.Linear(1024 + latent, 1024), bare_norm(), nn.ReLU(), nn.Linear(1024, pixels), Halve()
        )

    def forward(self, z: Tensor) -> Tensor:
        out: Tensor = self.second(torch.cat([self.first(z), z], dim=1))
        return out


class AAEFlat(zoo.Family):
    """AAE: encoder, decoder and critics with two layers of 1000 ReLU, weights ~ N(0, 0.01²) (arXiv:1511.05644)."""

    def encoder(self, data: zoo.DataSpec, latent: int, width: int, *, norm: str, posterior: Any) -> zoo.Encoder:
        body = nn.Sequential(nn.Flatten(), ToUnitRange(), *thousand(math.prod(data.shape)))
        return initialized(zoo.BodyEncoder(body, 1000, latent, posterior), 0.01)

    def decoder(self, data: zoo.DataSpec, latent: int, width: int, *, norm: str, likelihood: Any) -> zoo.Decoder:
        last = [nn.Linear(1000, math.prod(data.shape)), *([] if likelihood == "bernoulli" else [Halve()])]
        return initialized(zoo.BodyDecoder(nn.Sequential(*thousand(latent), *last), data.shape, likelihood), 0.01)

    def critic(self, data: zoo.DataSpec, width: int, *, inputs: Any, latent: int | None, **rest: Any) -> zoo.Critic:
        trunk = nn.Sequential(nn.Flatten(), ToUnitRange()) if "x" in inputs else None
        codes = nn.Identity() if latent else None
        features = (math.prod(data.shape) if trunk else 0) + (latent or 0)
        head = nn.Sequential(*thousand(features), nn.Linear(1000, 1))
        return initialized(zoo.BodyCritic(inputs, trunk, codes, head), 0.01)


def leaky() -> nn.Module:
    """LeakyReLU(0.2)."""
    return nn.LeakyReLU(0.2)


def bare_norm() -> nn.Module:
    """Batch normalization of 1024 units without scale and shift."""
    return nn.BatchNorm1d(1024, affine=False)


def dense(features: int, activation: nn.Module) -> tuple[nn.Module, ...]:
    """1024 units, normalized."""
    return nn.Linear(features, 1024), bare_norm(), activation


def thousand(features: int) -> tuple[nn.Module, ...]:
    """Two layers of 1000 ReLU."""
    return nn.Linear(features, 1000), nn.ReLU(), nn.Linear(1000, 1000), nn.ReLU()


@torch.no_grad()
def normal_(network: N) -> N:
    """N(0, 0.1²) for all parameters."""
    for parameter in network.parameters():
        parameter.normal_(0, 0.1)
    return network


def small(network: N) -> N:
    """N(0, 0.02²) weights and no biases."""
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0, 0.02)
            module.register_parameter("bias", None)
    return network


@zoo.hookimpl
def zoo_families() -> Mapping[str, type[zoo.Family]]:
    return {"vae-flat": VAEFlat, "iwae-flat": IWAEFlat, "bigan-flat": BiGANFlat, "aae-flat": AAEFlat}
