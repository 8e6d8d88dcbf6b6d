"""VAE, AAE and VAE-GAN of pythae, and the same losses on the engine of zoo.

pythae (Chadebec, Vincent & Allassonnière, 2022, arXiv:2206.08309) trains these models too. Here the engine computes
its losses on networks of its default sizes (784-512-16-512-784, a critic of 256 units), and the weights of both are
compared. Its losses are not always those of the papers:

- VAE: the ELBO with Bernoulli pixels, as in zoo.
- AAE: one update of all networks instead of the paper's three phases, and no noise on the critic's inputs.
- VAE-GAN (version 0.1.2): the critic is never shown a reconstruction. Its three losses go backward one after another
  into gradients that are cleared one network at a time, so the encoder minimizes the decoder's share of the
  reconstruction error too, and the decoder, whose own weight of the critic's loss is −λ, gets +1 of it from the
  critic's pass: with λ = ½ it *helps* the critic. Margins evaluated on the host skip updates of two networks.

``pip install 'latent-zoo[speed]'`` installs it; see :func:`available`.
"""

from __future__ import annotations

import importlib.util
import logging
import math
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

import zoo
from zoo.registry import registry

SHARE = 0.5
"""Its λ, ``adversarial_loss_scale``, as it comes."""
NEVER = 1e9
"""A margin that no loss exceeds: no update is skipped, so that the work of a step does not depend on the loss."""


def available() -> bool:
    """Whether pythae can be imported."""
    return importlib.util.find_spec("pythae") is not None


def sized(model: Any, inputs: Literal["x", "z"] | None) -> Any:
    """A model of the zoo with fully connected networks of pythae's default sizes; ``inputs`` are its critic's."""

    @zoo.frozen
    class Sized(model):  # type: ignore[misc]
        """As its parent."""

        latent: int = zoo.option(16, "Dimensions of the code z.")

        def networks(self, data: zoo.DataSpec) -> Mapping[str, nn.Module]:
            """One hidden layer each."""
            pixels = math.prod(data.shape)
            body = nn.Sequential(nn.Flatten(), nn.Linear(pixels, 512), nn.ReLU())
            posterior = getattr(self, "posterior", "gaussian")
            out = nn.Sequential(nn.Linear(self.latent, 512), nn.ReLU(), nn.Linear(512, pixels))
            nets: dict[str, nn.Module] = {
                "encoder": zoo.BodyEncoder(body, 512, self.latent, posterior),
                "decoder": zoo.BodyDecoder(out, data.shape, getattr(self, "likelihood", None)),
            }
            if inputs is not None:
                wide = pixels if inputs == "x" else self.latent
                trunk = nn.Sequential(nn.Flatten(), nn.Linear(wide, 256), nn.ReLU())
                parts = (trunk, None) if inputs == "x" else (None, trunk)
                nets["critic"] = zoo.BodyCritic(inputs, *parts, nn.Linear(256, 1))
            return nets

    return Sized


VAE, AAE, VAEGAN = (
    sized(registry().models[name].value, inputs) for name, inputs in (("vae", None), ("aae", "z"), ("vaegan", "x"))
)


@zoo.frozen
class TheirAAE(AAE):  # type: ignore[misc]
    """pythae's AAE: reconstruction, and at half weight the game over codes, all in one move."""

    def turns(self) -> tuple[zoo.Turn, ...]:
        """One turn."""
        row = {"rec": 1.0, "fool": SHARE}  # which of the two the decoder can change, it too goes down by
        return (zoo.Turn({"encoder": row, "decoder": row, "critic": {"gan": 1.0}}, self.all),)

    def all(self, net: zoo.Networks, x: Tensor) -> Mapping[str, Tensor]:
        """Its losses."""
        z_x = net.encoder(x).rsample()
        torch.randn_like(z_x)  # which it draws, and multiplies by a standard deviation of zero
        z = torch.randn_like(z_x)
        return {
            "rec": zoo.half_sse(net.decoder(z_x), x),
            "fool": zoo.real_loss(net.critic(z_x)),
            "gan": zoo.real_loss(net.critic(z)) + zoo.fake_loss(net.critic(z_x.detach())),
        }

    def optimizer(self, network: str, turn: str) -> zoo.Optimizer:
        """Adam with torch's own moments."""
        return zoo.Adam(lr=self.lr, beta1=0.9)


