"""AVB: adversarial variational Bayes, a VAE whose posterior is a sampler without a density.

Mescheder, Nowozin & Geiger, ICML 2017, arXiv:1701.04722. Symbols follow its Algorithms 1 and 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

import zoo

DRAWS = 256
"""Draws of the noise from which the basis's moments are estimated; they are the same for all images."""


class Basis(nn.Module):
    """Noise ε (…, m, d) to the vectors v_i(ε_i) (…, m, d), each a small network of its own noise around ε_i itself."""

    def __init__(self, m: int, d: int, hidden: int = 32) -> None:
        super().__init__()
        self.m, self.d = m, d
        self.inward = nn.Parameter(torch.randn(m, d, hidden) / d**0.5)
        self.outward = nn.Parameter(torch.randn(m, hidden, d) * 0.1 / hidden**0.5)

    def forward(self, noise: Tensor) -> Tensor:
        h = torch.einsum("...md,mdh->...mh", noise, self.inward).relu()
        return noise + torch.einsum("...mh,mhd->...md", h, self.outward)


class Implicit(zoo.Posterior):
    """z_k = Σ_i v_ik(ε_i) a_ik(x) + b_k(x): it can be drawn from, its moments are known, and that is all.

    Mescheder et al., section 6.2. ``a`` is (B, m, d), ``b`` (B, d).
    """

    def __init__(self, basis: Basis, a: Tensor, b: Tensor) -> None:
        self.basis, self.a, self.b = basis, a.float(), b.float()
        self.mean, self.std = self.moments()

    def rsample(self) -> Tensor:
        """One code for each image, (B, d)."""
        v = self.basis(torch.randn(self.a.shape, device=self.a.device))
        return (self.a * v).sum(1) + self.b

    @torch.no_grad()
    def moments(self) -> tuple[Tensor, Tensor]:
        """Its mean and standard deviation, (B, d) each, constant to the gradient."""
        v = self.basis(torch.randn(DRAWS, self.basis.m, self.basis.d, device=self.a.device))
        mean, var = v.mean(0), v.var(0)
        return (self.a * mean).sum(1) + self.b, (self.a.square() * var).sum(1).sqrt() + 1e-4


class Sampler(zoo.Encoder):
    """x (B, C, H, W) and noise to codes."""

    def __init__(self, features: zoo.Encoder, width: int, noise: int, latent: int) -> None:
        super().__init__()
        self.features, self.basis = features, Basis(noise, latent)
        self.head = nn.Linear(16 * width, (noise + 1) * latent)

    def forward(self, x: Tensor) -> zoo.Posterior:
        out = self.head(self.features(x).mean.relu()).unflatten(1, (self.basis.m + 1, self.basis.d))
        return Implicit(self.basis, out[:, 1:], out[:, 0])


@zoo.frozen
class AVB(zoo.Autoencoder):
    """A VAE with an implicit posterior: a critic T(x, z) learns the log-ratio that the KL needs."""

    paper: ClassVar[str] = "Mescheder, Nowozin & Geiger, ICML 2017, arXiv:1701.04722"
    deviations: ClassVar[Mapping[str, str]] = {
        "learning rates 5e-4 and 1e-3": "ten times the paper's, for shorter schedules",
        "another step of the critic": "in short schedules T lags behind the encoder, and rare classes go missing",
        "the zoo's networks, also in the preset": "the paper describes its own in too few words to rebuild them",
    }
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {"dataset": "mnist", "latent": 8, "lr": 5e-5, "critic_lr": 1e-4, "extra": 0, "binarize": True}
    }

    latent: int = zoo.option(8, "Dimensions of the code z.", zoo.at_least(1))
    lr: float = zoo.option(5e-4, "Learning rate of Adam.", zoo.above(0))
    critic_lr: float = zoo.option(1e-3, "Learning rate of Adam, critic.", zoo.above(0))
    binarize: bool = zoo.option(False, "Draw each batch's pixels as black or white, grays being the chances of white.")
    extra: int = zoo.option(1, "Further updates of the critic in each step.", zoo.at_least(0))
    noise: int = zoo.option(8, "m: noise vectors ε_i, of as many dimensions as z.", zoo.at_least(1))
    contrast: Literal["adaptive", "prior"] = zoo.option(
        "adaptive",
        "What T tells q(z | x) from: a Gaussian of its own moments (Algorithm 2), or the prior (Algorithm 1).",
    )

    def networks(self, data: zoo.DataSpec) -> Mapping[str, nn.Module]:
        features = zoo.encoder(data, 16 * self.width, posterior="point", **self.network_options)
        return {
            "encoder": Sampler(features, self.width, self.noise, self.latent),
            "decoder": zoo.decoder(data, self.latent, likelihood="bernoulli", **self.network_options),
            "critic": zoo.critic(data, inputs="xz", latent=self.latent, **{**self.network_options, "norm": "none"}),
        }

    def players(self) -> Mapping[str, Mapping[str, float]]:
        return {"encoder": {"nll": 1.0, "kl": 1.0}, "decoder": {"nll": 1.0}, "critic": {"gan": 1.0}}

    def turns(self) -> tuple[zoo.Turn, ...]:
        judge = zoo.Turn({"critic": {"gan": 1.0}}, self.judge, name="judge", repeat=self.extra)
        return (zoo.Turn(self.players(), self.terms), *([judge] if self.extra else []))

    def terms(self, net: zoo.Networks, x: Tensor) -> Mapping[str, Tensor]:
        x = self.observed(x)
        q = net.encoder(x)
        z = q.rsample()
        posterior, known = self.ratio(net, x, q, z)
        return {
            "nll": -net.decoder(z).log_prob(x).mean(),
            "kl": (posterior.logits + known).mean(),
            "gan": zoo.real_loss(posterior) + zoo.fake_loss(net.critic(x, self.prior(x))),
        }

    def judge(self, net: zoo.Networks, x: Tensor) -> Mapping[str, Tensor]:
        """The critic's cost alone."""
        x = self.observed(x)
        with torch.no_grad():
            q = net.encoder(x)
            z = q.rsample()
        return {"gan": zoo.real_loss(self.ratio(net, x, q, z)[0]) + zoo.fake_loss(net.critic(x, self.prior(x)))}

    def ratio(self, net: zoo.Networks, x: Tensor, q: Any, z: Tensor) -> tuple[zoo.CriticOutput, Tensor]:
        """T's verdict on z ~ q(z | x), and what is known besides: logits + known estimate log q(z | x) − log p(z)."""
        if self.contrast == "prior":
            return net.critic(x, z), torch.zeros_like(z[:, 0])
        t = (z - q.mean) / q.std
        # log r(z | x) − log p(z), r the Gaussian of q's moments: what T does not learn is added back.
        return net.critic(x, t), zoo.standard_normal_log_prob(t) - q.std.log().sum(1) - zoo.standard_normal_log_prob(z)

    def observed(self, x: Tensor) -> Tensor:
        """The batch x itself, or binary images drawn from it."""
        return torch.bernoulli((x + 1) / 2) * 2 - 1 if self.binarize else x

    def optimizer(self, network: str, turn: str) -> zoo.Optimizer:
        return zoo.Adam(lr=self.critic_lr if network == "critic" else self.lr, beta1=self.beta1)


@zoo.hookimpl
def zoo_models() -> Mapping[str, type[zoo.Objective]]:
    return {"avb": AVB}
