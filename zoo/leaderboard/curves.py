"""Training curves of a row: a small line plot per term, with a line per seed."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from zoo.compatibility import convert_metrics_line
from zoo.leaderboard.results import ResultKey
from zoo.leaderboard.untrusted import RefusedError, name, number, table

__all__ = ["HEIGHT", "WIDTH", "draw_curves"]

WIDTH, HEIGHT = 200, 80
"""Size of a plot, in SVG units."""
_MAX_BYTES, _MAX_POINTS, _MAX_TERMS, _MAX_SEEDS = 4 << 20, 40, 24, 12
_Points = list[tuple[float, float | None]]


def draw_curves(cells: Sequence[ResultKey]) -> list[dict[str, Any]]:
    """Draw a plot per term: name, range, logarithmic scale or not, number of images seen, and an SVG path per seed.

    Invalid lines of ``metrics.jsonl`` are skipped.
    """
    terms: dict[str, dict[int, _Points]] = {}
    for cell in cells[:_MAX_SEEDS]:
        for term, points in _read_points(cell).items():
            if term in terms or len(terms) < _MAX_TERMS:
                terms.setdefault(term, {})[cell.seed] = points
    drawn = []
    for term, lines in terms.items():
        values = [y for points in lines.values() for _, y in points if y is not None]
        if values:
            drawn.append(_draw_term(term, lines, values))
    return drawn


def _draw_term(term: str, lines: dict[int, _Points], values: list[float]) -> dict[str, Any]:
    low, high = min(values), max(values)
    log = low > 0 and high / low > 30
    right = max(x for points in lines.values() for x, _ in points) or 1.0
    bottom, top = (math.log(low), math.log(high)) if log else (low, high)
    span = (top - bottom) or 1.0
    paths = []
    for seed, points in lines.items():
        path, pen = "", "M"
        for x, y in points:
            if y is None:
                pen = "M"
                continue
            v = math.log(y) if log else y
            path += f"{pen}{round(x / right * WIDTH)} {round(HEIGHT - (v - bottom) / span * HEIGHT)}"
            pen = "L"
        paths.append([seed, path])
    return {"name": term, "low": low, "high": high, "log": log, "images": right, "paths": paths}


def _read_points(cell: ResultKey) -> dict[str, _Points]:
    try:
        text = cell.folder.read("metrics.jsonl", _MAX_BYTES).decode("utf-8", errors="replace")
    except RefusedError:
        return {}
    lines = text.splitlines()
    step = max(1, -(-len(lines) // _MAX_POINTS))
    found: dict[str, _Points] = {}
    for text in lines[(len(lines) - 1) % step :: step]:  # includes the last line
        try:
            line = convert_metrics_line(cell.model, table(json.loads(text), "line"))
            x = number(line.get("images"), "images")
            terms = table(line.get("terms"), "terms")
            for term, value in terms.items():
                found.setdefault(name(term, "term"), []).append((max(0.0, x), _finite(value)))
        except (RefusedError, ValueError, RecursionError):
            continue
    return found


def _finite(value: Any) -> float | None:
    try:
        return number(value, "value")
    except RefusedError:
        return None
