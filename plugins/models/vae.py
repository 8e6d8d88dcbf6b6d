"""VAE, β-VAE (weighted KL) and IWAE (a tighter bound).

Kingma & Welling, ICLR 2014, arXiv:1312.6114. Symbols follow its equation 10.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

import zoo

# Burda et al., section 5: stage i = 1 … 8 lasts 3^(i−1) epochs; the learning rate falls by 10^(−1/7) per stage.
STAGES = zoo.MultiStepLR(
    milestones=tuple((3**i - 1) / (3**8 - 1) for i in range(1, 8)),
    factors=tuple(10 ** (-i / 7) for i in range(1, 8)),
)
BURDA = {
    "dataset": "mnist",
    "family": "iwae-flat",
    "latent": 50,
    "binarize": True,
    "eps": 1e-4,
    "stages": True,
    "batch": 20,
    "epochs": 3280,
}


@zoo.frozen
class VAE(zoo.Autoencoder):
    """A decoder p(x | z) and an encoder q(z | x) trained to maximize a lower bound on log p(x)."""

    paper: ClassVar[str] = "Kingma & Welling, ICLR 2014, arXiv:1312.6114"
    deviations: ClassVar[Mapping[str, str]] = {
        "convolutional networks": "for any image size; the paper's are fully connected (--family mlp)",
        "Adam": "the paper predates it and uses Adagrad",
    }
    # Networks and schedule of the IWAE paper, whose log p(x) on MNIST is the target.
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"paper": BURDA}

    lr: float = zoo.option(1e-3, "Learning rate of Adam.", zoo.above(0))
    beta1: float = zoo.option(0.9, "Decay of Adam's first moment.", zoo.between(0, 1, inclusive="left"))
    likelihood: Literal["bernoulli", "gaussian"] = zoo.option(
        "bernoulli", "Likelihood p(x | z): Bernoulli pixels, or Gaussian pixels with one learned σ."
    )
    binarize: bool = zoo.option(False, "Sample binary pixels in each batch; gray levels are probabilities of white.")
    eps: float = zoo.option(1e-8, "ε of Adam.", zoo.above(0))
    stages: bool = zoo.option(False, "Learning-rate schedule of the IWAE paper: eight stages, down to a tenth.")

    def networks(self, data: zoo.DataSpec) -> Mapping[str, nn.Module]:
        return {
            "encoder": zoo.encoder(data, self.latent, **self.network_options),
            "decoder": zoo.decoder(data, self.latent, likelihood=self.likelihood, **self.network_options),
        }

    def players(self) -> Mapping[str, Mapping[str, float]]:
        bound = {"nll": 1.0, "kl": 1.0}
        return {"encoder": bound, "decoder": bound}

    def terms(self, net: zoo.Networks, x: Tensor) -> Mapping[str, Tensor]:
        x = zoo.binarize(x) if self.binarize else x
        q = net.encoder(x)
        p = net.decoder(q.rsample())
        return {"nll": -p.log_prob(x).mean(), "kl": q.kl().mean()}

    def optimizer(self, network: str, turn: str) -> zoo.Optimizer:
        return zoo.Adam(lr=self.lr, beta1=self.beta1, eps=self.eps, schedule=STAGES if self.stages else None)


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
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {
            "dataset": "celeba",
            "family": "beta-vae-conv",
            "latent": 32,
            "beta": 250.0,
            "lr": 1e-4,
            "likelihood": "gaussian",
        }
    }

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
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"paper": {**BURDA, "k": 50}}

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
