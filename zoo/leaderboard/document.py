"""The leaderboard as JSON: everything on the page except images and curves."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from zoo.leaderboard.intervals import summary
from zoo.leaderboard.ranking import Leaderboard, LeaderboardGroup, LeaderboardRow

__all__ = ["FORMAT", "row_cost", "to_json"]

FORMAT = 1


def to_json(leaderboard: Leaderboard) -> str:
    """Return the leaderboard as sorted and indented JSON; equal results give equal bytes."""
    found = {
        "format": FORMAT,
        "groups": [_group(group) for group in leaderboard.groups],
        "left_out": [attrs.asdict(entry) for entry in leaderboard.left_out],
    }
    return json.dumps(found, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _group(group: LeaderboardGroup) -> dict[str, Any]:
    apart = None if group.apart is None else {"group": group.apart[0], "entries": list(group.apart[1])}
    return {
        "id": group.id,
        "dataset": group.dataset,
        "headline": group.headline,
        "floor": group.floor,
        "second_opinion": None if group.second is None else {"name": group.second, "floor": group.second_floor},
        "stability": attrs.asdict(group.stability),
        "fingerprint": group.fingerprint,
        "protocol": group.protocol.to_dict(),
        "training": {"title": group.training.title, "entries": dict(group.training.entries)},
        "apart_from": apart,
        "metrics": [{"name": n, "better": i.better, "help": i.help} for n, i in group.score_info.items()],
        "rows": [_row(row, group.headline) for row in group.rows],
    }


def _row(row: LeaderboardRow, headline: str) -> dict[str, Any]:
    median = row.median
    return {
        "rank": row.rank,
        "last_rank": row.last_rank,
        "second_rank": None if row.second_rank is None else list(row.second_rank),
        "disputed": row.disputed,
        "provisional": row.provisional,
        "model": row.model,
        "plugin": {"name": row.cell.plugin, "package": row.package, "version": row.version},
        "options_shown": dict(row.label),
        "options": dict(row.options),
        "budget": dict(row.cell.budget),
        "seeds": row.seeds,
        "failed": row.failed,
        "collapsed": {"runs": row.collapsed[0], "known": row.collapsed[1]},
        "below_floor": row.below_floor,
        "metrics": {
            name: {"n": m.n, "mean": m.mean, "sd": m.sd, "half_width": m.half, "image_error": m.image_error}
            for name, m in row.metrics.items()
        },
        "cost": row_cost(row),
        "card": row.cell.card,
        "median_seed": None if median is None else median.seed,
        "runs": [
            {
                "path": run.path,
                "seed": run.seed,
                "scores": dict(run.scores),
                "finished": run.finished,
                "weights_sha256": run.weights,
                "command": run.command,
                "cost": attrs.asdict(run.cost),
            }
            for run in row.runs
        ],
        "failures": [
            {
                "path": lost.path,
                "seed": lost.seed,
                "kind": lost.kind,
                "reason": lost.reason,
                "attempts": lost.attempts,
                "finished": lost.finished,
                "command": lost.command,
            }
            for lost in row.failures
        ],
        "unscored_seeds": [run.seed for run in row.runs if run.scores.get(headline) is None],
    }


def row_cost(row: LeaderboardRow) -> Mapping[str, Any]:
    """Cost of a row: means over its finished runs, and the largest memory; None for unknown values."""

    def mean(values: Sequence[float | None]) -> float | None:
        known = [v for v in values if v is not None]
        return summary(known).mean if known else None

    costs = [run.cost for run in row.runs]
    memory = [c.peak_memory_bytes for c in costs if c.peak_memory_bytes is not None]
    parameters = row.median.cost.parameters if row.median else {}
    return {
        "seconds": mean([c.seconds for c in costs]),
        "images_per_second": mean([c.images_per_second for c in costs]),
        "peak_memory_bytes": max(memory) if memory else None,
        "flops_per_image": mean([c.flops_per_image for c in costs]),
        "evaluation_seconds": mean([c.evaluation_seconds for c in costs]),
        "parameters": sum(parameters.values()) if parameters else None,
        "devices": sorted({c.device for c in costs if c.device}),
    }
