"""Descriptions of the scores in a table, and which scores of separately compared metrics can be compared."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Sequence

import attrs

from zoo.leaderboard.results import Run
from zoo.metrics.score_info import ScoreInfo
from zoo.metrics.score_lookup import find_info

__all__ = ["comparable", "describe_scores"]


def describe_scores(names: Iterable[str], runs: Sequence[Run]) -> dict[str, ScoreInfo]:
    """The description of each score: the most common one in the results, else that of a built-in metric."""
    infos = {}
    for name in names:
        stored = collections.Counter(info for run in runs if (info := run.score_info.get(name)) is not None)
        best = max(stored.items(), key=lambda pair: (pair[1], repr(pair[0])), default=None)
        infos[name] = find_info(name) if best is None else best[0]
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
                affected.append((run, f"score {metric!r} is left out: {text} against {common}"))
    return kept, affected
