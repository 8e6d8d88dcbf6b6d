"""GAN, WGAN-GP and its VAE: a generator, here called the decoder, against a critic of images.

Goodfellow et al., NeurIPS 2014, arXiv:1406.2661, with the networks of Radford et al., arXiv:1511.06434; Gulrajani et
al., NeurIPS 2017, arXiv:1704.00028. Each step plays Algorithm 1: the critic first, then the generator on new codes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

import zoo


@zoo.frozen
class GAN(zoo.Generator):
    """A generator learns to make images that a critic cannot tell from real ones."""

    paper: ClassVar[str] = "Goodfellow et al., NeurIPS 2014, arXiv:1406.2661; networks of arXiv:1511.06434"
    deviations: ClassVar[Mapping[str, str]] = {
        "non-saturating loss": "the paper trains by it too, and states the minimax game (--minimax)",
        "convolutional networks, Adam": "DCGAN's, which train far more reliably than the maxout networks of 2014",
    }
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {"dataset": "celeba", "family": "dcgan", "latent": 100, "batch": 128}
    }

    latent: int = zoo.option(64, "Dimensions of the code z.", zoo.at_least(1))
    minimax: bool = zoo.option(False, "The generator minimizes log(1 − D(G(z))), not −log D(G(z)).")
    n_critic: int = zoo.option(1, "Updates of the critic for each of the generator, k in Algorithm 1.", zoo.at_least(1))

    def networks(self, data: zoo.DataSpec) -> Mapping[str, nn.Module]:
        return {
            "decoder": zoo.decoder(data, self.latent, **self.network_options),
            "critic": zoo.critic(data, **self.network_options),
        }

    def turns(self) -> tuple[zoo.Turn, ...]:
        return (
            zoo.Turn({"critic": {"gan": 1.0}}, self.judge, name="critic", repeat=self.n_critic),
            zoo.Turn({"decoder": {"gan": -1.0} if self.minimax else {"fool": 1.0}}, self.fool, name="generator"),
        )

    def judge(self, net: zoo.Networks, x: Tensor) -> Mapping[str, Tensor]:
        """V(D, G), as the critic's cost."""
        return {"gan": zoo.real_loss(net.critic(x)) + zoo.fake_loss(net.critic(net.decoder(self.prior(x))))}

    def fool(self, net: zoo.Networks, x: Tensor) -> Mapping[str, Tensor]:
        """The part of the game that the generator can change."""
        verdict = net.critic(net.decoder(self.prior(x)))
        return {"gan": zoo.fake_loss(verdict), "fool": zoo.real_loss(verdict)}


@zoo.frozen
class WGANGP(zoo.Generator):
    """A GAN whose critic estimates a Wasserstein distance, held 1-Lipschitz by a penalty on its gradient."""

    paper: ClassVar[str] = "Gulrajani, Ahmed, Arjovsky, Dumoulin & Courville, NeurIPS 2017, arXiv:1704.00028"
    deviations: ClassVar[Mapping[str, str]] = {
        "group normalization in the critic": "any that keeps images apart will do; the paper has layer normalization",
        "learning rate 5e-4, two critic steps": "for short schedules; the paper has 1e-4 and five, over 200,000 steps",
    }
    # 200,000 steps of five critic batches of 50, counted in passes over 60,000 images.
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {
            "dataset": "mnist",
            "family": "wgan-gp-conv",
            "latent": 128,
            "lr": 1e-4,
            "beta1": 0.5,
            "n_critic": 5,
            "batch": 50,
            "epochs": 833,
        }
    }

    latent: int = zoo.option(64, "Dimensions of the code z.", zoo.at_least(1))
    lr: float = zoo.option(5e-4, "Learning rate of Adam.", zoo.above(0))
    beta1: float = zoo.option(0.0, "Decay of Adam's first moment.", zoo.between(0, 1, inclusive="left"))
    penalty: float = zoo.option(10.0, "λ: weight of the gradient penalty.", zoo.at_least(0))
    n_critic: int = zoo.option(2, "Updates of the critic for each of the generator.", zoo.at_least(1))

    def networks(self, data: zoo.DataSpec) -> Mapping[str, nn.Module]:
        critic = zoo.critic(data, **{**self.network_options, "norm": "group" if self.norm == "batch" else self.norm})
        return {"decoder": zoo.decoder(data, self.latent, **self.network_options), "critic": critic}

    def turns(self) -> tuple[zoo.Turn, ...]:
        row = {"wasserstein": 1.0, "penalty": self.penalty}
        return (
            zoo.Turn({"critic": row}, self.judge, name="critic", repeat=self.n_critic),
            zoo.Turn({"decoder": {"fool": 1.0}}, self.fool, name="generator"),
        )

    def judge(self, net: zoo.Networks, x: Tensor) -> Mapping[str, Tensor]:
        """Minus the distance that the critic sees, and the penalty: equation 3."""
        x_new = net.decoder(self.prior(x))
        distance = net.critic(x).logits.mean() - net.critic(x_new).logits.mean()
        return {"wasserstein": -distance, "penalty": gradient_penalty(net.critic, x, x_new)}

    def fool(self, net: zoo.Networks, x: Tensor) -> Mapping[str, Tensor]:
        """The generator's side."""
        return {"fool": -net.critic(net.decoder(self.prior(x))).logits.mean()}

    def optimizer(self, network: str, turn: str) -> zoo.Optimizer:
        return zoo.Adam(lr=self.lr, beta1=self.beta1, beta2=0.9)


