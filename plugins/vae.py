"""VAE and its two nearest relatives: β-VAE weighs the KL, IWAE tightens the bound.

Kingma & Welling, ICLR 2014, arXiv:1312.6114. Symbols follow its equation 10.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

import zoo


@zoo.frozen
class VAE(zoo.Autoencoder):
    """A decoder p(x | z) and an encoder q(z | x) that together maximise a lower bound on log p(x)."""

    paper: ClassVar[str] = "Kingma & Welling, ICLR 2014, arXiv:1312.6114"
    deviations: ClassVar[Mapping[str, str]] = {
        "convolutional networks": "for any image size; the paper's are fully connected (--family mlp)",
        "Adam": "the paper predates it and uses Adagrad",
    }

    lr: float = zoo.option(1e-3, "Learning rate of Adam.", zoo.above(0))
    beta1: float = zoo.option(0.9, "Decay of Adam's first moment.", zoo.within(0, 1))
    likelihood: Literal["bernoulli", "gaussian"] = zoo.option(
        "bernoulli", "p(x | z): Bernoulli pixels, or Gaussian pixels with one learned σ."
    )

    def networks(self, data: zoo.DataSpec) -> Mapping[str, nn.Module]:
        return {
            "encoder": zoo.encoder(data, self.latent, **self.style),
            "decoder": zoo.decoder(data, self.latent, likelihood=self.likelihood, **self.style),
        }

    def players(self) -> Mapping[str, Mapping[str, float]]:
        bound = {"nll": 1.0, "kl": 1.0}
        return {"encoder": bound, "decoder": bound}

    def terms(self, net: zoo.Networks, x: Tensor) -> Mapping[str, Tensor]:
        q = net.encoder(x)
        p = net.decoder(q.rsample())
        return {"nll": -p.log_prob(x).mean(), "kl": q.kl().mean()}


@zoo.frozen
class BetaVAE(VAE):
    """A VAE whose KL weighs β: less is said about each image, in directions that disentangle.

    Higgins et al., ICLR 2017, equation 4.
    """

    paper: ClassVar[str] = "Higgins, Matthey, Pal et al., ICLR 2017, openreview:Sy2fzU9gl"
    deviations: ClassVar[Mapping[str, str]] = {
        "convolutional networks": "one set of networks for every data set, where the paper has one for each",
    }

    beta: float = zoo.option(4.0, "β: weight of the KL; 1 is the VAE.", zoo.at_least(0))

    def players(self) -> Mapping[str, Mapping[str, float]]:
        bound = {"nll": 1.0, "kl": self.beta}
        return {"encoder": bound, "decoder": bound}


@zoo.frozen
class IWAE(VAE):
    """A VAE that maximises the tighter bound log 1/k Σ p(x, zᵢ)/q(zᵢ | x) over k samples.

    Burda, Grosse & Salakhutdinov, ICLR 2016, equation 8.
    """

    paper: ClassVar[str] = "Burda, Grosse & Salakhutdinov, ICLR 2016, arXiv:1509.00519"
    deviations: ClassVar[Mapping[str, str]] = {
        "convolutional networks": "the paper's are fully connected, tanh, 200 units",
        "Adam 1e-3 throughout": "the paper lowers the rate in eight stages over 3280 epochs",
    }

    k: int = zoo.option(5, "Importance samples an image; 1 is the VAE.", zoo.at_least(1))

    def players(self) -> Mapping[str, Mapping[str, float]]:
        bound = {"bound": 1.0}
        return {"encoder": bound, "decoder": bound}

    def terms(self, net: zoo.Networks, x: Tensor) -> Mapping[str, Tensor]:
        q = net.encoder(x)
        z = torch.stack([q.rsample() for _ in range(self.k)])  # (k, B, d)
        p = net.decoder(z.flatten(0, 1))
        log_p = p.log_prob(x.repeat(self.k, 1, 1, 1)).view(self.k, -1) + zoo.log_normal(z)
        log_w = log_p - q.log_prob(z)
        return {"bound": (math.log(self.k) - log_w.logsumexp(0)).mean()}


@zoo.hookimpl
def zoo_models() -> Mapping[str, type[zoo.Objective]]:
    return {"vae": VAE, "beta-vae": BetaVAE, "iwae": IWAE}
