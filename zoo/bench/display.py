"""Output of ``zoo bench``: a live display of the grid on a terminal, one line per event elsewhere."""

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
from zoo.errors import ZooError
from zoo.terminal import make_console, printable

__all__ = ["GLYPHS", "LiveDisplay", "PlainDisplay", "QuietDisplay", "create_display", "render_grid", "summary"]

GLYPHS: dict[CellState, tuple[str, str]] = {
    CellState.WAITING: ("·", "dim"),
    CellState.RUNNING: ("▸", "cyan"),
    CellState.ELSEWHERE: ("◦", "cyan"),
    CellState.DONE: ("■", "green"),
    CellState.DIVERGED: ("~", "yellow"),
    CellState.FAILED: ("✗", "red"),
    CellState.OPEN: ("!", "yellow"),
}
"""Glyph and style of each cell state."""


class PlainDisplay:
    """Prints one line per event, without control sequences."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.grid_status = GridStatus([])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def started(self, grid_status: GridStatus) -> None:
        """Print the number of cells per state."""
        self.grid_status = grid_status
        concurrent = min(grid_status.slots, max(1, grid_status.count(CellState.WAITING)))
        self._print(f"{summary(grid_status)}; {concurrent} at a time")

    def changed(self, status: CellStatus, event: str) -> None:
        """Print the event."""
        if event == "done" and status.seconds is not None:
            event = f"done in {status.seconds:.1f} s{_format_score(status)}"
        total = len(self.grid_status.cells)
        settled = total - self.grid_status.count(CellState.WAITING, CellState.RUNNING, CellState.ELSEWHERE)
        rest = seconds_left(self.grid_status) if event.startswith("done") else None
        left = f"  {_format_time(rest)} left" if rest else ""
        self._print(f"[{settled:{len(str(total))}d}/{total}] {status.cell.name}: {printable(event)}{left}")

    def ticked(self) -> None:
        """Do nothing."""

    def _print(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


class QuietDisplay(PlainDisplay):
    """Prints nothing."""

    def __init__(self) -> None:
        super().__init__(make_console())

    def started(self, grid_status: GridStatus) -> None:
        """Do nothing."""

    def changed(self, status: CellStatus, event: str) -> None:
        """Do nothing."""


class LiveDisplay(PlainDisplay):
    """Shows the time left, the progress of each worker, and the grid: a row per model, a column per seed."""

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
        if self.grid_status.cells:
            self.console.print(render_grid(self.grid_status))

    def changed(self, status: CellStatus, event: str) -> None:
        """Redraw; events other than a start or a result are also printed, and stay on the screen."""
        if status.state not in (CellState.RUNNING, CellState.DONE):
            super().changed(status, event)
        self._draw()

    def ticked(self) -> None:
        """Redraw, at most four times per second."""
        if time.monotonic() - self._last > 0.25:
            self._draw()

    def _draw(self) -> None:
        self._last = time.monotonic()
        rest = seconds_left(self.grid_status)
        header = Text(summary(self.grid_status) + (f"  {_format_time(rest)} left" if rest is not None else ""))
        # The bottom is cut off on small terminals, so the summary and the workers are above the grid.
        parts = Group(header, _render_workers(self.grid_status), render_grid(self.grid_status))
        self._live.update(parts, refresh=True)


def create_display() -> PlainDisplay:
    """Create a live display if standard output is a terminal, otherwise a plain one."""
    console = make_console()
    return LiveDisplay(console) if console.is_terminal and not console.is_dumb_terminal else PlainDisplay(console)


def render_grid(grid_status: GridStatus) -> Table:
    """Render the grid: for each data set a row per model with a glyph per seed."""
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    datasets = dict.fromkeys(_dataset_name(status) for status in grid_status.cells)
    for dataset in datasets:
        rows = [status for status in grid_status.cells if _dataset_name(status) == dataset]
        table.add_row(f"[bold]{escape(dataset)}[/bold]", "")
        for model in dict.fromkeys(status.cell.model for status in rows):
            row = Text()
            for status in sorted((s for s in rows if s.cell.model == model), key=lambda s: s.cell.seed):
                glyph, style = GLYPHS[status.state]
                row.append(glyph + " ", style=style)
            table.add_row(f"  {escape(model)}", row)
    return table


def _dataset_name(status: CellStatus) -> str:
    return status.cell.folder.parent.parent.name


def _render_workers(grid_status: GridStatus, limit: int = 16) -> Table:
    table = Table.grid(padding=(0, 2))
    running = [status for status in grid_status.cells if status.state is CellState.RUNNING]
    for status in running[:limit]:
        progress = read_progress(status.cell.folder)
        fraction = min(1.0, progress.fraction) if progress else 0.0
        filled = round(20 * fraction)
        bar = Text("━" * filled, style="cyan") + Text("━" * (20 - filled), style="dim")
        phase = progress.phase if progress else "starting"
        table.add_row(escape(status.cell.name), bar, f"{100 * fraction:3.0f} %", escape(phase))
    if len(running) > limit:
        table.add_row(f"and {len(running) - limit} more", "", "", "")
    return table


def summary(grid_status: GridStatus) -> str:
    """Number of cells in total and per state, as text."""
    parts = [f"{grid_status.count(state)} {state.value}" for state in GLYPHS if grid_status.count(state)]
    return f"{len(grid_status.cells)} cells: {', '.join(parts)}"


def seconds_left(grid_status: GridStatus) -> float | None:
    """Estimated seconds until the grid is complete; None before the first cell is done and after the last."""
    durations = [status.seconds for status in grid_status.cells if status.seconds is not None]
    if not durations or grid_status.complete:
        return None
    mean, now = sum(durations) / len(durations), time.monotonic()
    running = [status for status in grid_status.cells if status.state is CellState.RUNNING]
    work = grid_status.count(CellState.WAITING) * mean
    work += sum(max(0.0, mean - (now - status.started)) for status in running)
    return work / max(1, min(grid_status.slots, grid_status.count(CellState.WAITING, CellState.RUNNING)))


def _format_time(seconds: float) -> str:
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


def _format_score(status: CellStatus) -> str:
    try:
        scores = status.cell.result()["scores"]
    except (OSError, ZooError):
        return ""
    name = next(iter(scores), None)
    value = scores.get(name)
    return "" if name is None or value is None else f", {name} {value:.4g}"
