"""Outputs of encoders and decoders: posteriors over z and likelihoods of x."""

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
    "binarize",
    "standard_normal_log_prob",
]

_LOG_2PI = math.log(2 * math.pi)


def standard_normal_log_prob(z: Tensor) -> Tensor:
    """Log density of N(0, I) at codes z (..., d), in nats, with shape (...)."""
    return -0.5 * (z.square() + _LOG_2PI).sum(-1)


def binarize(x: Tensor) -> Tensor:
    """Sample binary images (dynamic binarization): a pixel is 1 with probability (x + 1)/2, otherwise −1.

    Args:
        x: Images (B, C, H, W) in [−1, 1].

    >>> binarize(torch.tensor([-1.0, 1.0]))
    tensor([-1.,  1.])
    """
    return torch.bernoulli((x + 1) / 2) * 2 - 1


class Posterior(abc.ABC):
    """Distribution of codes z for a batch of B images."""

    mean: Tensor
    """Mean, (B, d)."""

    @abc.abstractmethod
    def rsample(self) -> Tensor:
        """Reparameterized sample, (B, d)."""


@final
class PointPosterior(Posterior):
    """Posterior of a deterministic encoder: all mass on one code, without a density.

    Args:
        mean: The code, (B, d).
    """

    def __init__(self, mean: Tensor) -> None:
        self.mean = mean.float()

    def rsample(self) -> Tensor:
        """The code, (B, d)."""
        return self.mean


@final
class GaussianPosterior(Posterior):
    """Gaussian posterior N(mean, diag σ²).

    Args:
        mean: (B, d).
        logvar: log σ², (B, d).

    >>> q = GaussianPosterior(torch.zeros(2, 3), torch.zeros(2, 3))
    >>> q.kl()
    tensor([0., 0.])
    """

    def __init__(self, mean: Tensor, logvar: Tensor) -> None:
        # In float32 even under autocast: divergences sum many squares and exponentials.
        self.mean, self.logvar = mean.float(), logvar.float()

    @property
    def std(self) -> Tensor:
        """Standard deviations, (B, d)."""
        return (0.5 * self.logvar).exp()

    def rsample(self) -> Tensor:
        """Reparameterized sample mean + σ·ε with ε ~ N(0, I), (B, d)."""
        return torch.addcmul(self.mean, self.std, torch.randn_like(self.mean))

    def log_prob(self, z: Tensor) -> Tensor:
        """Log density at z (..., B, d), in nats, (..., B)."""
        square = (z - self.mean).square() * (-self.logvar).exp()
        return -0.5 * (square + self.logvar + _LOG_2PI).sum(-1)

    def kl(self) -> Tensor:
        """KL(q ‖ N(0, I)), in nats, (B,): Kingma & Welling, arXiv:1312.6114, appendix B."""
        return 0.5 * (self.mean.square() + self.logvar.exp() - 1 - self.logvar).sum(-1)


class Likelihood(abc.ABC):
    """Distribution of images x in [−1, 1] for a batch of B codes."""

    mean: Tensor
    """Mean image, (B, C, H, W) in [−1, 1]."""

    @abc.abstractmethod
    def log_prob(self, x: Tensor) -> Tensor:
        """Log density (or mass) of x (B, C, H, W), in nats, summed over pixels, (B,)."""


@final
class BernoulliLikelihood(Likelihood):
    """Independent Bernoulli pixels; :meth:`log_prob` reads gray levels as probabilities of white.

    It is a log mass for binary x, and the cross-entropy of Kingma & Welling's experiments for gray x.

    Args:
        logits: (B, C, H, W).
    """

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits.float()

    @property
    def mean(self) -> Tensor:  # type: ignore[override]
        """Mean image 2·sigmoid(logits) − 1, (B, C, H, W)."""
        return (0.5 * self.logits).tanh()

    def log_prob(self, x: Tensor) -> Tensor:
        """Log mass of (x + 1)/2 for x (B, C, H, W) in [−1, 1], in nats, (B,)."""
        target = x.mul(0.5).add(0.5)
        return -F.binary_cross_entropy_with_logits(self.logits, target, reduction="none").flatten(1).sum(1)


@final
class GaussianLikelihood(Likelihood):
    """Independent Gaussian pixels N(mean, σ²) with one σ for all pixels.

    Args:
        mean: Images (B, C, H, W) in [−1, 1].
        log_std: log σ, a scalar tensor.
    """

    def __init__(self, mean: Tensor, log_std: Tensor) -> None:
        self.mean, self.log_std = mean.float(), log_std.float()

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density at x (B, C, H, W), in nats, summed over pixels, (B,)."""
        square = (x - self.mean).square() * (-2 * self.log_std).exp()
        return -0.5 * (square + 2 * self.log_std + _LOG_2PI).flatten(1).sum(1)
