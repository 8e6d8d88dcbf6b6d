"""The cells of a grid, their folders and their current states."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
from filelock import FileLock

from zoo.bench.bench_protocol import BenchProtocol, Grid
from zoo.bench.cells import Cell
from zoo.data.dataset_names import is_registered_name, stem
from zoo.errors import UsageError, unknown_name

__all__ = ["MIN_POLL_SECONDS", "CellState", "CellStatus", "GridStatus", "make_cells", "read_status", "write_protocol"]

MIN_POLL_SECONDS = 0.5
"""Time to the first check of a cell locked by another process; later checks are further apart."""


class CellState(enum.Enum):
    """State of a cell."""

    WAITING = "waiting"
    RUNNING = "running"
    ELSEWHERE = "elsewhere"
    """Running in another process."""
    DONE = "done"
    DIVERGED = "diverged"
    FAILED = "failed"
    OPEN = "open"
    """Stopped without a result or a failure; run by the next call."""


@attrs.define
class CellStatus:
    """Current status of a cell.

    Attributes:
        cell: The cell.
        state: Its state.
        reason: Why it is failed, diverged or open, in one line.
        attempts: Number of attempts, including those of earlier calls.
        started: Time at which the last attempt started, by ``time.monotonic()``.
        seconds: Duration of the successful attempt, if made in this call.
        from_scratch: Whether the next attempt ignores the checkpoint.
        not_before: Earliest time of the next attempt, by ``time.monotonic()``.
        poll_seconds: Time to the next check if another process runs the cell.
    """

    cell: Cell
    state: CellState = CellState.WAITING
    reason: str = ""
    attempts: int = 0
    started: float = 0.0
    seconds: float | None = None
    from_scratch: bool = False
    not_before: float = 0.0
    poll_seconds: float = MIN_POLL_SECONDS


@attrs.define
class GridStatus:
    """Current status of all cells of a grid.

    Attributes:
        cells: Status of each cell.
        slots: Number of cells that can run at once.
    """

    cells: list[CellStatus]
    slots: int = 1

    def count(self, *states: CellState) -> int:
        """Count the cells in any of the given states."""
        return sum(status.state in states for status in self.cells)

    @property
    def complete(self) -> bool:
        """Whether every cell is done or has diverged."""
        return self.count(CellState.DONE, CellState.DIVERGED) == len(self.cells)

    def to_dict(self) -> dict[str, Any]:
        """The cells for JSON."""
        cells = [
            {
                "model": status.cell.model,
                "dataset": status.cell.dataset,
                "seed": status.cell.seed,
                "folder": str(status.cell.folder),
                "state": status.state.value,
                "reason": status.reason,
                "attempts": status.attempts,
            }
            for status in self.cells
        ]
        return {"cells": cells, "complete": self.complete}


def make_cells(protocol: BenchProtocol, grid: Grid, out: Path, device: str = "auto") -> list[Cell]:
    """Build the cells of a grid, ordered by data set, seed and model, so that one seed of all models finishes first.

    Raises:
        UsageError: If a model, data set, option or extractor is unknown, or two data sets would share a folder.
    """
    from zoo import options
    from zoo.registry import registry

    found = registry()
    models = list(found.models) if grid.models is None else list(grid.models)
    known = {name: options.get_options(found.model(name)) for name in (*models, *protocol.models)}
    all_options = {option for entry in found.models.values() for option in options.get_options(entry.value)}
    for option in protocol.options:
        if option not in all_options:
            raise unknown_name("option", option, all_options)
    extractor = protocol.evaluate.extractor
    if extractor not in ("auto", "none", *found.extractors):
        raise unknown_name("extractor", extractor, ("auto", "none", *found.extractors))
    chosen = {model: protocol.options_for(model, known[model]) for model in known}
    for model, values in chosen.items():
        try:
            options.build(found.model(model), values)
        except UsageError as error:
            raise UsageError(f"protocol {protocol.name}: model {model}: {error}") from None
    folders: dict[str, str] = {}
    for dataset in grid.datasets:
        if is_registered_name(dataset) and dataset not in found.datasets:
            raise unknown_name("data set", dataset, [*found.datasets, "folder:PATH", "hf:NAME"])
        name = stem(dataset)
        if name in folders.values():
            raise UsageError(
                f"datasets: two of them share the folder {out / name}; rename one of the folders of images"
            )
        folders[dataset] = name
    _refuse_links(out, list(folders.values()), models)
    machine = {"device": device}
    return [
        Cell(
            model,
            dataset,
            seed,
            out / folders[dataset] / model / f"seed{seed}",
            {"model": model, **protocol.settings_for(dataset, seed), **machine, **chosen[model]},
        )
        for dataset in grid.datasets
        for seed in range(grid.seeds)
        for model in models
    ]


def _refuse_links(out: Path, datasets: Sequence[str], models: Sequence[str]) -> None:
    # A benchmark's folder may come from another person: its links must not redirect writes.
    names = ("protocol.toml", ".protocol.lock", ".submitit")
    for path in (*names, *datasets, *(f"{dataset}/{model}" for dataset in datasets for model in models)):
        if (out / path).is_symlink():
            raise UsageError(
                f"out: {out / path} is a symbolic link; replace it by what it names, or choose another --out"
            )


def write_protocol(out: Path, protocol: BenchProtocol) -> None:
    """Write the protocol to the folder of the benchmark, which from then on accepts no other protocol.

    Raises:
        UsageError: If the folder has another protocol, contains other files, or is not writable.
    """
    from zoo.files import write_atomically

    path = out / "protocol.toml"
    # Another call may be creating the folder; it writes the protocol before any cell.
    ours = ("protocol.toml", ".protocol.", ".submitit")
    foreign = [p.name for p in out.iterdir() if not p.name.startswith(ours)] if out.is_dir() else []
    if foreign and not path.is_file():
        raise UsageError(f"out: {out} is not empty and not a benchmark (no protocol.toml); choose another --out")
    try:
        out.mkdir(parents=True, exist_ok=True)
        with FileLock(out / ".protocol.lock", timeout=60):
            changed = BenchProtocol.from_file(path).differences(protocol) if path.is_file() else []
            if changed:
                raise UsageError(f"out: {out} has a different protocol: {'; '.join(changed)}; choose another --out")
            write_atomically(path, protocol.to_toml().encode())
    except OSError as error:
        raise UsageError(f"out: cannot write to {out}: {error.strerror or error}") from None


def read_status(cells: Sequence[Cell], *, retry_failed: bool = False) -> GridStatus:
    """Read the status of cells from their folders; with ``retry_failed``, failed and diverged cells are waiting."""
    grid_status = GridStatus([CellStatus(cell) for cell in cells])
    for status in grid_status.cells:
        failure = status.cell.failure
        if status.cell.done:
            status.state = CellState.DONE
        elif failure is not None:
            status.attempts = failure.attempts
            if retry_failed:
                status.from_scratch = failure.kind == "diverged"
            else:
                status.state = CellState.DIVERGED if failure.kind == "diverged" else CellState.FAILED
                status.reason = failure.reason
    return grid_status
