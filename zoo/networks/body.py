"""Encoders, decoders and critics assembled from a body of layers: what families of networks are made of."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, final

import torch
from torch import Tensor, nn

from zoo.distributions import (
    BernoulliLikelihood,
    GaussianLikelihood,
    GaussianPosterior,
    Likelihood,
    PointPosterior,
    Posterior,
)
from zoo.interfaces import Critic, CriticOutput, Decoder, Encoder

if TYPE_CHECKING:
    from zoo.data import DataSpec

__all__ = ["BodyCritic", "BodyDecoder", "BodyEncoder", "PixelBias"]


@final
class BodyEncoder(Encoder):
    """A body from images (B, C, H, W) to features, then one linear head to the posterior's parameters.

    Arguments:
        body: returns features of any shape, or a pair of which the first counts.
        features: how many they are for one image.
        latent: dimensions d of the code.
        posterior: ``gaussian``: the head gives mean and log σ²; ``point``: the code.
    """

    def __init__(
        self, body: nn.Module, features: int, latent: int, posterior: Literal["gaussian", "point"] = "gaussian"
    ) -> None:
        super().__init__()
        self.body, self.gaussian = body, posterior == "gaussian"
        self.head = nn.Linear(features, 2 * latent if self.gaussian else latent)

    def forward(self, x: Tensor) -> Posterior:
        """The posterior q(z | x)."""
        h = self.body(x)
        h = self.head((h[0] if isinstance(h, tuple) else h).flatten(1))
        if not self.gaussian:
            return PointPosterior(h)
        mean, logvar = h.chunk(2, dim=1)
        return GaussianPosterior(mean, logvar)


@final
class BodyDecoder(Decoder):
    """A body from codes (B, d) to C·H·W numbers an image: logits of pixels, or images before tanh.

    Arguments:
        body: the network.
        shape: (C, H, W).
        likelihood: ``bernoulli`` pixels, ``gaussian`` pixels with one learned σ, or None: images through tanh.
    """

    def __init__(
        self,
        body: nn.Module,
        shape: tuple[int, int, int],
        likelihood: Literal["bernoulli", "gaussian"] | None = None,
    ) -> None:
        super().__init__()
        self.body, self.shape, self.likelihood = body, shape, likelihood
        if likelihood == "gaussian":
            self.log_std = nn.Parameter(torch.tensor(0.0))

    def forward(self, z: Tensor) -> Tensor | Likelihood:
        """Images (B, C, H, W) in [−1, 1], or a likelihood of such."""
        out = self.body(z).view(-1, *self.shape)
        if self.likelihood == "bernoulli":
            return BernoulliLikelihood(out)
        image = out.float().tanh()
        return GaussianLikelihood(image, self.log_std) if self.likelihood == "gaussian" else image


@final
class BodyCritic(Critic):
    """x through a trunk, z through another, both joined by a head; what it does not see is not there.

    Arguments:
        sees: ``x``, ``z`` or ``xz``.
        trunk: of images; returns features, or a pair: features, and what ``CriticOutput.features`` shall be.
        latent: of codes (B, d).
        head: from all features (B, f), flat, to (B, 1).
    """

    def __init__(
        self,
        inputs: Literal["x", "z", "xz"],
        trunk: nn.Module | None,
        latent: nn.Module | None,
        head: nn.Module,
    ) -> None:
        super().__init__()
        self.inputs, self.trunk, self.latent, self.head = inputs, trunk, latent, head

    def forward(self, *seen: Tensor) -> CriticOutput:
        """Logits (B,), and the features of the tapped stage."""
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
        return CriticOutput(logits.float(), h if features is None else features)


@final
class PixelBias(nn.Module):
    """A learned number added to each pixel before the last activation, from the mean image's log-odds on.

    Arguments:
        data: its ``mean``, clipped to probabilities in [0.001, 0.999], gives the beginning; zeros where it has none.
        scale: 1 where logits follow; ½ where tanh does, since tanh(u/2) = 2·sigmoid(u) − 1.
    """

    def __init__(self, data: DataSpec, scale: float = 1.0) -> None:
        super().__init__()
        mean = torch.zeros(data.shape) if data.mean is None else data.mean
        self.bias = nn.Parameter(scale * ((mean + 1) / 2).clamp(0.001, 0.999).logit())

    def forward(self, h: Tensor) -> Tensor:
        """H, (B, C·H·W) or (B, C, H, W), as (B, C, H, W)."""
        return h.view(-1, *self.bias.shape) + self.bias


def flat(data: DataSpec) -> int:
    """Numbers in one image."""
    return math.prod(data.shape)