@zoo.frozen
class TheirVAEGAN(VAEGAN):  # type: ignore[misc]
    """pythae's VAE-GAN: samples of the prior alone are fake, and the gradients are those that reach the optimizers."""

    def players(self) -> Mapping[str, Mapping[str, float]]:
        """Weights as they arrive: in words, see the module's text."""
        return {
            "encoder": {"prior": 1.0, "like": 1 + (1 - SHARE)},
            "decoder": {"like": 1 - SHARE, "gan": 1 - SHARE},
            "critic": {"gan": 1.0},
        }

    def terms(self, net: zoo.Networks, x: Tensor) -> Mapping[str, Tensor]:
        """Its losses."""
        q = net.encoder(x)
        z = q.rsample()
        real, rec, new = net.critic(x), net.critic(net.decoder(z)), net.critic(net.decoder(torch.randn_like(z)))
        return {
            "prior": q.kl().mean(),
            "like": zoo.half_sse(rec.features, real.features),
            "gan": zoo.real_loss(real) + zoo.fake_loss(new),
        }

    def optimizer(self, network: str, turn: str) -> zoo.Optimizer:
        """Adam with torch's own moments."""
        return zoo.Adam(lr=self.lr, beta1=0.9)


GAMES: dict[str, tuple[Any, Any]] = {"vae": (VAE, VAE), "aae": (TheirAAE, AAE), "vaegan": (TheirVAEGAN, VAEGAN)}
"""By name: pythae's game as a model of the zoo's, and the paper's, on the same networks."""


def trainer(name: str, net: zoo.Networks, model: Any, images: Tensor, batch: int, device: torch.device) -> Any:
    """Pythae's trainer on the zoo's networks; one ``train_step(1)`` is an epoch over ``images`` uint8 (N, C, H, W)."""
    logging.disable(logging.INFO)
    from pythae import models
    from pythae.data.datasets import BaseDataset
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseDiscriminator, BaseEncoder
    from pythae.trainers import (
        AdversarialTrainer,
        AdversarialTrainerConfig,
        BaseTrainer,
        BaseTrainerConfig,
        CoupledOptimizerAdversarialTrainer,
        CoupledOptimizerAdversarialTrainerConfig,
    )

    class Encoder(BaseEncoder):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.inner = net.encoder

        def forward(self, x: Tensor) -> Any:
            q = self.inner(x if name != "vae" else x * 2 - 1)
            return ModelOutput(embedding=q.mean, log_covariance=getattr(q, "logvar", torch.zeros_like(q.mean)))

    class Decoder(BaseDecoder):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.inner = net.decoder

        def forward(self, z: Tensor) -> Any:
            out = self.inner(z)
            return ModelOutput(reconstruction=out.logits.sigmoid() if name == "vae" else out)

    class Discriminator(BaseDiscriminator):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.depth = net["critic"], 1
            self.layers = nn.ModuleList()

        def forward(self, x: Tensor, output_layer_levels: list[int] | None = None) -> Any:
            output = self.inner(x)
            # Its cross-entropy takes probabilities, where the zoo's takes logits.
            return ModelOutput(embedding=output.logits.sigmoid(), embedding_layer_1=output.features)

    shape = tuple(images.shape[1:])
    floats = images.float() / 127.5 - 1 if name != "vae" else images.float() / 255
    dataset = BaseDataset(floats, torch.zeros(len(images)))
    common = {
        "output_dir": tempfile.mkdtemp(),
        "per_device_train_batch_size": batch,
        "num_epochs": 1,
        "no_cuda": device.type == "cpu",
    }
    if name == "vae":
        config = models.VAEConfig(input_dim=shape, latent_dim=model.latent, reconstruction_loss="bce")
        made = BaseTrainer(
            models.VAE(config, Encoder(), Decoder()),
            dataset,
            None,
            BaseTrainerConfig(learning_rate=model.lr, optimizer_cls="Adam", **common),
        )
    elif name == "aae":
        config = models.Adversarial_AE_Config(
            input_dim=shape, latent_dim=model.latent, reconstruction_loss="mse", deterministic_posterior=True
        )
        made = AdversarialTrainer(
            models.Adversarial_AE(config, Encoder(), Decoder(), Discriminator()),
            dataset,
            None,
            AdversarialTrainerConfig(
                autoencoder_learning_rate=model.lr, discriminator_learning_rate=model.lr, **common
            ),
        )
    else:
        config = models.VAEGANConfig(
            input_dim=shape,
            latent_dim=model.latent,
            adversarial_loss_scale=SHARE,
            reconstruction_layer=1,
            margin=NEVER,
        )
        made = CoupledOptimizerAdversarialTrainer(
            models.VAEGAN(config, Encoder(), Decoder(), Discriminator()),
            dataset,
            None,
            CoupledOptimizerAdversarialTrainerConfig(
                encoder_learning_rate=model.lr,
                decoder_learning_rate=model.lr,
                discriminator_learning_rate=model.lr,
                **common,
            ),
        )
    return made


class Fed:
    """In place of pythae's DataLoader: the engine's own batches, so that both can be held to the same mathematics."""

    def __init__(self, stream: Any, steps: int, name: str) -> None:
        self.stream, self.steps, self.name = stream, steps, name
        self.dataset = range(steps * stream.batch)

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        for i in range(self.steps):
            x = self.stream[i]
            yield {"data": (x + 1) / 2 if self.name == "vae" else x}
