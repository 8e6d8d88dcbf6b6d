"""Selects one of several results of the same cell."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable
from typing import Any

from zoo.leaderboard.results import FailedResult, ResultKey, Run

__all__ = ["remove_duplicates"]


def remove_duplicates(
    cells: Iterable[Run | FailedResult], leave_out: Callable[[ResultKey, str, str], None]
) -> list[Run | FailedResult]:
    """Keep one cell per seed: the first that finished, independent of its score.

    Args:
        cells: The cells of one row.
        leave_out: Called with each removed cell, the reason, and ``duplicate`` or ``conflict``.

    Returns:
        The cells, sorted by seed.
    """
    seeds: dict[int, list[Run | FailedResult]] = collections.defaultdict(list)
    for cell in cells:
        seeds[cell.seed].append(cell)
    kept = []
    for _, same in sorted(seeds.items()):
        first, *others = sorted(same, key=_priority)
        kept.append(first)
        for other in others:
            leave_out(other, *_describe_duplicate(first, other))
    return kept


def _priority(cell: Run | FailedResult) -> tuple[Any, ...]:
    # Infrastructure failures say nothing about the model, so they sort last. Of otherwise equal copies, the one with
    # more images is kept, independent of the order of the folders.
    infrastructure_failure = isinstance(cell, FailedResult) and cell.kind != "diverged"
    pictures = len(cell.files) if isinstance(cell, Run) else 0
    return infrastructure_failure, cell.finished or "9", cell.digest, -pictures, cell.path


def _describe_duplicate(first: Run | FailedResult, other: Run | FailedResult) -> tuple[str, str]:
    cell = f"{other.model}, seed {other.seed}"
    if isinstance(first, FailedResult) and isinstance(other, FailedResult):
        return f"{cell}: failed twice; the first is used", "duplicate"
    if isinstance(first, Run) and isinstance(other, Run):
        if first.scores == other.scores and first.weights == other.weights:
            return f"{cell}: the same run again, with the same scores", "duplicate"
        when = "finished first" if first.finished != other.finished else "has the smaller digest"
        return f"{cell}: run twice with different outcomes; the one that {when} is used, whatever its score", "conflict"
    if isinstance(other, FailedResult):
        return f"{cell}: {other.kind}; a finished run of the same cell is used", "duplicate"
    return f"{cell}: finished, but the same cell diverged earlier; the divergence is used", "conflict"
