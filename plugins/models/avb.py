"""AVB: adversarial variational Bayes, a VAE with an implicit posterior (samples, but no density).

Mescheder, Nowozin & Geiger, ICML 2017, arXiv:1701.04722. Symbols follow its Algorithms 1 and 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import zoo

from ..presets import avb as presets

DRAWS = 256
"""Number of noise samples for the moments of the basis, shared by all images."""


class Basis(nn.Module):
    """Basis v_i(ε_i), a small residual network per noise vector ε_i; input and output (…, m, d)."""

    def __init__(self, m: int, d: int, hidden: int = 32) -> None:
        super().__init__()
        self.m = m
        self.noise_dim = self.d = d
        self.inward = nn.Parameter(torch.randn(m, d, hidden) / d**0.5)
        self.outward = nn.Parameter(torch.randn(m, hidden, d) * 0.1 / hidden**0.5)

    def forward(self, noise: Tensor) -> Tensor:
        h = torch.einsum("...md,mdh->...mh", noise, self.inward).relu()
        return noise + torch.einsum("...mh,mhd->...md", h, self.outward)


class ELUBasis(nn.Module):
    """Basis of the authors' code: three layers of 128 ELU per noise vector; (…, m, noise_dim) → (…, m, d)."""

    def __init__(self, m: int, noise_dim: int, d: int) -> None:
        super().__init__()
        self.m, self.noise_dim, self.d = m, noise_dim, d
        sizes = (noise_dim, 128, 128, 128, d)
        self.weights = nn.ParameterList(
            torch.stack([nn.init.xavier_uniform_(torch.empty(a, b)) for _ in range(m)]) for a, b in pairwise(sizes)
        )
        self.biases = nn.ParameterList(torch.zeros(m, b) for b in sizes[1:])

    def forward(self, noise: Tensor) -> Tensor:
        h = noise
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            h = torch.einsum("...mi,mio->...mo", h if i == 0 else F.elu(h), weight) + bias
        return h


class ImplicitPosterior(zoo.Posterior):
    """Implicit posterior z_k = Σ_i v_ik(ε_i) a_ik(x) + b_k(x) with known moments: section 6.2.

    Shape:
        a: (B, m, d).
        b: (B, d).
    """

    def __init__(self, basis: Basis | ELUBasis, a: Tensor, b: Tensor) -> None:
        self.basis, self.a, self.b = basis, a.float(), b.float()
        self.mean, self.std = self.moments()

    def rsample(self) -> Tensor:
        """One sample per image, (B, d)."""
        v: Tensor = self.basis(torch.randn(len(self.a), self.basis.m, self.basis.noise_dim, device=self.a.device))
        return (self.a * v).sum(1) + self.b

    @torch.no_grad()
    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation, (B, d) each, without gradient."""
        v = self.basis(torch.randn(DRAWS, self.basis.m, self.basis.noise_dim, device=self.a.device))
        mean, var = v.mean(0), v.var(0)
        return (self.a * mean).sum(1) + self.b, (self.a.square() * var).sum(1).sqrt() + 1e-4


class ImplicitEncoder(zoo.Encoder):
    """Encoder of an :class:`ImplicitPosterior`."""

    def __init__(self, features: zoo.Encoder, width: int, noise: int, latent: int) -> None:
        super().__init__()
        self.features, self.basis = features, Basis(noise, latent)
        self.head = nn.Linear(16 * width, (noise + 1) * latent)

    def forward(self, x: Tensor) -> zoo.Posterior:
        out = self.head(self.features(x).mean.relu()).unflatten(1, (self.basis.m + 1, self.basis.d))
        return ImplicitPosterior(self.basis, out[:, 1:], out[:, 0])


class ELUEncoder(zoo.Encoder):
    """Encoder of the authors' code: the features are b(x) and, through 1 + ELU(· − 5), the coefficients a(x)."""

    def __init__(self, features: zoo.Encoder, basis: ELUBasis) -> None:
        super().__init__()
        self.features, self.basis = features, basis

    def forward(self, x: Tensor) -> zoo.Posterior:
        out = self.features(x).mean.unflatten(1, (self.basis.m + 1, self.basis.d))
        return ImplicitPosterior(self.basis, F.elu(out[:, 1:] - 5) + 1, out[:, 0])


