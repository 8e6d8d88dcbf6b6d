"""Scores kept only for comparison with older papers: classifier score and Parzen-window log-likelihood."""

from __future__ import annotations

import math
from typing import Any, Self

import attrs
import torch
from torch import Tensor

from zoo.metrics.distances import check_features, squared_distance_blocks, squared_pixel_distance_blocks
from zoo.metrics.metric import MAX_SAMPLES, Metric, ReferenceData, concatenate, scalar
from zoo.metrics.score_info import ScoreInfo
from zoo.metrics.subsets import random_rows

__all__ = [
    "BANDWIDTHS",
    "VALIDATION",
    "ClassifierScore",
    "ParzenLikelihood",
    "ParzenResult",
    "fit_parzen",
    "parzen_log_likelihood",
]

BANDWIDTHS = tuple(10 ** (-1 + i / 9) for i in range(10))
"""σ from 0.1 to 1 in ten steps, for pixels in [0, 1]: the grid of Goodfellow et al.'s code (arXiv:1406.2661)."""
VALIDATION = 1000
"""Training images that select σ."""


class ClassifierScore(Metric):
    """Inception score exp E KL(p(y|x) ‖ p(y)) with any classifier, without splits.

    From 1 (one class, or uniform predictions) to the number of classes. Legacy: it ignores the real data, and a single
    image per class gets the full score. With a classifier other than Inception it compares to no paper.

    References:
        Salimans et al., arXiv:1606.03498, section 4; critique: Barratt & Sharma, arXiv:1801.01973.

    >>> import torch
    >>> score = ClassifierScore()
    >>> score.update(torch.tensor([[99.0, 0.0], [0.0, 99.0]]))
    >>> round(float(score.compute()), 6)
    2.0
    """

    scores = (
        ScoreInfo(
            "classifier score (legacy)", "inception score with the extractor's classifier; for comparison with papers"
        ),
    )
    needs = ("logits",)
    paper = "Salimans et al., arXiv:1606.03498"
    n: Tensor
    negative_entropy: Tensor
    marginal: list[Tensor]

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.add_state("n", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("negative_entropy", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        # Sums of probabilities, (1, K): one row per process after a synchronization.
        self.add_state("marginal", [], dist_reduce_fx="cat")

    def update(self, logits: Tensor) -> None:
        """Add class logits (B, K)."""
        check_features("logits", logits, 0)
        if not len(logits):
            return
        log_p = logits.detach().to(self.device, torch.float64).log_softmax(1)
        p = log_p.exp()
        before = concatenate(self.marginal).sum(0) if len(self.marginal) else 0
        self.marginal = [(before + p.sum(0))[None]]
        self.n += len(p)
        self.negative_entropy += (p * log_p).sum()

    def compute(self) -> Tensor:
        """The score, float64 ()."""
        marginal = concatenate(self.marginal).sum(0) / self.n
        entropy = -float(torch.special.xlogy(marginal, marginal).sum())
        return scalar(math.exp(max(0.0, entropy + float(self.negative_entropy / self.n))))


@attrs.frozen
class ParzenResult:
    """Mean Parzen-window log-likelihood in nats, its standard error, and the selected σ."""

    log_likelihood: float
    standard_error: float
    bandwidth: float


def parzen_log_likelihood(x: Tensor, centers: Tensor, bandwidth: float) -> Tensor:
    """Log (1/M) Σⱼ N(xᵢ; cⱼ, σ²I) in nats of each row of x (N, d), given centers (M, d): float64 (N,).

    uint8 pixels are divided by 255.
    """
    return _log_likelihoods(x, centers, (bandwidth,))[0]


def fit_parzen(
    generated: Tensor, validation: Tensor, test: Tensor, bandwidths: tuple[float, ...] = BANDWIDTHS
) -> ParzenResult:
    """Mean log-density of test images under Gaussians centered at generated images, with σ selected on other images.

    Legacy: it ranks k-means centers above real images (Theis et al., arXiv:1511.01844, section 3.3). Reported as in
    Goodfellow et al., arXiv:1406.2661, and Makhzani et al., arXiv:1511.05644.

    Args:
        generated: Pixels in [0, 1], or all three arguments as uint8.
        validation: Images that select σ; must contain no test images.
        test: Images to score.
        bandwidths: Values of σ to select from.

    Shape:
        generated: (M, d).
        validation: (V, d).
        test: (N, d).
    """
    for name, x in (("generated", generated), ("validation", validation), ("test", test)):
        check_features(name, x)
    means = _log_likelihoods(validation, generated, bandwidths).mean(1)
    chosen = bandwidths[int(means.argmax())]
    found = parzen_log_likelihood(test, generated, chosen)
    error = float(found.std()) / math.sqrt(len(found)) if len(found) > 1 else 0.0
    return ParzenResult(float(found.mean()), error, chosen)


def _log_likelihoods(x: Tensor, centers: Tensor, bandwidths: tuple[float, ...]) -> Tensor:
    pixels = x.dtype == centers.dtype == torch.uint8
    blocks, unit = (squared_pixel_distance_blocks, 255.0) if pixels else (squared_distance_blocks, 1.0)
    found = torch.empty(len(bandwidths), len(x), dtype=torch.float64, device=x.device)
    for rows, block in blocks(x, centers):
        for i, sigma in enumerate(bandwidths):
            found[i, rows] = torch.logsumexp(block * (-0.5 / (sigma * unit) ** 2), 1)
    d, m = x.shape[1], len(centers)
    constants = torch.tensor([-0.5 * d * math.log(2 * math.pi * s * s) for s in bandwidths], dtype=torch.float64)
    return found + (constants - math.log(m)).to(found.device)[:, None]


class ParzenLikelihood(Metric):
    """Parzen-window log-likelihood of test images under generated ones.

    Args:
        validation: Images that select σ, uint8 (V, C, H, W).
        test: Images to score, uint8 (N, C, H, W).
        **options: See `torchmetrics.Metric`.
    """

    scores = (
        ScoreInfo(
            "Parzen log-likelihood (legacy)",
            "test images under Gaussian windows at the generated ones; for comparison with papers",
            unit="nats",
        ),
    )
    needs = ("samples",)
    paper = "Goodfellow et al., arXiv:1406.2661"
    protocol = (
        f"pixels in [0, 1]; σ from {BANDWIDTHS[0]:g} to {BANDWIDTHS[-1]:g} in {len(BANDWIDTHS)} steps "
        f"on {VALIDATION} training images drawn with seed 0"
    )
    max_samples = MAX_SAMPLES
    validation: Tensor
    test: Tensor
    samples: list[Tensor]

    def __init__(self, validation: Tensor, test: Tensor, **options: Any) -> None:
        super().__init__(**options)
        self.register_buffer("validation", validation, persistent=False)
        self.register_buffer("test", test, persistent=False)
        self.add_state("samples", [], dist_reduce_fx="cat")

    @classmethod
    def from_reference(cls, reference: ReferenceData) -> Self | None:
        """Select σ on training images and score the test images."""
        validation = random_rows(reference.train_images, VALIDATION)
        test = random_rows(reference.test_images, MAX_SAMPLES)
        return cls(validation.to(reference.device), test.to(reference.device))

    def update(self, samples: Tensor) -> None:
        """Add generated images, uint8 (B, C, H, W)."""
        self.samples.append(samples.to(self.validation.device))

    def compute(self) -> Tensor:
        """The mean log-likelihood in nats, float64 ()."""
        images = concatenate(self.samples)
        found = fit_parzen(images.flatten(1), self.validation.flatten(1), self.test.flatten(1))
        return scalar(found.log_likelihood)
