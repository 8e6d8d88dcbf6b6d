"""Log-likelihood of images by annealed importance sampling: slower than the bound, independent of the encoder."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from zoo.errors import UsageError, ZooError
from zoo.metrics.likelihood import IMAGES, Density, Estimate, standard_error
from zoo.metrics.metric import Metric, MetricSet, concatenate, scalar
from zoo.metrics.score_info import ScoreInfo

__all__ = ["CHAINS", "LEAPFROG", "STEPS", "AnnealedLogLikelihood", "annealed_log_likelihood", "temperatures"]

STEPS = 1000
"""Distributions from the prior to the posterior; Wu et al. use 10,000 for their tables."""
CHAINS = 16
"""Chains per image."""
LEAPFROG = 10
"""Leapfrog steps per trajectory."""
_PILOT_CHAINS = 4
_TARGET_ACCEPTANCE = 0.65
_GAIN = 0.3
_FIRST_SIZE, _SMALLEST_SIZE, _LARGEST_SIZE = 0.3, 1e-5, 1.5


def temperatures(steps: int) -> list[float]:
    """Inverse temperatures β: 0, then ``steps`` values up to 1 on a sigmoid from −4 to 4, dense at both ends.

    >>> [round(b, 3) for b in temperatures(4)]
    [0.0, 0.105, 0.5, 0.895, 1.0]
    """
    curve = [1 / (1 + math.exp(-4 * (2 * t / steps - 1))) for t in range(steps + 1)]
    return [(value - curve[0]) / (curve[-1] - curve[0]) for value in curve]


def annealed_log_likelihood(
    density: Density, x: Tensor, *, chains: int = CHAINS, steps: int = STEPS, leapfrog: int = LEAPFROG
) -> Estimate:
    """Log p(x) by chains of codes from N(0, I) to p(z|x), with one Hamiltonian Monte Carlo transition per temperature.

    Each chain's weight has expectation p(x). The log of their mean is therefore a lower bound in expectation, however
    wrong the encoder is; only its number of dimensions is used. Step sizes are tuned in a pilot run for an acceptance
    of 0.65 and then fixed: sizes adapted to the chains themselves would break the bound.

    References:
        Neal, *Annealed importance sampling*, 2001; Wu, Burda, Salakhutdinov & Grosse, arXiv:1611.04273, section 3.

    Args:
        density: The model.
        x: Images from `observe`.
        chains: Chains per image; all N · chains codes are decoded at once.
        steps: Distributions from the prior to the posterior.
        leapfrog: Leapfrog steps per trajectory; each costs a forward and a backward pass of the decoder.

    Shape:
        x: (N, C, H, W).

    Returns:
        The values in nats; ``effective`` counts chains.

    Raises:
        ZooError: If a weight is NaN.
    """
    if min(chains, steps, leapfrog, len(x)) < 1:
        raise UsageError(
            f"chains {chains}, steps {steps}, leapfrog {leapfrog} and {len(x)} images are not allowed; "
            "each must be at least 1"
        )
    with torch.no_grad():
        latent = density.posterior(x[:1]).rsample().shape[-1]
    sizes = _PilotSizes(len(x))
    for _ in _anneal(density, x, latent, min(_PILOT_CHAINS, chains), temperatures(steps), leapfrog, sizes):
        pass
    log_w = torch.zeros(chains, len(x), dtype=torch.float64)
    for change in _anneal(density, x, latent, chains, temperatures(steps), leapfrog, iter(sizes.history)):
        log_w += change
    total = log_w.logsumexp(0)
    if not bool(torch.isfinite(total).all()):
        bad = int((~torch.isfinite(total)).sum())
        raise ZooError(f"log-likelihood (AIS): not finite for {bad} of {len(x)} images; check the model")
    return Estimate(total - math.log(chains), (2 * total - (2 * log_w).logsumexp(0)).exp())


class _PilotSizes:
    """Step sizes (N,) adapted to the acceptance probabilities of a pilot run."""

    def __init__(self, n: int) -> None:
        self.history = [torch.full((n,), _FIRST_SIZE)]

    def __iter__(self) -> Iterator[Tensor]:
        return self

    def __next__(self) -> Tensor:
        return self.history[-1]

    def adapt(self, acceptance: Tensor) -> None:
        """Adapt to acceptance probabilities (chains, N)."""
        factor = (_GAIN * (acceptance.mean(0) - _TARGET_ACCEPTANCE)).exp().float()
        self.history.append((self.history[-1] * factor).clamp(_SMALLEST_SIZE, _LARGEST_SIZE))


def _anneal(
    density: Density,
    x: Tensor,
    latent: int,
    chains: int,
    betas: list[float],
    leapfrog: int,
    sizes: _PilotSizes | Iterator[Tensor],
) -> Iterator[Tensor]:
    """Yield each temperature's increment of the log weights, float64 (chains, N).

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
        # Random lengths: a trajectory of fixed length may be periodic and end where it began.
        size = next(sizes).unsqueeze(-1) * (0.8 + 0.4 * torch.rand(chains, len(x), 1))
        momentum = torch.randn_like(z)
        start = _energy(z, momentum, beta * log_r)
        new_z, new_log_r, new_slope = z, log_r, slope
        p = momentum - 0.5 * size * (new_z - beta * new_slope)
        for i in range(leapfrog):
            new_z = new_z + size * p
            new_log_r, new_slope = ratio(new_z)
            p = p - (size if i + 1 < leapfrog else 0.5 * size) * (new_z - beta * new_slope)
        # A diverged trajectory has NaN energy; it is rejected.
        gain = (start - _energy(new_z, p, beta * new_log_r)).nan_to_num(nan=-torch.inf)
        acceptance = gain.clamp(max=0).exp()
        accepted = torch.rand(chains, len(x), dtype=torch.float64) < acceptance
        z = torch.where(accepted.unsqueeze(-1), new_z, z)
        slope = torch.where(accepted.unsqueeze(-1), new_slope, slope)
        log_r = torch.where(accepted, new_log_r, log_r)
        if isinstance(sizes, _PilotSizes):
            sizes.adapt(acceptance)


