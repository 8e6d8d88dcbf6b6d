"""Network families for any image size: ``conv``, ``conv-transposed`` and ``mlp``."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, ClassVar, Literal

from torch import nn

from zoo.interfaces import Critic, Decoder, Encoder, Family
from zoo.networks.blocks import MLP, ConvTrunk, DeconvTrunk, init_, normalization
from zoo.networks.body import BodyCritic, BodyDecoder, BodyEncoder, flat

if TYPE_CHECKING:
    from zoo.data import DataSpec

__all__ = ["Conv", "FullyConnected", "TransposedConv"]

# Not in place: the features of a stage without normalization are the input tensor of the activation.
_LEAKY = functools.partial(nn.LeakyReLU, 0.2)
_RELU = functools.partial(nn.ReLU, inplace=True)


def _flat_body(sizes: list[int], norm: str, *, norm_first: bool) -> nn.Sequential:
    # An MLP whose last layer has normalization and activation too.
    layers = MLP([*sizes, 1], _LEAKY, norm, norm_first=norm_first)
    return nn.Sequential(nn.Flatten(), *list(layers)[:-1])


def _critic(
    inputs: Literal["x", "z", "xz"], trunk: nn.Module | None, features: int, latent: int | None, hidden: int
) -> BodyCritic:
    codes: nn.Module | None = None
    if latent is not None:
        codes = _flat_body([latent, hidden, hidden], "none", norm_first=False)
        features += hidden
    head = MLP([features, hidden, 1], _LEAKY) if inputs == "xz" else nn.Linear(features, 1)
    return BodyCritic(inputs, trunk, codes, head)


def _std(norm: str) -> float | None:
    # N(0, 0.02²) relies on normalization to restore the scale; without it signals would vanish.
    return 0.02 if norm != "none" else None


class Conv(Family):
    """Strided convolutions after DCGAN: each stage halves the sides, down to 3 to 6 pixels, and doubles channels.

    Decoders of images larger than 28 pixels upsample by nearest neighbors before each convolution, because transposed
    convolutions leave checkerboards in short schedules (docs/defaults.md). Smaller images keep DCGAN's transposed
    convolutions, with which their defaults were chosen.
    """

    largest_transposed: ClassVar[float] = 28
    """Largest side, in pixels, of images whose decoders have transposed convolutions."""

    def encoder(
        self, data: DataSpec, latent: int, width: int, *, norm: str, posterior: Literal["gaussian", "point"]
    ) -> Encoder:
        """Return an encoder with ``width`` channels in its first stage."""
        body = ConvTrunk(data.shape, width, norm, _LEAKY)
        network = BodyEncoder(body, math.prod(body.out_shape), latent, posterior)
        init_(network, _std(norm))
        return network

    def decoder(
        self, data: DataSpec, latent: int, width: int, *, norm: str, likelihood: Literal["bernoulli", "gaussian"] | None
    ) -> Decoder:
        """Return the mirror image of the encoder."""
        upsample = max(data.shape[1:]) > self.largest_transposed
        trunk = DeconvTrunk(data.shape, width, norm, _RELU, upsample=upsample)
        body = nn.Sequential(
            nn.Linear(latent, math.prod(trunk.in_shape), bias=norm != "batch"),
            nn.Unflatten(1, trunk.in_shape),
            normalization(norm, trunk.in_shape[0]),
            _RELU(),
            trunk,
        )
        network = BodyDecoder(body, data.shape, likelihood)
        init_(network, _std(norm))
        return network

    def critic(
        self,
        data: DataSpec,
        width: int,
        *,
        inputs: Literal["x", "z", "xz"],
        latent: int | None,
        norm: str,
        tap: int | None,
        pre_norm: bool,
    ) -> Critic:
        """Return a critic: the encoder's trunk for x, two layers of 16·``width`` for z, a hidden layer for pairs."""
        trunk = ConvTrunk(data.shape, width, norm, _LEAKY, tap, pre_norm) if "x" in inputs else None
        features = math.prod(trunk.out_shape) if trunk else 0
        network = _critic(inputs, trunk, features, latent, 16 * width)
        init_(network, _std(norm) if "x" in inputs else None)
        return network


class TransposedConv(Conv):
    """The family ``conv`` with DCGAN's transposed convolutions in every decoder, as in zoo 0.1.0."""

    largest_transposed: ClassVar[float] = math.inf


class FullyConnected(Family):
    """Fully connected layers, two hidden ones of 16·width units; any image size."""

    def encoder(
        self, data: DataSpec, latent: int, width: int, *, norm: str, posterior: Literal["gaussian", "point"]
    ) -> Encoder:
        """Return an encoder with LeakyReLU, without normalization in its first layer."""
        body = _flat_body([flat(data), 16 * width, 16 * width], norm, norm_first=False)
        return BodyEncoder(body, 16 * width, latent, posterior)

    def decoder(
        self, data: DataSpec, latent: int, width: int, *, norm: str, likelihood: Literal["bernoulli", "gaussian"] | None
    ) -> Decoder:
        """Return a decoder with ReLU."""
        return BodyDecoder(MLP([latent, 16 * width, 16 * width, flat(data)], _RELU, norm), data.shape, likelihood)

    def critic(
        self,
        data: DataSpec,
        width: int,
        *,
        inputs: Literal["x", "z", "xz"],
        latent: int | None,
        norm: str,
        tap: int | None,
        pre_norm: bool,
    ) -> Critic:
        """Return a critic whose trunk for x is the encoder's; its only stage of features is the last."""
        trunk = _flat_body([flat(data), 16 * width, 16 * width], norm, norm_first=False) if "x" in inputs else None
        return _critic(inputs, trunk, 16 * width if trunk else 0, latent, 16 * width)
