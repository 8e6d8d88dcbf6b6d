"""Progress of ``zoo bench``: a live grid on a terminal, one line per event elsewhere."""

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

__all__ = ["GLYPHS", "LiveDisplay", "PlainDisplay", "grid_table", "make_display"]

GLYPHS: dict[CellState, tuple[str, str]] = {
    CellState.WAITING: ("·", "dim"),
    CellState.RUNNING: ("▸", "cyan"),
    CellState.ELSEWHERE: ("◦", "cyan"),
    CellState.DONE: ("■", "green"),
    CellState.DIVERGED: ("~", "yellow"),
    CellState.FAILED: ("✗", "red"),
    CellState.OPEN: ("!", "yellow"),
}
"""Glyph and color of a cell by its state."""


class PlainDisplay:
    """Progress as plain lines, one per event."""

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
        """The grid starts or resumes."""
        self.board = board
        self._print(summary(board) + f"; {min(board.slots, max(1, board.count(CellState.WAITING)))} concurrently")

    def changed(self, status: CellStatus, event: str) -> None:
        """The state of a cell changed."""
        if event == "done" and status.seconds is not None:
            event = f"done in {status.seconds:.1f} s{_score(status)}"
        finished = len(self.board.cells) - self.board.count(CellState.WAITING, CellState.RUNNING, CellState.ELSEWHERE)
        width = len(str(len(self.board.cells)))
        left = f"  {_clock(rest)} left" if event.startswith("done") and (rest := seconds_left(self.board)) else ""
        self._print(f"[{finished:{width}d}/{len(self.board.cells)}] {status.cell.name}: {event}{left}")

    def ticked(self) -> None:
        """Called periodically."""

    def _print(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


class LiveDisplay(PlainDisplay):
    """Progress as a live display: time left, workers, and the grid with a row per model and a column per seed."""

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
            self.console.print(grid_table(self.board))

    def changed(self, status: CellStatus, event: str) -> None:
        """The state of a cell changed; failures stay on the screen."""
        if status.state not in (CellState.RUNNING, CellState.DONE):
            super().changed(status, event)
        self._draw()

    def ticked(self) -> None:
        """Called periodically."""
        if time.monotonic() - self._last > 0.25:
            self._draw()

    def _draw(self) -> None:
        self._last = time.monotonic()
        rest = seconds_left(self.board)
        head = summary(self.board) + (f"  {_clock(rest)} left" if rest is not None else "")
        # Summary and workers are above the grid, because a small terminal cuts off the end.
        self._live.update(Group(Text(head), _workers(self.board), grid_table(self.board)), refresh=True)


def make_display() -> PlainDisplay:
    """Display for standard output: live on a terminal, plain lines elsewhere."""
    console = Console(highlight=False)
    return LiveDisplay(console) if console.is_terminal and not console.is_dumb_terminal else PlainDisplay(console)


def grid_table(board: GridStatus) -> Table:
    """Table of the grid: per data set, a row per model with a glyph per seed."""
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    datasets = dict.fromkeys(_dataset(status) for status in board.cells)
    for dataset in datasets:
        statuses = [status for status in board.cells if _dataset(status) == dataset]
        table.add_row(f"[bold]{escape(dataset)}[/bold]", "")
        for model in dict.fromkeys(status.cell.model for status in statuses):
            row = Text()
            for status in sorted((s for s in statuses if s.cell.model == model), key=lambda s: s.cell.seed):
                glyph, style = GLYPHS[status.state]
                row.append(glyph + " ", style=style)
            table.add_row(f"  {escape(model)}", row)
    return table


def _dataset(status: CellStatus) -> str:
    return status.cell.folder.parent.parent.name


def _workers(board: GridStatus, limit: int = 16) -> Table:
    table = Table.grid(padding=(0, 2))
    running = [status for status in board.cells if status.state is CellState.RUNNING]
    for status in running[:limit]:
        progress = read_progress(status.cell.folder)
        fraction = min(1.0, progress.fraction) if progress else 0.0
        filled = round(20 * fraction)
        bar = Text("━" * filled, style="cyan") + Text("━" * (20 - filled), style="dim")
        phase = progress.phase if progress else "starting"
        table.add_row(escape(status.cell.name), bar, f"{100 * fraction:3.0f} %", phase)
    if len(running) > limit:
        table.add_row(f"and {len(running) - limit} more", "", "", "")
    return table


def summary(board: GridStatus) -> str:
    """Number of cells, in total and by state."""
    parts = [f"{board.count(state)} {state.value}" for state in GLYPHS if board.count(state)]
    return f"{len(board.cells)} cells: {', '.join(parts)}"


def seconds_left(board: GridStatus) -> float | None:
    """Estimate of the remaining seconds; None before the first finished cell and when the grid is complete."""
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
