"""VAE: auto-encoding variational Bayes.

Kingma & Welling, ICLR 2014, arXiv:1312.6114. Symbols follow its equation 10.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from torch import Tensor, nn

import zoo


@zoo.frozen
class VAE(zoo.Autoencoder):
    """A decoder p(x | z) and an encoder q(z | x) that together maximise a lower bound on log p(x)."""

    paper: ClassVar[str] = "Kingma & Welling, ICLR 2014, arXiv:1312.6114"
    deviations: ClassVar[Mapping[str, str]] = {
        "convolutional networks": "the paper's are fully connected (--family mlp); convolutions sample better",
        "Adam": "the paper predates it and uses Adagrad",
    }

    lr: float = zoo.option(1e-3, "Learning rate of Adam.", zoo.above(0))
    beta1: float = zoo.option(0.9, "Decay of Adam's first moment.", zoo.within(0, 1))
    likelihood: Literal["bernoulli", "gaussian"] = zoo.option(
        "bernoulli", "p(x | z): Bernoulli pixels, or Gaussian pixels with one learned σ."
    )

    def networks(self, data: zoo.DataSpec) -> Mapping[str, nn.Module]:
        nets = {"family": self.family, "norm": self.norm}
        return {
            "encoder": zoo.encoder(data, self.latent, self.width, **nets),
            "decoder": zoo.decoder(data, self.latent, self.width, likelihood=self.likelihood, **nets),
        }

    def players(self) -> Mapping[str, Mapping[str, float]]:
        bound = {"nll": 1.0, "kl": 1.0}
        return {"encoder": bound, "decoder": bound}

    def terms(self, net: zoo.Networks, x: Tensor) -> Mapping[str, Tensor]:
        q = net.encoder(x)
        p = net.decoder(q.rsample())
        return {"nll": -p.log_prob(x).mean(), "kl": q.kl().mean()}


@zoo.hookimpl
def zoo_models() -> Mapping[str, type[zoo.Objective]]:
    return {"vae": VAE}
