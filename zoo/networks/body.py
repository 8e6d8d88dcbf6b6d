"""Encoders, decoders and critics made from a body of layers, for the network families."""

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
    """Encoder: a body, then one linear layer to the parameters of the posterior.

    Args:
        body: Module from images (B, C, H, W) to features of any shape, or to a pair whose first entry is the features.
        features: Number of features per image.
        latent: Dimension d of the code.
        posterior: ``"gaussian"``, mean and log σ² from the linear layer, or ``"point"``, the code itself.
    """

    def __init__(
        self, body: nn.Module, features: int, latent: int, posterior: Literal["gaussian", "point"] = "gaussian"
    ) -> None:
        super().__init__()
        self.body, self.gaussian = body, posterior == "gaussian"
        self.head = nn.Linear(features, 2 * latent if self.gaussian else latent)

    def forward(self, x: Tensor) -> Posterior:
        """Return the posterior q(z | x) of images x (B, C, H, W)."""
        h = self.body(x)
        h = self.head((h[0] if isinstance(h, tuple) else h).flatten(1))
        if not self.gaussian:
            return PointPosterior(h)
        mean, logvar = h.chunk(2, dim=1)
        return GaussianPosterior(mean, logvar)


@final
class BodyDecoder(Decoder):
    """Decoder: a body, then a likelihood of pixels or tanh.

    Args:
        body: Module from codes (B, d) to C·H·W values per image: logits for ``"bernoulli"``, else values before tanh.
        shape: Shape (C, H, W) of the images.
        likelihood: ``"bernoulli"`` pixels, ``"gaussian"`` pixels with one learned σ, or None for images.
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
        """Return images (B, C, H, W) in [−1, 1], or their likelihood, of codes z (B, d)."""
        out = self.body(z).view(-1, *self.shape)
        if self.likelihood == "bernoulli":
            return BernoulliLikelihood(out)
        image = out.float().tanh()
        return GaussianLikelihood(image, self.log_std) if self.likelihood == "gaussian" else image


@final
class BodyCritic(Critic):
    """Critic: one trunk for images, one for codes, and a head for the concatenated features.

    Args:
        inputs: ``"x"``, ``"z"`` or ``"xz"``.
        trunk: Module from images to features, or to a pair of features and ``CriticOutput.features``; None for ``"z"``.
        latent: Module from codes (B, d) to features (B, e); None for ``"x"``.
        head: Module from the flattened features (B, f) to logits (B, 1).
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

    def last_features(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return the inputs (B, f) of the head and the features of the tapped stage."""
        parts: list[Tensor] = []
        features = None
        if self.trunk is not None:
            out = self.trunk(inputs[0])
            h, features = out if isinstance(out, tuple) else (out, out)
            parts.append(h.flatten(1))
        if self.latent is not None:
            parts.append(self.latent(inputs[-1]))
        h = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
        return h, h if features is None else features

    def forward(self, *inputs: Tensor) -> CriticOutput:
        """Return logits (B,) and the features of the tapped stage."""
        h, features = self.last_features(*inputs)
        return CriticOutput(self.head(h).squeeze(1).float(), features)


@final
class PixelBias(nn.Module):
    """Learned bias per pixel before the last activation, initialized with the log-odds of the mean image.

    Args:
        data: Its ``mean``, clipped to probabilities in [0.001, 0.999], is the initial value; zeros without a mean.
        scale: 1 before a sigmoid, ½ before tanh, since tanh(u/2) = 2·sigmoid(u) − 1.
    """

    def __init__(self, data: DataSpec, scale: float = 1.0) -> None:
        super().__init__()
        mean = torch.zeros(data.shape) if data.mean is None else data.mean
        self.bias = nn.Parameter(scale * ((mean + 1) / 2).clamp(0.001, 0.999).logit())

    def forward(self, h: Tensor) -> Tensor:
        """Return h, (B, C·H·W) or (B, C, H, W), plus the bias, as (B, C, H, W)."""
        return h.view(-1, *self.bias.shape) + self.bias


def flat(data: DataSpec) -> int:
    """Return the number of values in one image."""
    return math.prod(data.shape)
