"""Means over seeds and their 95 % t-intervals."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import attrs

__all__ = ["Summary", "summary", "t_quantile"]


_MAX_DF = 1000


@functools.cache
def t_quantile(df: int, level: float = 0.975) -> float:
    """Quantile of Student's t for integer degrees of freedom, by bisection.

    Not taken from SciPy, whose import takes half a second and whose version would affect the output.

    >>> round(t_quantile(4), 3), round(t_quantile(1), 3)
    (2.776, 12.706)
    """
    low, high = 0.0, 1e4
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if t_cdf(middle, df) < level else (low, middle)
    return high


def t_cdf(t: float, df: int) -> float:
    """Distribution function of Student's t for integer degrees of freedom.

    >>> t_cdf(0.0, 3)
    0.5
    """
    # Abramowitz & Stegun 26.7.3 and 26.7.4: a finite sum over powers of cos² θ, tan θ = t/√df.
    theta = math.atan(t / math.sqrt(df))
    sine, cosine = math.sin(theta), math.cos(theta)
    odd = df % 2
    term = total = 0.0
    for k in range(odd, df - 1, 2):
        term = (cosine if odd else 1.0) if k == odd else term * (k - 1) / k * cosine * cosine
        total += term
    both = 2 / math.pi * (theta + sine * total) if odd else sine * total
    return (1 + both) / 2


@attrs.frozen
class Summary:
    """Summary of a score over seeds."""

    n: int
    mean: float
    sd: float | None
    """Sample standard deviation; None for one value."""
    half: float | None
    """Half the width of the 95 % t-interval of the mean; None for one value."""
    image_error: float | None = None
    """Standard error due to the choice of the test images, included in ``half``; None if unknown."""

    @property
    def low(self) -> float:
        """Lower end of the interval; the value itself if there is only one."""
        return self.mean - (self.half or 0.0)

    @property
    def high(self) -> float:
        """Upper end of the interval; the value itself if there is only one."""
        return self.mean + (self.half or 0.0)


def summary(values: Sequence[float], image_error: float | None = None) -> Summary:
    """Compute mean, standard deviation and interval of at least one value.

    All seeds are measured on the same test images, whose choice varies their mean by ``image_error`` however many seeds
    there are. The interval is that of the sum of both variances, with Satterthwaite's degrees of freedom.

    >>> summary([1.0, 2.0, 3.0]).mean
    2.0
    """
    n = len(values)
    mean = math.fsum(values) / n
    if n == 1:
        return Summary(1, mean, None, None)
    sd = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1))
    if not image_error:
        return Summary(n, mean, sd, t_quantile(n - 1) * sd / math.sqrt(n), image_error)
    by_seeds = sd**2 / n
    total = by_seeds + image_error**2
    df = _MAX_DF if by_seeds == 0 else min(_MAX_DF, int((n - 1) * (total / by_seeds) ** 2))
    return Summary(n, mean, sd, t_quantile(df) * math.sqrt(total), image_error)
