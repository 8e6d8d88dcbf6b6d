"""Ranks of the rows of a table, and the places that they span."""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping, Sequence

from zoo.leaderboard.intervals import Summary
from zoo.leaderboard.paired_tests import separated

__all__ = ["MOST_TESTED", "place"]

MOST_TESTED = 200
"""Maximum number of rows for tests of all pairs; in larger tables, rows are separated by their intervals."""


def place(
    values: Sequence[Mapping[int, float]], unusual: Sequence[bool], summaries: Sequence[Summary | None]
) -> list[tuple[int, int]]:
    """First and last place of each row, where a lower mean is better; the first is its rank.

    The rank is one more than the number of rows with a lower mean that differ from the row by `separated`, and never
    better than that of a row with a lower mean. The last place leaves room for the rows with a higher mean that differ.
    Rows of one seed are not tested: they do not affect the rank of others, and their own rank counts the rows whose
    whole interval is below their value.

    Args:
        values: Values by seed of each row.
        unusual: Rows with collapsed runs, see `separated`.
        summaries: Mean and interval of each row.
    """
    found = [s for s in summaries if s is not None]
    assert len(found) == len(values)
    order = sorted(range(len(found)), key=lambda i: found[i].mean)
    better, worse = _counts(values, unusual, found)
    ends = sorted(row.high for row in found if row.half is not None)
    first, rank = [1] * len(found), 1
    for i in order:
        single = found[i].half is None
        first[i] = max(rank, 1 + (bisect.bisect_left(ends, found[i].low) if single else better[i]))
        if not single:
            rank = first[i]
    last = [max(len(found) - worse[i], first[i]) for i in range(len(found))]
    return list(zip(first, last, strict=True))


def _counts(
    values: Sequence[Mapping[int, float]], unusual: Sequence[bool], rows: Sequence[Summary]
) -> tuple[list[int], list[int]]:
    """Count the rows that are better than each row, and those that are worse."""
    several = [i for i, row in enumerate(rows) if row.half is not None]
    if len(rows) > MOST_TESTED:
        ends = sorted(rows[i].high for i in several)
        begins = sorted(rows[i].low for i in several)
        better = [bisect.bisect_left(ends, row.low) for row in rows]
        return better, [len(begins) - bisect.bisect_right(begins, row.high) for row in rows]
    better, worse = [0] * len(rows), [0] * len(rows)
    for a, b in separated([values[i] for i in several], [unusual[i] for i in several]):
        i, j = several[a], several[b]
        low, high = (i, j) if rows[i].mean < rows[j].mean else (j, i)
        # A collapsed run may turn the order of the means against that of the logarithms, which are tested.
        if _log_mean(values[low]) <= _log_mean(values[high]):
            better[high] += 1
            worse[low] += 1
    return better, worse


def _log_mean(values: Mapping[int, float]) -> float:
    if min(values.values()) <= 0:
        return math.fsum(values.values()) / len(values)
    return math.fsum(math.log(v) for v in values.values()) / len(values)
