"""Encoders, decoders and critics made from a data set's shape and a model's options."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from zoo.distributions import Bernoulli, Gaussian, Likelihood, Normal, Point, Posterior
from zoo.errors import UsageError
from zoo.interfaces import Critic, Decoder, Encoder, Verdict
from zoo.networks.layers import MLP, ConvTrunk, DeconvTrunk, init_, normalisation

if TYPE_CHECKING:
    from zoo.data import DataSpec

__all__ = ["critic", "decoder", "encoder"]

Family = Literal["conv", "mlp"]
# Not in place: a tapped stage without normalisation hands out the very tensor that the activation reads.
_LEAKY = functools.partial(nn.LeakyReLU, 0.2)
_RELU = functools.partial(nn.ReLU, inplace=True)


_ALLOWED: dict[str, tuple[str | None, ...]] = {
    "family": ("conv", "mlp"),
    "norm": ("batch", "group", "none"),
    "posterior": ("gaussian", "point"),
    "likelihood": ("bernoulli", "gaussian", None),
    "sees": ("x", "z", "xz"),
}


def _check(**given: str | None) -> None:
    # A misspelt kind must not silently be another: «layer» would be no norm, «points» a point posterior.
    for name, value in given.items():
        if value not in _ALLOWED[name]:
            allowed = ", ".join(map(str, _ALLOWED[name]))
            raise UsageError(f"{name}: {value!r} is not allowed; must be one of {allowed}")


def _hidden(width: int) -> int:
    return 16 * width


class _Encoder(Encoder):
    def __init__(self, body: nn.Module, features: int, latent: int, posterior: str) -> None:
        super().__init__()
        self.body, self.gaussian = body, posterior == "gaussian"
        self.head = nn.Linear(features, 2 * latent if self.gaussian else latent)

    def forward(self, x: Tensor) -> Posterior:
        h = self.body(x)
        h = self.head((h[0] if isinstance(h, tuple) else h).flatten(1))
        if not self.gaussian:
            return Point(h)
        mean, logvar = h.chunk(2, dim=1)
        return Gaussian(mean, logvar)


class _Decoder(Decoder):
    def __init__(self, body: nn.Module, shape: tuple[int, int, int], likelihood: str | None) -> None:
        super().__init__()
        self.body, self.shape, self.likelihood = body, shape, likelihood
        if likelihood == "gaussian":
            self.log_std = nn.Parameter(torch.tensor(0.0))

    def forward(self, z: Tensor) -> Tensor | Likelihood:
        out = self.body(z).view(-1, *self.shape)
        if self.likelihood == "bernoulli":
            return Bernoulli(out)
        image = out.float().tanh()
        return Normal(image, self.log_std) if self.likelihood == "gaussian" else image


class _Critic(Critic):
    """x through a trunk, z through an MLP, both joined by an MLP; what it does not see is not there."""

    def __init__(
        self,
        sees: Literal["x", "z", "xz"],
        trunk: nn.Module | None,
        latent: nn.Module | None,
        head: nn.Module,
    ) -> None:
        super().__init__()
        self.sees, self.trunk, self.latent, self.head = sees, trunk, latent, head

    def forward(self, *seen: Tensor) -> Verdict:
        parts: list[Tensor] = []
        features = None
        if self.trunk is not None:
            out = self.trunk(seen[0])
            h, features = out if isinstance(out, tuple) else (out, out)
            parts.append(h.flatten(1))
        if self.latent is not None:
            parts.append(self.latent(seen[-1]))
        h = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
        logits = self.head(h).squeeze(1)
        return Verdict(logits.float(), h if features is None else features)


def _flat_body(sizes: list[int], norm: str, *, norm_first: bool) -> nn.Sequential:
    # An MLP whose last layer is normalised and activated like the others.
    layers = MLP([*sizes, 1], _LEAKY, norm, norm_first=norm_first)
    return nn.Sequential(nn.Flatten(), *list(layers)[:-1])


def encoder(
    data: DataSpec,
    latent: int,
    width: int,
    *,
    family: Family = "conv",
    norm: str = "batch",
    posterior: Literal["gaussian", "point"] = "gaussian",
) -> Encoder:
    """An encoder for the data set's shape.

    Arguments:
        latent: dimensions d of the code.
        width: channels of the first stage (conv), or hidden units / 16 (mlp).
        posterior: ``gaussian`` (mean and log σ², reparameterised) or ``point`` (deterministic).
    """
    _check(family=family, norm=norm, posterior=posterior)
    if family == "mlp":
        hidden = _hidden(width)
        body: nn.Module = _flat_body([math.prod(data.shape), hidden, hidden], norm, norm_first=False)
        features = hidden
    else:
        body = ConvTrunk(data.shape, width, norm, _LEAKY)
        features = math.prod(body.out_shape)
    network = _Encoder(body, features, latent, posterior)
    init_(network, _std(family, norm))
    return network


def decoder(
    data: DataSpec,
    latent: int,
    width: int,
    *,
    family: Family = "conv",
    norm: str = "batch",
    likelihood: Literal["bernoulli", "gaussian"] | None = None,
) -> Decoder:
    """A decoder to the data set's shape.

    Arguments:
        likelihood: ``bernoulli`` pixels, ``gaussian`` pixels with one learned σ, or None: images through tanh.
    """
    _check(family=family, norm=norm, likelihood=likelihood)
    if family == "mlp":
        hidden = _hidden(width)
        body: nn.Module = MLP([latent, hidden, hidden, math.prod(data.shape)], _RELU, norm)
    else:
        trunk = DeconvTrunk(data.shape, width, norm, _RELU)
        body = nn.Sequential(
            nn.Linear(latent, math.prod(trunk.in_shape), bias=norm != "batch"),
            nn.Unflatten(1, trunk.in_shape),
            normalisation(norm, trunk.in_shape[0]),
            _RELU(),
            trunk,
        )
    network = _Decoder(body, data.shape, likelihood)
    init_(network, _std(family, norm))
    return network


def critic(
    data: DataSpec,
    width: int,
    *,
    sees: Literal["x", "z", "xz"] = "x",
    latent: int | None = None,
    family: Family = "conv",
    norm: str = "batch",
    tap: int | None = None,
    raw: bool = False,
) -> Critic:
    """A critic of images (``x``), codes (``z``) or pairs (``xz``).

    Arguments:
        latent: dimensions of the codes it sees; needed unless it sees x only.
        tap: the stage of the image trunk, from 1, whose output is ``Verdict.features``, taken before the activation;
            the last by default, and where the trunk has fewer.
        raw: take it before the normalisation too, where its scale is whatever the weights make it.
    """
    _check(family=family, norm=norm, sees=sees)
    if tap is not None and tap < 1:
        raise UsageError(f"tap: {tap} is not allowed; must be at least 1, the first stage")
    if ("z" in sees) != (latent is not None):
        raise UsageError(f"latent: {latent!r} is not allowed for a critic that sees {sees!r}; give it for z and xz")
    hidden = _hidden(width)
    trunk: nn.Module | None = None
    codes: nn.Module | None = None
    features = 0
    if "x" in sees:
        if family == "mlp":
            trunk = _flat_body([math.prod(data.shape), hidden, hidden], norm, norm_first=False)
            features += hidden
        else:
            trunk = ConvTrunk(data.shape, width, norm, _LEAKY, tap, raw)
            features += math.prod(trunk.out_shape)
    if latent is not None:
        codes = _flat_body([latent, hidden, hidden], "none", norm_first=False)
        features += hidden
    if sees == "x":
        head: nn.Module = nn.Linear(features, 1)
    elif sees == "z":
        head = nn.Linear(features, 1)
    else:
        head = MLP([features, hidden, 1], _LEAKY)
    network = _Critic(sees, trunk, codes, head)
    init_(network, _std(family, norm) if "x" in sees else None)
    return network


def _std(family: Family, norm: str) -> float | None:
    # N(0, 0.02²) relies on normalisation to restore the scale; without it, and in MLPs, signals would vanish.
    return 0.02 if family == "conv" and norm != "none" else None
