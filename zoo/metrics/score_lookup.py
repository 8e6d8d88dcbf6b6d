"""Looks up the descriptions of scores by display name. Imports torch only for scores without a stored description."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from zoo.metrics.score_info import ScoreInfo

__all__ = ["find_info", "stored_infos"]


def find_info(name: str) -> ScoreInfo:
    """The description of a built-in score, with an empty one for any other name. Imports torch."""
    from zoo.metrics.built_in import find_score

    return find_score(name) or ScoreInfo(name, "")


def stored_infos(names: Iterable[str], stored: Mapping[str, Mapping[str, Any]] | None) -> dict[str, ScoreInfo]:
    """Descriptions by display name from ``score_info`` of a ``result.json``; results of zoo 0.1.0 have none."""
    entries = stored or {}
    return {name: ScoreInfo(name, **entries[name]) if name in entries else find_info(name) for name in names}
