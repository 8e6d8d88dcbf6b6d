"""The committed leaderboards: results of a grid, small enough to commit, and the three forms that they generate.

    python benchmarks/leaderboard.py keep bench/quick benchmarks/leaderboard/quick    take in a grid's results
    python benchmarks/leaderboard.py make benchmarks/leaderboard/quick                write the forms anew

What is kept of each run: its result, forty points of its curves, and pictures where its row shows them. A test compares
the forms with what the kept results generate.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from zoo.compatibility import picture_path
from zoo.leaderboard import build, to_html, to_json, to_markdown
from zoo.leaderboard.folders import PICTURES

POINTS = 40
FORMS = {"leaderboard.md": to_markdown, "leaderboard.json": to_json, "leaderboard.html": to_html}


def thinned(text: str) -> str:
    """About forty lines of a metrics.jsonl, the last among them, without what no curve shows."""
    lines = [json.loads(line) for line in text.splitlines()]
    step = max(1, -(-len(lines) // POINTS))
    kept = lines[::-1][::step][::-1]
    fields = [{"step": x["step"], "images": x["images"], "terms": x["terms"]} for x in kept]
    return "".join(json.dumps(x) + "\n" for x in fields)


def keep(grid: Path, target: Path) -> None:
    """Copy what the forms need of a grid's folder."""
    shown = {run.folder for group in build([grid]).groups for row in group.rows if (run := row.median)}
    results = target / "results"
    if results.exists():
        shutil.rmtree(results)
    for source in sorted([*grid.rglob("result.json"), *grid.rglob("failed.json")]):
        folder = results / source.parent.relative_to(grid)
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, folder / source.name)
        metrics = source.parent / "metrics.jsonl"
        if metrics.is_file():
            (folder / "metrics.jsonl").write_text(thinned(metrics.read_text(encoding="utf-8")), encoding="utf-8")
        if source.parent in shown:
            for name in PICTURES:
                if (picture := picture_path(source.parent, name)).is_file():
                    shutil.copy(picture, folder / f"{name}.png")
    shutil.copy(grid / "protocol.toml", target / "protocol.toml")


def make(target: Path) -> dict[str, str]:
    """The three forms of kept results, by file name."""
    board = build([target / "results"])
    return {name: form(board) for name, form in FORMS.items()}


def main() -> None:
    """Keep, or make."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["keep", "make"])
    parser.add_argument("folders", nargs="+", type=Path)
    arguments = parser.parse_args()
    if len(arguments.folders) != (2 if arguments.what == "keep" else 1):
        parser.error("keep takes a grid's folder and a target; make a target")
    target = arguments.folders[-1]
    if arguments.what == "keep":
        keep(*arguments.folders)
    for name, text in make(target).items():
        (target / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
