"""Scatter plot of quality against cost: positions of the points, ticks of the axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from zoo.leaderboard.document import row_cost
from zoo.leaderboard.labels import format_label
from zoo.leaderboard.number_format import format_number, plus_minus
from zoo.leaderboard.ranking import LeaderboardGroup, LeaderboardRow

__all__ = ["scatter"]

WIDTH, HEIGHT = 640, 330
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 16, 28, 44
_MAX_POINTS, _MAX_NAMES = 300, 14


class _Axis:
    """Maps values to pixels, on a logarithmic scale if they span more than a factor of eight."""

    def __init__(self, values: Sequence[float], begin: float, end: float) -> None:
        low, high = min(values), max(values)
        self.log = low > 0 and high / low > 8
        self._f = math.log10 if self.log else float
        a, b = self._f(low), self._f(high)
        margin = (b - a) * 0.06 or abs(b) * 0.1 or 1.0
        self._a, self._b = a - margin, b + margin
        self._begin, self._end = begin, end

    def at(self, value: float) -> float:
        """Return the pixel of a value, clipped to the axis."""
        v = self._f(value) if not self.log or value > 0 else self._a
        part = min(1.0, max(0.0, (v - self._a) / (self._b - self._a)))
        return round(self._begin + part * (self._end - self._begin), 1)

    def ticks(self) -> list[tuple[float, str]]:
        """Return pixels and labels of ticks: 1, 2, 5 times powers of ten, or linear steps."""
        if self.log:
            decades = range(math.floor(self._a), math.ceil(self._b) + 1)
            wanted = (1, 2, 5) if self._b - self._a < 2.2 else (1,)
            found = [m * 10.0**d for d in decades for m in wanted if self._a <= math.log10(m * 10.0**d) <= self._b]
        else:
            rough = (self._b - self._a) / 5
            tenth = 10.0 ** math.floor(math.log10(rough))
            step = next(m * tenth for m in (1, 2, 2.5, 5, 10) if m * tenth >= rough)
            first = math.ceil(self._a / step)
            found = [i * step for i in range(first, math.floor(self._b / step) + 1)]
        return [(self.at(v), f"{v:,.10g}".replace("-", "−")) for v in found]


def scatter(group: LeaderboardGroup) -> dict[str, Any] | None:
    """Build the plot: a point per row, at its mean training time and mean score; None for fewer than two points.

    The frontier is the lowest score at each cost. Its points are named first, then others if there is space.
    """
    rows = [(i, row, float(s)) for i, row in enumerate(group.rows) if (s := row_cost(row)["seconds"]) is not None]
    rows = [entry for entry in rows if entry[1].headline is not None][:_MAX_POINTS]
    if len(rows) < 2:
        return None
    means = [row.headline.mean for _, row, _ in rows if row.headline is not None]
    across = _Axis([s for _, _, s in rows], _LEFT, WIDTH - _RIGHT)
    up = _Axis(means, HEIGHT - _BOTTOM, _TOP)
    points = [_point(i, row, s, across, up) for i, row, s in rows]
    best = math.inf
    frontier = []
    for point in sorted(points, key=lambda p: (p["seconds"], p["mean"])):
        point["frontier"] = point["mean"] < best
        if point["frontier"]:
            best = point["mean"]
            frontier.append(point)
    _place_names(points)
    line = "".join(f"H{p['x']}V{p['y']}" for p in frontier[1:])
    return {
        "width": WIDTH,
        "height": HEIGHT,
        "left": _LEFT,
        "right": WIDTH - _RIGHT,
        "top": _TOP,
        "bottom": HEIGHT - _BOTTOM,
        "across_log": across.log,
        "up_log": up.log,
        "across": across.ticks(),
        "up": up.ticks(),
        "points": points,
        "frontier": f"M{frontier[0]['x']} {frontier[0]['y']}{line}H{WIDTH - _RIGHT}",
        "left_out": len([r for r in group.rows if r.headline is not None]) - len(points),
    }


def _point(index: int, row: LeaderboardRow, seconds: float, across: _Axis, up: _Axis) -> dict[str, Any]:
    found = row.headline
    assert found is not None
    label = format_label(row.label)
    name = " · ".join(filter(None, [row.model, label]))
    return {
        "row": index,
        "seconds": seconds,
        "mean": found.mean,
        "x": across.at(seconds),
        "y": up.at(found.mean),
        "low": up.at(found.low),
        "high": up.at(found.high),
        "name": f"{row.model}, {label}" if 0 < len(label) <= 16 else row.model,
        "text": f"{name}: {plus_minus(found)} after {format_number(seconds)} s",
        "label": None,
    }


def _place_names(points: Sequence[dict[str, Any]]) -> None:
    # Greedy: a name is placed right or left of its point if it overlaps neither a name nor a point.
    taken = [(p["x"] - 4, p["y"] - 4, p["x"] + 4, p["y"] + 4) for p in points]
    named = 0
    for point in sorted(points, key=lambda p: (not p["frontier"], p["row"])):
        wide = 6.4 * len(point["name"]) + 4
        for anchor, left in (("start", point["x"] + 7), ("end", point["x"] - 7 - wide)):
            box = (left, point["y"] - 7, left + wide, point["y"] + 6)
            free = all(box[2] < t[0] or t[2] < box[0] or box[3] < t[1] or t[3] < box[1] for t in taken)
            if named < _MAX_NAMES and free and left > _LEFT and left + wide < WIDTH:
                point["label"] = (anchor, point["x"] + (7 if anchor == "start" else -7), point["y"] + 4)
                taken.append(box)
                named += 1
                break
