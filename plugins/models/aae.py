"""AAE: adversarial autoencoders.

Makhzani, Shlens, Jaitly, Goodfellow & Frey, 2015, arXiv:1511.05644. The critic discriminates codes:
samples of the prior are real, codes of the encoder fake. The encoder is the generator of this game; it is often
mistaken for the critic.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import zoo

from ..presets import aae as presets


@zoo.frozen
class AAE(zoo.Autoencoder):
    """An autoencoder whose codes are matched to the prior by a GAN in code space."""

    paper: ClassVar[str] = "Makhzani, Shlens, Jaitly, Goodfellow & Frey, 2015, arXiv:1511.05644"
    deviations: ClassVar[Mapping[str, str]] = {
        "convolutional autoencoder": "the paper uses two fully connected layers of 1000 ReLU units (--family aae-flat)",
        "Adam": "the paper uses SGD with momentum (--sgd), which needs about a thousand epochs",
        "prior of unit variance": "the paper's log-likelihoods are for a prior of standard deviation 5 (--scale 5)",
    }
    presets: ClassVar[Mapping[str, zoo.Preset]] = {"paper": presets.PAPER, "labels": presets.LABELS}

    latent: int = zoo.option(8, "Dimensions of the code z.", zoo.at_least(1))
    lr: float = zoo.option(1e-3, "Learning rate of the reconstruction phase.", zoo.above(0))
    regularize_lr: float = zoo.option(2e-4, "Learning rate of the regularization phase.", zoo.above(0))
    posterior: Literal["point", "gaussian"] = zoo.option("point", "Deterministic encoder or Gaussian posterior.")
    scale: float = zoo.option(1.0, "Standard deviation of the prior.", zoo.above(0))
    sgd: bool = zoo.option(False, "SGD with momentum, as in the paper, instead of Adam.")
    rec: float = zoo.option(1.0, "Weight of ½‖x − x̂‖² on [−1, 1]; ¼ is that of pixels in [0, 1].", zoo.above(0))
    noise: float = zoo.option(0.3, "Standard deviation of the noise on the critic's inputs.", zoo.at_least(0))
    input_noise: float = zoo.option(0.0, "Standard deviation of the noise on training images.", zoo.at_least(0))

    labels: int = zoo.option(
        0, "Number of labeled training images; above 0 the code includes a one-hot class y.", zoo.at_least(0)
    )
    classes: int = zoo.option(10, "Number of classes of y, with --labels.", zoo.at_least(2))

    def networks(self, data: zoo.DataSpec) -> Mapping[str, nn.Module]:
        size = self.latent + (self.classes if self.labels else 0)
        encoder = zoo.encoder(data, size, posterior=self.posterior, **self.network_options)
        critics = {"critic": zoo.critic(data, inputs="z", latent=self.latent, **self.network_options)}
        if self.labels:
            encoder = ClassEncoder(encoder, self.classes)
            critics["class_critic"] = zoo.critic(data, inputs="z", latent=self.classes, **self.network_options)
        return {"encoder": encoder, "decoder": zoo.decoder(data, size, **self.network_options), **critics}

    def prior(self, like: Tensor, n: int | None = None) -> Tensor:
        """Codes z ~ N(0, scale²·I); with labels, preceded by a uniformly drawn one-hot y."""
        z = self.scale * super().prior(like, n)
        if not self.labels:
            return z
        y = torch.randint(self.classes, (len(z),), device=z.device)
        return torch.cat([torch.eye(self.classes, device=z.device)[y], z], dim=1)

    def turns(self) -> tuple[zoo.Turn, ...]:
        autoencode = {"rec": self.rec}
        critics = {"critic": {"gan": 1.0}} | ({"class_critic": {"gan y": 1.0}} if self.labels else {})
        fool = {"fool": 1.0} | ({"fool y": 1.0} if self.labels else {})
        turns = (
            zoo.Turn({"encoder": autoencode, "decoder": autoencode}, self.reconstruction_terms, name="reconstruct"),
            zoo.Turn(critics, self.critic_terms, name="critic"),
            zoo.Turn({"encoder": fool}, self.encoder_terms, name="regularize"),
        )
        if not self.labels:
            return turns
        row = {"encoder": {"cross entropy": 1.0}}
        return (*turns, zoo.Turn(row, self.classification_terms, name="classify", labeled_images=self.labels))

    def reconstruction_terms(self, net: zoo.Networks, x: Tensor) -> Mapping[str, Tensor]:
        """Reconstruction phase: squared error."""
        return {"rec": zoo.half_sse(net.decoder(self.code(net, x)), x)}

    def critic_terms(self, net: zoo.Networks, x: Tensor) -> Mapping[str, Tensor]:
        """Regularization phase, critics: label 1 for the prior, 0 for codes."""
        return {
            name: zoo.real_loss(critic(self.noisy(drawn))) + zoo.fake_loss(critic(self.noisy(code)))
            for name, critic, drawn, code in self.critic_inputs(net, "gan", self.prior(x), self.code(net, x))
        }

    def encoder_terms(self, net: zoo.Networks, x: Tensor) -> Mapping[str, Tensor]:
        """Regularization phase, encoder: the non-saturating generator loss."""
        code = self.code(net, x)
        return {name: zoo.real_loss(critic(self.noisy(c))) for name, critic, c in self.critic_inputs(net, "fool", code)}

    def classification_terms(self, net: zoo.Networks, x: Tensor, y: Tensor) -> Mapping[str, Tensor]:
        """Semi-supervised phase: cross-entropy of the one-hot part of the code on labeled images."""
        q_y = self.code(net, x)[:, : self.classes]
        return {"cross entropy": F.nll_loss(q_y.clamp_min(1e-8).log(), y)}

    def code(self, net: zoo.Networks, x: Tensor) -> Tensor:
        """Codes of images, to which noise is added, (B, d)."""
        x = x + self.input_noise * torch.randn_like(x) if self.input_noise else x
        code: Tensor = net.encoder(x).rsample()
        return code

    def critic_inputs(self, net: zoo.Networks, name: str, *codes: Tensor) -> Iterator[tuple[Any, ...]]:
        """Yield (term, critic, the part of each code that is its input): z and, with labels, y."""
        k = self.classes if self.labels else 0
        yield (name, net.critic, *(c[:, k:] for c in codes))
        if self.labels:
            yield (f"{name} y", net.class_critic, *(c[:, :k] for c in codes))

    def noisy(self, z: Tensor) -> Tensor:
        """Codes plus Gaussian noise: codes on a thin manifold would be trivial to discriminate."""
        return z + self.noise * torch.randn_like(z)

    def optimizer(self, network: str, turn: str) -> zoo.Optimizer:
        reconstruct = turn == "reconstruct"
        lr = self.lr if reconstruct else self.regularize_lr
        if self.sgd:
            return zoo.SGD(lr=lr, momentum=0.9 if turn in ("reconstruct", "classify") else 0.1)
        return zoo.Adam(lr=lr, beta1=0.9 if reconstruct else self.beta1)


class ClassEncoder(zoo.Encoder):
    """Encoder whose first code entries are softmax probabilities of the classes."""

    def __init__(self, encoder: zoo.Encoder, classes: int) -> None:
        super().__init__()
        self.encoder, self.classes = encoder, classes

    def forward(self, x: Tensor) -> zoo.Posterior:
        code = self.encoder(x).rsample()
        return zoo.PointPosterior(torch.cat([code[:, : self.classes].softmax(1), code[:, self.classes :]], dim=1))


@zoo.hookimpl
def zoo_models() -> Mapping[str, type[zoo.Objective]]:
    return {"aae": AAE}
