"""Means over seeds, their 95 % t-intervals, and ranks that claim no more than the intervals separate."""

from __future__ import annotations

import bisect
import functools
import math
from collections.abc import Sequence

import attrs

__all__ = ["Summary", "ranks", "summary", "t_quantile"]


@functools.cache
def t_quantile(df: int, level: float = 0.975) -> float:
    """The quantile of Student's t for whole degrees of freedom: bisection on the distribution's closed form.

    It is here so that a page does not hang on a library's version, nor its making on half a second of importing one.

    >>> round(t_quantile(4), 3), round(t_quantile(1), 3)
    (2.776, 12.706)
    """
    low, high = 0.0, 1e4
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if _t_cdf(middle, df) < level else (low, middle)
    return high


def _t_cdf(t: float, df: int) -> float:
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
    """Some seeds' values of one score."""

    n: int
    mean: float
    sd: float | None
    """Sample standard deviation; None for one value."""
    half: float | None
    """Half the width of the 95 % t-interval of the mean; None for one value, which has none."""

    @property
    def low(self) -> float:
        """The interval's lower end; the value itself where there is one only."""
        return self.mean - (self.half or 0.0)

    @property
    def high(self) -> float:
        """The interval's upper end."""
        return self.mean + (self.half or 0.0)


def summary(values: Sequence[float]) -> Summary:
    """Mean, standard deviation and interval; at least one value is wanted.

    >>> summary([1.0, 2.0, 3.0]).mean
    2.0
    """
    n = len(values)
    mean = math.fsum(values) / n
    if n == 1:
        return Summary(1, mean, None, None)
    sd = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1))
    return Summary(n, mean, sd, t_quantile(n - 1) * sd / math.sqrt(n))


def ranks(rows: Sequence[Summary]) -> list[int]:
    """The rank of each row, where a lower mean is better.

    One more than the number of rows whose whole interval lies below this row's, and never better than the rank of a row
    with a lower mean: a wide interval is no merit. Rows of one seed have no interval; they push nobody down, and their
    own rank is provisional.

    >>> ranks([Summary(5, 10.0, 1.0, 1.0), Summary(5, 11.0, 1.0, 1.0), Summary(5, 13.0, 0.1, 0.5)])
    [1, 1, 3]
    """
    ends = sorted(row.high for row in rows if row.half is not None)
    found = [0] * len(rows)
    worst_yet = 1
    for i in sorted(range(len(rows)), key=lambda i: rows[i].mean):
        row = rows[i]
        found[i] = max(worst_yet, 1 + bisect.bisect_left(ends, row.low))
        if row.half is not None:
            worst_yet = found[i]
    return found
