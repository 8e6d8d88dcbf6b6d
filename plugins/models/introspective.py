"""AGE and Soft-IntroVAE: the encoder is the critic; it separates real from generated images by their codes' divergence.

AGE: Ulyanov, Vedaldi & Lempitsky, AAAI 2018, arXiv:1704.02304. Soft-IntroVAE: Daniel & Tamar, CVPR 2021,
arXiv:2012.13253.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import zoo

from ..presets import introspective as presets


@zoo.frozen
class AGE(zoo.Autoencoder):
    """Encoder against generator: codes of real images are uniform on the sphere, those of generated images not."""

    paper: ClassVar[str] = "Ulyanov, Vedaldi & Lempitsky, AAAI 2018, arXiv:1704.02304"
    deviations: ClassVar[Mapping[str, str]] = {
        "smaller networks, 16 dimensions": "for any size; the paper uses those of DCGAN and 64 (--family age-conv)",
        "learning rate 5e-4": "with the paper's 2e-4, some classes are rare after short training",
    }
    presets: ClassVar[Mapping[str, zoo.Preset]] = {"paper": presets.AGE}

    latent: int = zoo.option(16, "Dimensions of the code z.", zoo.at_least(2))
    lr: float = zoo.option(5e-4, "Learning rate of Adam.", zoo.above(0))
    rec: float = zoo.option(10.0, "Weight of the mean absolute reconstruction error, for the encoder.", zoo.at_least(0))
    cycle: float = zoo.option(10.0, "λ: weight of 1 − cos(z, e(g(z))), for the decoder.", zoo.at_least(0))
    n_decoder: int = zoo.option(2, "Decoder updates per encoder update.", zoo.at_least(1))

    def networks(self, data: zoo.DataSpec) -> Mapping[str, nn.Module]:
        return {
            "encoder": SphericalEncoder(zoo.encoder(data, self.latent, posterior="point", **self.network_options)),
            "decoder": zoo.decoder(data, self.latent, **self.network_options),
        }

    def prior(self, like: Tensor, n: int | None = None) -> Tensor:
        """Uniform on the sphere of radius √d, whose coordinates have variance 1."""
        return on_sphere(super().prior(like, n))

    def turns(self) -> tuple[zoo.Turn, ...]:
        return (
            zoo.Turn(
                {"encoder": {"kl real": 1.0, "kl fake": -1.0, "rec": self.rec}}, self.encoder_terms, name="encoder"
            ),
            zoo.Turn(
                {"decoder": {"kl fake": 1.0, "cycle": self.cycle}},
                self.decoder_terms,
                name="decoder",
                repeat=self.n_decoder,
            ),
        )

    def encoder_terms(self, net: zoo.Networks, x: Tensor) -> Mapping[str, Tensor]:
        """The encoder's losses."""
        z_x = net.encoder(x).rsample()
        z_new = net.encoder(net.decoder(self.prior(x))).rsample()
        rec = zoo.l1_loss(x, net.decoder(z_x)) / x[0].numel()
        return {"kl real": batch_kl(z_x), "kl fake": batch_kl(z_new), "rec": rec}

    def decoder_terms(self, net: zoo.Networks, x: Tensor) -> Mapping[str, Tensor]:
        """The decoder's losses."""
        z = self.prior(x)
        z_new = net.encoder(net.decoder(z)).rsample()
        return {"kl fake": batch_kl(z_new), "cycle": 1 - F.cosine_similarity(z, z_new).mean()}


class SphericalEncoder(zoo.Encoder):
    """Deterministic encoder with codes on the sphere of radius √d."""

    def __init__(self, encoder: zoo.Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor) -> zoo.Posterior:
        return zoo.PointPosterior(on_sphere(self.encoder(x).mean))


def on_sphere(z: Tensor) -> Tensor:
    """Codes z (B, d) scaled to norm √d."""
    scaled: Tensor = F.normalize(z) * z.shape[1] ** 0.5
    return scaled


def batch_kl(z: Tensor) -> Tensor:
    """KL(N(m, s²) ‖ N(0, 1)), m and s² being moments of a coordinate over the batch z (B, d); mean: equation 6."""
    mean, var = z.mean(0), z.var(0, unbiased=False) + 1e-6
    return 0.5 * (mean.square() + var - 1 - var.log()).mean()


