"""VAE, β-VAE (weighted KL) and IWAE (a tighter bound).

Kingma & Welling, ICLR 2014, arXiv:1312.6114. Symbols follow its equation 10.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

import zoo

from ..presets import vae as presets

# Burda et al., section 5: stage i = 1 … 8 lasts 3^(i−1) epochs; the learning rate falls by 10^(−1/7) per stage.
STAGES = zoo.MultiStepLR(
    milestones=tuple((3**i - 1) / (3**8 - 1) for i in range(1, 8)),
    factors=tuple(10 ** (-i / 7) for i in range(1, 8)),
)


@zoo.frozen
class VAE(zoo.Autoencoder):
    """A decoder p(x | z) and an encoder q(z | x) trained to maximize a lower bound on log p(x)."""

    paper: ClassVar[str] = "Kingma & Welling, ICLR 2014, arXiv:1312.6114"
    deviations: ClassVar[Mapping[str, str]] = {
        "convolutional networks": "for any image size; the paper's are fully connected (--family mlp)",
        "Adam": "the paper predates it and uses Adagrad",
    }
    presets: ClassVar[Mapping[str, zoo.Preset]] = {"paper": presets.VAE, "burda": presets.BURDA}

    lr: float = zoo.option(1e-3, "Learning rate of Adam.", zoo.above(0))
    beta1: float = zoo.option(0.9, "Decay of Adam's first moment.", zoo.between(0, 1, inclusive="left"))
    likelihood: Literal["bernoulli", "gaussian", "unit-gaussian"] = zoo.option(
        "bernoulli", "Likelihood p(x | z): Bernoulli pixels, or Gaussian pixels with one learned σ or σ = 1."
    )
    binarize: bool = zoo.option(False, "Sample binary pixels in each batch; gray levels are probabilities of white.")
    eps: float = zoo.option(1e-8, "ε of Adam.", zoo.above(0))
    stages: bool = zoo.option(False, "Learning-rate schedule of the IWAE paper: eight stages, down to a tenth.")
    adagrad: bool = zoo.option(False, "Adagrad, as in Kingma & Welling, instead of Adam.")
    weight_decay: float = zoo.option(0.0, "Weight decay (L2 penalty).", zoo.at_least(0))

    def networks(self, data: zoo.DataSpec) -> Mapping[str, nn.Module]:
        likelihood = None if self.likelihood == "unit-gaussian" else self.likelihood
        encoder = zoo.encoder(data, self.latent, **self.network_options)
        decoder = zoo.decoder(data, self.latent, likelihood=likelihood, **self.network_options)
        return {"encoder": encoder, "decoder": decoder if likelihood else UnitGaussianDecoder(decoder)}

    def players(self) -> Mapping[str, Mapping[str, float]]:
        bound = {"nll": 1.0, "kl": 1.0}
        return {"encoder": bound, "decoder": bound}

    def terms(self, net: zoo.Networks, x: Tensor) -> Mapping[str, Tensor]:
        x = zoo.binarize(x) if self.binarize else x
        q = net.encoder(x)
        p = net.decoder(q.rsample())
        return {"nll": -p.log_prob(x).mean(), "kl": q.kl().mean()}

    def optimizer(self, network: str, turn: str) -> zoo.Optimizer:
        schedule = STAGES if self.stages else None
        if self.adagrad:
            return zoo.Adagrad(lr=self.lr, weight_decay=self.weight_decay, schedule=schedule)
        decay = self.weight_decay
        return zoo.Adam(lr=self.lr, beta1=self.beta1, eps=self.eps, weight_decay=decay, schedule=schedule)


class UnitGaussianDecoder(zoo.Decoder):
    """Decoder of images as the mean of a Gaussian with σ = 1."""

    def __init__(self, decoder: zoo.Decoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, z: Tensor) -> zoo.GaussianLikelihood:
        mean = self.decoder.image(z)
        return zoo.GaussianLikelihood(mean, mean.new_zeros(()))


@zoo.frozen
class BetaVAE(VAE):
    """A VAE with weight β on the KL: a tighter bottleneck that favors disentangled codes.

    Higgins et al., ICLR 2017, equation 4.
    """

    paper: ClassVar[str] = "Higgins, Matthey, Pal et al., ICLR 2017, openreview:Sy2fzU9gl"
    deviations: ClassVar[Mapping[str, str]] = {
        "convolutional networks": "the same for every data set; the paper has one architecture per data set",
        "β = 1.5": "the paper's 4 to 250 are for 64×64 pixels; on 8×8 pixels β = 2 leaves little information in codes",
    }
    presets: ClassVar[Mapping[str, zoo.Preset]] = {"paper": presets.BETA_VAE}

    beta: float = zoo.option(1.5, "β: weight of the KL; 1 is the VAE.", zoo.at_least(0))

    def players(self) -> Mapping[str, Mapping[str, float]]:
        bound = {"nll": 1.0, "kl": self.beta}
        return {"encoder": bound, "decoder": bound}


@zoo.frozen
class IWAE(VAE):
    """A VAE that maximizes the tighter bound log 1/k Σ p(x, zᵢ)/q(zᵢ | x) over k samples.

    Burda, Grosse & Salakhutdinov, ICLR 2016, equation 8.
    """

    paper: ClassVar[str] = "Burda, Grosse & Salakhutdinov, ICLR 2016, arXiv:1509.00519"
    deviations: ClassVar[Mapping[str, str]] = {
        "convolutional networks": "the paper's are fully connected, with 200 tanh units",
        "Adam 1e-3 throughout": "the paper lowers the learning rate in eight stages over 3280 epochs (--stages)",
    }
    presets: ClassVar[Mapping[str, zoo.Preset]] = {"paper": presets.IWAE}

    k: int = zoo.option(5, "Importance samples per image; 1 is the VAE.", zoo.at_least(1))

    def players(self) -> Mapping[str, Mapping[str, float]]:
        bound = {"bound": 1.0}
        return {"encoder": bound, "decoder": bound}

    def terms(self, net: zoo.Networks, x: Tensor) -> Mapping[str, Tensor]:
        x = zoo.binarize(x) if self.binarize else x
        q = net.encoder(x)
        z = torch.stack([q.rsample() for _ in range(self.k)])  # (k, B, d)
        p = net.decoder(z.flatten(0, 1))
        log_p = p.log_prob(x.repeat(self.k, 1, 1, 1)).view(self.k, -1) + zoo.standard_normal_log_prob(z)
        log_w = log_p - q.log_prob(z)
        return {"bound": (math.log(self.k) - log_w.logsumexp(0)).mean()}


@zoo.hookimpl
def zoo_models() -> Mapping[str, type[zoo.Objective]]:
    return {"vae": VAE, "beta-vae": BetaVAE, "iwae": IWAE}
