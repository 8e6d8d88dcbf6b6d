"""What encoders and decoders return: posteriors over z and likelihoods of x, with just the methods they can honor."""

from __future__ import annotations

import abc
import math
from typing import final

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = [
    "BernoulliLikelihood",
    "GaussianLikelihood",
    "GaussianPosterior",
    "Likelihood",
    "PointPosterior",
    "Posterior",
    "standard_normal_log_prob",
]

_LOG_2PI = math.log(2 * math.pi)


def standard_normal_log_prob(z: Tensor) -> Tensor:
    """Log N(z; 0, I) of codes z (..., d), in nats, (...)."""
    return -0.5 * (z.square() + _LOG_2PI).sum(-1)


class Posterior(abc.ABC):
    """A distribution over codes z, given a batch of B images."""

    mean: Tensor
    """Its mean, (B, d)."""

    @abc.abstractmethod
    def rsample(self) -> Tensor:
        """Codes drawn from it, (B, d), through which gradients flow (reparameterized)."""


@final
class PointPosterior(Posterior):
    """A deterministic encoder's posterior: all mass on one code. It has no density, hence no ``log_prob``."""

    def __init__(self, mean: Tensor) -> None:
        self.mean = mean.float()

    def rsample(self) -> Tensor:
        """The code itself, (B, d)."""
        return self.mean


@final
class GaussianPosterior(Posterior):
    """N(mean, diag σ²), given as mean and log σ², both (B, d).

    >>> q = GaussianPosterior(torch.zeros(2, 3), torch.zeros(2, 3))
    >>> q.kl()
    tensor([0., 0.])
    """

    def __init__(self, mean: Tensor, logvar: Tensor) -> None:
        # Divergences are sums over many squares and exponentials: always in float32, whatever autocast does.
        self.mean, self.logvar = mean.float(), logvar.float()

    @property
    def std(self) -> Tensor:
        """Standard deviations, (B, d)."""
        return (0.5 * self.logvar).exp()

    def rsample(self) -> Tensor:
        """Mean + σ·ε with ε ~ N(0, I), (B, d)."""
        return torch.addcmul(self.mean, self.std, torch.randn_like(self.mean))

    def log_prob(self, z: Tensor) -> Tensor:
        """Log density of z (..., B, d) in nats, (..., B)."""
        square = (z - self.mean).square() * (-self.logvar).exp()
        return -0.5 * (square + self.logvar + _LOG_2PI).sum(-1)

    def kl(self) -> Tensor:
        """KL(q ‖ N(0, I)) in nats, (B,). Kingma & Welling 2013, appendix B."""
        return 0.5 * (self.mean.square() + self.logvar.exp() - 1 - self.logvar).sum(-1)


class Likelihood(abc.ABC):
    """A distribution over images x in [−1, 1], given a batch of B codes."""

    mean: Tensor
    """The mean image, (B, C, H, W) in [−1, 1]."""

    @abc.abstractmethod
    def log_prob(self, x: Tensor) -> Tensor:
        """Log density (or mass) of x (B, C, H, W) in nats, summed over the pixels, (B,)."""


@final
class BernoulliLikelihood(Likelihood):
    """Independent Bernoulli pixels, of logits (B, C, H, W); a gray pixel counts as the probability of white.

    With binary x it is a mass; with gray x the cross-entropy of Kingma & Welling's experiments.
    """

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits.float()

    @property
    def mean(self) -> Tensor:  # type: ignore[override]
        """The mean image, (B, C, H, W) in [−1, 1]: 2·sigmoid(logits) − 1."""
        return (0.5 * self.logits).tanh()

    def log_prob(self, x: Tensor) -> Tensor:
        """Log mass of x (B, C, H, W) in [−1, 1], read as (x + 1)/2, in nats, (B,)."""
        target = x.mul(0.5).add(0.5)
        return -F.binary_cross_entropy_with_logits(self.logits, target, reduction="none").flatten(1).sum(1)


@final
class GaussianLikelihood(Likelihood):
    """Independent N(mean, σ²) pixels with one σ for all, in units of x ∈ [−1, 1]; ``log_std`` is a scalar tensor."""

    def __init__(self, mean: Tensor, log_std: Tensor) -> None:
        self.mean, self.log_std = mean.float(), log_std.float()

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density of x (B, C, H, W) in nats, summed over the pixels, (B,)."""
        square = (x - self.mean).square() * (-2 * self.log_std).exp()
        return -0.5 * (square + 2 * self.log_std + _LOG_2PI).flatten(1).sum(1)
