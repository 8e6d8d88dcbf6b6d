"""Combinations of a VAE and a GAN: with a separate generator, and with two critics (α-GAN).

Rosca, Lakshminarayanan, Warde-Farley & Mohamed, 2017, arXiv:1706.04987.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from torch import Tensor, nn

import zoo

from ..presets import hybrids as presets


@zoo.frozen
class VAEGANTwin(zoo.Autoencoder):
    """A VAE and a separate generator that decodes the same codes and is trained against a critic."""

    paper: ClassVar[str] = "VAE of arXiv:1312.6114 and GAN of arXiv:1406.2661, with shared codes"
    deviations: ClassVar[Mapping[str, str]] = {
        "the generator also decodes prior codes": "samples use the prior, not the aggregate posterior",
    }

    latent: int = zoo.option(16, "Dimensions of the code z.", zoo.at_least(1))
    elbo_lr: float = zoo.option(1e-3, "Learning rate of Adam, encoder and decoder.", zoo.above(0))
    codes: Literal["both", "posterior"] = zoo.option(
        "both", "Codes that the generator decodes: posterior and prior, or posterior only."
    )
    sampler: Literal["generator", "decoder"] = zoo.option("generator", "Network that samples new images.")

    def networks(self, data: zoo.DataSpec) -> Mapping[str, nn.Module]:
        return {
            "encoder": zoo.encoder(data, self.latent, **self.network_options),
            "decoder": zoo.decoder(data, self.latent, likelihood="bernoulli", **self.network_options),
            "generator": zoo.decoder(data, self.latent, **self.network_options),
            "critic": zoo.critic(data, **self.network_options),
        }

    def players(self) -> Mapping[str, Mapping[str, float]]:
        bound = {"nll": 1.0, "kl": 1.0}
        return {"encoder": bound, "decoder": bound, "generator": {"fool": 1.0}, "critic": {"gan": 1.0}}

    def terms(self, net: zoo.Networks, x: Tensor) -> Mapping[str, Tensor]:
        q = net.encoder(x)
        z = q.rsample()
        p = net.decoder(z)
        sources = [z, self.prior(x)] if self.codes == "both" else [z]
        generated = [net.critic(net.generator(s)) for s in sources]
        fakes = [net.critic(p.mean), *generated]
        return {
            "nll": -p.log_prob(x).mean(),
            "kl": q.kl().mean(),
            "gan": zoo.real_loss(net.critic(x)) + sum(zoo.fake_loss(v) for v in fakes) / len(fakes),
            "fool": sum(zoo.real_loss(v) for v in generated) / len(generated),
        }

    def sample(self, net: zoo.Networks, n: int, *y: Tensor) -> Tensor:
        z = self.prior(next(net.parameters()), n)
        image: Tensor = net.generator.image(z) if self.sampler == "generator" else net.decoder.image(z)
        return image

    def optimizer(self, network: str, turn: str) -> zoo.Optimizer:
        if network in ("encoder", "decoder"):
            return zoo.Adam(lr=self.elbo_lr, beta1=0.9)
        return zoo.Adam(lr=self.lr, beta1=self.beta1)


@zoo.frozen
class AlphaGAN(zoo.Autoencoder):
    """An autoencoder with a critic of images and a critic of codes in place of a VAE's densities."""

    paper: ClassVar[str] = "Rosca, Lakshminarayanan, Warde-Farley & Mohamed, 2017, arXiv:1706.04987 (version 2)"
    deviations: ClassVar[Mapping[str, str]] = {
        "simultaneous updates": "the paper updates one network after the other, at twice the cost (--alternate)",
        "non-saturating losses": "−log D and the mean over both kinds of fakes; for the paper's −log D + log(1 − D) "
        "and sum, --ratio",
        "λ = 30 on the mean over pixels": "chosen without a search",
        "smaller networks, 32 dimensions": "for any size; the paper uses those of DCGAN (--family alpha-gan-conv)",
    }
    presets: ClassVar[Mapping[str, zoo.Preset]] = {"paper": presets.ALPHA_GAN}

    latent: int = zoo.option(32, "Dimensions of the code z.", zoo.at_least(1))
    cycle: float = zoo.option(30.0, "λ: weight of the mean absolute reconstruction error.", zoo.at_least(0))
    ratio: bool = zoo.option(
        False, "The paper's losses: encoder and decoder minimize −log D + log(1 − D); each kind of fake counts in full."
    )
    alternate: bool = zoo.option(False, "Update one network after the other, as in the paper, at twice the cost.")

    def networks(self, data: zoo.DataSpec) -> Mapping[str, nn.Module]:
        return {
            "encoder": zoo.encoder(data, self.latent, posterior="point", **self.network_options),
            "decoder": zoo.decoder(data, self.latent, **self.network_options),
            "critic": zoo.critic(data, **self.network_options),
            "code_critic": zoo.critic(data, inputs="z", latent=self.latent, **self.network_options),
        }

    def players(self) -> Mapping[str, Mapping[str, float]]:
        return {
            "encoder": {"rec": self.cycle, "fool codes": 1.0},
            "decoder": {"rec": self.cycle, "fool": 1.0},
            "critic": {"gan": 1.0},
            "code_critic": {"gan codes": 1.0},
        }

    def turns(self) -> tuple[zoo.Turn, ...]:
        if not self.alternate:
            return super().turns()
        return tuple(zoo.Turn({name: row}, self.terms, name=name) for name, row in self.players().items())

    def terms(self, net: zoo.Networks, x: Tensor) -> Mapping[str, Tensor]:
        z, z_x = self.prior(x), net.encoder(x).rsample()
        x_rec = net.decoder(z_x)
        rec, new = net.critic(x_rec), net.critic(net.decoder(z))
        code = net.code_critic(z_x)
        kinds = 1 if self.ratio else 2
        return {
            "rec": zoo.l1_loss(x, x_rec) / x[0].numel(),
            "gan": zoo.real_loss(net.critic(x)) + (zoo.fake_loss(rec) + zoo.fake_loss(new)) / kinds,
            "fool": (self.fool(rec) + self.fool(new)) / kinds,
            "gan codes": zoo.real_loss(net.code_critic(z)) + zoo.fake_loss(code),
            "fool codes": self.fool(code),
        }

    def fool(self, fake: zoo.CriticOutput) -> Tensor:
        """−log D, or with ``ratio`` −log D + log(1 − D), which is minus the logit."""
        return -fake.logits.mean() if self.ratio else zoo.real_loss(fake)


@zoo.hookimpl
def zoo_models() -> Mapping[str, type[zoo.Objective]]:
    return {"vaegan-twin": VAEGANTwin, "alpha-gan": AlphaGAN}
