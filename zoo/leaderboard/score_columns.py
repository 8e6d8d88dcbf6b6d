"""Descriptions of the scores in a table, and which scores of separately compared metrics can be compared."""

from __future__ import annotations

import collections
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from zoo.leaderboard.results import Run
from zoo.leaderboard.stability import Stability
from zoo.metrics.score_info import ScoreInfo
from zoo.metrics.score_lookup import find_info

__all__ = [
    "GROUPS",
    "columns",
    "comparable",
    "describe_scores",
    "describe_stability",
    "image_error",
    "score_group",
    "second_opinion",
    "shown",
]

_SECOND = " (second opinion)"
_ERROR = " standard error"
_BY_IMAGES = " standard error (test images)"


def describe_scores(names: Iterable[str], runs: Sequence[Run]) -> dict[str, ScoreInfo]:
    """Return the description of each score: the most common one in the results, else that of a built-in metric."""
    infos = {}
    for name in names:
        stored = collections.Counter(info for run in runs if (info := run.score_info.get(name)) is not None)
        best = max(stored.items(), key=lambda pair: (pair[1], repr(pair[0])), default=None)
        found = find_info(name) if best is None else best[0]
        groups = sorted({info.group for info in stored if info.group})  # results of older versions have none
        infos[name] = found if found.group or not groups else attrs.evolve(found, group=groups[0])
    return infos


def comparable(runs: Sequence[Run]) -> tuple[list[Run], list[tuple[Run, str]]]:
    """Remove scores that were measured differently than in most of the runs, of metrics compared one by one.

    Returns:
        The runs, and the affected ones among them with a sentence that states the difference.
    """
    kept, affected = list(runs), []
    stored = [{**run.protocol.separate_metrics, **run.protocol.contributed_metrics} for run in runs]
    for metric in sorted({name for entries in stored for name in entries}):
        counts = collections.Counter(entries[metric] for entries in stored if metric in entries)
        common = max(counts, key=lambda text: (counts[text], text))
        for i, run in enumerate(kept):
            text = stored[i].get(metric, common)
            if text != common:
                scores = {k: v for k, v in run.scores.items() if k != metric and not k.startswith(f"{metric} ")}
                kept[i] = attrs.evolve(run, scores=scores)
                affected.append((run, f"score {metric!r} is excluded: {text} against {common}"))
    return kept, affected


def second_opinion(names: Iterable[str]) -> str | None:
    """Find the score of the second opinion; the first by name if results have different extractors."""
    return min((name for name in names if name.endswith(_SECOND)), default=None)


def shown(name: str, headline: str) -> bool:
    """Whether a score has its own entry in a table, unlike floors and standard errors."""
    auxiliary = (f"{headline} floor", headline + _ERROR, headline + _BY_IMAGES)
    return name not in auxiliary and not name.endswith(f"{_SECOND} floor")


def columns(group: Mapping[str, ScoreInfo], rows: Sequence[Mapping[str, Any]], headline: str) -> list[str]:
    """Select the scores with a column: those declared with one that have a value in some row, by evaluation stage.

    Args:
        group: Descriptions of the table's scores, in their usual order.
        rows: Values or summaries of each row, by name.
        headline: Name of the ranking score, which has a separate column.
    """
    known = [n for n, info in group.items() if info.column and n != headline and any(n in row for row in rows)]
    return sorted(known, key=lambda name: list(GROUPS).index(score_group(group[name])))


def score_group(info: ScoreInfo) -> str:
    """Return the group of columns of a score."""
    return _COLUMN_GROUPS.get(info.group, "other scores")


GROUPS = ("samples", "reconstructions", "codes", "likelihood", "other scores")
"""Ordered groups of columns."""

_COLUMN_GROUPS = {**{name: name for name in GROUPS}, "real images": "samples", "density": "likelihood"}


def describe_stability(found: Stability, second: str | None) -> str:
    """Describe the stability of the order of a table in one line; empty if unknown."""
    parts = []
    if found.tau is not None and found.discordant is not None and second is not None:
        parts.append(
            f"by {second.removesuffix(_SECOND)}, {found.discordant:.0%} of the pairs of rows have the other order "
            f"(Kendall's τ {f'{found.tau:.2f}'.replace('-', '−')})"
        )
    if found.reseeded is not None:
        parts.append(f"with resampled seeds, {found.reseeded:.1%} change their order")
    return f"Stability of the order: {'; '.join(parts)}." if parts else ""


def image_error(runs: Sequence[Run], name: str) -> float | None:
    """Mean standard error of a score due to the choice of the test images; None if no run has it."""
    known = [error for run in runs if (error := run.scores.get(name + _BY_IMAGES)) is not None]
    return math.fsum(known) / len(known) if known else None
