"""Status of the grid: its cells, their folders and their states."""

from __future__ import annotations

import enum
import time
from collections.abc import Sequence
from pathlib import Path

import attrs
from filelock import FileLock

from zoo.bench.bench_protocol import BenchProtocol, Grid
from zoo.bench.cells import Cell
from zoo.data.names import is_registered_name, stem
from zoo.errors import UsageError, unknown_name

__all__ = ["CellState", "CellStatus", "GridStatus", "make_cells", "read_status", "write_protocol"]

FIRST_PAUSE = 0.5
"""Seconds until the first check of a cell that another process runs."""


class CellState(enum.Enum):
    """State of a cell."""

    WAITING = "waiting"
    RUNNING = "running"
    ELSEWHERE = "elsewhere"
    DONE = "done"
    DIVERGED = "diverged"
    FAILED = "failed"
    OPEN = "open"


@attrs.define
class CellStatus:
    """Status of a cell."""

    cell: Cell
    state: CellState = CellState.WAITING
    reason: str = ""
    attempts: int = 0
    begun: float = 0.0
    seconds: float | None = None
    restart: bool = False
    not_before: float = 0.0
    pause: float = FIRST_PAUSE


@attrs.define
class GridStatus:
    """Status of the grid."""

    cells: list[CellStatus]
    slots: int = 1
    begun: float = attrs.field(factory=time.monotonic)

    def count(self, *states: CellState) -> int:
        """Number of cells in one of the states."""
        return sum(status.state in states for status in self.cells)

    @property
    def complete(self) -> bool:
        """Whether every cell is finished or has diverged."""
        return self.count(CellState.DONE, CellState.DIVERGED) == len(self.cells)


def make_cells(protocol: BenchProtocol, grid: Grid, out: Path, device: str = "auto") -> list[Cell]:
    """Cells of a grid, in the order of data set, seed and model.

    Raises:
        UsageError: If a model, data set or option is unknown, or two data sets would share a folder.
    """
    from zoo import options
    from zoo.registry import registry

    found = registry()
    models = list(found.models) if grid.models is None else list(grid.models)
    known = {name: options.get_options(found.model(name)) for name in (*models, *protocol.models)}
    anywhere = {option for entry in found.models.values() for option in options.get_options(entry.value)}
    for option in protocol.options:
        if option not in anywhere:
            raise unknown_name("option", option, anywhere)
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
            raise UsageError(f"datasets: two would share the folder {out / name}; rename one of them")
        folders[dataset] = name
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


def write_protocol(out: Path, protocol: BenchProtocol) -> None:
    """Write the protocol to the folder of a benchmark.

    Raises:
        UsageError: If the folder has a different protocol or is not that of a benchmark.
    """
    from zoo.files import write_atomically

    path = out / "protocol.toml"
    # Another call may be creating the folder: these files are part of a benchmark, and the protocol precedes the cells.
    ours = ("protocol.toml", ".protocol.", ".submitit")
    foreign = [p.name for p in out.iterdir() if not p.name.startswith(ours)] if out.is_dir() else []
    if foreign and not path.is_file():
        raise UsageError(f"out: {out} is not empty and has no protocol.toml: it is not the folder of a benchmark")
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
    """Read the status of cells from their folders; with ``retry_failed``, failed cells wait again."""
    board = GridStatus([CellStatus(cell) for cell in cells])
    for status in board.cells:
        failure = status.cell.failure
        if status.cell.done:
            status.state = CellState.DONE
        elif failure is not None:
            status.attempts = failure.attempts
            if retry_failed:
                status.restart = failure.kind == "diverged"
            else:
                status.state = CellState.DIVERGED if failure.kind == "diverged" else CellState.FAILED
                status.reason = failure.reason
    return board