@zoo.frozen
class SoftIntroVAE(zoo.Autoencoder):
    """A VAE whose encoder lowers the ELBO of generated images and whose decoder raises it."""

    paper: ClassVar[str] = "Daniel & Tamar, CVPR 2021, arXiv:2012.13253"
    deviations: ClassVar[Mapping[str, str]] = {
        "strided convolutions": "for any image size; the paper's networks are residual (--family soft-introvae-conv)",
        "β_neg proportional to image size": "the paper's 256 at 32×32×3, so that exp(−2s·β_neg·KL) is exp(−KL/6) "
        "at any size; on small gray images 256 makes it zero, and the encoder no longer opposes the decoder",
        "β_rec twice the authors'": "1, of ½‖x − x̂‖² with pixels in [−1, 1]; theirs is of ‖x − x̂‖² in [0, 1]",
        "16 dimensions": "with the paper's 32, codes do not cover the prior after short training on small images",
        "learning rate 5e-4": "the paper's 2e-4 is for longer training",
    }
    presets: ClassVar[Mapping[str, zoo.Preset]] = {"paper": presets.SOFT_INTROVAE}

    lr: float = zoo.option(5e-4, "Learning rate of Adam.", zoo.above(0))
    beta_rec: float = zoo.option(1.0, "β_rec: weight of the reconstruction error.", zoo.above(0))
    beta_kl: float = zoo.option(1.0, "β_kl: weight of the KL of real images.", zoo.above(0))
    beta_neg: float | None = zoo.option(
        None, "β_neg: weight of the KL of generated images, for the encoder; default 256·C·H·W/3072.", zoo.above(0)
    )
    gamma: float = zoo.option(1e-8, "γ: weight of the reconstruction of generated images (decoder).", zoo.at_least(0))

    def networks(self, data: zoo.DataSpec) -> Mapping[str, nn.Module]:
        return {
            "encoder": zoo.encoder(data, self.latent, **self.network_options),
            "decoder": zoo.decoder(data, self.latent, **self.network_options),
        }

    def turns(self) -> tuple[zoo.Turn, ...]:
        return (
            zoo.Turn({"encoder": {"elbo": 1.0, "exp elbo": 0.25}}, self.encoder_terms, name="encoder"),
            zoo.Turn(
                {"decoder": {"rec": 1.0, "kl fake": 1.0, "rec fake": self.gamma}}, self.decoder_terms, name="decoder"
            ),
        )

    def encoder_terms(self, net: zoo.Networks, x: Tensor) -> Mapping[str, Tensor]:
        """The encoder's losses: the negative ELBO of real images, and exp(ELBO) of generated ones."""
        s = 1 / x[0].numel()
        q = net.encoder(x)
        x_rec = net.decoder(q.rsample())
        generated = [v.detach() for v in (x_rec, net.decoder(self.prior(x)))]
        beta_neg = self.beta_neg or 256 / 3072 / s
        soft = [torch.exp(-2 * s * self.negative_elbo(net, v, net.encoder(v), beta_neg)).mean() for v in generated]
        elbo = s * (self.beta_rec * half_squared_error(x_rec, x) + self.beta_kl * q.kl()).mean()
        return {"elbo": elbo, "exp elbo": sum(soft), "kl real": q.kl().mean().detach()}

    def negative_elbo(self, net: zoo.Networks, x: Tensor, q: zoo.GaussianPosterior, beta: float) -> Tensor:
        """β_rec L + β KL per image, (B,)."""
        return self.beta_rec * half_squared_error(net.decoder(q.rsample()), x) + beta * q.kl()

    def decoder_terms(self, net: zoo.Networks, x: Tensor) -> Mapping[str, Tensor]:
        """The decoder's losses: reconstruction, and the KL of generated images."""
        s = 1 / x[0].numel()
        x_rec = net.decoder(net.encoder(x).rsample())
        generated = [x_rec, net.decoder(self.prior(x))]
        posteriors = [net.encoder(v) for v in generated]
        again = [
            half_squared_error(net.decoder(q.rsample().detach()), v.detach())
            for q, v in zip(posteriors, generated, strict=True)
        ]
        return {
            "rec": s * self.beta_rec * half_squared_error(x_rec, x).mean(),
            "kl fake": s * 0.5 * self.beta_kl * torch.stack([q.kl().mean() for q in posteriors]).sum(),
            "rec fake": s * 0.5 * self.beta_rec * torch.stack(again).mean(1).sum(),
        }


def half_squared_error(a: Tensor, b: Tensor) -> Tensor:
    """½‖a − b‖² per image, (B,)."""
    return 0.5 * (a - b).square().flatten(1).sum(1)


@zoo.hookimpl
def zoo_models() -> Mapping[str, type[zoo.Objective]]:
    return {"age": AGE, "soft-introvae": SoftIntroVAE}
