"""The leaderboard as one HTML page below 5 MB, without external requests or scripts."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from markupsafe import Markup

from zoo.leaderboard.details import Details
from zoo.leaderboard.document import row_cost
from zoo.leaderboard.html import embed_sources, environment, escape_json, read_asset, read_script
from zoo.leaderboard.labels import format_label
from zoo.leaderboard.number_format import format_number, format_places, plus_minus, share
from zoo.leaderboard.ranking import Leaderboard, LeaderboardGroup, LeaderboardRow
from zoo.leaderboard.scatter import scatter
from zoo.leaderboard.score_columns import GROUPS, describe_stability, score_group

__all__ = ["LARGEST", "to_html"]

LARGEST = 4_850_000
"""Maximum size of a page, in bytes: rows first, then their details, then images, each from the top of every table."""
_ROWS, _DETAILS = 3_000_000, 4_100_000
_GROUPS, _LEFT_OUT, _SHOWN, _COLUMNS = 300, 400, 100, 16
_NO_SCRIPT = "tr[hidden]{display:table-row}.tools,.more{display:none}"
_HEADS = (
    ("seeds", "training seeds, including failed ones"),
    ("collapsed", "runs whose smallest class has less than 3 % of the images"),
    ("failed", "seeds without a score"),
)
_COSTS = (
    ("training,\u00a0s", "lower", "mean over seeds"),
    ("images/s", "higher", "while training"),
    ("memory,\u00a0MB", "lower", "maximum"),
    ("parameters,\u00a0k", "lower", "thousands, of all networks"),
    ("scoring,\u00a0s", "lower", "mean over seeds"),
    ("device", "text", ""),
)


def to_html(leaderboard: Leaderboard) -> str:
    """Return the page; equal results give equal bytes."""
    macros: Any = environment(_asset).get_template("page.html").module
    shown = leaderboard.groups[:_GROUPS]
    style, script = _asset("page.css"), read_script("zoo.leaderboard", "page.js")
    rows = _rows(shown, macros)
    groups = [macros.group(_group(g, i, rows[i])) for i, g in enumerate(shown)]
    sets = [
        {"name": name, "groups": [groups[i] for i, g in enumerate(shown) if g.dataset == name]}
        for name in _dataset_names(shown)
    ]
    view = {
        **embed_sources(style, script, _NO_SCRIPT),
        "summary": _summary(leaderboard),
        "datasets": sets,
        "groups_dropped": len(leaderboard.groups) - len(shown),
        "left_out": leaderboard.left_out[:_LEFT_OUT],
        "left_out_count": len(leaderboard.left_out),
        "protocols": _protocols(shown),
        "notes": [],
        "data": "",
    }
    # The remaining bytes are for the details of the rows.
    spent = len(str(macros.page(view)).encode())
    details = Details(shown, [len(texts) for texts in rows])
    details.describe(_DETAILS - spent)
    details.draw(LARGEST - spent - details.size)
    return str(macros.page({**view, "notes": details.notes, "data": Markup(escape_json(details.data))}))


def _asset(name: str) -> str:
    return read_asset("zoo.leaderboard", name)


def _dataset_names(groups: Sequence[LeaderboardGroup]) -> list[str]:
    return list(dict.fromkeys(group.dataset for group in groups))


def _summary(leaderboard: Leaderboard) -> str:
    rows = sum(len(group.rows) for group in leaderboard.groups)
    counts = [_count(leaderboard.results, "result"), _count(rows, "row"), _count(len(leaderboard.groups), "table")]
    return ", ".join([*counts, f"{len(leaderboard.left_out):,} excluded"])


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def by_priority(groups: Sequence[LeaderboardGroup], counts: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Group and row: the first of every table, then the second of every table, and so on."""
    for i in range(max(counts, default=0)):
        for g in range(len(groups)):
            if i < counts[g]:
                yield g, i


def _rows(groups: Sequence[LeaderboardGroup], macros: Any) -> list[list[str]]:
    """Markup of the rows of each group, as many as fit."""
    texts: list[list[str]] = [[] for _ in groups]
    spent = 0
    views = [_RowView(group) for group in groups]
    for g, i in by_priority(groups, [len(group.rows) for group in groups]):
        text = str(macros.row(views[g].view(i)))
        spent += len(text.encode())
        if spent > _ROWS:
            break
        texts[g].append(text)
    return texts


def _columns(group: LeaderboardGroup) -> list[str]:
    """Names of the scores with a column; the others are in the details of a row."""
    return group.columns[:_COLUMNS]


