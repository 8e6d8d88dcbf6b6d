"""AAE: adversarial autoencoders.

Makhzani, Shlens, Jaitly, Goodfellow & Frey, 2015, arXiv:1511.05644. The critic sees codes only, and calls the prior's
real. In that game the generator is the *encoder*: it is not the critic, though it is often described so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

import zoo


@zoo.frozen
class AAE(zoo.Autoencoder):
    """An autoencoder whose codes are matched to the prior by a GAN in code space."""

    paper: ClassVar[str] = "Makhzani, Shlens, Jaitly, Goodfellow & Frey, 2015, arXiv:1511.05644"
    deviations: ClassVar[Mapping[str, str]] = {
        "convolutional autoencoder": "the paper's has two layers of 1000 ReLU (--family mlp --width 63)",
        "Adam": "in place of SGD with momentum, which wants a thousand epochs",
    }

    latent: int = zoo.option(8, "Dimensions of the code z.", zoo.at_least(1))
    lr: float = zoo.option(1e-3, "Learning rate of Adam, reconstruction.", zoo.above(0))
    regularise_lr: float = zoo.option(2e-4, "Learning rate of Adam, the game over codes.", zoo.above(0))
    posterior: Literal["point", "gaussian"] = zoo.option("point", "A deterministic encoder, or a Gaussian posterior.")
    noise: float = zoo.option(0.3, "σ of the noise on the critic's inputs.", zoo.at_least(0))

    def networks(self, data: zoo.DataSpec) -> Mapping[str, nn.Module]:
        return {
            "encoder": zoo.encoder(data, self.latent, posterior=self.posterior, **self.style),
            "decoder": zoo.decoder(data, self.latent, **self.style),
            "critic": zoo.critic(data, self.width, sees="z", latent=self.latent),
        }

    def turns(self) -> tuple[zoo.Turn, ...]:
        autoencode = {"rec": 1.0}
        return (
            zoo.Turn({"encoder": autoencode, "decoder": autoencode}, self.reconstruction, name="reconstruct"),
            zoo.Turn({"critic": {"gan": 1.0}}, self.judge, name="judge"),
            zoo.Turn({"encoder": {"fool": 1.0}}, self.fool, name="regularise"),
        )

    def reconstruction(self, net: zoo.Networks, x: Tensor) -> Mapping[str, Tensor]:
        """Reconstruction phase: squared error."""
        return {"rec": zoo.half_sse(net.decoder(net.encoder(x).rsample()), x)}

    def judge(self, net: zoo.Networks, x: Tensor) -> Mapping[str, Tensor]:
        """Regularisation phase, critic: prior 1, code 0."""
        z = net.encoder(x).rsample()
        return {"gan": zoo.real(net.critic(self.blur(self.prior(x)))) + zoo.fake(net.critic(self.blur(z)))}

    def fool(self, net: zoo.Networks, x: Tensor) -> Mapping[str, Tensor]:
        """Regularisation phase, encoder: the generator of the game over codes, non-saturating."""
        return {"fool": zoo.real(net.critic(self.blur(net.encoder(x).rsample())))}

    def blur(self, z: Tensor) -> Tensor:
        """Noise on what the critic sees, so that it cannot win by the codes' thinness."""
        return z + self.noise * torch.randn_like(z)

    def optimiser(self, network: str, turn: str) -> zoo.Optimiser:
        if turn == "reconstruct":
            return zoo.Adam(lr=self.lr, beta1=0.9)
        return zoo.Adam(lr=self.regularise_lr, beta1=self.beta1)


@zoo.hookimpl
def zoo_models() -> Mapping[str, type[zoo.Objective]]:
    return {"aae": AAE}
