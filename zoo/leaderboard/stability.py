"""How stable the order of a table is: under another extractor, and under other training seeds."""

from __future__ import annotations

import bisect
import math
import random
from collections.abc import Iterable, Mapping, Sequence

import attrs

__all__ = ["RESAMPLES", "Stability", "discordant_share", "kendall_tau", "stability"]

RESAMPLES = 200
_MIN_ROWS = 3


@attrs.frozen
class Stability:
    """Stability of the order of rows by their means; None where it is not known.

    Args:
        rows: Number of rows with scores by both extractors.
        tau: Kendall's τ between the orders by the two extractors, from −1 to 1.
        discordant: Share of pairs of rows that the second extractor orders the other way.
        reseeded: Mean share of pairs that change their order when the seeds are resampled with replacement.
    """

    rows: int
    tau: float | None
    discordant: float | None
    reseeded: float | None


def stability(first: Sequence[Mapping[int, float]], second: Sequence[Mapping[int, float]]) -> Stability:
    """Compare the order of rows by their means under two extractors and under resampled seeds.

    Args:
        first: Values by seed of each row, by the extractor that ranks.
        second: Values of the same rows by the second extractor; empty for a row without any.
    """
    both = [(_mean(a.values()), _mean(b.values())) for a, b in zip(first, second, strict=True) if a and b]
    enough = len(both) >= _MIN_ROWS
    pairs = [x for x, _ in both], [y for _, y in both]
    return Stability(
        len(both),
        kendall_tau(*pairs) if enough else None,
        discordant_share(*pairs) if enough else None,
        _reseeded([[row[seed] for seed in sorted(row)] for row in first if len(row) > 1]),
    )


def kendall_tau(x: Sequence[float], y: Sequence[float]) -> float:
    """Kendall's τ: the share of pairs in the same order minus that in the other order; ties count as neither.

    >>> round(kendall_tau([1, 2, 3, 4], [1, 3, 2, 4]), 3)
    0.667
    """
    concordant, discordant, pairs = _count(x, y)
    return (concordant - discordant) / pairs


def discordant_share(x: Sequence[float], y: Sequence[float]) -> float:
    """Share of pairs in the other order; a pair that is tied on one side counts as half.

    >>> round(discordant_share([1, 2, 3, 4], [1, 3, 2, 4]), 3)
    0.167
    """
    concordant, discordant, pairs = _count(x, y)
    return (discordant + (pairs - concordant - discordant) / 2) / pairs


def _count(x: Sequence[float], y: Sequence[float]) -> tuple[int, int, int]:
    """Numbers of concordant, discordant and all pairs, in O(n log n) comparisons."""
    order = sorted(range(len(x)), key=lambda i: x[i])
    concordant = discordant = 0
    seen: list[float] = []
    waiting: list[float] = []  # of equal x: pairs among them count as neither
    for place, i in enumerate(order):
        if place and x[i] != x[order[place - 1]]:
            for value in waiting:
                bisect.insort(seen, value)
            waiting = []
        concordant += bisect.bisect_left(seen, y[i])
        discordant += len(seen) - bisect.bisect_right(seen, y[i])
        waiting.append(y[i])
    return concordant, discordant, len(x) * (len(x) - 1) // 2


def _mean(values: Iterable[float]) -> float:
    numbers = list(values)
    return math.fsum(numbers) / len(numbers)


def _reseeded(rows: Sequence[Sequence[float]]) -> float | None:
    if len(rows) < _MIN_ROWS:
        return None
    draw = random.Random(0)
    means = [_mean(row) for row in rows]
    most = max(len(row) for row in rows)
    shares = []
    for _ in range(RESAMPLES):
        places = [draw.random() for _ in range(most)]  # the same seeds in all rows that have as many
        resampled = [_mean([row[int(place * len(row))] for place in places[: len(row)]]) for row in rows]
        shares.append(discordant_share(means, resampled))
    return math.fsum(shares) / len(shares)