@zoo.frozen
class AVB(zoo.Autoencoder):
    """A VAE with an implicit posterior: a critic T(x, z) estimates the log density ratio in the KL."""

    paper: ClassVar[str] = "Mescheder, Nowozin & Geiger, ICML 2017, arXiv:1701.04722"
    deviations: ClassVar[Mapping[str, str]] = {
        "learning rates 5e-4 and 1e-3": "ten times the paper's, for shorter training",
        "one more critic update per step": "in short training T lags behind the encoder, and rare classes go missing",
        "the zoo's networks": "for any size; the authors' are --family avb-conv --basis elu --noise 16 --noise-dim 32",
    }
    presets: ClassVar[Mapping[str, zoo.Preset]] = {"paper": presets.PAPER}

    latent: int = zoo.option(8, "Dimensions of the code z.", zoo.at_least(1))
    lr: float = zoo.option(5e-4, "Learning rate of Adam.", zoo.above(0))
    critic_lr: float = zoo.option(1e-3, "Learning rate of Adam, critic.", zoo.above(0))
    binarize: bool = zoo.option(False, "Sample binary pixels in each batch; gray levels are probabilities of white.")
    extra: int = zoo.option(1, "Additional critic updates per step.", zoo.at_least(0))
    noise: int = zoo.option(8, "m: number of noise vectors ε_i.", zoo.at_least(1))
    basis: Literal["residual", "elu"] = zoo.option(
        "residual", "Networks v_i: one residual layer of 32 units, or the authors' three of 128 ELU."
    )
    noise_dim: int = zoo.option(32, "Dimensions of ε_i with --basis elu; otherwise those of z.", zoo.at_least(1))
    contrast: Literal["adaptive", "prior"] = zoo.option(
        "adaptive",
        "Contrast of T to q(z | x): a Gaussian of equal moments (Algorithm 2), or the prior (Algorithm 1).",
    )

    def networks(self, data: zoo.DataSpec) -> Mapping[str, nn.Module]:
        return {
            "encoder": self.implicit_encoder(data),
            "decoder": zoo.decoder(data, self.latent, likelihood="bernoulli", **self.network_options),
            "critic": zoo.critic(data, inputs="xz", latent=self.latent, **{**self.network_options, "norm": "none"}),
        }

    def implicit_encoder(self, data: zoo.DataSpec) -> zoo.Encoder:
        """The encoder with the chosen basis."""
        size = (self.noise + 1) * self.latent if self.basis == "elu" else 16 * self.width
        features = zoo.encoder(data, size, posterior="point", **self.network_options)
        if self.basis == "elu":
            return ELUEncoder(features, ELUBasis(self.noise, self.noise_dim, self.latent))
        return ImplicitEncoder(features, self.width, self.noise, self.latent)

    def players(self) -> Mapping[str, Mapping[str, float]]:
        return {"encoder": {"nll": 1.0, "kl": 1.0}, "decoder": {"nll": 1.0}, "critic": {"gan": 1.0}}

    def turns(self) -> tuple[zoo.Turn, ...]:
        critic = zoo.Turn({"critic": {"gan": 1.0}}, self.critic_terms, name="critic", repeat=self.extra)
        return (zoo.Turn(self.players(), self.terms), *([critic] if self.extra else []))

    def terms(self, net: zoo.Networks, x: Tensor) -> Mapping[str, Tensor]:
        x = zoo.binarize(x) if self.binarize else x
        q = net.encoder(x)
        z = q.rsample()
        posterior, known = self.ratio(net, x, q, z)
        return {
            "nll": -net.decoder(z).log_prob(x).mean(),
            "kl": (posterior.logits + known).mean(),
            "gan": zoo.real_loss(posterior) + zoo.fake_loss(net.critic(x, self.prior(x))),
        }

    def critic_terms(self, net: zoo.Networks, x: Tensor) -> Mapping[str, Tensor]:
        """The critic's loss."""
        x = zoo.binarize(x) if self.binarize else x
        with torch.no_grad():
            q = net.encoder(x)
            z = q.rsample()
        return {"gan": zoo.real_loss(self.ratio(net, x, q, z)[0]) + zoo.fake_loss(net.critic(x, self.prior(x)))}

    def ratio(self, net: zoo.Networks, x: Tensor, q: Any, z: Tensor) -> tuple[zoo.CriticOutput, Tensor]:
        """Output of T for z ~ q(z | x), and the known part of the ratio: log q(z | x) − log p(z) ≈ logits + known."""
        if self.contrast == "prior":
            return net.critic(x, z), torch.zeros_like(z[:, 0])
        t = (z - q.mean) / q.std
        # log r(z | x) − log p(z) for the Gaussian r of equal moments: T estimates only log q(z | x) − log r(z | x).
        return net.critic(x, t), zoo.standard_normal_log_prob(t) - q.std.log().sum(1) - zoo.standard_normal_log_prob(z)

    def optimizer(self, network: str, turn: str) -> zoo.Optimizer:
        return zoo.Adam(lr=self.critic_lr if network == "critic" else self.lr, beta1=self.beta1)


@zoo.hookimpl
def zoo_models() -> Mapping[str, type[zoo.Objective]]:
    return {"avb": AVB}
