"""Scores kept for comparison with older papers only: the classifier score and the Parzen-window likelihood."""

from __future__ import annotations

import math

import attrs
import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.evaluation.distances import checked, squared_blocks, squared_pixel_blocks

__all__ = ["BANDWIDTHS", "ClassifierScore", "Parzen", "parzen", "parzen_log_likelihood"]

BANDWIDTHS = tuple(10 ** (-1 + i / 9) for i in range(10))
"""σ from 0.1 to 1 in ten steps, pixels in [0, 1]: Goodfellow et al.'s grid (arXiv:1406.2661, their code)."""


class ClassifierScore:
    """The inception score, exp E KL(p(y|x) ‖ p(y)), of any classifier; streamed, not cut into splits.

    From 1 (one class, or no opinion) to the number of classes. Legacy: it knows nothing of the real data, and a
    picture of each class scores full marks. With another classifier than Inception it compares to no paper.

    References:
        Salimans et al., arXiv:1606.03498, section 4; against it: Barratt & Sharma, arXiv:1801.01973.

    >>> score = ClassifierScore()
    >>> score.update(torch.tensor([[99.0, 0.0], [0.0, 99.0]]))
    >>> round(score.value(), 6)
    2.0
    """

    def __init__(self) -> None:
        self._n = 0
        self._sum: Tensor | None = None
        self._negentropy = 0.0

    def update(self, logits: Tensor) -> None:
        """Take in logits (B, K)."""
        checked("logits", logits, 0)
        if not len(logits):
            return
        log_p = logits.detach().to("cpu", torch.float64).log_softmax(1)
        p = log_p.exp()
        self._n += len(p)
        self._sum = p.sum(0) if self._sum is None else self._sum + p.sum(0)
        self._negentropy += float((p * log_p).sum())

    def value(self) -> float:
        """The score of what was taken in."""
        if self._sum is None:
            raise ZooError("classifier score: no logits were seen")
        marginal = self._sum / self._n
        entropy = -float(torch.special.xlogy(marginal, marginal).sum())
        return math.exp(max(0.0, entropy + self._negentropy / self._n))


@attrs.frozen
class Parzen:
    """A Parzen-window log-likelihood, in nats, and the σ that it was measured with."""

    log_likelihood: float
    standard_error: float
    bandwidth: float


def parzen_log_likelihood(x: Tensor, centres: Tensor, bandwidth: float) -> Tensor:
    """Log (1/M) Σⱼ N(xᵢ; cⱼ, σ²I) of each x (N, d) given centres (M, d): float64 (N,), in nats.

    Where both are uint8 they are taken in units of 1/255, as is σ.
    """
    return _many(x, centres, (bandwidth,))[0]


def parzen(generated: Tensor, validation: Tensor, test: Tensor, bandwidths: tuple[float, ...] = BANDWIDTHS) -> Parzen:
    """Mean log-density of test images under Gaussians put on the generated ones, σ being chosen on other real images.

    Legacy: it ranks k-means centres above real images (Theis et al., arXiv:1511.01844, section 3.3). Reported as in
    Goodfellow et al., arXiv:1406.2661, and Makhzani et al., arXiv:1511.05644.

    Args:
        generated: pixels in [0, 1], or all three as uint8, with shape (M, d).
        validation: the images that choose σ, no test images among them, (V, d).
        test: the images that are judged, (N, d).
        bandwidths: the σ to choose from.
    """
    for name, x in (("generated", generated), ("validation", validation), ("test", test)):
        checked(name, x)
    means = _many(validation, generated, bandwidths).mean(1)
    chosen = bandwidths[int(means.argmax())]
    found = parzen_log_likelihood(test, generated, chosen)
    error = float(found.std()) / math.sqrt(len(found)) if len(found) > 1 else 0.0
    return Parzen(float(found.mean()), error, chosen)


def _many(x: Tensor, centres: Tensor, bandwidths: tuple[float, ...]) -> Tensor:
    pixels = x.dtype == centres.dtype == torch.uint8
    blocks, unit = (squared_pixel_blocks, 255.0) if pixels else (squared_blocks, 1.0)
    found = torch.empty(len(bandwidths), len(x), dtype=torch.float64, device=x.device)
    for rows, block in blocks(x, centres):
        for i, sigma in enumerate(bandwidths):
            found[i, rows] = torch.logsumexp(block * (-0.5 / (sigma * unit) ** 2), 1)
    d, m = x.shape[1], len(centres)
    constants = torch.tensor([-0.5 * d * math.log(2 * math.pi * s * s) for s in bandwidths], dtype=torch.float64)
    return found + (constants - math.log(m)).to(found.device)[:, None]
