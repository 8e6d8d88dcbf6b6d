"""The log-likelihood of images by importance sampling, for models that have a density."""

from __future__ import annotations

import math
import typing
from collections.abc import Callable
from typing import Literal

import attrs
import torch
from torch import Tensor

from zoo.data.pixels import from_uint8
from zoo.errors import UsageError, ZooError

__all__ = ["IMAGES", "SAMPLES", "Density", "LogLikelihood", "Observation", "log_likelihood", "observed"]

SAMPLES = 5000
"""Codes drawn for each image: Wu et al., arXiv:1611.04273, and Burda et al. take as many."""
IMAGES = 64
"""Test images that are judged, drawn with a seed: each costs 5000 passes of the decoder."""

Observation = Literal["Bernoulli, binarized", "Bernoulli, gray", "Gaussian"]
_OBSERVATIONS: tuple[str, ...] = typing.get_args(Observation)


class _Posterior(typing.Protocol):
    def rsample(self) -> Tensor: ...
    def log_prob(self, z: Tensor, /) -> Tensor: ...


class _Likelihood(typing.Protocol):
    def log_prob(self, x: Tensor, /) -> Tensor: ...


def _standard(z: Tensor) -> Tensor:
    return -0.5 * (z.double().square() + math.log(2 * math.pi)).sum(-1)


@attrs.frozen
class Density:
    """A model that says how probable an image is: posterior, likelihood and prior as callables."""

    posterior: Callable[[Tensor], _Posterior]
    """From images x (B, C, H, W) in [−1, 1] to q(z|x): ``rsample()`` (B, d), ``log_prob`` of (S, B, d) to (S, B)."""
    likelihood: Callable[[Tensor], _Likelihood]
    """From codes (B, d) to p(x|z): ``log_prob`` of x (B, C, H, W) to (B,), in nats."""
    observation: Observation
    """What is observed, which names the score: numbers under different ones do not compare."""
    log_prior: Callable[[Tensor], Tensor] = _standard
    """From codes (..., d) to log p(z) (...); N(0, I) by default."""


@attrs.frozen(eq=False)
class LogLikelihood:
    """The importance-weighted bound on log p(x), in nats, image by image."""

    values: Tensor
    """float64 (N,)."""
    effective: Tensor
    """The effective number of samples behind each value, 1 to k; where it is near 1 the bound is loose."""

    @property
    def mean(self) -> float:
        """The mean over images."""
        return float(self.values.mean())

    @property
    def standard_error(self) -> float:
        """Of the mean, by the spread of the images."""
        return float(self.values.std()) / math.sqrt(len(self.values)) if len(self.values) > 1 else 0.0


def observed(images: Tensor, observation: Observation, seed: int = 0) -> Tensor:
    """Uint8 images (N, C, H, W) as the density sees them: float32 in [−1, 1].

    ``Bernoulli, binarized`` draws each pixel, −1 or 1, with its gray value as probability, by ``seed``. Only that and
    ``Gaussian`` (a density of x in [−1, 1]) are likelihoods; ``Bernoulli, gray`` is the cross-entropy of a gray value.
    """
    if observation not in _OBSERVATIONS:
        raise UsageError(f"observation: {observation!r} is not allowed; must be one of {', '.join(_OBSERVATIONS)}")
    if observation != "Bernoulli, binarized":
        return from_uint8(images)
    uniform = torch.rand(images.shape, generator=torch.Generator().manual_seed(seed)).to(images.device)
    return (uniform * 255 < images).float() * 2 - 1


@torch.no_grad()
def log_likelihood(density: Density, x: Tensor, *, k: int = SAMPLES, chunk: int = 100) -> LogLikelihood:
    """Log (1/k) Σᵢ p(x|zᵢ) p(zᵢ) / q(zᵢ|x) with zᵢ from q(z|x): a lower bound in the mean, exact as k grows.

    References:
        Burda, Grosse & Salakhutdinov, arXiv:1509.00519, equation 8.

    Args:
        density: the model.
        x: images, with shape (N, C, H, W), as `observed` gives them.
        k: samples an image.
        chunk: how many codes are decoded at a time; from 100 on it does not change the draws. 100 suits a CPU's cache,
            5000 a GPU.

    Raises:
        ZooError: where a weight is not a number, or every weight of an image is zero.
    """
    if k < 1 or chunk < 1 or not len(x):
        raise UsageError(f"k {k}, chunk {chunk} and {len(x)} images are not allowed; each must be at least 1")
    parts = []
    for images in torch.split(x, min(chunk, 100)):
        posterior = density.posterior(images)
        once = max(1, chunk // len(images))
        weights = []
        for done in range(0, k, once):
            draws = min(once, k - done)
            z = torch.stack([posterior.rsample() for _ in range(draws)])
            log_q = posterior.log_prob(z).double()
            repeated = images.repeat(draws, *[1] * (images.dim() - 1))
            log_x = density.likelihood(z.flatten(0, 1)).log_prob(repeated).double().view(draws, len(images))
            weights.append((log_x + density.log_prior(z).double() - log_q).cpu())
        parts.append(torch.cat(weights))
    log_w = torch.cat(parts, 1)
    total = log_w.logsumexp(0)
    if not bool(torch.isfinite(total).all()) or bool(log_w.isnan().any()):
        bad = int((~torch.isfinite(total)).sum())
        raise ZooError(f"log-likelihood: {bad} of {len(x)} images have no finite one; look at the model's variances")
    return LogLikelihood(total - math.log(k), (2 * total - (2 * log_w).logsumexp(0)).exp())
