"""What the evaluation asks of a trained model, as callables: to generate, to reconstruct, its codes and its density.

Whatever is drawn is drawn on the CPU and then moved, so that scores are the same on any device up to rounding. Noise
that a network draws inside itself (AVB's encoder) stays the device's own.
"""

from __future__ import annotations

import torch
from torch import Tensor

from zoo.data import to_uint8, to_unit
from zoo.distributions import Bernoulli, Gaussian, Likelihood, Normal, Posterior
from zoo.evaluation import Codes, Density
from zoo.interfaces import Autoencoder, Generator
from zoo.run.trained import Trained, TrainedAutoencoder

__all__ = ["codes_of", "density_of", "generate_of", "reconstruct_of"]


def generate_of(trained: Trained, n: int) -> Tensor:
    """N new images as files hold them, uint8 (n, C, H, W) on the CPU."""
    return to_uint8(trained.sample(n)).cpu()


def reconstruct_of(trained: TrainedAutoencoder, x: Tensor) -> Tensor:
    """What becomes of uint8 images (B, C, H, W), uint8 on the CPU."""
    return to_uint8(trained.reconstruct(to_unit(x))).cpu()


def codes_of(trained: Trained) -> Codes | None:
    """Encoder, decoder and prior as the evaluation asks for them; None where there is no encoder."""
    if not isinstance(trained, TrainedAutoencoder):
        return None

    @torch.no_grad()
    def draw(x: Tensor) -> Tensor:
        posterior: Posterior = trained.networks["encoder"](to_unit(x).to(trained.device))
        drawn = _on_cpu(posterior) if isinstance(posterior, Gaussian) else posterior
        return drawn.rsample().float().cpu()

    return Codes(
        encode=lambda x: trained.encode(x).cpu(),
        decode=lambda z: to_uint8(trained.decode(z)).cpu(),
        prior=lambda count: trained.objective.prior(torch.empty(0), count),
        draw=draw if type(trained.objective).encode is Autoencoder.encode else None,
    )


def density_of(trained: Trained) -> Density | None:
    """The density, where posterior, likelihood and prior are ones whose densities are known; else None."""
    if not isinstance(trained, TrainedAutoencoder) or type(trained.objective).prior is not Generator.prior:
        return None
    net, device = trained.networks, trained.device
    with torch.no_grad():
        posterior = net["encoder"](torch.zeros(1, *trained.data.shape, device=device))
        if not isinstance(posterior, Gaussian):
            return None
        likelihood = net["decoder"](posterior.mean)
    if not isinstance(likelihood, Bernoulli | Normal):
        return None
    return Density(
        posterior=lambda x: _on_cpu(net["encoder"](x.to(device))),
        likelihood=lambda z: _Moved(net["decoder"](z.to(device)), device),
        observation="Bernoulli, binarised" if isinstance(likelihood, Bernoulli) else "Gaussian",
    )


def _on_cpu(posterior: Gaussian) -> Gaussian:
    """The same posterior, its draws the CPU's."""
    return Gaussian(posterior.mean.cpu(), posterior.logvar.cpu())


class _Moved:
    """A likelihood on a device, of images from another."""

    def __init__(self, likelihood: Likelihood, device: torch.device) -> None:
        self._likelihood, self._device = likelihood, device

    def log_prob(self, x: Tensor) -> Tensor:
        """Of images (B, C, H, W) in [−1, 1], in nats, (B,), where the images are."""
        return self._likelihood.log_prob(x.to(self._device)).to(x.device)
