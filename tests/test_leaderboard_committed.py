"""The committed leaderboards are what their committed archives of results generate."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from zoo.leaderboard.archive import ARCHIVE, read_archive, write_archive

ROOT = Path(__file__).parent.parent
BOARDS = sorted(p.parent for p in (ROOT / "benchmarks" / "leaderboard").glob(f"*/{ARCHIVE}"))


def without_pixels(text: str) -> str:
    """Pictures are compressed again, by the installed zlib: only their presence is compared."""
    return re.sub(r"iVBORw0KGgo[A-Za-z0-9+/=]+", "PNG", text)


def test_there_is_a_committed_leaderboard():
    assert [p.name for p in BOARDS]


@pytest.mark.parametrize("board", BOARDS, ids=lambda p: p.name)
def test_committed_formats_are_what_the_results_generate(board, script):
    for name, text in script("benchmarks/leaderboard.py").make(board).items():
        written = (board / name).read_text(encoding="utf-8")
        assert without_pixels(written) == without_pixels(text), f"run python benchmarks/leaderboard.py make {board}"


@pytest.mark.parametrize("board", BOARDS, ids=lambda p: p.name)
def test_committed_results_contain_no_paths_of_a_machine(board):
    files = read_archive((board / ARCHIVE).read_bytes())
    assert len(files) > 50
    for path, content in files.items():
        assert not re.search(rb'"/(home|root|tmp|work|Users)/', content), path


@pytest.mark.parametrize("board", BOARDS, ids=lambda p: p.name)
def test_a_committed_archive_is_what_zoo_writes(board):
    files = read_archive((board / ARCHIVE).read_bytes())
    assert read_archive(write_archive(files)) == files
    assert {Path(path).name for path in files} <= {
        *("result.json", "failed.json", "metrics.jsonl", "samples.png", "reconstructions.png"),
        *("interpolations.png", "neighbors.png", "neighbours.png", "class_samples.png"),
    }
