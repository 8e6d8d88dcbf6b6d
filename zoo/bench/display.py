"""How ``zoo bench`` shows itself: the grid filling up on a terminal, one line an event in a pipe."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from zoo.bench.cells import read_progress
from zoo.bench.grid_status import CellState, CellStatus, GridStatus

__all__ = ["GLYPHS", "LiveDisplay", "PlainDisplay", "display", "drawn"]

GLYPHS: dict[CellState, tuple[str, str]] = {
    CellState.WAITING: ("·", "dim"),
    CellState.RUNNING: ("▸", "cyan"),
    CellState.ELSEWHERE: ("◦", "cyan"),
    CellState.DONE: ("■", "green"),
    CellState.DIVERGED: ("~", "yellow"),
    CellState.FAILED: ("✗", "red"),
    CellState.OPEN: ("!", "yellow"),
}
"""A cell's glyph and color by its state."""


class PlainDisplay:
    """One line an event; nothing that only a terminal understands."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.board = GridStatus([])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def begun(self, board: GridStatus) -> None:
        """The grid begins, or goes on."""
        self.board = board
        self._print(summary(board) + f"; {min(board.slots, max(1, board.count(CellState.WAITING)))} at a time")

    def changed(self, status: CellStatus, event: str) -> None:
        """Something happened to a cell."""
        if event == "done" and status.seconds is not None:
            event = f"done in {status.seconds:.1f} s{_score(status)}"
        settled = len(self.board.cells) - self.board.count(CellState.WAITING, CellState.RUNNING, CellState.ELSEWHERE)
        width = len(str(len(self.board.cells)))
        left = f"  {_clock(rest)} left" if event.startswith("done") and (rest := seconds_left(self.board)) else ""
        self._print(f"[{settled:{width}d}/{len(self.board.cells)}] {status.cell.name}: {event}{left}")

    def ticked(self) -> None:
        """Some time has passed."""

    def _print(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


class LiveDisplay(PlainDisplay):
    """The time left; each worker with its progress; the grid, a row a model and a column a seed."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._last = 0.0

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()
        if self.board.cells:
            self.console.print(drawn(self.board))

    def changed(self, status: CellStatus, event: str) -> None:
        """Something happened to a cell; what went wrong stays on the screen."""
        if status.state not in (CellState.RUNNING, CellState.DONE):
            super().changed(status, event)
        self._draw()

    def ticked(self) -> None:
        """Some time has passed."""
        if time.monotonic() - self._last > 0.25:
            self._draw()

    def _draw(self) -> None:
        self._last = time.monotonic()
        rest = seconds_left(self.board)
        foot = summary(self.board) + (f"  {_clock(rest)} left" if rest is not None else "")
        # What does not fit on the terminal is cut off below: the count of cells and the workers stand above the grid.
        self._live.update(Group(Text(foot), _workers(self.board), drawn(self.board)), refresh=True)


def display() -> PlainDisplay:
    """The live display where standard output is a terminal, else plain lines."""
    console = Console(highlight=False)
    return LiveDisplay(console) if console.is_terminal and not console.is_dumb_terminal else PlainDisplay(console)


def drawn(board: GridStatus) -> Table:
    """The grid: for each data set a row a model, a glyph a seed."""
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    datasets = dict.fromkeys(_dataset(status) for status in board.cells)
    for dataset in datasets:
        mine = [status for status in board.cells if _dataset(status) == dataset]
        table.add_row(f"[bold]{escape(dataset)}[/bold]", "")
        for model in dict.fromkeys(status.cell.model for status in mine):
            row = Text()
            for status in sorted((s for s in mine if s.cell.model == model), key=lambda s: s.cell.seed):
                glyph, style = GLYPHS[status.state]
                row.append(glyph + " ", style=style)
            table.add_row(f"  {escape(model)}", row)
    return table


def _dataset(status: CellStatus) -> str:
    return status.cell.folder.parent.parent.name


def _workers(board: GridStatus, most: int = 16) -> Table:
    table = Table.grid(padding=(0, 2))
    running = [status for status in board.cells if status.state is CellState.RUNNING]
    for status in running[:most]:
        progress = read_progress(status.cell.folder)
        fraction = min(1.0, progress.fraction) if progress else 0.0
        filled = round(20 * fraction)
        bar = Text("━" * filled, style="cyan") + Text("━" * (20 - filled), style="dim")
        phase = progress.phase if progress else "starting"
        table.add_row(escape(status.cell.name), bar, f"{100 * fraction:3.0f} %", phase)
    if len(running) > most:
        table.add_row(f"and {len(running) - most} more", "", "", "")
    return table


def summary(board: GridStatus) -> str:
    """How many cells there are, and how many of them are what."""
    parts = [f"{board.count(state)} {state.value}" for state in GLYPHS if board.count(state)]
    return f"{len(board.cells)} cells: {', '.join(parts)}"


def seconds_left(board: GridStatus) -> float | None:
    """Seconds until the grid is full, at the pace so far; None before the first cell is done, and after the last."""
    spent = [status.seconds for status in board.cells if status.seconds is not None]
    if not spent or board.complete:
        return None
    mean, now = sum(spent) / len(spent), time.monotonic()
    running = [status for status in board.cells if status.state is CellState.RUNNING]
    todo = board.count(CellState.WAITING) * mean + sum(max(0.0, mean - (now - status.begun)) for status in running)
    return todo / max(1, min(board.slots, board.count(CellState.WAITING, CellState.RUNNING)))


def _clock(seconds: float) -> str:
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


def _score(status: CellStatus) -> str:
    try:
        scores = status.cell.result()["scores"]
    except (OSError, ValueError, KeyError):
        return ""
    name = next(iter(scores), None)
    value = scores.get(name)
    return "" if name is None or value is None else f", {name} {value:.4g}"
