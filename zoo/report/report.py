"""Writes the report of a run: what its folder holds, and figures drawn with the trained model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zoo.data import Dataset
from zoo.errors import UsageError
from zoo.files import write_atomically
from zoo.leaderboard.cards import read_card
from zoo.leaderboard.html import embed_sources, environment, read_asset, read_script
from zoo.leaderboard.labels import format_value
from zoo.leaderboard.number_format import format_number
from zoo.leaderboard.score_descriptions import read_score_info
from zoo.leaderboard.untrusted import RefusedError, item, note, number, pairs, table, whole
from zoo.metrics.score_lookup import find_info
from zoo.registry import registry
from zoo.report.contents import (
    describe_scores,
    draw_curves,
    make_picture,
    read_frames,
    read_health,
    read_lines,
    read_pictures,
)
from zoo.report.model_figures import draw_traversals, embed_codes
from zoo.run.latent import EmbeddingMethod
from zoo.run.result import build_command, model_card
from zoo.run.run_folder import RunFolder
from zoo.run.settings import RunSettings, public_settings
from zoo.run.trained import TrainedModel

__all__ = ["REPORT", "make_page", "write_report"]

REPORT = "report.html"
"""Name of the page in a run folder."""
_NO_SCRIPT = ".tools,.controls,.legend,.methods{display:none}.frames img:last-child{display:block}"


def write_report(
    run: Path,
    trained: TrainedModel | None = None,
    data: Dataset | None = None,
    *,
    out: Path | None = None,
    methods: Sequence[EmbeddingMethod] = ("pca",),
    notes: Sequence[str] = (),
) -> Path:
    """Write the report of a run, which may be unfinished.

    Args:
        run: The run folder. No file in it is trusted.
        trained: The trained model, for traversals and the embedding.
        data: Its data set, for the embedding.
        out: The HTML file; ``report.html`` in the run folder by default.
        methods: Methods of the embedding.
        notes: Sentences to show at the top.

    Returns:
        The file.

    Raises:
        UsageError: If there is no run.
        ZooError: If a file of the run is damaged, or the page cannot be written.
    """
    target = out or run / REPORT
    write_atomically(target, make_page(run, trained, data, methods, notes).encode())
    return target


def make_page(
    run: Path,
    trained: TrainedModel | None,
    data: Dataset | None,
    methods: Sequence[EmbeddingMethod] = ("pca",),
    notes: Sequence[str] = (),
) -> str:
    """The page of a run; see :func:`write_report`."""
    folder = RunFolder(run)
    settings = folder.settings()
    result = folder.load_result() if folder.finished else None
    lines, health = read_lines(folder), read_health(run)
    pictures = read_pictures(run)
    embedding = None
    if trained is not None:
        found = draw_traversals(trained)
        shown = ", ".join(map(str, found.dims))
        caption = f"traversals of dimensions {shown}, the most active of {found.latent}, from −3 to 3"
        if (picture := make_picture(found.png, caption)) is not None:
            pictures.append(picture)
        embedding = None if data is None else embed_codes(trained, data, methods)
    scores, undefined = _read_scores(result)
    style, script = (
        read_asset("zoo.leaderboard", "page.css") + read_asset(__package__, "page.css"),
        read_script(__package__, "page.js"),
    )
    view = {
        **embed_sources(style, script, _NO_SCRIPT),
        "title": f"{note(settings.model, 'model')} on {note(public_settings(settings)['dataset'], 'data set')}",
        "seed": settings.seed,
        "notes": [*([] if result else [_unfinished(lines)]), *(note(text, "note") for text in notes)],
        "card": _read_card(settings, result),
        "command": _command(settings, result),
        "health": health,
        "frames": read_frames(run, lines),
        "scores": scores,
        "undefined": undefined,
        "protocol": _read_protocol(result),
        "pictures": pictures,
        "embedding": embedding,
        "curves": draw_curves(lines, health["probes"] if health else ()),
        "settings": _read_settings(settings),
        "cost": _read_cost(result),
    }
    template = environment(lambda name: read_asset(__package__, name)).get_template("page.html")
    return template.render(view)


def _unfinished(lines: Sequence[Mapping[str, Any]]) -> str:
    seen = f" The last logged step is that of {lines[-1]['images']:,} images." if lines else ""
    return f"This run is not finished, so that it has no scores.{seen}"


def _read_card(settings: RunSettings, result: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """The card in the result, or that of the installed model; None without either."""
    try:
        if result is not None and result.get("card"):
            return read_card(result["card"])
        from zoo import options

        return read_card(model_card(options.build(registry().model(settings.model), settings.options)))
    except (RefusedError, UsageError, TypeError):
        return None


def _command(settings: RunSettings, result: Mapping[str, Any] | None) -> str:
    if result is not None and isinstance(result.get("command"), str):
        return note(result["command"], "command", limit=4000)
    try:
        return build_command(settings, settings.options)
    except (KeyError, UsageError):  # its model is not installed
        return ""


def _read_scores(result: Mapping[str, Any] | None) -> tuple[list[dict[str, str]], list[str]]:
    if result is None:
        return [], []
    try:
        stored = read_score_info(result)
    except RefusedError:
        stored = {}
    return describe_scores(result["scores"], {name: stored.get(name) or find_info(name) for name in result["scores"]})


def _read_protocol(result: Mapping[str, Any] | None) -> str:
    try:
        protocol = table((result or {}).get("protocol") or {}, "protocol")
        counts = [whole(item(protocol, name), name) for name in ("n_generated", "n_real")]
        fingerprint = note(item(result or {}, "fingerprint"), "fingerprint", limit=100)[:16]
    except RefusedError:
        return ""
    return f"{counts[0]:,} generated against {counts[1]:,} real images; evaluation protocol {fingerprint}"


def _read_settings(settings: RunSettings) -> list[tuple[str, str]]:
    values = public_settings(settings)
    chosen = values.pop("options")
    return [
        (note(name, "setting").replace("_", " "), note(format_value(value), "value"))
        for name, value in {**chosen, **values}.items()
    ]


def _read_cost(result: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    try:
        cost = table((result or {}).get("cost") or {}, "cost")
        made = table((result or {}).get("provenance") or {}, "provenance")
        parameters = [f"{k} {whole(v, k):,}" for k, v in pairs(cost.get("parameters") or {}, "parameters")]
        rows = [
            ("training", _amount(cost, "seconds", "s")),
            ("speed", _amount(cost, "images_per_second", "images/s")),
            ("images", _amount(cost, "images_seen", "")),
            ("scoring", _amount(result or {}, "evaluation_seconds", "s")),
            ("peak memory", _amount(cost, "peak_memory_bytes", "MB", 1e-6)),
            ("parameters", ", ".join(parameters)),
            ("device", note(cost.get("device") or "", "device")),
            ("finished", note(made.get("finished") or "", "time")),
            ("versions", ", ".join(f"{k} {note(made[k], k)}" for k in ("zoo", "torch", "python") if k in made)),
        ]
    except RefusedError:
        return []
    return [(name, value) for name, value in rows if value]


def _amount(entries: Mapping[str, Any], key: str, unit: str, factor: float = 1) -> str:
    if entries.get(key) is None:
        return ""
    value = factor * number(entries[key], key)
    return f"{format_number(round(value) if abs(value) > 100 else value)} {unit}".strip()
