"""Log-likelihood of images by importance sampling, for models with a density."""

from __future__ import annotations

import math
import typing
from collections.abc import Callable, Mapping
from typing import Any, Literal, Self

import attrs
import torch
from torch import Tensor

from zoo.data.pixels import from_uint8
from zoo.errors import UsageError, ZooError
from zoo.metrics.metric import Metric, ReferenceData, concatenate, scalar
from zoo.metrics.score_info import ScoreInfo

__all__ = ["IMAGES", "SAMPLES", "Density", "Estimate", "LogLikelihood", "Observation", "log_likelihood", "observe"]

SAMPLES = 5000
"""Codes per image, as in Wu et al., arXiv:1611.04273, and Burda et al."""
IMAGES = 64
"""Test images scored, drawn with seed 0; each costs 5000 passes through the decoder."""

Observation = Literal["Bernoulli, binarized", "Bernoulli, gray", "Gaussian"]
_OBSERVATIONS: tuple[str, ...] = typing.get_args(Observation)


class _Posterior(typing.Protocol):
    def rsample(self) -> Tensor: ...
    def log_prob(self, z: Tensor, /) -> Tensor: ...


class _Likelihood(typing.Protocol):
    def log_prob(self, x: Tensor, /) -> Tensor: ...


def _standard_normal(z: Tensor) -> Tensor:
    return -0.5 * (z.double().square() + math.log(2 * math.pi)).sum(-1)


@attrs.frozen
class Density:
    """Posterior, likelihood and prior of a model, as callables.

    Args:
        posterior: From images x (B, C, H, W) in [−1, 1] to q(z|x), with ``rsample()`` (B, d) and ``log_prob`` from
            (S, B, d) to (S, B).
        likelihood: From codes z (B, d) to p(x|z), with ``log_prob`` from (B, C, H, W) to (B,), in nats.
        observation: Observation model. Part of the score's name: different ones cannot be compared.
        log_prior: From codes (..., d) to log p(z) (...); N(0, I) by default.
    """

    posterior: Callable[[Tensor], _Posterior]
    likelihood: Callable[[Tensor], _Likelihood]
    observation: Observation
    log_prior: Callable[[Tensor], Tensor] = _standard_normal


@attrs.frozen(eq=False)
class Estimate:
    """Estimates of log p(x) per image, in nats."""

    values: Tensor
    """float64 (N,)."""
    effective: Tensor
    """Effective number of samples per value, from 1 to k; near 1 the bound is loose."""

    @property
    def mean(self) -> float:
        """Mean over images."""
        return float(self.values.mean())

    @property
    def standard_error(self) -> float:
        """Standard error of the mean over images."""
        return standard_error(self.values)


def standard_error(values: Tensor) -> float:
    """Standard error of the mean of values (N,); 0 for a single one."""
    return float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else 0.0


def observe(images: Tensor, observation: Observation, seed: int = 0) -> Tensor:
    """Images as the density observes them.

    Args:
        images: uint8 (N, C, H, W).
        observation: ``Bernoulli, binarized`` draws each pixel as −1 or 1, with its gray value as the probability of 1.
            Only that and ``Gaussian``, a density of x in [−1, 1], are likelihoods; ``Bernoulli, gray`` is the
            cross-entropy of gray values.
        seed: Seed of the binarization.

    Returns:
        float32 (N, C, H, W) in [−1, 1].
    """
    if observation not in _OBSERVATIONS:
        raise UsageError(f"observation: {observation!r} is not allowed; must be one of {', '.join(_OBSERVATIONS)}")
    if observation != "Bernoulli, binarized":
        return from_uint8(images)
    uniform = torch.rand(images.shape, generator=torch.Generator().manual_seed(seed)).to(images.device)
    return (uniform * 255 < images).float() * 2 - 1


@torch.no_grad()
def log_likelihood(density: Density, x: Tensor, *, k: int = SAMPLES, chunk: int = 100) -> Estimate:
    """Importance-weighted bound log (1/k) Σᵢ p(x|zᵢ) p(zᵢ) / q(zᵢ|x) with zᵢ from q(z|x).

    A lower bound on log p(x) in expectation, exact as k grows.

    References:
        Burda, Grosse & Salakhutdinov, arXiv:1509.00519, equation 8.

    Args:
        density: The model.
        x: Images from `observe`.
        k: Samples per image.
        chunk: Codes decoded at a time. From 100 on it does not change the random numbers; 100 suits a CPU's cache, 5000
            a GPU.

    Shape:
        x: (N, C, H, W).

    Raises:
        ZooError: If a weight is NaN, or all weights of an image are zero.
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
        raise ZooError(f"log-likelihood: not finite for {bad} of {len(x)} images; check the model's variances")
    return Estimate(total - math.log(k), (2 * total - (2 * log_w).logsumexp(0)).exp())


class LogLikelihood(Metric):
    """Importance-weighted bound on the log-likelihood of test images.

    Args:
        samples: Codes per image.
        chunk: Codes decoded at a time; see `log_likelihood`.
        **options: See `torchmetrics.Metric`.
    """

    scores = (
        ScoreInfo(
            "log-likelihood ({observation})",
            "importance-weighted lower bound per image",
            higher_is_better=True,
            unit="nats",
            undefined_name="log-likelihood",
        ),
        ScoreInfo(
            "log-likelihood ({observation}) standard error",
            "standard error of the bound over images",
            unit="nats",
            column=False,
            undefined_name="",
        ),
    )
    needs = ("density", "observations")
    paper = "Burda et al., arXiv:1509.00519"
    protocol = f"importance-weighted, k = {SAMPLES}, {IMAGES} test images drawn with seed 0"
    log_p: list[Tensor]

    def __init__(self, samples: int = SAMPLES, chunk: int = 100, **options: Any) -> None:
        super().__init__(**options)
        self.samples, self.chunk, self.observation = samples, chunk, ""
        self.add_state("log_p", [], dist_reduce_fx="cat")

    @classmethod
    def from_reference(cls, reference: ReferenceData) -> Self | None:
        """Use a chunk that suits the device."""
        return cls(chunk=100 if reference.device.type == "cpu" else 5000)

    @property
    def name_fields(self) -> Mapping[str, str]:
        """The observation model."""
        return {"observation": self.observation}

    def update(self, density: Density, observations: Tensor) -> None:
        """Score images from `observe` (N, C, H, W) under a density."""
        self.observation = density.observation
        found = log_likelihood(density, observations, k=self.samples, chunk=self.chunk)
        self.log_p.append(found.values.to(self.device))

    def compute(self) -> dict[str, Tensor]:
        """``mean`` over images and its ``standard error``, in nats."""
        values = concatenate(self.log_p)
        return {"mean": scalar(float(values.mean())), "standard error": scalar(standard_error(values))}
