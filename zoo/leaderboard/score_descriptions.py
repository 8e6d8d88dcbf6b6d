"""Reads the descriptions of scores from results of unknown origin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zoo.leaderboard.untrusted import RefusedError, note, pairs, table
from zoo.metrics.score_info import ScoreInfo

__all__ = ["read_score_info"]

_LONGEST = 200


def read_score_info(found: Mapping[str, Any]) -> dict[str, ScoreInfo]:
    """Descriptions stored in a result; empty for a result of zoo 0.1.0.

    Raises:
        RefusedError: If an entry has the wrong type.
    """
    infos = {}
    for name, entry in pairs(found.get("score_info") or {}, "score_info"):
        entries = table(entry, f"score_info of {name}")
        higher, column = entries.get("higher_is_better"), entries.get("column", True)
        if not (higher is None or isinstance(higher, bool)) or not isinstance(column, bool):
            raise RefusedError(f"score_info of {name}: higher_is_better and column must be true or false")
        description, unit = (note(entries.get(k) or "", f"{k} of {name}", _LONGEST) for k in ("description", "unit"))
        group = note(entries.get("group") or "", f"group of {name}", _LONGEST)
        infos[name] = ScoreInfo(name, description, higher, unit, column, group=group)
    return infos
