"""Inputs of the evaluation that a trained model supplies: samples, reconstructions, codes and densities.

Random numbers are drawn on the CPU and then moved, so that scores agree on all devices up to rounding. A network that
draws its own noise (the encoder of AVB) draws it on its device.
"""

from __future__ import annotations

import torch
from torch import Tensor

from zoo.data import from_uint8, to_uint8
from zoo.distributions import BernoulliLikelihood, GaussianLikelihood, GaussianPosterior, Likelihood, Posterior
from zoo.evaluation import Codes
from zoo.interfaces import Autoencoder, Generator
from zoo.metrics import Density
from zoo.run.trained import TrainedAutoencoder, TrainedModel

__all__ = ["Sampler", "make_codes", "make_density", "make_reconstructions"]


class Sampler:
    """Generates images batch by batch; those of a conditional model are of all classes in turn over all batches.

    Args:
        trained: The model.
    """

    def __init__(self, trained: TrainedModel) -> None:
        self.trained = trained
        self._done = 0
        self._labels = torch.empty(0, dtype=torch.int64)

    def sample(self, n: int) -> Tensor:
        """Generate images: uint8 (n, C, H, W) on the CPU."""
        if self.trained.objective.conditional:
            self._labels = torch.arange(self._done, self._done + n) % len(self.trained.data.classes)
        self._done += n
        y = self.trained.only_if_conditional(self._labels)
        return torch.cat([to_uint8(part).cpu() for part in self.trained.sample_parts(n, y=y)])

    def labels(self, n: int) -> Tensor:
        """Labels (n,) of the last n images, of a conditional model."""
        return self._labels[-n:]


def make_reconstructions(trained: TrainedAutoencoder, x: Tensor, y: Tensor | None) -> Tensor:
    """Reconstruct uint8 images (B, C, H, W) with labels (B,): uint8, same shape, on the CPU."""
    return torch.cat([to_uint8(part).cpu() for part in trained.reconstruction_parts(x, trained.only_if_conditional(y))])


def make_codes(trained: TrainedModel) -> Codes | None:
    """Encoder, decoder and prior of a model; None if it has no encoder."""
    if not isinstance(trained, TrainedAutoencoder):
        return None

    @torch.no_grad()
    def draw(x: Tensor, y: Tensor | None) -> Tensor:
        labels = trained.labels(trained.only_if_conditional(y), len(x))
        posterior: Posterior = trained.networks["encoder"](from_uint8(x).to(trained.device), *labels)
        drawn = _on_cpu(posterior) if isinstance(posterior, GaussianPosterior) else posterior
        return drawn.rsample().float().cpu()

    return Codes(
        encode=lambda x, y: trained.encode(x, trained.only_if_conditional(y)).cpu(),
        decode=lambda z, y: to_uint8(trained.decode(z, trained.only_if_conditional(y))).cpu(),
        prior=lambda count: trained.objective.prior(torch.empty(0), count),
        sample=draw if type(trained.objective).encode is Autoencoder.encode else None,
    )


def make_density(trained: TrainedModel) -> Density | None:
    """Densities of posterior, likelihood and prior; None if one is not known in closed form or depends on labels."""
    if not isinstance(trained, TrainedAutoencoder) or trained.objective.conditional:
        return None
    if type(trained.objective).prior is not Generator.prior:
        return None
    net, device = trained.networks, trained.device
    with torch.no_grad():
        posterior = net["encoder"](torch.zeros(1, *trained.data.shape, device=device))
        if not isinstance(posterior, GaussianPosterior):
            return None
        likelihood = net["decoder"](posterior.mean)
    if not isinstance(likelihood, BernoulliLikelihood | GaussianLikelihood):
        return None
    return Density(
        posterior=lambda x: _on_cpu(net["encoder"](x.to(device))),
        likelihood=lambda z: _MovedLikelihood(net["decoder"](z.to(device)), device),
        observation="Bernoulli, binarized" if isinstance(likelihood, BernoulliLikelihood) else "Gaussian",
    )


def _on_cpu(posterior: GaussianPosterior) -> GaussianPosterior:
    """The same posterior on the CPU, which then draws its samples."""
    return GaussianPosterior(posterior.mean.cpu(), posterior.logvar.cpu())


class _MovedLikelihood:
    """A likelihood on one device for images on another."""

    def __init__(self, likelihood: Likelihood, device: torch.device) -> None:
        self._likelihood, self._device = likelihood, device

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-likelihood in nats, (B,), of images (B, C, H, W) in [−1, 1], on the device of the images."""
        return self._likelihood.log_prob(x.to(self._device)).to(x.device)
