"""GAN, WGAN-GP and VAE-WGAN-GP: a generator (named decoder) against a critic of images.

Goodfellow et al., NeurIPS 2014, arXiv:1406.2661, with the networks of Radford et al., arXiv:1511.06434; Gulrajani et
al., NeurIPS 2017, arXiv:1704.00028. Each step follows Algorithm 1: first the critic, then the generator on new codes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

import zoo

from ..presets import gan as presets


@zoo.frozen
class GAN(zoo.Generator):
    """A generator trained to produce images that a critic cannot distinguish from real ones."""

    paper: ClassVar[str] = "Goodfellow et al., NeurIPS 2014, arXiv:1406.2661; networks of arXiv:1511.06434"
    deviations: ClassVar[Mapping[str, str]] = {
        "non-saturating loss": "the paper trains with it too; its minimax loss is --minimax",
        "convolutional networks, Adam": "as in DCGAN, which trains far more reliably than the maxout networks of 2014",
    }
    presets: ClassVar[Mapping[str, zoo.Preset]] = {"paper": presets.GAN}

    latent: int = zoo.option(64, "Dimensions of the code z.", zoo.at_least(1))
    minimax: bool = zoo.option(False, "The generator minimizes log(1 − D(G(z))) instead of −log D(G(z)).")
    n_critic: int = zoo.option(1, "Critic updates per generator update, k in Algorithm 1.", zoo.at_least(1))
    uniform: bool = zoo.option(False, "Prior U(−1, 1) instead of N(0, I).")
    weight_decay: float = zoo.option(0.0, "Weight decay (L2 penalty) of both players.", zoo.at_least(0))

    def networks(self, data: zoo.DataSpec) -> Mapping[str, nn.Module]:
        return {
            "decoder": zoo.decoder(data, self.latent, **self.network_options),
            "critic": zoo.critic(data, **self.network_options),
        }

    def prior(self, like: Tensor, n: int | None = None) -> Tensor:
        """N(0, I) or U(−1, 1)."""
        if not self.uniform:
            return super().prior(like, n)
        return torch.rand(len(like) if n is None else n, self.latent, device=like.device) * 2 - 1

    def optimizer(self, network: str, turn: str) -> zoo.Optimizer:
        return zoo.Adam(lr=self.lr, beta1=self.beta1, weight_decay=self.weight_decay)

    def turns(self) -> tuple[zoo.Turn, ...]:
        return (
            zoo.Turn({"critic": {"gan": 1.0}}, self.critic_terms, name="critic", repeat=self.n_critic),
            zoo.Turn(
                {"decoder": {"gan": -1.0} if self.minimax else {"fool": 1.0}}, self.generator_terms, name="generator"
            ),
        )

    def critic_terms(self, net: zoo.Networks, x: Tensor) -> Mapping[str, Tensor]:
        """−V(D, G): the loss of the critic."""
        return {"gan": zoo.real_loss(net.critic(x)) + zoo.fake_loss(net.critic(net.decoder(self.prior(x))))}

    def generator_terms(self, net: zoo.Networks, x: Tensor) -> Mapping[str, Tensor]:
        """The terms of V(D, G) that depend on the generator, and the non-saturating loss."""
        fake = net.critic(net.decoder(self.prior(x)))
        return {"gan": zoo.fake_loss(fake), "fool": zoo.real_loss(fake)}


@zoo.frozen
class WGANGP(zoo.Generator):
    """A GAN whose critic estimates a Wasserstein distance, kept 1-Lipschitz by a gradient penalty."""

    paper: ClassVar[str] = "Gulrajani, Ahmed, Arjovsky, Dumoulin & Courville, NeurIPS 2017, arXiv:1704.00028"
    deviations: ClassVar[Mapping[str, str]] = {
        "group normalization in the critic": "the paper uses layer normalization; any without batch statistics will do",
        "learning rate 5e-4, two critic steps": "for short training; the paper uses 1e-4 and five, over 200,000 steps",
    }
    presets: ClassVar[Mapping[str, zoo.Preset]] = {"paper": presets.WGAN_GP}

    latent: int = zoo.option(64, "Dimensions of the code z.", zoo.at_least(1))
    lr: float = zoo.option(5e-4, "Learning rate of Adam.", zoo.above(0))
    beta1: float = zoo.option(0.0, "Decay of Adam's first moment.", zoo.between(0, 1, inclusive="left"))
    penalty: float = zoo.option(10.0, "λ: weight of the gradient penalty.", zoo.at_least(0))
    slope: float = zoo.option(1.0, "Gradient norm that the penalty asks for.", zoo.above(0))
    n_critic: int = zoo.option(2, "Critic updates per generator update.", zoo.at_least(1))

    def networks(self, data: zoo.DataSpec) -> Mapping[str, nn.Module]:
        critic = zoo.critic(data, **{**self.network_options, "norm": "group" if self.norm == "batch" else self.norm})
        return {"decoder": zoo.decoder(data, self.latent, **self.network_options), "critic": critic}

    def turns(self) -> tuple[zoo.Turn, ...]:
        row = {"wasserstein": 1.0, "penalty": self.penalty}
        return (
            zoo.Turn({"critic": row}, self.critic_terms, name="critic", repeat=self.n_critic),
            zoo.Turn({"decoder": {"fool": 1.0}}, self.generator_terms, name="generator"),
        )

    def critic_terms(self, net: zoo.Networks, x: Tensor) -> Mapping[str, Tensor]:
        """The negative distance estimate and the penalty: equation 3."""
        x_new = net.decoder(self.prior(x))
        distance = net.critic(x).logits.mean() - net.critic(x_new).logits.mean()
        return {"wasserstein": -distance, "penalty": gradient_penalty(net.critic, x, x_new, self.slope)}

    def generator_terms(self, net: zoo.Networks, x: Tensor) -> Mapping[str, Tensor]:
        """The generator's loss."""
        return {"fool": -net.critic(net.decoder(self.prior(x))).logits.mean()}

    def optimizer(self, network: str, turn: str) -> zoo.Optimizer:
        return zoo.Adam(lr=self.lr, beta1=self.beta1, beta2=0.9)