@zoo.frozen
class VAEWGANGP(zoo.Autoencoder):
    """A VAE whose decoder also answers to a Wasserstein critic with a gradient penalty."""

    paper: ClassVar[str] = "VAE of arXiv:1312.6114 with the critic of Gulrajani et al., arXiv:1704.00028"

    latent: int = zoo.option(16, "Dimensions of the code z.", zoo.at_least(1))
    lr: float = zoo.option(5e-4, "Learning rate of Adam.", zoo.above(0))
    beta1: float = zoo.option(0.0, "Decay of Adam's first moment.", zoo.between(0, 1, inclusive="left"))
    gamma: float = zoo.option(0.1, "γ: weight of the reconstruction against the game, for the decoder.", zoo.above(0))
    penalty: float = zoo.option(10.0, "λ: weight of the gradient penalty.", zoo.at_least(0))
    n_critic: int = zoo.option(2, "Updates of the critic for each of the others.", zoo.at_least(1))

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
            zoo.Turn({"critic": row}, self.judge, name="critic", repeat=self.n_critic),
            zoo.Turn(players, self.autoencode, name="autoencode"),
        )

    def judge(self, net: zoo.Networks, x: Tensor) -> Mapping[str, Tensor]:
        """The critic's cost: minus the distance it sees, and the penalty."""
        x_new = net.decoder(self.prior(x))
        distance = net.critic(x).logits.mean() - net.critic(x_new).logits.mean()
        return {"wasserstein": -distance, "penalty": gradient_penalty(net.critic, x, x_new)}

    def autoencode(self, net: zoo.Networks, x: Tensor) -> Mapping[str, Tensor]:
        """The bound with unit variance, and the generator's side of the game."""
        q = net.encoder(x)
        return {
            "kl": q.kl().mean(),
            "rec": zoo.half_sse(net.decoder(q.rsample()), x),
            "fool": -net.critic(net.decoder(self.prior(x))).logits.mean(),
        }

    def optimizer(self, network: str, turn: str) -> zoo.Optimizer:
        return zoo.Adam(lr=self.lr, beta1=self.beta1, beta2=0.9)


def gradient_penalty(critic: zoo.Critic, x: Tensor, x_new: Tensor) -> Tensor:
    """E (‖∇D(x̂)‖₂ − 1)² at points x̂ between real x and generated x_new, (B, C, H, W) each."""
    t = torch.rand(len(x), 1, 1, 1, device=x.device)
    between = torch.lerp(x, x_new, t).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(critic(between).logits.sum(), between, create_graph=True)
    return (gradient.flatten(1).norm(dim=1) - 1).square().mean()


@zoo.hookimpl
def zoo_models() -> Mapping[str, type[zoo.Objective]]:
    return {"gan": GAN, "wgan-gp": WGANGP, "vae-wgan-gp": VAEWGANGP}
