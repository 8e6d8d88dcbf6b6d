"""Progress of ``zoo run``: a live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from zoo.callbacks import Callback
from zoo.metrics.score_info import ScoreInfo
from zoo.metrics.score_lookup import stored_infos
from zoo.terminal import count, make_console, printable

__all__ = [
    "LiveProgress",
    "PlainProgress",
    "QuietProgress",
    "format_score",
    "make_progress",
    "score_table",
    "scores_table",
]


class PlainProgress(Callback):
    """Progress as plain lines, one every few seconds."""

    every_seconds = 10.0

    def __init__(self, console: Console) -> None:
        self.console = console
        self.folder: Path | None = None
        """The run folder, once the run is complete."""
        self._total = self._begin = 0
        self._since = self._last = time.perf_counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def decoded(self, images: int, total: int) -> None:
        self._print_now_and_then(f"decoded {images:,} of {total:,} images")

    def scored(self, images: int, total: int) -> None:
        self._print_now_and_then(f"scored {images:,} of {total:,} generated images")

    def _print_now_and_then(self, text: str) -> None:
        now = time.perf_counter()
        if now - self._last >= self.every_seconds:
            self._last = now
            self._print(text)

    def started(self, settings: Mapping[str, Any], folder: Path, total_images: int, images_seen: int) -> None:
        length = f"{count(settings['epochs'], 'epoch')}, " if "epochs" in settings else ""
        verb = f"resumes at {images_seen:,} of" if images_seen else "trains on"
        self._print(
            f"{settings['model']} {verb} {total_images:,} images of {printable(settings['dataset'])} "
            f"({length}batch {settings['batch']}, seed {settings['seed']}) -> {printable(str(folder))}"
        )
        self._total, self._begin = total_images, images_seen
        self._since = self._last = time.perf_counter()

    def step_logged(
        self, step: int, images_seen: int, epoch: float, terms: Mapping[str, float], gradients: Mapping[str, float]
    ) -> None:
        now = time.perf_counter()
        if now - self._last < self.every_seconds and images_seen < self._total:
            return
        self._last = now
        rate, left = self._pace(images_seen)
        values = ", ".join(f"{name} {value:.4g}" for name, value in terms.items())
        self._print(
            f"epoch {epoch:.1f}: {images_seen:,} of {self._total:,} images, {rate:,.0f} images/s, {left} left; "
            f"loss terms: {values}"
        )

    def note(self, text: str) -> None:
        self._print(f"note: {printable(' '.join(text.split()))}")

    def finished(self, result: Mapping[str, Any], folder: Path) -> None:
        self.folder = folder
        self.console.print(score_table(result))
        for finding in result["health"]["findings"]:
            self._print(f"health: {printable(finding['message'])}")
        self._print(f"wrote {', '.join(_written(folder))}\nin    {printable(str(folder))}")

    def wrote_report(self, path: Path) -> None:
        """The report of the run was written."""
        self._print(f"open  {printable(str(path))}")

    def _pace(self, images: int) -> tuple[float, str]:
        rate = (images - self._begin) / max(1e-9, time.perf_counter() - self._since)
        seconds = round((self._total - images) / rate) if rate > 0 else 0
        return rate, f"{seconds // 60}:{seconds % 60:02d}"

    def _print(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


class QuietProgress(PlainProgress):
    """No output, for ``--quiet`` and ``--json``; the command line prints errors."""

    def __init__(self) -> None:
        super().__init__(make_console())

    def finished(self, result: Mapping[str, Any], folder: Path) -> None:
        self.folder = folder

    def _print(self, text: str) -> None:
        return None


class LiveProgress(PlainProgress):
    """Progress as a live bar with epoch, images/s and time left, and the terms."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=32),
            TextColumn("epoch {task.fields[epoch]:.1f}"),
            TextColumn("{task.fields[rate]:,.0f} images/s"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=console,
        )
        self._task = self._bar.add_task("", total=None, epoch=0.0, rate=0.0)
        self._live: Live | None = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def started(self, settings: Mapping[str, Any], folder: Path, total_images: int, images_seen: int) -> None:
        super().started(settings, folder, total_images, images_seen)
        self._bar.reset(self._task, total=total_images, completed=images_seen, description=settings["model"])
        self._live = Live(self._bar, console=self.console, refresh_per_second=4, transient=True)
        self._live.start()

    def progressed(self, images_seen: int, epoch: float) -> None:
        rate, _ = self._pace(images_seen)
        self._bar.update(self._task, completed=images_seen, epoch=epoch, rate=rate)

    def step_logged(
        self, step: int, images_seen: int, epoch: float, terms: Mapping[str, float], gradients: Mapping[str, float]
    ) -> None:
        self.progressed(images_seen, epoch)
        if self._live is not None:
            grid = Table.grid(padding=(0, 3))
            values = (f"[dim]{escape(name)}[/dim] {value:.4g}" for name, value in terms.items())
            grid.add_row("loss terms", *values)
            outer = Table.grid()
            outer.add_row(self._bar)
            outer.add_row(grid)
            self._live.update(outer)
        if images_seen >= self._total:
            self._stop()
            self._last = float("-inf")
            super().step_logged(step, images_seen, epoch, terms, gradients)
            self._print("scoring …")

    def _stop(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


def make_progress() -> PlainProgress:
    """Progress callback for standard output: live on a terminal, plain lines elsewhere."""
    console = make_console()
    return LiveProgress(console) if console.is_terminal and not console.is_dumb_terminal else PlainProgress(console)


def score_table(result: Mapping[str, Any]) -> Table:
    """Table of the scores and the cost of a run; undefined scores are n/a."""
    protocol = result["protocol"] or {}
    infos = stored_infos(result["scores"], result.get("score_info"))
    table = scores_table(result["scores"], infos, protocol.get("n_generated", 0), protocol.get("n_real", 0))
    cost = result["cost"]
    rate = cost["images_per_second"]
    table.add_row("training", f"{cost['seconds']:.1f} s", f"{rate:,.0f} images/s, {cost['device']}" if rate else "")
    return table


def scores_table(
    scores: Mapping[str, float | None], infos: Mapping[str, ScoreInfo], generated: int, real: int
) -> Table:
    """Table of scores with descriptions; that of the first, the ranking score, includes the numbers of images.

    A standard error stands behind its score, and scores that are not defined share the last row.
    """
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(style="dim")
    undefined = []
    for i, (name, value) in enumerate(scores.items()):
        if " standard error" in name:
            continue
        if value is None:
            undefined.append(name)
            continue
        error = scores.get(f"{name} standard error")
        number = format_score(value) + (f" ± {error:.2g}" if error is not None else "")
        text = escape(infos[name].help) + (f", {generated:,} against {real:,}" if i == 0 else "")
        table.add_row(escape(name), number, text)
    if undefined:
        table.add_row("not defined here", "n/a", escape(", ".join(undefined)))
    return table


def format_score(value: float | None) -> str:
    """Format a score with four digits; None is n/a."""
    return "n/a" if value is None else f"{value:.4g}"


def _written(folder: Path) -> list[str]:
    names = [
        "result.json",
        "samples.png",
        "samples.gif",
        "reconstructions.png",
        "interpolations.png",
        "neighbors.png",
        "class_samples.png",
        "curves.png",
        "model.safetensors",
        "metrics.jsonl",
        "health.json",
    ]
    return [name for name in names if (folder / name).is_file()]
