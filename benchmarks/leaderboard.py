"""The committed leaderboards: one archive of results each, and the three formats generated from it.

    python benchmarks/leaderboard.py keep bench/quick benchmarks/leaderboard/quick    pack the results of a grid
    python benchmarks/leaderboard.py make benchmarks/leaderboard/quick                generate the formats again

``zoo leaderboard GRID --pack FILE`` writes the archive. A test compares the formats with what the archive generates.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from zoo.leaderboard import build, pack, to_html, to_json, to_markdown
from zoo.leaderboard.archive import ARCHIVE

FORMATS = {"leaderboard.md": to_markdown, "leaderboard.json": to_json, "leaderboard.html": to_html}


def keep(grid: Path, target: Path) -> None:
    """Pack the results and copy the protocol of a grid's folder."""
    target.mkdir(parents=True, exist_ok=True)
    (target / ARCHIVE).write_bytes(pack([grid]))
    shutil.copy(grid / "protocol.toml", target / "protocol.toml")


def make(target: Path) -> dict[str, str]:
    """The three formats of packed results, by file name."""
    board = build([target / ARCHIVE])
    return {name: to_format(board) for name, to_format in FORMATS.items()}


def main() -> None:
    """Run ``keep`` or ``make``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["keep", "make"])
    parser.add_argument("folders", nargs="+", type=Path)
    arguments = parser.parse_args()
    if len(arguments.folders) != (2 if arguments.what == "keep" else 1):
        parser.error("keep takes the folder of a grid and a target; make takes a target")
    target = arguments.folders[-1]
    if arguments.what == "keep":
        keep(*arguments.folders)
    for name, text in make(target).items():
        (target / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
