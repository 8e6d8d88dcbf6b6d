"""Training curves: a small line plot per term; on a row of the leaderboard with a line per seed."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from zoo.compatibility import convert_metrics_line
from zoo.leaderboard.results import ResultKey
from zoo.leaderboard.untrusted import RefusedError, name, number, number_or_none, table

__all__ = ["HEIGHT", "WIDTH", "Points", "draw_curves", "draw_plot"]

WIDTH, HEIGHT = 200, 80
"""Size of a plot, in SVG units."""
_MAX_BYTES, _MAX_POINTS, _MAX_TERMS, _MAX_SEEDS = 4 << 20, 40, 24, 12
Points = list[tuple[float, float | None]]
"""Points (x, y) of a line; it is interrupted where y is None."""


def draw_curves(cells: Sequence[ResultKey]) -> list[dict[str, Any]]:
    """Draw a plot per term: name, range, logarithmic scale or not, number of images seen, and an SVG path per seed.

    Invalid lines of ``metrics.jsonl`` are skipped.
    """
    terms: dict[str, dict[int, Points]] = {}
    for cell in cells[:_MAX_SEEDS]:
        for term, points in _read_points(cell).items():
            if term in terms or len(terms) < _MAX_TERMS:
                terms.setdefault(term, {})[cell.seed] = points
    return [plot for term, lines in terms.items() if (plot := draw_plot(term, lines)) is not None]


def draw_plot(name: str, lines: Mapping[Any, Points], scale: float = 1) -> dict[str, Any] | None:
    """Draw lines in one plot.

    Args:
        name: Name of the plot.
        lines: Points by the key of a line.
        scale: Factor of the size, ``WIDTH`` by ``HEIGHT``; coordinates are whole numbers.

    Returns:
        Name, range, logarithmic scale or not, largest x, and key and SVG path per line; None without any value.
    """
    values = [y for points in lines.values() for _, y in points if y is not None]
    if not values:
        return None
    low, high = min(values), max(values)
    log = low > 0 and high / low > 30
    right = max(x for points in lines.values() for x, _ in points) or 1.0
    bottom, top = (math.log(low), math.log(high)) if log else (low, high)
    span = (top - bottom) or 1.0
    width, height = scale * WIDTH, scale * HEIGHT
    paths = []
    for key, points in lines.items():
        path, pen = "", "M"
        for x, y in points:
            if y is None:
                pen = "M"
                continue
            v = math.log(y) if log else y
            path += f"{pen}{round(x / right * width)} {round(height - (v - bottom) / span * height)}"
            pen = "L"
        paths.append([key, path])
    return {"name": name, "low": low, "high": high, "log": log, "images": right, "paths": paths}


def _read_points(cell: ResultKey) -> dict[str, Points]:
    try:
        text = cell.folder.read("metrics.jsonl", _MAX_BYTES).decode("utf-8", errors="replace")
    except RefusedError:
        return {}
    lines = text.splitlines()
    step = max(1, -(-len(lines) // _MAX_POINTS))
    found: dict[str, Points] = {}
    for text in lines[(len(lines) - 1) % step :: step]:  # includes the last line
        try:
            line = convert_metrics_line(cell.model, table(json.loads(text), "line"))
            x = number(line.get("images"), "images")
            terms = table(line.get("terms"), "terms")
            for term, value in terms.items():
                found.setdefault(name(term, "term"), []).append((max(0.0, x), number_or_none(value)))
        except (RefusedError, ValueError, RecursionError):
            continue
    return found
