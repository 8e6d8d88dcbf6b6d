"""Reads model cards from results: summary, paper, game, deviations from the paper."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from zoo.leaderboard.untrusted import RefusedError, item, note, number, pairs, table, whole

__all__ = ["read_card"]

_SHORT = 60
_CARDS: dict[str, Mapping[str, Any]] = {}


def read_card(value: Any) -> Mapping[str, Any]:
    """Parse a card and clean its texts; equal cards give the same object.

    Raises:
        RefusedError: If an entry is missing or has the wrong type.
    """
    card = table(value, "card")
    key = json.dumps(card, sort_keys=True)
    if key not in _CARDS:
        _CARDS[key] = _card(card)
    return _CARDS[key]


def _card(card: Mapping[str, Any]) -> Mapping[str, Any]:
    game = card.get("game") or []
    if not isinstance(game, list) or len(game) > 16:
        raise RefusedError("game of the card is not a list of at most 16 turns")
    deviations = table(card.get("deviations") or {}, "deviations")
    return {
        "summary": note(card.get("summary") or "", "summary"),
        "paper": note(card.get("paper") or "", "paper"),
        "game": [_turn(table(turn, "turn")) for turn in game],
        "deviations": {note(k, "deviation"): note(v, "deviation") for k, v in deviations.items()},
    }


def _turn(turn: Mapping[str, Any]) -> dict[str, Any]:
    def names(value: Any, what: str) -> list[str]:
        if not isinstance(value, list) or len(value) > 64:
            raise RefusedError(f"{what} is not a list of at most 64 names")
        return [note(entry, what, limit=_SHORT) for entry in value]

    rows = item(turn, "rows")
    if not isinstance(rows, list) or len(rows) > 64:
        raise RefusedError("rows is not a list of at most 64 rows")
    checked = [table(row, "row") for row in rows]
    repeat = whole(turn.get("repeat", 1), "repeat", low=1)
    return {
        "turn": note(turn.get("turn") or "", "turn", limit=_SHORT),
        # Results of zoo 0.1.0 have the number of repeats only.
        "notes": names(turn.get("notes", [f"{repeat} times per step"] * (repeat > 1)), "notes"),
        "terms": names(item(turn, "terms"), "terms"),
        "rows": [
            {
                "networks": names(item(row, "networks"), "networks"),
                "weights": {k: _weight(v) for k, v in pairs(item(row, "weights"), "weights")},
            }
            for row in checked
        ],
    }


def _weight(value: Any) -> float | str:
    # Weights that change in training are stored as text.
    return note(value, "weight", limit=_SHORT) if isinstance(value, str) else number(value, "weight")
