"""The display of ``zoo bench`` on a terminal and in a pipe, and the detection of cores and GPUs."""

from __future__ import annotations

import io
import json
import os
import re
import time
from pathlib import Path

import pytest
from rich.console import Console

from zoo.bench import Cell, CellState, GridStatus
from zoo.bench.cells import read_progress
from zoo.bench.display import GLYPHS, LiveDisplay, PlainDisplay, render_grid, seconds_left, summary
from zoo.bench.grid_status import CellStatus
from zoo.bench.machine import cores


def board(out: Path) -> GridStatus:
    """Two models and three seeds, in every state there is but one."""
    states = [
        CellState.DONE,
        CellState.RUNNING,
        CellState.FAILED,
        CellState.DIVERGED,
        CellState.ELSEWHERE,
        CellState.WAITING,
    ]
    places = [(model, seed) for model in ("vae", "[gan]") for seed in range(3)]
    cells = [
        CellStatus(Cell(model, "digits", seed, out / "digits" / model / f"seed{seed}"), state)
        for (model, seed), state in zip(places, states, strict=True)
    ]
    return GridStatus(cells, slots=2)


def on_terminal(width: int = 80) -> tuple[Console, io.StringIO]:
    file = io.StringIO()
    return Console(file=file, force_terminal=True, width=width, height=30, color_system=None), file


def test_the_grid_has_a_row_a_model_and_a_glyph_a_seed(tmp_path):
    console, file = on_terminal()
    console.print(render_grid(board(tmp_path)))
    rows = [line.split() for line in file.getvalue().splitlines()]
    assert rows == [["digits"], ["vae", "■", "▸", "✗"], ["[gan]", "~", "◦", "·"]]
    assert len({glyph for glyph, _ in GLYPHS.values()}) == len(CellState), "every state is told apart without color"
    counts = "1 waiting, 1 running, 1 elsewhere, 1 done, 1 diverged, 1 failed"
    assert summary(board(tmp_path)) == f"6 cells: {counts}"


def test_a_terminal_shows_each_worker_with_its_progress(tmp_path):
    """Model, bar, per cent and what it is at; what went wrong stays on the screen."""
    grid = board(tmp_path)
    grid.cells[0].seconds = 30.0
    folder = grid.cells[1].cell.folder
    folder.mkdir(parents=True)
    (folder / ".progress.json").write_text(json.dumps({"images": 50, "total": 200, "phase": "training", "pid": 1}))
    console, file = on_terminal()
    with LiveDisplay(console) as display:
        display.started(grid)
        display.changed(grid.cells[2], "failed: a reason")
        display.ticked()
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", file.getvalue())
    assert re.search(r"digits vae seed 1 +━+ +25 % +training", text)
    assert "digits vae seed 2: failed: a reason" in text
    assert re.search(r"\s0:\d\d\s+left", text)


def test_a_pipe_gets_one_line_an_event(tmp_path):
    file = io.StringIO()
    grid = board(tmp_path)
    with PlainDisplay(Console(file=file, width=20)) as display:
        display.started(grid)
        display.changed(grid.cells[3], "a reason [with brackets] that is longer than the width")
    lines = file.getvalue().splitlines()
    assert len(lines) == 2
    assert lines[1] == "[3/6] digits [gan] seed 0: a reason [with brackets] that is longer than the width"
    assert "\x1b" not in file.getvalue()


def test_time_left(tmp_path):
    """Two slots, one run of about ten seconds begun just now and one waiting: about ten seconds."""
    grid = board(tmp_path)
    assert seconds_left(grid) is None
    grid.cells[0].seconds = 10.0
    grid.cells[1].started = time.monotonic()
    assert seconds_left(grid) == pytest.approx(10.0, abs=1.0)
    for status in grid.cells:
        status.state = CellState.DONE
    assert seconds_left(grid) is None
    assert grid.complete


@pytest.mark.parametrize("text", ["", "{", "[]", '{"images": 1}', '{"images": "x", "total": 2}'])
def test_half_a_word_on_progress_is_none(text, tmp_path):
    (tmp_path / ".progress.json").write_text(text)
    assert read_progress(tmp_path) is None


def test_cores_are_those_that_this_process_may_use():
    assert 1 <= cores() <= (os.cpu_count() or 1)
    if hasattr(os, "sched_setaffinity"):
        before = os.sched_getaffinity(0)
        try:
            os.sched_setaffinity(0, {min(before)})
            assert cores() == 1
        finally:
            os.sched_setaffinity(0, before)
