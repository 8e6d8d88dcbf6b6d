"""BiGAN, ALI and ALICE: the critic discriminates pairs (x, z) of the encoder from pairs of the decoder.

Donahue, Krähenbühl & Darrell, ICLR 2017, arXiv:1605.09782; Dumoulin et al., ICLR 2017, arXiv:1606.00704; Li et al.,
NeurIPS 2017, arXiv:1709.01215. Pairs (x, E(x)) are real and (G(z), z) fake; encoder and decoder minimize the loss with
swapped labels. All networks are updated simultaneously.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

import zoo

from ..presets import bigan as presets


@zoo.frozen
class BiGAN(zoo.Autoencoder):
    """A GAN over pairs (x, z) whose deterministic encoder learns to invert the generator."""

    paper: ClassVar[str] = "Donahue, Krähenbühl & Darrell, ICLR 2017, arXiv:1605.09782"
    deviations: ClassVar[Mapping[str, str]] = {
        "convolutional networks": "for any size; the paper's for MNIST are fully connected (--family bigan-flat)",
        "constant learning rate": "the paper decays it to 1/100 over the second half of 400 epochs (--decay)",
        "16 dimensions": "with the paper's 50, a class goes missing in short training on small images",
    }
    presets: ClassVar[Mapping[str, zoo.Preset]] = {"paper": presets.BIGAN}

    latent: int = zoo.option(16, "Dimensions of the code z.", zoo.at_least(1))
    weight_decay: float = zoo.option(2.5e-5, "Weight decay (L2 penalty) of every player.", zoo.at_least(0))
    decay: bool = zoo.option(False, "Decay the learning rate exponentially to 1/100 over the second half of training.")

    posterior: ClassVar[Literal["point", "gaussian"]] = "point"

    def networks(self, data: zoo.DataSpec) -> Mapping[str, nn.Module]:
        encoder = zoo.encoder(data, self.latent, posterior=self.posterior, **self.network_options)
        return {
            "encoder": BoundedEncoder(encoder) if self.posterior == "point" else encoder,
            "decoder": zoo.decoder(data, self.latent, **self.network_options),
            "critic": zoo.critic(data, inputs="xz", latent=self.latent, **self.network_options),
        }

    def prior(self, like: Tensor, n: int | None = None) -> Tensor:
        """U(−1, 1)."""
        return torch.rand(len(like) if n is None else n, self.latent, device=like.device) * 2 - 1

    def players(self) -> Mapping[str, Mapping[str, float]]:
        return {"encoder": {"swap": 1.0}, "decoder": {"swap": 1.0}, "critic": {"gan": 1.0}}

    def terms(self, net: zoo.Networks, x: Tensor) -> Mapping[str, Tensor]:
        z, z_x = self.prior(x), net.encoder(x).rsample()
        return self.pair_terms(net, x, z_x, net.decoder(z), z)

    def optimizer(self, network: str, turn: str) -> zoo.Optimizer:
        schedule = zoo.ExponentialLR(0.5, 0.01) if self.decay else None
        return zoo.Adam(lr=self.lr, beta1=self.beta1, weight_decay=self.weight_decay, schedule=schedule)

    def pair_terms(self, net: zoo.Networks, x: Tensor, z_x: Tensor, x_z: Tensor, z: Tensor) -> dict[str, Tensor]:
        """Losses of both sides on pairs (x, E(x)) and (G(z), z)."""
        q, p = net.critic(x, z_x), net.critic(x_z, z)
        return {"gan": (zoo.real_loss(q) + zoo.fake_loss(p)) / 2, "swap": (zoo.fake_loss(q) + zoo.real_loss(p)) / 2}


class BoundedEncoder(zoo.Encoder):
    """Deterministic encoder with codes in (−1, 1), the range of the prior: 2·sigmoid − 1."""

    def __init__(self, encoder: zoo.Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor) -> zoo.Posterior:
        return zoo.PointPosterior(2 * self.encoder(x).mean.sigmoid() - 1)


@zoo.frozen
class ALI(BiGAN):
    """A BiGAN with a stochastic encoder: pairs come from q(x) q(z | x) and p(z) p(x | z)."""

    paper: ClassVar[str] = "Dumoulin, Belghazi, Poole et al., ICLR 2017, arXiv:1606.00704"
    deviations: ClassVar[Mapping[str, str]] = {
        "separate critic batches": "as in BiGAN; the paper passes both kinds of pairs in one batch (--joint)",
        "learning rate 2e-4": "twice the paper's, for shorter training",
        "convolutional networks, 50 dimensions": "for any size; the paper's are for 32 pixels, with 64 dimensions",
    }
    presets: ClassVar[Mapping[str, zoo.Preset]] = {"paper": presets.ALI}

    latent: int = zoo.option(50, "Dimensions of the code z.", zoo.at_least(1))
    posterior: ClassVar[Literal["point", "gaussian"]] = "gaussian"
    weight_decay: float = zoo.option(0.0, "Weight decay (L2 penalty) of every player.", zoo.at_least(0))
    joint: bool = zoo.option(False, "Pass both kinds of pairs through the critic in one batch, with shared statistics.")

    def prior(self, like: Tensor, n: int | None = None) -> Tensor:
        """N(0, I)."""
        return torch.randn(len(like) if n is None else n, self.latent, device=like.device)

    def pair_terms(self, net: zoo.Networks, x: Tensor, z_x: Tensor, x_z: Tensor, z: Tensor) -> dict[str, Tensor]:
        if self.joint:
            both = net.critic(torch.cat([x, x_z]), torch.cat([z_x, z]))
            q, p = (zoo.CriticOutput(a, b) for a, b in zip(both.logits.chunk(2), both.features.chunk(2), strict=True))
        else:
            q, p = net.critic(x, z_x), net.critic(x_z, z)
        return {"gan": zoo.real_loss(q) + zoo.fake_loss(p), "swap": zoo.fake_loss(q) + zoo.real_loss(p)}


@zoo.frozen
class ALICE(ALI):
    """ALI with cycle consistency, which determines the conditionals that matching joints leaves open."""

    paper: ClassVar[str] = "Li, Liu, Chen et al., NeurIPS 2017, arXiv:1709.01215"
    deviations: ClassVar[Mapping[str, str]] = {
        **ALI.deviations,
        "simultaneous updates": "the authors' code updates the critic first (--alternate)",
    }
    presets: ClassVar[Mapping[str, zoo.Preset]] = {"paper": presets.ALICE}

    cycle: float = zoo.option(
        1.0, "λ: weight of ‖x − G(E(x))‖₁ and ‖z − E(G(z))‖₁ (means over elements).", zoo.at_least(0)
    )

    alternate: bool = zoo.option(False, "Update the critic first, then encoder and decoder, on the same images.")

    def turns(self) -> tuple[zoo.Turn, ...]:
        if not self.alternate:
            return super().turns()
        players = dict(self.players())
        critic = {"critic": players.pop("critic")}
        return zoo.Turn(critic, self.terms, name="critic"), zoo.Turn(players, self.terms, name="autoencode")

    def players(self) -> Mapping[str, Mapping[str, float]]:
        row = {"swap": 1.0, "cycle x": self.cycle, "cycle z": self.cycle}
        return {"encoder": row, "decoder": row, "critic": {"gan": 1.0}}

    def terms(self, net: zoo.Networks, x: Tensor) -> Mapping[str, Tensor]:
        z, z_x = self.prior(x), net.encoder(x).rsample()
        x_z = net.decoder(z)
        cycles: dict[str, Any] = {
            "cycle x": zoo.l1_loss(x, net.decoder(z_x)) / x[0].numel(),
            "cycle z": zoo.l1_loss(z, net.encoder(x_z).rsample()) / self.latent,
        }
        return {**self.pair_terms(net, x, z_x, x_z, z), **cycles}


@zoo.hookimpl
def zoo_models() -> Mapping[str, type[zoo.Objective]]:
    return {"bigan": BiGAN, "ali": ALI, "alice": ALICE}
