"""VAE-GAN: autoencoding beyond pixels using a learned similarity metric.

Larsen, Sønderby, Larochelle & Winther, ICML 2016, arXiv:1512.09300. Symbols follow its Algorithm 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

import zoo

from ..presets import vaegan as presets


class GammaLR(zoo.LRSchedule):
    """Decay by a power of the progress, in 250 steps: 1 − t^0.75 (1 − 1/2500), as in the authors' code.

    >>> [round(GammaLR().factor(t), 3) for t in (0.0, 0.5, 0.999)]
    [1.0, 0.406, 0.003]
    """

    def factor(self, progress: float) -> float:
        return 1.0 - math.pow(int(progress * 250) / 250, 0.75) * (1.0 - 1 / 2500)


@zoo.frozen
class VAEGAN(zoo.Autoencoder):
    """A VAE whose reconstruction error is measured on the features of a GAN's critic."""

    paper: ClassVar[str] = "Larsen, Sønderby, Larochelle & Winther, ICML 2016, arXiv:1512.09300"
    deviations: ClassVar[Mapping[str, str]] = {
        "non-saturating decoder": "the paper's minimax loss (--saturating) has no gradient if the critic is confident",
        "Dis_l after batch normalization": "before it (--pre-norm) `like` vanishes with DCGAN's small weights, and the "
        "posterior collapses (seen with γ = 0.01 and Adam; the authors' 1e-6 and RMSProp are in the preset)",
        "Adam": "the paper uses RMSProp at the same rate (--rmsprop); Adam (0.5, 0.999) is the common choice",
        "DCGAN networks, 16 dimensions": "for any image size; the authors' are for 32 and 64 pixels, with 128",
        "one decoder batch": "reconstructions and samples share batch statistics, as they do in evaluation",
    }
    presets: ClassVar[Mapping[str, zoo.Preset]] = {"paper": presets.PAPER}

    lr: float = zoo.option(3e-4, "Learning rate.", zoo.above(0))
    tap: int = zoo.option(2, "Critic stage l whose features define the reconstruction error, Dis_l.", zoo.at_least(1))
    pre_norm: bool = zoo.option(False, "Take Dis_l before its batch normalization, as in the authors' code.")
    gamma: float = zoo.option(4e-3, "γ: weight of `like` against the adversarial loss, for the decoder.", zoo.above(0))
    fakes: Literal["both", "prior", "reconstruction"] = zoo.option(
        "both",
        "Fake images of the critic: Dec(z) with z from the prior, Dec(z) with z from Enc(x), or both (Algorithm 1).",
    )
    joint: bool = zoo.option(
        False, "Real and generated images pass the critic in one batch, sharing its batch statistics."
    )
    saturating: bool = zoo.option(False, "The decoder maximizes L_GAN instead of minimizing the non-saturating loss.")
    equilibrium: bool = zoo.option(False, "Skip updates of the stronger network, by the authors' margins 0.68 ± 0.35.")
    rmsprop: bool = zoo.option(False, "RMSProp, as in the paper, instead of Adam.")
    weight_decay: float = zoo.option(0.0, "Weight decay (L2 penalty) of every player.", zoo.at_least(0))
    anneal: bool = zoo.option(False, "Learning-rate schedule of the authors' code, down to 1/2500; requires --rmsprop.")

    def networks(self, data: zoo.DataSpec) -> Mapping[str, nn.Module]:
        return {
            "encoder": zoo.encoder(data, self.latent, **self.network_options),
            "decoder": zoo.decoder(data, self.latent, **self.network_options),
            "critic": zoo.critic(data, tap=self.tap, pre_norm=self.pre_norm, **self.network_options),
        }

    def players(self) -> Mapping[str, Mapping[str, float]]:
        adversarial = {"gan": -1.0} if self.saturating else {"fool": 1.0}
        return {
            "encoder": {"prior": 1.0, "like": 1.0},
            "decoder": {"like": self.gamma, **adversarial},
            "critic": {"gan": 1.0},
        }

    def optimizer(self, network: str, turn: str) -> zoo.Optimizer:
        if self.rmsprop:
            schedule = GammaLR() if self.anneal else None
            return zoo.RMSprop(lr=self.lr, weight_decay=self.weight_decay, schedule=schedule)
        return zoo.Adam(lr=self.lr, beta1=self.beta1, weight_decay=self.weight_decay)

    def turns(self) -> tuple[zoo.Turn, ...]:
        return (zoo.Turn(self.players(), self.terms, gate=self.gate if self.equilibrium else None),)

    def terms(self, net: zoo.Networks, x: Tensor) -> Mapping[str, Tensor]:
        q = net.encoder(x)
        # One batch: the running statistics of evaluation mode then fit both kinds of codes.
        x_rec, x_new = net.decoder(torch.cat([q.rsample(), self.prior(x)])).chunk(2)
        real, rec, new = self.criticize(net, x, x_rec, x_new)
        fakes = {"both": (rec, new), "prior": (new,), "reconstruction": (rec,)}[self.fakes]
        return {
            "prior": q.kl().mean(),
            "like": zoo.half_sse(rec.features, real.features),
            "gan": zoo.real_loss(real) + sum(zoo.fake_loss(v) for v in fakes),
            "fool": sum(zoo.real_loss(v) for v in fakes),
            "cost of real": zoo.real_loss(real),
            "cost of fake": sum(zoo.fake_loss(v) for v in fakes) / len(fakes),
        }

    def criticize(self, net: zoo.Networks, *images: Tensor) -> list[zoo.CriticOutput]:
        """The critic's outputs for each batch of images."""
        if not self.joint:
            return [net.critic(v) for v in images]
        out = net.critic(torch.cat(images))
        parts = zip(out.logits.chunk(len(images)), out.features.chunk(len(images)), strict=True)
        return [zoo.CriticOutput(logits, features) for logits, features in parts]

    def gate(self, terms: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Hold the critic if one of its losses is low, the decoder if one is high; neither if both would be held."""
        costs = torch.stack([terms["cost of real"], terms["cost of fake"]])
        critic, decoder = ~(costs < 0.68 - 0.35).any(), ~(costs > 0.68 + 0.35).any()
        neither = ~(critic | decoder)
        return {"critic": critic | neither, "decoder": decoder | neither}


@zoo.hookimpl
def zoo_models() -> Mapping[str, type[zoo.Objective]]:
    return {"vaegan": VAEGAN}
