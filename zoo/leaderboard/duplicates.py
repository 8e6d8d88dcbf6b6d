"""Which of several results of one cell counts."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable
from typing import Any

from zoo.leaderboard.results import FailedResult, ResultKey, Run

__all__ = ["once_each"]


def once_each(
    cells: Iterable[Run | FailedResult], leave_out: Callable[[ResultKey, str, str], None]
) -> list[Run | FailedResult]:
    """One cell per seed, by seed: the first that finished. Scores play no part in the choice.

    Args:
        cells: The cells of one row.
        leave_out: Called with each other cell, the reason, and ``duplicate`` or ``conflict``.
    """
    seeds: dict[int, list[Run | FailedResult]] = collections.defaultdict(list)
    for cell in cells:
        seeds[cell.seed].append(cell)
    kept = []
    for _, same in sorted(seeds.items()):
        first, *others = sorted(same, key=_order)
        kept.append(first)
        for other in others:
            leave_out(other, *_why_again(first, other))
    return kept


def _order(cell: Run | FailedResult) -> tuple[Any, ...]:
    # A machine that broke says nothing of the model: any finished run and any divergence go before that. Where all else
    # is equal the copy with more pictures is kept, so that the order of the folders decides nothing.
    broke = isinstance(cell, FailedResult) and cell.kind != "diverged"
    pictures = len(cell.files) if isinstance(cell, Run) else 0
    return broke, cell.finished or "9", cell.digest, -pictures, cell.path


def _why_again(first: Run | FailedResult, other: Run | FailedResult) -> tuple[str, str]:
    cell = f"{other.model}, seed {other.seed}"
    if isinstance(first, FailedResult) and isinstance(other, FailedResult):
        return f"{cell}: failed twice; the first counts", "duplicate"
    if isinstance(first, Run) and isinstance(other, Run):
        if first.scores == other.scores and first.weights == other.weights:
            return f"{cell}: the same run again, to the same scores", "duplicate"
        when = "finished first" if first.finished != other.finished else "goes first by its digest"
        return f"{cell}: run twice with different outcomes; the one that {when} counts, whatever its score", "conflict"
    if isinstance(other, FailedResult):
        return f"{cell}: {other.kind}; a finished run of the same cell counts", "duplicate"
    return f"{cell}: finished, but the same cell diverged before that, which counts", "conflict"