@zoo.frozen
class VAEWGANGP(zoo.Autoencoder):
    """A VAE whose decoder is also trained against a Wasserstein critic with gradient penalty."""

    paper: ClassVar[str] = "VAE of arXiv:1312.6114 with the critic of Gulrajani et al., arXiv:1704.00028"
    deviations: ClassVar[Mapping[str, str]] = {
        "a combination": "no paper describes it; γ is chosen as in docs/defaults.md",
        "learning rate 5e-4, two critic steps": "for short training; Gulrajani et al. use 1e-4 and five",
        "group normalization in the critic": "the paper uses layer normalization; any without batch statistics will do",
        "one decoder batch": "reconstructions and samples share batch statistics, as they do in evaluation",
    }

    latent: int = zoo.option(16, "Dimensions of the code z.", zoo.at_least(1))
    lr: float = zoo.option(5e-4, "Learning rate of Adam.", zoo.above(0))
    beta1: float = zoo.option(0.0, "Decay of Adam's first moment.", zoo.between(0, 1, inclusive="left"))
    gamma: float = zoo.option(0.01, "γ: weight of the reconstruction against the adversarial loss.", zoo.above(0))
    penalty: float = zoo.option(10.0, "λ: weight of the gradient penalty.", zoo.at_least(0))
    n_critic: int = zoo.option(2, "Critic updates per update of the other networks.", zoo.at_least(1))

    def networks(self, data: zoo.DataSpec) -> Mapping[str, nn.Module]:
        critic = zoo.critic(data, **{**self.network_options, "norm": "group" if self.norm == "batch" else self.norm})
        return {
            "encoder": zoo.encoder(data, self.latent, **self.network_options),
            "decoder": zoo.decoder(data, self.latent, **self.network_options),
            "critic": critic,
        }

    def turns(self) -> tuple[zoo.Turn, ...]:
        row = {"wasserstein": 1.0, "penalty": self.penalty}
        players = {"encoder": {"kl": 1.0, "rec": 1.0}, "decoder": {"rec": self.gamma, "fool": 1.0}}
        return (
            zoo.Turn({"critic": row}, self.critic_terms, name="critic", repeat=self.n_critic),
            zoo.Turn(players, self.autoencoder_terms, name="autoencode"),
        )

    def critic_terms(self, net: zoo.Networks, x: Tensor) -> Mapping[str, Tensor]:
        """The critic's loss: the negative distance estimate and the penalty."""
        x_new = net.decoder(self.prior(x))
        distance = net.critic(x).logits.mean() - net.critic(x_new).logits.mean()
        return {"wasserstein": -distance, "penalty": gradient_penalty(net.critic, x, x_new)}

    def autoencoder_terms(self, net: zoo.Networks, x: Tensor) -> Mapping[str, Tensor]:
        """The ELBO with unit variance, and the adversarial loss of the decoder."""
        q = net.encoder(x)
        # One batch: in evaluation the decoder's batch statistics must fit both kinds of codes.
        x_rec, x_new = net.decoder(torch.cat([q.rsample(), self.prior(x)])).chunk(2)
        return {
            "kl": q.kl().mean(),
            "rec": zoo.half_sse(x_rec, x),
            "fool": -net.critic(x_new).logits.mean(),
        }

    def optimizer(self, network: str, turn: str) -> zoo.Optimizer:
        return zoo.Adam(lr=self.lr, beta1=self.beta1, beta2=0.9)


def gradient_penalty(critic: zoo.Critic, x: Tensor, x_new: Tensor, slope: float = 1.0) -> Tensor:
    """E (‖∇D(x̂)‖₂ − slope)² at random points x̂ between real x and generated x_new, (B, C, H, W) each."""
    t = torch.rand(len(x), 1, 1, 1, device=x.device)
    points = torch.lerp(x, x_new, t).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(critic(points).logits.sum(), points, create_graph=True)
    penalty: Tensor = (gradient.flatten(1).norm(dim=1) - slope).square().mean()
    return penalty


@zoo.hookimpl
def zoo_models() -> Mapping[str, type[zoo.Objective]]:
    return {"gan": GAN, "wgan-gp": WGANGP, "vae-wgan-gp": VAEWGANGP}
