"""WAE: Wasserstein autoencoders, which match the aggregate posterior to the prior, by MMD or by a GAN.

Tolstikhin, Bousquet, Gelly & Schölkopf, ICLR 2018, arXiv:1711.01558. Algorithms 2 (MMD) and 1 (GAN).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

import zoo

from ..presets import wae as presets

_PAPER = "Tolstikhin, Bousquet, Gelly & Schölkopf, ICLR 2018, arXiv:1711.01558"


@zoo.frozen
class WAE(zoo.Autoencoder):
    """Base of both: a deterministic autoencoder with a squared cost, without a penalty on the codes."""

    latent: int = zoo.option(8, "Dimensions of the code z.", zoo.at_least(1))
    lr: float = zoo.option(1e-3, "Learning rate of Adam.", zoo.above(0))
    cost: float = zoo.option(0.05, "Weight of the squared error, summed over pixels in [0, 1].", zoo.above(0))
    penalty: float = zoo.option(10.0, "λ: weight of the penalty on the codes.", zoo.at_least(0))
    input_noise: float = zoo.option(0.0, "Standard deviation of the noise on training images.", zoo.at_least(0))
    drops: bool = zoo.option(False, "Learning rate halved after 30 % of training and divided by ten after half of it.")

    def networks(self, data: zoo.DataSpec) -> Mapping[str, nn.Module]:
        return {
            "encoder": zoo.encoder(data, self.latent, posterior="point", **self.network_options),
            "decoder": zoo.decoder(data, self.latent, **self.network_options),
        }

    def code(self, net: zoo.Networks, x: Tensor) -> Tensor:
        """Codes of images, to which noise is added, (B, d)."""
        if self.input_noise:
            # Truncated at two standard deviations, as TensorFlow's.
            x = x + self.input_noise * nn.init.trunc_normal_(torch.empty_like(x))
        code: Tensor = net.encoder(x).rsample()
        return code

    def schedule(self) -> zoo.LRSchedule | None:
        """Learning-rate schedule of the authors' code: 30, 50 and 100 epochs."""
        return zoo.MultiStepLR((0.3, 0.5), (0.5, 0.1)) if self.drops else None

    def optimizer(self, network: str, turn: str) -> zoo.Optimizer:
        return zoo.Adam(lr=self.lr, beta1=self.beta1, schedule=self.schedule())

    def rec(self, net: zoo.Networks, x: Tensor, z: Tensor) -> Tensor:
        """c(x, G(z)), with pixels in [0, 1] as in the authors' code: a quarter of the error on [−1, 1]."""
        return self.cost * zoo.sse(net.decoder(z), x) / 4


@zoo.frozen
class WAEMMD(WAE):
    """A Wasserstein autoencoder whose codes match the prior by maximum mean discrepancy."""

    paper: ClassVar[str] = _PAPER
    deviations: ClassVar[Mapping[str, str]] = {
        "smaller networks": "the paper's go to 1024 channels (--family wae-conv)",
    }
    presets: ClassVar[Mapping[str, zoo.Preset]] = {"paper": presets.MMD}

    def players(self) -> Mapping[str, Mapping[str, float]]:
        row = {"rec": 1.0, "mmd": self.penalty}
        return {"encoder": row, "decoder": row}

    def terms(self, net: zoo.Networks, x: Tensor) -> Mapping[str, Tensor]:
        z = self.code(net, x)
        return {"rec": self.rec(net, x, z), "mmd": mmd(z, self.prior(x))}


@zoo.frozen
class WAEGAN(WAE):
    """A Wasserstein autoencoder whose codes match the prior by a GAN in code space."""

    paper: ClassVar[str] = _PAPER
    deviations: ClassVar[Mapping[str, str]] = {
        "smaller networks": "the paper's go to 1024 channels (--family wae-conv)",
        "λ = 1": "the paper's 10 is for its own networks and cost; chosen without a search",
    }
    presets: ClassVar[Mapping[str, zoo.Preset]] = {"paper": presets.GAN}

    penalty: float = zoo.option(1.0, "λ: weight of the adversarial loss of the encoder.", zoo.at_least(0))

    def networks(self, data: zoo.DataSpec) -> Mapping[str, nn.Module]:
        return {
            **super().networks(data),
            "critic": zoo.critic(data, inputs="z", latent=self.latent, **self.network_options),
        }

    def turns(self) -> tuple[zoo.Turn, ...]:
        row = {"rec": 1.0, "fool": self.penalty}
        return (
            zoo.Turn({"encoder": row, "decoder": {"rec": 1.0}}, self.autoencoder_terms, name="autoencode"),
            zoo.Turn({"critic": {"gan": 1.0}}, self.critic_terms, name="critic"),
        )

    def autoencoder_terms(self, net: zoo.Networks, x: Tensor) -> Mapping[str, Tensor]:
        """The losses of encoder and decoder."""
        z = self.code(net, x)
        return {"rec": self.rec(net, x, z), "fool": zoo.real_loss(net.critic(z))}

    def critic_terms(self, net: zoo.Networks, x: Tensor) -> Mapping[str, Tensor]:
        """The critic's loss: label 1 for the prior, 0 for codes."""
        return {"gan": zoo.real_loss(net.critic(self.prior(x))) + zoo.fake_loss(net.critic(self.code(net, x)))}

    def optimizer(self, network: str, turn: str) -> zoo.Optimizer:
        lr = self.lr if turn == "autoencode" else self.lr / 2
        return zoo.Adam(lr=lr, beta1=self.beta1, schedule=self.schedule())


def mmd(a: Tensor, b: Tensor) -> Tensor:
    """Unbiased MMD² between codes a and b, (B, d) each, with the kernel Σ_s C/(C + ‖·‖²), C = 2·d·s, s = 0.1 to 10.

    Inverse multiquadrics keep a gradient for distant codes, where a Gaussian kernel has none.
    """
    n, d = a.shape

    def kernel(u: Tensor, v: Tensor) -> Tensor:
        distance = (u[:, None] - v[None]).square().sum(-1)
        scales = [2 * d * s for s in (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)]
        return torch.stack([c / (c + distance) for c in scales]).sum(0)

    def off_diagonal_mean(k: Tensor) -> Tensor:
        return (k.sum() - k.diagonal().sum()) / (n * (n - 1))

    return off_diagonal_mean(kernel(a, a)) + off_diagonal_mean(kernel(b, b)) - 2 * kernel(a, b).mean()


@zoo.hookimpl
def zoo_models() -> Mapping[str, type[zoo.Objective]]:
    return {"wae-mmd": WAEMMD, "wae-gan": WAEGAN}
