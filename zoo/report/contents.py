"""Contents of a report that are read from a run folder, which may come from another person.

Images are decoded and encoded again, numbers and texts are checked, and a file that is missing or malformed costs its
section only.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zoo.compatibility import picture_file
from zoo.errors import ZooError
from zoo.leaderboard.curves import WIDTH, Points, draw_plot
from zoo.leaderboard.intervals import Summary
from zoo.leaderboard.number_format import format_number, plus_minus
from zoo.leaderboard.result_folder import read_file
from zoo.leaderboard.thumbnails import encode_image, open_image
from zoo.leaderboard.untrusted import RefusedError, note, number, number_or_none, whole
from zoo.metrics.score_info import ScoreInfo
from zoo.reading import read_json
from zoo.run.run_folder import RunFolder
from zoo.run.snapshots import snapshot_files

__all__ = [
    "describe_scores",
    "draw_curves",
    "make_picture",
    "read_frames",
    "read_health",
    "read_lines",
    "read_pictures",
]

_CAPTIONS = {
    "samples": "samples, the first of seed 0",
    "reconstructions": "test images with their reconstructions below",
    "interpolations": "interpolations",
    "neighbors": "samples with their nearest training images below",
    "class_samples": "samples by class",
}
_MAX_BYTES, _PICTURE_BYTES, _FRAME_BYTES = 32 << 20, 400_000, 120_000
_MAX_FRAMES, _MAX_POINTS, _MAX_PLOTS, _MAX_LINES = 100, 200, 40, 5
_MAX_FINDINGS, _NAME = 50, 60
_CURVES = ("terms", "gradients")
_SCALE = 3
Picture = dict[str, Any]


def read_pictures(folder: Path) -> list[Picture]:
    """The images of a run: caption, width, height and data URL of each."""
    names = frozenset(path.name for path in folder.iterdir())
    found = []
    for name, caption in _CAPTIONS.items():
        content = _read(folder / picture_file(name, names))
        if content is not None and (picture := make_picture(content, caption)) is not None:
            found.append(picture)
    return found


def make_picture(content: bytes, caption: str) -> Picture | None:
    """A PNG as the page shows it; None if it is malformed."""
    encoded = encode_image(content, _PICTURE_BYTES)
    if encoded is None:
        return None
    width, height, png = encoded
    return {"caption": caption, **_displayed(width, height), "url": f"data:image/png;base64,{png}"}


def _displayed(width: int, height: int) -> dict[str, int]:
    part = 2 if width > 400 else 1  # half the pixels: sharp on high-density screens, even lines on others
    return {"width": round(width / part), "height": round(height / part)}


def read_frames(folder: Path, lines: Sequence[Mapping[str, Any]]) -> list[Picture]:
    """The snapshots of a run with the number of training images until each.

    Args:
        folder: The run folder.
        lines: Lines of :func:`read_lines`, which say how many images a step takes.
    """
    per_step = lines[-1]["images"] / lines[-1]["step"] if lines else None
    frames = []
    for step, path in list(snapshot_files(folder).items())[-_MAX_FRAMES:]:
        content = _read(path)
        url = None if content is None else _encode_frame(content)
        if url is None:
            continue
        seen = "untrained" if step == 0 else f"after {step:,} step{'' if step == 1 else 's'}"
        if step and per_step is not None:
            seen += f", {step * per_step:,.0f} images"
        frames.append({"label": seen, **url})
    return frames


def _encode_frame(content: bytes) -> Picture | None:
    image = open_image(content)
    if image is None:
        return None
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    kind = "png"
    if image.mode == "RGB" and buffer.tell() > _FRAME_BYTES:
        buffer, kind = io.BytesIO(), "jpeg"
        image.save(buffer, "JPEG", quality=88)
    url = f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
    return {"width": image.width, "height": image.height, "url": url}


def _read(path: Path) -> bytes | None:
    try:
        return read_file(path, _MAX_BYTES)
    except RefusedError:
        return None


def read_lines(folder: RunFolder) -> list[dict[str, Any]]:
    """The lines of ``metrics.jsonl`` whose numbers can be drawn."""
    found = []
    for line in folder.logged():
        try:
            step, images = whole(line["step"], "step", low=1), whole(line["images"], "images")
        except RefusedError:
            continue
        values = {key: {note(k, "name", _NAME): number_or_none(v) for k, v in line[key].items()} for key in _CURVES}
        found.append({"step": step, "images": images, **values})
    return found


def draw_curves(lines: Sequence[Mapping[str, Any]], probes: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Plots against training images: a term each, the gradient norms, and what the health monitor measured.

    Args:
        lines: Lines of :func:`read_lines`.
        probes: Measurements of :func:`read_health`.
    """
    step = max(1, -(-len(lines) // _MAX_POINTS))
    shown = lines[(len(lines) - 1) % step :: step] if lines else []
    curves: dict[str, dict[str, Points]] = {key: {} for key in _CURVES}
    for line in shown:
        for key, points in curves.items():
            for name, value in line[key].items():
                points.setdefault(name, []).append((line["images"], value))
    terms, norms = (curves[key] for key in _CURVES)
    per_step = lines[-1]["images"] / lines[-1]["step"] if lines else 1.0
    critics: dict[str, Points] = {}
    active: Points = []
    for probe in probes:
        x = probe["step"] * per_step
        for name, accuracy in probe["accuracy"].items():
            critics.setdefault(name, []).append((x, accuracy))
        if probe["active_units"] is not None:
            active.append((x, probe["active_units"]))
    plots = [
        *((name, {"": points}) for name, points in list(terms.items())[:_MAX_PLOTS]),
        ("gradient norms", dict(list(norms.items())[:_MAX_LINES])),
        ("critic accuracy", dict(list(critics.items())[:_MAX_LINES])),
        ("active units", {"": active}),
    ]
    return [_describe_plot(plot) for name, points in plots if (plot := draw_plot(name, points, _SCALE)) is not None]


def _describe_plot(plot: dict[str, Any]) -> dict[str, Any]:
    return {
        **plot,
        "low": format_number(plot["low"]),
        "high": format_number(plot["high"]),
        "images": f"{plot['images']:,.0f}",
        "width": WIDTH * _SCALE,
    }


def read_health(folder: Path) -> dict[str, Any] | None:
    """The findings and the measurements in ``health.json``; None without the file, or if it is malformed."""
    try:
        table = read_json(folder / "health.json")
        found = [note(entry["message"], "message") for entry in table["findings"][:_MAX_FINDINGS]]
        probes = [_read_probe(entry) for entry in table["probes"][:1000]]
    except (OSError, ZooError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return {"findings": found, "probes": probes}


def _read_probe(entry: Mapping[str, Any]) -> dict[str, Any]:
    active = entry.get("active_units")
    return {
        "step": whole(entry["step"], "step"),
        "active_units": None if active is None else number(active, "active units"),
        "accuracy": {
            note(name, "name", _NAME): number(critic["accuracy"], "accuracy")
            for name, critic in list(entry.get("critics", {}).items())[:_MAX_LINES]
        },
    }


def describe_scores(
    scores: Mapping[str, float | None], infos: Mapping[str, ScoreInfo]
) -> tuple[list[dict[str, str]], list[str]]:
    """Rows of the table of scores, and the names of those that are not defined for the run.

    A standard error is shown with its score.
    """
    rows, undefined = [], []
    for name, value in scores.items():
        if re.search(r" standard error( \(test images\))?$", name):
            continue
        if value is None:
            undefined.append(note(name, "score"))
            continue
        error = scores.get(f"{name} standard error")
        rows.append(
            {
                "name": note(name, "score"),
                "value": plus_minus(Summary(1, value, None, error)),
                "better": {"lower": "↓", "higher": "↑", "neither": ""}[infos[name].better],
                "help": note(infos[name].help, "help"),
            }
        )
    return rows, undefined
