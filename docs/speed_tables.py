"""The tables of docs/speed.md, from the record of benchmarks/speed.py.

python docs/speed_tables.py            writes them between the page's marks
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGE, RECORD = ROOT / "docs" / "speed.md", ROOT / "benchmarks" / "records" / "speed-cpu.json"
Rows = list[dict[str, Any]]


def table(head: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """Markdown."""
    lines = [list(head), *([str(v) for v in row] for row in rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def loops(rows: Rows) -> str:
    """Against loops written by hand."""
    head = ["model", "networks", "by hand, images/s", "engine", "ratio", "quartiles", "weights differ by"]
    return table(
        head,
        (
            [
                f"`{r['model']}`",
                r["networks"],
                f"{r['bare images/s']:,}",
                f"{r['images/s']:,}",
                f"**{r['ratio']:.2f}**",
                "{:.2f} – {:.2f}".format(*r["quartiles"]),
                f"{r['weights differ by']:g}",
            ]
            for r in rows
        ),
    )


def peers(rows: Rows) -> str:
    """Against pythae."""
    ways = {
        "same losses": "engine",
        "same losses, compiled, bf16": "compiled, bf16",
        "the paper's": "the paper's losses",
    }
    head = ["model", "pythae, images/s"]
    head += [title for way in ways.values() for title in (way, "ratio")] + ["weights differ by"]
    return table(
        head,
        (
            [
                f"`{r['model']}`",
                f"{r['pythae images/s']:,}",
                *(v for way in ways for v in (f"{r[f'{way} images/s']:,}", f"**{r[f'{way} ratio']:.2f}**")),
                f"{r['weights differ by']:.1g}",
            ]
            for r in rows
        ),
    )


def ablation(rows: Rows) -> str:
    """What each part brings."""
    found = {(r["step"], r["model"], r["networks"]): r["ratio"] for r in rows}
    kinds = list(dict.fromkeys((model, networks) for _, model, networks in found))
    steps = list(dict.fromkeys(step for step, _, _ in found))
    head = ["images/s as a ratio to the bare loop", *(f"`{model}`, {networks}" for model, networks in kinds)]
    return table(head, ([step, *(f"{found[step, *kind]:.2f}" for kind in kinds)] for step in steps))


def cost(rows: Rows) -> str:
    """Where a step's time goes."""
    *steps, peak = rows
    head = [
        "model",
        "networks",
        "MFLOP/image",
        "GFLOP/s",
        "of the peak",
        "operations/step",
        "busy",
        "by kind",
        "memory, MB",
    ]
    made = table(
        head,
        (
            [
                f"`{r['model']}`",
                r["networks"],
                r["MFLOP/image"],
                r["GFLOP/s"],
                f"{100 * r['share of fp32 peak']:.0f} %",
                r["operations/step"],
                f"{100 * r['busy']:.0f} %",
                r["time"],
                r["peak memory MB"],
            ]
            for r in steps
        ),
    )
    fp32, bf16 = (peak[f"peak {kind} GFLOP/s"] for kind in ("float32", "bfloat16"))
    return f"{made}\n\nThe peak: {fp32:g} GFLOP/s in float32, {bf16:g} in bfloat16, on one large product of matrices."


def scaling(rows: Rows) -> str:
    """Cost along four axes."""
    axes = list(dict.fromkeys(r["vaegan, conv"] for r in rows))
    at = {axis: [r for r in rows if r["vaegan, conv"] == axis] for axis in axes}
    return table(
        ["axis", "images/s"],
        ([axis, ", ".join(f"{r['value']:,}: {r['images/s']:,}" for r in at[axis])] for axis in axes),
    )


def throughput(rows: Rows) -> str:
    """Of trained networks."""
    return table(["trained `vaegan`, conv", "images/s"], ([r["vaegan, conv"], f"{r['images/s']:,}"] for r in rows))


def job(rows: Rows) -> str:
    """A whole run."""
    stages = [key for key in rows[0] if key != "vaegan, 1 epoch"]
    return table(
        ["seconds", *(r["vaegan, 1 epoch"] for r in rows)],
        ([stage, *(r.get(stage, "") for r in rows)] for stage in stages),
    )


TABLES: dict[str, Callable[[Rows], str]] = {
    made.__name__: made for made in (loops, peers, ablation, cost, scaling, throughput, job)
}


def page() -> str:
    """The page with the record's tables in it."""
    record, text = json.loads(RECORD.read_text(encoding="utf-8")), PAGE.read_text(encoding="utf-8")
    for name, made in TABLES.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
        if len(pattern.findall(text)) != 1:
            raise SystemExit(f"{PAGE.name}: it needs {begin.strip()} and {end} once each")
        text = pattern.sub(lambda _: f"{begin}\n{made(record[name])}\n\n{end}", text)  # noqa: B023
    return text


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
