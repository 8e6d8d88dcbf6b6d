"""The committed leaderboards are what their committed results generate."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BOARDS = sorted(p.parent for p in (ROOT / "benchmarks" / "leaderboard").glob("*/results"))


def without_pixels(text: str) -> str:
    """Pictures are compressed anew, by whatever zlib is there: only that there is one is compared."""
    return re.sub(r"iVBORw0KGgo[A-Za-z0-9+/=]+", "PNG", text)


def test_there_is_one():
    assert [p.name for p in BOARDS]


@pytest.mark.parametrize("board", BOARDS, ids=lambda p: p.name)
def test_a_committed_board_is_what_its_results_generate(board, script):
    for name, text in script("benchmarks/leaderboard.py").make(board).items():
        written = (board / name).read_text(encoding="utf-8")
        assert without_pixels(written) == without_pixels(text), f"run python benchmarks/leaderboard.py make {board}"


@pytest.mark.parametrize("board", BOARDS, ids=lambda p: p.name)
def test_nothing_of_a_machine_is_in_the_committed_results(board):
    for path in board.rglob("*.json*"):
        assert not re.search(r'"/(home|root|tmp|work|Users)/', path.read_text(encoding="utf-8")), path
