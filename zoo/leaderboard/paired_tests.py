"""Which rows of a table differ: moderated paired t-tests over seeds, with Holm's correction."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from zoo.leaderboard.intervals import t_cdf

__all__ = ["LEVEL", "Prior", "estimate_prior", "p_values", "separated"]

LEVEL = 0.05
"""Probability that any two equal rows of a table are separated."""

_MAX_DF = 200
_MIN_ROWS = 5
"""Fewest rows from which a common variance is estimated."""

Pair = tuple[int, int]


class Prior:
    """Scaled inverse χ² distribution of the variances of all pairs.

    Args:
        variance: Typical variance s₀².
        df: Its degrees of freedom d₀; 0 without a prior.
    """

    def __init__(self, variance: float = 0.0, df: float = 0.0) -> None:
        self.variance, self.df = variance, df

    def moderate(self, variance: float, df: int) -> tuple[float, int]:
        """Return the posterior variance of a pair and its degrees of freedom, rounded down."""
        total = self.df + df
        return (self.df * self.variance + df * variance) / total, max(1, min(_MAX_DF, int(total)))


def estimate_prior(variances: Sequence[float], df: Sequence[int]) -> Prior:
    """Fit the distribution of variances by the moments of their logarithms.

    References:
        Smyth, *Linear models and empirical Bayes methods for assessing differential expression in microarray
        experiments*, 2004, section 6.2.

    Args:
        variances: Variance of each pair; zeros are left out.
        df: Degrees of freedom of each.
    """
    kept = [(s, d) for s, d in zip(variances, df, strict=True) if s > 0 and d > 0]
    if len(kept) < 2:
        return Prior()
    logs = [math.log(s) - _digamma(d / 2) + math.log(d / 2) for s, d in kept]
    mean = math.fsum(logs) / len(logs)
    spread = math.fsum((e - mean) ** 2 for e in logs) / (len(logs) - 1)
    excess = spread - math.fsum(_trigamma(d / 2) for _, d in kept) / len(kept)
    if excess <= 0:
        return Prior(math.exp(mean), math.inf)
    df0 = 2 * _inverse_trigamma(excess)
    return Prior(math.exp(mean + _digamma(df0 / 2) - math.log(df0 / 2)), df0)


def p_values(
    rows: Sequence[Mapping[int, float]], unusual: Sequence[bool] | None = None
) -> tuple[dict[Pair, float], Prior]:
    """Two-sided p-values of moderated paired t-tests between all rows, and the prior of their variances.

    Values are compared on a logarithmic scale, on which the spread over seeds is about the same for good and bad rows;
    if a value is not positive, on a linear scale. A pair with fewer than two common seeds has no test.

    Args:
        rows: Values by seed of each row.
        unusual: Rows left out of the prior, such as those with collapsed runs; none by default.
    """
    positive = all(value > 0 for row in rows for value in row.values())
    values = [{seed: math.log(v) if positive else v for seed, v in row.items()} for row in rows]
    tests: dict[Pair, tuple[float, float, int]] = {}
    for i, a in enumerate(values):
        for j in range(i + 1, len(values)):
            differences = [a[seed] - value for seed, value in values[j].items() if seed in a]
            n = len(differences)
            if n >= 2:
                mean = math.fsum(differences) / n
                tests[i, j] = mean, math.fsum((d - mean) ** 2 for d in differences) / (n - 1), n
    prior = _common_prior(tests, rows, [False] * len(rows) if unusual is None else unusual)
    found = {}
    for pair, (mean, own, n) in tests.items():
        variance, df = prior.moderate(own, n - 1)
        if variance == 0:
            found[pair] = 1.0 if mean == 0 else 0.0
        else:
            found[pair] = 2 * (1 - t_cdf(abs(mean) / math.sqrt(variance / n), df))
    return found, prior


def _common_prior(
    tests: Mapping[Pair, tuple[float, float, int]], rows: Sequence[Mapping[int, float]], unusual: Sequence[bool]
) -> Prior:
    usual = {pair: test for pair, test in tests.items() if not (unusual[pair[0]] or unusual[pair[1]])}
    members = {i for pair in usual for i in pair}
    if len(members) < _MIN_ROWS:
        return Prior()
    found = estimate_prior([s for _, s, _ in usual.values()], [n - 1 for _, _, n in usual.values()])
    # Pairs share rows: including its own, a pair has at most (rows − 1)(seeds − 1) degrees of freedom.
    seeds = max(len(rows[i]) for i in members)
    return Prior(found.variance, min(found.df, (len(members) - 2) * (seeds - 1)))


def separated(
    rows: Sequence[Mapping[int, float]], unusual: Sequence[bool] | None = None, level: float = LEVEL
) -> set[Pair]:
    """Pairs (i, j), i < j, of rows that differ, by Holm's step-down correction over all pairs.

    The probability that any two equal rows are separated is at most ``level``.

    References:
        Holm, *A simple sequentially rejective multiple test procedure*, 1979.
    """
    found, _ = p_values(rows, unusual)
    rejected = set()
    for k, pair in enumerate(sorted(found, key=lambda pair: (found[pair], pair))):
        if found[pair] > level / (len(found) - k):
            break
        rejected.add(pair)
    return rejected


def _digamma(x: float) -> float:
    """ψ(x) for x > 0: recurrence to x ≥ 6, then the asymptotic series (Abramowitz & Stegun 6.3.5, 6.3.18)."""
    shift = 0.0
    while x < 6:
        shift -= 1 / x
        x += 1
    y = 1 / (x * x)
    return shift + math.log(x) - 0.5 / x - y * (1 / 12 - y * (1 / 120 - y * (1 / 252 - y / 240)))


def _trigamma(x: float) -> float:
    """ψ′(x) for x > 0, in the same way (6.4.6, 6.4.12)."""
    shift = 0.0
    while x < 6:
        shift += 1 / (x * x)
        x += 1
    y = 1 / (x * x)
    return shift + 1 / x + y / 2 + y / x * (1 / 6 - y * (1 / 30 - y * (1 / 42 - y / 30)))


def _inverse_trigamma(value: float) -> float:
    """The x with ψ′(x) = value, by bisection; ψ′ falls from ∞ to 0."""
    low, high = 1e-8, 1e8
    for _ in range(200):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if _trigamma(middle) > value else (low, middle)
    return low
