"""The log-likelihood of images by annealed importance sampling: slower than the bound, and free of the encoder."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import torch
from torch import Tensor

from zoo.errors import UsageError, ZooError
from zoo.evaluation.likelihood import Density, LogLikelihood

__all__ = ["CHAINS", "LEAPFROG", "STEPS", "annealed_log_likelihood", "temperatures"]

STEPS = 1000
"""Distributions between the prior and the posterior. Wu et al. take 10,000 for their tables."""
CHAINS = 16
LEAPFROG = 10
_PILOT = 4
"""Chains of the run that finds the step sizes."""
_ACCEPTED = 0.65
_GAIN = 0.3
_FIRST, _SMALLEST, _LARGEST = 0.3, 1e-5, 1.5


def temperatures(steps: int) -> list[float]:
    """β from 0 to 1, ``steps`` of them after the 0: a sigmoid from −4 to 4, which is dense at both ends.

    >>> [round(b, 3) for b in temperatures(4)]
    [0.0, 0.105, 0.5, 0.895, 1.0]
    """
    curve = [1 / (1 + math.exp(-4 * (2 * t / steps - 1))) for t in range(steps + 1)]
    return [(value - curve[0]) / (curve[-1] - curve[0]) for value in curve]


def annealed_log_likelihood(
    density: Density, x: Tensor, *, chains: int = CHAINS, steps: int = STEPS, leapfrog: int = LEAPFROG
) -> LogLikelihood:
    """Log p(x) by chains of codes that go from N(0, I) to p(z|x), by Hamiltonian Monte Carlo at each step.

    Each chain's weight has p(x) as its mean, so that the log of their mean is a bound from below in the mean, however
    wrong the encoder is: it is asked for the number of dimensions alone. Step sizes are found by a run before, for an
    acceptance of 0.65, and then stay as they are: sizes that followed the chains themselves would cost the bound.

    References:
        Neal, *Annealed importance sampling*, 2001; Wu, Burda, Salakhutdinov & Grosse, arXiv:1611.04273, section 3.

    Args:
        density: the model.
        x: images, with shape (N, C, H, W), as `observed` gives them.
        chains: how many for each image; all N · chains codes are decoded at once.
        steps: distributions from the prior to the posterior.
        leapfrog: steps of a trajectory; each costs a pass through the decoder and back.

    Returns:
        The values in nats; ``effective`` counts chains.

    Raises:
        ZooError: where a weight is not a number.
    """
    if min(chains, steps, leapfrog, len(x)) < 1:
        raise UsageError(
            f"chains {chains}, steps {steps}, leapfrog {leapfrog} and {len(x)} images are not allowed; "
            "each must be at least 1"
        )
    with torch.no_grad():
        latent = density.posterior(x[:1]).rsample().shape[-1]
    sizes = _Pilot(len(x))
    for _ in _anneal(density, x, latent, min(_PILOT, chains), temperatures(steps), leapfrog, sizes):
        pass
    log_w = torch.zeros(chains, len(x), dtype=torch.float64)
    for change in _anneal(density, x, latent, chains, temperatures(steps), leapfrog, iter(sizes.found)):
        log_w += change
    total = log_w.logsumexp(0)
    if not bool(torch.isfinite(total).all()):
        bad = int((~torch.isfinite(total)).sum())
        raise ZooError(f"log-likelihood (AIS): {bad} of {len(x)} images have no finite one; look at the model")
    return LogLikelihood(total - math.log(chains), (2 * total - (2 * log_w).logsumexp(0)).exp())


class _Pilot:
    """Step sizes, (N,), that follow the acceptance which they are told; all are kept."""

    def __init__(self, n: int) -> None:
        self.found = [torch.full((n,), _FIRST)]

    def __iter__(self) -> Iterator[Tensor]:
        return self

    def __next__(self) -> Tensor:
        return self.found[-1]

    def tell(self, accepted: Tensor) -> None:
        """Take in the chances of acceptance, (chains, N)."""
        factor = (_GAIN * (accepted.mean(0) - _ACCEPTED)).exp().float()
        self.found.append((self.found[-1] * factor).clamp(_SMALLEST, _LARGEST))


def _anneal(
    density: Density,
    x: Tensor,
    latent: int,
    chains: int,
    betas: list[float],
    leapfrog: int,
    sizes: _Pilot | Iterator[Tensor],
) -> Iterator[Tensor]:
    """What each temperature adds to the log weights, (chains, N) float64.

    The target at β is N(z; 0, I) · r(z)^β, where r(z) = p(z) p(x|z) / N(z; 0, I). Its energy is |z|²/2 − β·log r(z).
    """
    repeated = x.repeat(chains, *[1] * (x.dim() - 1))

    def ratio(z: Tensor) -> tuple[Tensor, Tensor]:
        """Log r, float64 (chains, N), and its gradient in z (chains, N, d)."""
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            flat = z.flatten(0, 1)
            log_x = density.likelihood(flat).log_prob(repeated).double()
            normal = -0.5 * (flat.double().square() + math.log(2 * math.pi)).sum(-1)
            log_r = (log_x + density.log_prior(flat).double() - normal).view(chains, len(x))
            (slope,) = torch.autograd.grad(log_r.sum(), z)
        return log_r.detach(), slope

    z = torch.randn(chains, len(x), latent)
    log_r, slope = ratio(z)
    for before, beta in itertools.pairwise(betas):
        yield (beta - before) * log_r
        # A length that varies a little: with a fixed one a trajectory may end where it began.
        size = next(sizes).unsqueeze(-1) * (0.8 + 0.4 * torch.rand(chains, len(x), 1))
        momentum = torch.randn_like(z)
        start = _energy(z, momentum, beta * log_r)
        there, there_r, there_slope = z, log_r, slope
        p = momentum - 0.5 * size * (there - beta * there_slope)
        for i in range(leapfrog):
            there = there + size * p
            there_r, there_slope = ratio(there)
            p = p - (size if i + 1 < leapfrog else 0.5 * size) * (there - beta * there_slope)
        # A trajectory that left for infinity has no energy: it is not accepted.
        gain = (start - _energy(there, p, beta * there_r)).nan_to_num(nan=-torch.inf)
        chance = gain.clamp(max=0).exp()
        taken = torch.rand(chains, len(x), dtype=torch.float64) < chance
        z = torch.where(taken.unsqueeze(-1), there, z)
        slope = torch.where(taken.unsqueeze(-1), there_slope, slope)
        log_r = torch.where(taken, there_r, log_r)
        if isinstance(sizes, _Pilot):
            sizes.tell(chance)


def _energy(z: Tensor, momentum: Tensor, tempered: Tensor) -> Tensor:
    """|z|²/2 + |p|²/2 − β·log r, float64 (chains, N)."""
    return 0.5 * (z.double().square() + momentum.double().square()).sum(-1) - tempered
