"""Details of the rows of the page, as data for its script, within a limit of bytes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from zoo.leaderboard.curves import draw_curves
from zoo.leaderboard.document import row_cost
from zoo.leaderboard.labels import format_value
from zoo.leaderboard.number_format import format_number, plus_minus
from zoo.leaderboard.ranking import LeaderboardGroup, LeaderboardRow
from zoo.leaderboard.results import json_digest
from zoo.leaderboard.thumbnails import pictures

__all__ = ["Details"]

_MAX_SEEDS = 50
_MIN_IMAGE_BYTES, _MAX_IMAGE_BYTES = 5_000, 48_000
"""Smallest and largest limit of bytes per image."""


class Details:
    """Data of the script of the page.

    Args:
        groups: Tables of the page.
        counts: Number of rows on the page, per table.
    """

    def __init__(self, groups: Sequence[LeaderboardGroup], counts: Sequence[int]) -> None:
        self._groups, self._counts = groups, counts
        self._order = [(g, i) for i in range(max(counts, default=0)) for g in range(len(groups)) if i < counts[g]]
        self._cards: dict[str, int] = {}
        self._described: list[tuple[int, int]] = []
        self.data: dict[str, Any] = {
            "groups": [{"metrics": list(group.metrics)} for group in groups],
            "rows": [[None] * n for n in counts],
            "cards": [],
        }
        self.size = _bytes(self.data)
        self.notes: list[str] = []

    def describe(self, budget: int) -> None:
        """Add texts and numbers of as many rows as fit."""
        for g, i in self._order:
            row = self._groups[g].rows[i]
            found = _describe_row(row, self._groups[g])
            card = row.cell.card
            more = _bytes(found) + (_bytes(card) if card is not None and json_digest(card) not in self._cards else 0)
            if self.size + more > budget:
                break
            self.size += more
            found["k"] = None if card is None else self._card(card)
            self.data["rows"][g][i] = found
            self._described.append((g, i))
        self._add_note(len(self._order) - len(self._described), "have no details")

    def _card(self, card: Any) -> int:
        key = json_digest(card)
        if key not in self._cards:
            self._cards[key] = len(self.data["cards"])
            self.data["cards"].append(card)
        return self._cards[key]

    def draw(self, budget: int) -> None:
        """Add curves and images, from the top of every table, until the budget is used up."""
        rows = [self._groups[g].rows[i] for g, i in self._described]
        count = sum(len(row.median.files) for row in rows if row.median)
        allowance = max(_MIN_IMAGE_BYTES, min(_MAX_IMAGE_BYTES, int(0.5 * budget / max(1, count))))
        dropped = 0
        full = False
        for (g, i), row in zip(self._described, rows, strict=True):
            found = self.data["rows"][g][i]
            if not full:
                seen = {"p": pictures(row.median, allowance) if row.median else {}, "v": _row_curves(row)}
                seen = {k: v for k, v in seen.items() if v}
                budget -= _bytes(seen)
                full = budget < 0
                if not full:
                    found.update(seen)
            if full and row.median is not None and row.median.files:
                dropped += 1
                found["n"] = 1
        self._add_note(dropped, "have no images and curves")

    def _add_note(self, count: int, what: str) -> None:
        if count > 0:
            rows = "One row" if count == 1 else f"{count:,} rows"
            self.notes.append(f"{rows} at the ends of the tables {what}, to keep the page under 5 MB.")


def _bytes(value: Any) -> int:
    # As written to the page, with six bytes per escaped character.
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return len(text.encode()) + 5 * sum(text.count(c) for c in "<>&") + 1


def _row_curves(row: LeaderboardRow) -> list[dict[str, Any]]:
    drawn = draw_curves([*row.runs, *row.failures])
    return [
        {**c, "low": format_number(c["low"]), "high": format_number(c["high"]), "images": f"{c['images']:,.0f}"}
        for c in drawn
    ]


def _describe_row(row: LeaderboardRow, group: LeaderboardGroup) -> dict[str, Any]:
    cost = row_cost(row)
    flops = cost["flops_per_image"]
    memory = cost["peak_memory_bytes"]
    parameters = row.median.cost.parameters if row.median else {}
    costs = [
        ("training", f"{format_number(cost['seconds'])} s"),
        ("speed", f"{format_number(cost['images_per_second'])} images/s"),
        ("peak memory", "n/a" if memory is None else f"{memory / 1e6:,.0f} MB"),
        ("scoring", f"{format_number(cost['evaluation_seconds'])} s"),
        ("parameters", ", ".join(f"{k} {v:,}" for k, v in parameters.items()) or "n/a"),
        ("device", ", ".join(cost["devices"]) or "n/a"),
    ]
    if flops is not None:
        costs.append(("FLOPs per image", format_number(flops)))
    seeds = [
        [
            run.seed,
            format_number(run.scores.get(group.headline)),
            format_number(run.smallest),
            format_number(run.cost.seconds),
            run.finished[:10],
        ]
        for run in row.runs[:_MAX_SEEDS]
    ]
    lost = [[cell.seed, cell.kind, cell.reason] for cell in row.failures[:_MAX_SEEDS]]
    places = {name: i for i, name in enumerate(group.metrics)}
    return {
        "s": seeds,
        "f": lost,
        "m": [[places[n], plus_minus(m), format_number(m.sd), m.n] for n, m in row.metrics.items()],
        "o": [[name, format_value(value)] for name, value in row.options.items()],
        "c": costs,
        "x": row.cell.command,
        "d": row.cell.seed,
    }