def _energy(z: Tensor, momentum: Tensor, tempered: Tensor) -> Tensor:
    """|z|²/2 + |p|²/2 − β·log r, float64 (chains, N)."""
    return 0.5 * (z.double().square() + momentum.double().square()).sum(-1) - tempered


class AnnealedLogLikelihood(Metric):
    """Log-likelihood of test images by annealed importance sampling.

    Takes minutes, and is therefore computed on request only (``zoo eval --ais N``). Its name states how it was
    measured, in place of an entry in the protocol.

    Args:
        images: Number of images scored: the first of the 64 that `LogLikelihood` scores.
        steps: Distributions from the prior to the posterior.
        chains: Chains per image.
        leapfrog: Leapfrog steps per trajectory.
        **options: See `torchmetrics.Metric`.
    """

    _NAME = "log-likelihood ({observation}; AIS, {steps} steps, {chains} chains, {images} images)"
    scores = (
        ScoreInfo(
            _NAME,
            "estimate per image by annealed importance sampling",
            higher_is_better=True,
            unit="nats",
            undefined_name="log-likelihood (AIS)",
        ),
        ScoreInfo(
            f"{_NAME} standard error",
            "standard error of the annealed estimate over images",
            unit="nats",
            column=False,
            undefined_name="",
        ),
    )
    needs = ("density", "observations")
    paper = "Neal 2001; Wu et al., arXiv:1611.04273"
    metric_set: ClassVar[MetricSet] = "on request"
    log_p: list[Tensor]

    def __init__(
        self, images: int = IMAGES, steps: int = STEPS, chains: int = CHAINS, leapfrog: int = LEAPFROG, **options: Any
    ) -> None:
        super().__init__(**options)
        if not 1 <= images <= IMAGES:
            raise UsageError(f"images: {images} is not allowed; must be from 1 to {IMAGES}")
        self.images, self.steps, self.chains, self.leapfrog = images, steps, chains, leapfrog
        self.observation = ""
        self.add_state("log_p", [], dist_reduce_fx="cat")

    @property
    def name_fields(self) -> Mapping[str, str]:
        """The observation model and the settings of the sampler."""
        images = sum(len(part) for part in self.log_p)
        return {
            "observation": self.observation,
            "steps": str(self.steps),
            "chains": str(self.chains),
            "images": str(images),
        }

    def update(self, density: Density, observations: Tensor) -> None:
        """Score the first ``images`` images from `observe` (N, C, H, W) under a density."""
        self.observation = density.observation
        found = annealed_log_likelihood(
            density, observations[: self.images], chains=self.chains, steps=self.steps, leapfrog=self.leapfrog
        )
        self.log_p.append(found.values.to(self.device))

    def compute(self) -> dict[str, Tensor]:
        """``mean`` over images and its ``standard error``, in nats."""
        values = concatenate(self.log_p)
        return {"mean": scalar(float(values.mean())), "standard error": scalar(standard_error(values))}
