"""Models conditional on labels: the conditional VAE and the conditional GAN.

Sohn, Yan & Lee, NeurIPS 2015; Mirza & Osindero, 2014, arXiv:1411.1784, with the critic of Miyato & Koyama,
arXiv:1802.05637.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from torch import Tensor, nn

import zoo


@zoo.frozen
class CVAE(zoo.Autoencoder):
    """A VAE of p(x | y): encoder and decoder also receive the label."""

    paper: ClassVar[str] = "Sohn, Yan & Lee, NeurIPS 2015, equation 4; M2's conditionals in arXiv:1406.5298"
    conditional: ClassVar[bool] = True
    deviations: ClassVar[Mapping[str, str]] = {
        "prior N(0, I)": "the paper also learns a prior p(z | x) of its input; here y is a class, as in Kingma et al.",
        "roles": "the paper predicts labels (segmentations) from images; here images are generated from labels",
    }

    lr: float = zoo.option(1e-3, "Learning rate of Adam.", zoo.above(0))
    beta1: float = zoo.option(0.9, "Decay of Adam's first moment.", zoo.between(0, 1, inclusive="left"))
    likelihood: Literal["bernoulli", "gaussian"] = zoo.option("bernoulli", "Likelihood p(x | z, y) of pixels.")

    def networks(self, data: zoo.DataSpec) -> Mapping[str, nn.Module]:
        return {
            "encoder": zoo.encoder(data, self.latent, labels=True, **self.network_options),
            "decoder": zoo.decoder(data, self.latent, labels=True, likelihood=self.likelihood, **self.network_options),
        }

    def players(self) -> Mapping[str, Mapping[str, float]]:
        bound = {"nll": 1.0, "kl": 1.0}
        return {"encoder": bound, "decoder": bound}

    def terms(self, net: zoo.Networks, x: Tensor, y: Tensor) -> Mapping[str, Tensor]:
        q = net.encoder(x, y)
        return {"nll": -net.decoder(q.rsample(), y).log_prob(x).mean(), "kl": q.kl().mean()}


@zoo.frozen
class CGAN(zoo.Generator):
    """A GAN whose generator and critic receive the label; the critic by a projection of its features."""

    paper: ClassVar[str] = (
        "Mirza & Osindero, 2014, arXiv:1411.1784; critic: Miyato & Koyama, ICLR 2018, arXiv:1802.05637"
    )
    conditional: ClassVar[bool] = True
    deviations: ClassVar[Mapping[str, str]] = {
        "projection critic": "arXiv:1802.05637; --critic concatenate appends the label to the image, as in 2014",
        "projection of flattened features": "they are sum-pooled there; the class embedding starts at zero, not random",
        "label beside z": "the projection paper has conditional batch normalization in the generator",
        "cross-entropy, DCGAN networks": "the projection paper has a hinge loss, residual networks, spectral norm",
    }

    latent: int = zoo.option(64, "Dimensions of the code z.", zoo.at_least(1))
    critic: Literal["projection", "concatenate"] = zoo.option("projection", "How the critic uses the label.")

    def networks(self, data: zoo.DataSpec) -> Mapping[str, nn.Module]:
        return {
            "decoder": zoo.decoder(data, self.latent, labels=True, **self.network_options),
            "critic": zoo.critic(data, labels=self.critic, **self.network_options),
        }

    def turns(self) -> tuple[zoo.Turn, ...]:
        return (
            zoo.Turn({"critic": {"gan": 1.0}}, self.critic_terms, name="critic"),
            zoo.Turn({"decoder": {"fool": 1.0}}, self.generator_terms, name="generator"),
        )

    def critic_terms(self, net: zoo.Networks, x: Tensor, y: Tensor) -> Mapping[str, Tensor]:
        """−V(D, G) given y."""
        x_new = net.decoder(self.prior(x), y)
        return {"gan": zoo.real_loss(net.critic(x, y)) + zoo.fake_loss(net.critic(x_new, y))}

    def generator_terms(self, net: zoo.Networks, x: Tensor, y: Tensor) -> Mapping[str, Tensor]:
        """The non-saturating loss given y."""
        return {"fool": zoo.real_loss(net.critic(net.decoder(self.prior(x), y), y))}


@zoo.hookimpl
def zoo_models() -> Mapping[str, type[zoo.Objective]]:
    return {"cvae": CVAE, "cgan": CGAN}
