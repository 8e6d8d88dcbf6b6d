"""Writes ``models.md`` and ``reproduction.md`` from the models and the records: ``python docs/cards.py``."""

from __future__ import annotations

import inspect
import json
import tomllib
from pathlib import Path
from typing import Any

from zoo.game import player_groups, term_names, turn_notes
from zoo.interfaces import Objective
from zoo.options import get_options
from zoo.preset import format_settings, get_presets
from zoo.registry import registry
from zoo.weights import format_weight

HEAD = """# The models

Generated from the plugins by `python docs/cards.py`; `zoo show MODEL` prints the same. A row of a table has the weights
of the loss terms that a network minimizes. See also [relations between the models](family.md) and the
[glossary](glossary.md).
"""


HERE = Path(__file__).parent
NOTES: dict[str, dict[str, Any]] = tomllib.loads((HERE / "notes.toml").read_text(encoding="utf-8"))
RECORDS = HERE.parent / "benchmarks" / "records"


def measured(name: str) -> list[str]:
    """Results of a model in the committed records, one line per record."""
    lines = []
    for file, what in (("digits-5-seeds", "digits, defaults"), ("mnist-5-epochs", "MNIST, 5 epochs")):
        path = RECORDS / f"{file}.json"
        rows = json.loads(path.read_text(encoding="utf-8")).get("table", []) if path.is_file() else []
        for row in rows:
            if row["variant"] != name or "mean" not in row:
                continue
            text = f"{what}, {row['runs']} seed{'s' if row['runs'] > 1 else ''}: {row['score']} {row['mean']:.1f}"
            text += f" (worst {row['worst']:.1f}, floor {row['floor']:.2f}"
            text += f", untrained {row['untrained']:.0f})" if "untrained" in row else ")"
            if row.get("reconstruction MSE") is not None:
                text += f", reconstruction MSE {row['reconstruction MSE']:.3f}"
            bad = [f"{row[w]} {w}" for w in ("collapsed", "diverged") if row[w]]
            lines.append(
                text + (f"; {', '.join(bad)}" if bad else "") + f" ([record](../benchmarks/records/{file}.json))"
            )
    for path in sorted((RECORDS / "reproduce").glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        if any(job["model"] == name for job in record["runs"].values()):
            found = "; ".join(
                f"{bar['measure']}: published {bar['published']:.4g}, here {found_value(bar)}" for bar in record["bars"]
            )
            lines.append(
                f"{found} ({record['paper']}); {status(record)} "
                f"([record](../benchmarks/records/reproduce/{path.name}), [controls](reproduction.md))"
            )
    return lines


def card(name: str, model: type[Objective]) -> str:
    """Card of a model in Markdown."""
    notes = NOTES[name]
    summary = (inspect.getdoc(model) or "").partition("\n")[0]
    parts = [f"## `{name}`", f"{summary}", f"*{model.paper}*"]
    objective = model()
    for turn in objective.turns():
        names = term_names(turn)
        if turn.name != "step":
            parts.append(f"Turn *{turn.name}*{', '.join(['', *turn_notes(turn)])}:")
        lines = ["| | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
        for row in player_groups(turn.players):
            weights = dict(row.weights)
            cells = [format_weight(weights[n]) if n in weights else "·" for n in names]
            lines += [f"| {network} | " + " | ".join(cells) + " |" for network in row.networks]
        parts.append("\n".join(lines))
    parts.append("\n".join(f"- *{term}* = {text}" for term, text in notes.items() if term != "failures"))
    if lines := measured(name):
        parts.append("Measured:\n\n" + "\n".join(f"- {line}" for line in lines))
    parts.append("Known failures:\n\n" + "\n".join(f"- {text}" for text in notes["failures"]))
    lines = ["| option | default | description | allowed values |", "|---|---|---|---|"]
    for info in get_options(model).values():
        what = info.help.replace("|", "\\|")
        lines.append(f"| `{info.flag}` | {info.default} | {what} | {info.allows} |")
    parts.append("\n".join(lines))
    for key, preset in get_presets(model).items():
        source = f" ({preset.source})" if preset.source else ""
        parts.append(f"`--preset {key}`{source}: {format_settings(preset.settings)}.")
        lines = [f"preset {key}: {preset.summary}", *(f"  - {k}: {v}" for k, v in preset.deviations.items())]
        parts.append("- " + "\n".join(lines))
    if model.deviations:
        parts.append("Deviations of the defaults from the paper:")
        parts.append("\n".join(f"- {what}: {why}." for what, why in model.deviations.items()))
    return "\n\n".join(parts)


def page() -> str:
    """Content of models.md."""
    bundled = {n: e.value for n, e in registry().models.items() if e.plugin.package == "latent-zoo"}
    return "\n\n".join([HEAD.strip(), *(card(n, bundled[n]) for n in sorted(bundled))]) + "\n"


TARGETS = """# Reproduction

Generated by `python docs/cards.py` from the records. What the papers report, and what `benchmarks/reproduce.py`
measured with the settings named below the table.

A value is *met* if it is within the paper's error of the published one and beats every control by the published
margin: the advantage of the published value over the control's published value or, where the paper has none, over its
value here. Controls are what learns nothing of the task: untrained networks, raw pixels, a constant image, the
training images themselves. A share below 1 is a shortened schedule, learning rates with it; nothing is extrapolated,
and a run whose settings today's presets have replaced is not met whatever its value.

    python benchmarks/reproduce.py list
    python benchmarks/reproduce.py TARGET [--share SHARE] [--compile] --record benchmarks/records/reproduce
    python benchmarks/reproduce.py judge --record benchmarks/records/reproduce

A run that is broken off is continued by the same command. Full schedules on one thread of a CPU take hours to days:
`zoo run MODEL --preset NAME --dry-run` says how long here.
"""


def found_value(bar: dict[str, Any]) -> str:
    """The measured value of a bar."""
    return "not measured" if bar["found"] is None else f"{bar['found']:.4g}"


def status(record: dict[str, Any]) -> str:
    """Whether a record is met, on what share of its schedule."""
    part = "" if record["share"] == 1 else f" at {record['share']:g} of the schedule"
    note = f": {record['outdated']}" if "outdated" in record else ""
    return f"{'met' if record['met'] else 'not met'}{part}{note}"


def run_settings(job: dict[str, Any]) -> str:
    """The settings that one run of a record had."""
    amount, full = (job["length"], job["of"]) if "length" in job else ({"epochs": job["epochs"]}, {"epochs": job["of"]})
    ((unit, count),) = amount.items()
    cost, batch = job["cost"], job.get("batch") or job["settings"]["batch"]
    device = f"{cost['seconds'] / 60:.0f} min on {cost['device']}, {cost['threads']} thread(s)"
    preset = f" preset `{job['preset']}`," if "preset" in job else ""
    return (
        f"`{job['model']}`,{preset} {count:,} of {full[unit]:,} {unit}, batch {batch}, "
        f"{device}; options: {format_settings(job['options'])}"
    )


def reproduction() -> str:
    """Content of reproduction.md."""
    parts = [TARGETS.strip()]
    records = [json.loads(p.read_text(encoding="utf-8")) for p in sorted((RECORDS / "reproduce").glob("*.json"))]
    if records:
        lines = ["| target | measure | published | here | controls | status |", "|---|---|---|---|---|---|"]
        for r in records:
            name = f"[{r['target']}](../benchmarks/records/reproduce/{r['target']}.json)"
            for bar in r["bars"]:
                controls = "<br>".join(
                    f"{c}: {row['value']:.4g} (margin {row['margin']:.3g}: {'reached' if row['beaten'] else 'missed'})"
                    for c, row in bar["controls"].items()
                )
                published = f"{bar['published']:.4g} ± {bar['tolerance']:g}"
                verdict = "met" if bar["met"] and r["met"] else "not met"
                lines.append(
                    f"| {name} | {bar['measure']} | {published} | {found_value(bar)} | {controls} | {verdict} |"
                )
        parts.append("\n".join(lines))
        for r in records:
            runs = "\n".join(f"- {label}: {run_settings(job)}." for label, job in r["runs"].items())
            parts.append(
                f"**{r['target']}**: {status(r)}. {r['paper']}. Test images: {r['test images']:,}. `{r['command']}`"
            )
            parts.append(runs)
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    Path(__file__).with_name("reproduction.md").write_text(reproduction(), encoding="utf-8")
    Path(__file__).with_name("models.md").write_text(page(), encoding="utf-8")