class _RowView:
    def __init__(self, group: LeaderboardGroup) -> None:
        self.group, self.columns = group, _columns(group)
        found = [row.headline for row in group.rows if row.headline is not None]
        means = [s.mean for s in found]
        self.low, self.high = min(means, default=0.0), max(means, default=0.0)
        # Logarithmic if an outlier would compress all other rows.
        self.scale: Callable[[float], float] = math.log if self.low > 0 and self.high / self.low > 8 else float
        self.low, self.high = self.scale(self.low), self.scale(self.high)
        margin = (self.high - self.low) * 0.15 or 1.0
        self.low, self.high = self.low - margin, self.high + margin
        self.plots = 1 < len(found) <= 1000

    def view(self, index: int) -> dict[str, Any]:
        row = self.group.rows[index]
        cost = row_cost(row)
        memory, parameters = cost["peak_memory_bytes"], cost["parameters"]
        cells = [plus_minus(row.metrics.get(name)) for name in self.columns]
        cells += [format_number(cost["seconds"]), format_number(cost["images_per_second"])]
        cells += ["n/a" if memory is None else f"{memory / 1e6:,.0f}"]
        cells += [
            "n/a" if parameters is None else f"{parameters / 1e3:,.0f}",
            format_number(cost["evaluation_seconds"]),
        ]
        cells.append(", ".join(cost["devices"]))
        rank = "–" if row.rank is None else f"({row.rank})" if row.provisional else str(row.rank)
        return {
            "index": index,
            "hidden": index >= _SHOWN,
            "rank": rank,
            "provisional": row.provisional,
            "model": row.model,
            "package": f"{row.package} {row.version}",
            "label": format_label(row.label),
            "marks": list(_marks(row)),
            "score": plus_minus(row.headline),
            "plot": self._plot(row) if self.plots and row.headline is not None else None,
            "seeds": row.seeds,
            "collapsed": share(row.collapsed),
            "has_collapsed": row.collapsed[0] > 0,
            "failed": f"{row.failed}/{row.seeds}",
            "has_failed": row.failed > 0,
            "cells": cells,
        }

    def _plot(self, row: LeaderboardRow) -> dict[str, float | None]:
        def at(value: float) -> float:
            v = self.scale(value) if self.scale is float or value > 0 else self.low
            return round(3 + 90 * min(1.0, max(0.0, (v - self.low) / (self.high - self.low))), 1)

        found = row.headline
        assert found is not None
        single = found.half is None
        return {
            "mean": at(found.mean),
            "low": None if single else at(found.low),
            "high": None if single else at(found.high),
        }


def _marks(row: LeaderboardRow) -> Iterator[str]:
    if row.disputed and row.second_rank is not None:
        yield f"{format_places(row.second_rank)} by the second opinion"
    if row.below_floor:
        yield f"{row.below_floor} of {row.seeds} below the floor: a bug or memorization"
    if row.failed:
        kinds = sorted(
            {lost.kind for lost in row.failures} | ({"unscored"} if row.failed > len(row.failures) else set())
        )
        yield f"{row.failed} of {row.seeds} failed ({', '.join(kinds)})" + ("" if row.rank else ", not ranked")


def _group(group: LeaderboardGroup, index: int, texts: Sequence[str]) -> dict[str, Any]:
    arrows = {"lower": "↓", "higher": "↑", "neither": ""}
    named = [
        ("rank", "lower", ""),
        ("model", "text", ""),
        (group.headline, "lower", group.score_info[group.headline].help),
    ]
    named += [(name, "lower", text) for name, text in _HEADS]
    scores = [(n, i.better, i.help) for n in _columns(group) if (i := group.score_info[n])]
    heads = [
        {"name": n, "better": b, "help": text, "arrow": "", "css": "text" if b == "text" else "", "group": ""}
        for n, b, text in (*named, *scores, *_COSTS)
    ]
    for head, (_, better, _) in zip(heads[6:], scores, strict=False):
        head["arrow"] = arrows[better]
    groups = [score_group(group.score_info[name]) for name in _columns(group)]
    spans = [(name, groups.count(name)) for name in GROUPS if name in groups]
    starts = itertools.accumulate([3, len(_HEADS), *(count for _, count in spans)])
    for start, name in zip(starts, ["runs", *(name for name, _ in spans), "cost"], strict=True):
        heads[start]["group"] = name
    heads[2] |= {"arrow": "↓", "css": "whole"}
    p = group.protocol
    drawn = scatter(group)
    runs = sum(row.seeds for row in group.rows)
    return {
        "id": group.id,
        "index": index,
        "dataset": group.dataset,
        "headline": group.headline,
        "training": group.training.title,
        "measured": f"{p.n_generated:,} generated against {p.n_real:,} real images",
        "counts": f"{_count(runs, 'run')} in {_count(len(group.rows), 'row')}",
        "protocol": group.fingerprint[:16],
        "apart": "; ".join(group.apart[1]) if group.apart else "",
        "apart_from": group.apart[0] if group.apart else "",
        "heads": heads,
        "stability": describe_stability(group.stability, group.second),
        "floor": None if group.floor is None else format_number(group.floor),
        "floors": [
            "",
            "",
            "",
            *(format_number(group.second_floor) if n == group.second else "" for n in _columns(group)),
        ],
        "rows": Markup("".join(texts)),
        "dropped": len(group.rows) - len(texts),
        "scatter": None if drawn is None else {**drawn, "headline": group.headline},
    }


def _protocols(groups: Sequence[LeaderboardGroup]) -> list[dict[str, Any]]:
    found = {group.fingerprint: group.protocol for group in groups}
    shown = []
    for fingerprint, protocol in sorted(found.items()):
        entries = []
        for name, value in protocol.to_dict().items():
            if isinstance(value, dict):
                entries += [(f"{name}, {k}", v) for k, v in sorted(value.items())]
            elif name != "seed":
                entries.append((name.replace("_", " "), f"{value:,}" if isinstance(value, int) else value))
        shown.append({"id": fingerprint[:16], "entries": entries})
    return shown
