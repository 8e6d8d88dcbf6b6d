"""AVB: adversarial variational Bayes, a VAE whose posterior is a sampler without a density.

Mescheder, Nowozin & Geiger, ICML 2017, arXiv:1701.04722. Symbols follow its Algorithms 1 and 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

import zoo

DRAWS = 8
"""Draws of q(z | x) from which its moments are estimated."""


class Implicit(zoo.Posterior):
    """z(x, ε) with ε ~ N(0, I), from features h (B, f) of x: it can be drawn from, and that is all."""

    def __init__(self, head: nn.Module, h: Tensor, noise: int) -> None:
        self.head, self.h, self.noise = head, h, noise
        self.mean, self.std = self.moments()

    def rsample(self) -> Tensor:
        """One code for each image, (B, d)."""
        noise = torch.randn(len(self.h), self.noise, device=self.h.device)
        z: Tensor = self.head(torch.cat([self.h, noise], dim=1)).float()
        return z

    def moments(self) -> tuple[Tensor, Tensor]:
        """Estimates of its mean and standard deviation, (B, d) each, constant to the gradient."""
        with torch.no_grad():
            z = torch.stack([self.rsample() for _ in range(DRAWS)])
        return z.mean(0), z.std(0) + 1e-3


class Sampler(zoo.Encoder):
    """x (B, C, H, W) and noise to codes: q(z | x) as Mescheder et al. draw it in figure 2."""

    def __init__(self, features: zoo.Encoder, width: int, noise: int, latent: int) -> None:
        super().__init__()
        self.features, self.noise = features, noise
        self.head = zoo.MLP([16 * width + noise, 16 * width, 16 * width, latent])

    def forward(self, x: Tensor) -> zoo.Posterior:
        return Implicit(self.head, self.features(x).mean.relu(), self.noise)


@zoo.frozen
class AVB(zoo.Autoencoder):
    """A VAE with an implicit posterior: a critic T(x, z) learns the log-ratio that the KL needs."""

    paper: ClassVar[str] = "Mescheder, Nowozin & Geiger, ICML 2017, arXiv:1701.04722"
    deviations: ClassVar[Mapping[str, str]] = {
        "moments from eight draws": "the paper's posterior has a form whose moments are exact; this one needs none",
        "learning rates 5e-4": "ten times the paper's, for shorter schedules",
    }

    latent: int = zoo.option(8, "Dimensions of the code z.", zoo.at_least(1))
    lr: float = zoo.option(5e-4, "Learning rate of Adam.", zoo.above(0))
    noise: int = zoo.option(16, "Dimensions of the noise ε.", zoo.at_least(1))
    contrast: Literal["adaptive", "prior"] = zoo.option(
        "adaptive",
        "What T tells q(z | x) from: a Gaussian of its own moments (Algorithm 2), or the prior (Algorithm 1).",
    )

    def networks(self, data: zoo.DataSpec) -> Mapping[str, nn.Module]:
        features = zoo.encoder(data, 16 * self.width, posterior="point", **self.style)
        return {
            "encoder": Sampler(features, self.width, self.noise, self.latent),
            "decoder": zoo.decoder(data, self.latent, likelihood="bernoulli", **self.style),
            "critic": zoo.critic(data, sees="xz", latent=self.latent, **{**self.style, "norm": "none"}),
        }

    def players(self) -> Mapping[str, Mapping[str, float]]:
        return {"encoder": {"nll": 1.0, "kl": 1.0}, "decoder": {"nll": 1.0}, "critic": {"gan": 1.0}}

    def terms(self, net: zoo.Networks, x: Tensor) -> Mapping[str, Tensor]:
        q = net.encoder(x)
        z, eta = q.rsample(), self.prior(x)
        if self.contrast == "adaptive":
            t = (z - q.mean) / q.std
            # log r(z | x) − log p(z), r the Gaussian of q's moments: what T does not learn is added back.
            known = zoo.log_normal(t) - q.std.log().sum(1) - zoo.log_normal(z)
        else:
            t, known = z, torch.zeros_like(z[:, 0])
        posterior, contrast = net.critic(x, t), net.critic(x, eta)
        return {
            "nll": -net.decoder(z).log_prob(x).mean(),
            "kl": (posterior.logits + known).mean(),
            "gan": zoo.real(posterior) + zoo.fake(contrast),
        }


@zoo.hookimpl
def zoo_models() -> Mapping[str, type[zoo.Objective]]:
    return {"avb": AVB}
