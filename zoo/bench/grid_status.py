"""The grid as it stands: which cells there are, under which folder, and what each of them is."""

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

__all__ = ["CellState", "CellStatus", "GridStatus", "cells_of", "claim", "look"]

AGAIN = 0.5
"""Seconds until a cell that somebody else is at is looked at again, the first time."""


class CellState(enum.Enum):
    """What a cell is, for the display."""

    WAITING = "waiting"
    RUNNING = "running"
    ELSEWHERE = "elsewhere"
    DONE = "done"
    DIVERGED = "diverged"
    FAILED = "failed"
    OPEN = "open"


@attrs.define
class CellStatus:
    """One cell, as it stands."""

    cell: Cell
    state: CellState = CellState.WAITING
    reason: str = ""
    attempts: int = 0
    begun: float = 0.0
    seconds: float | None = None
    anew: bool = False
    not_before: float = 0.0
    pause: float = AGAIN


@attrs.define
class GridStatus:
    """The whole grid, as it stands."""

    cells: list[CellStatus]
    slots: int = 1
    begun: float = attrs.field(factory=time.monotonic)

    def count(self, *states: CellState) -> int:
        """How many cells are in one of these states."""
        return sum(status.state in states for status in self.cells)

    @property
    def complete(self) -> bool:
        """Whether every cell has a result; a run that diverged is one."""
        return self.count(CellState.DONE, CellState.DIVERGED) == len(self.cells)


def cells_of(protocol: BenchProtocol, grid: Grid, out: Path, device: str = "auto") -> list[Cell]:
    """Every cell of a grid, seeds outermost: whole rounds of all models come in first.

    Raises:
        UsageError: where a model, a data set or an option is not one, or two data sets would share a folder.
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
            raise UsageError(f"datasets: two of them would lie in {out / name}; rename one folder")
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


def claim(out: Path, protocol: BenchProtocol) -> None:
    """Keep a copy of the protocol in the benchmark's folder, which belongs to it from then on.

    Raises:
        UsageError: where the folder belongs to another protocol.
    """
    from zoo.files import write_atomically

    path = out / "protocol.toml"
    # Another call may be making the folder at this moment: what it has there already is not somebody else's, and its
    # protocol comes before its cells.
    ours = ("protocol.toml", ".protocol.", ".submitit")
    foreign = [p.name for p in out.iterdir() if not p.name.startswith(ours)] if out.is_dir() else []
    if foreign and not path.is_file():
        raise UsageError(f"out: {out} is not empty and holds no benchmark: it has no protocol.toml")
    try:
        out.mkdir(parents=True, exist_ok=True)
        with FileLock(out / ".protocol.lock", timeout=60):
            changed = BenchProtocol.from_file(path).differences(protocol) if path.is_file() else []
            if changed:
                raise UsageError(
                    f"out: {out} was begun under another protocol: {'; '.join(changed)}; choose another --out"
                )
            write_atomically(path, protocol.to_toml().encode())
    except OSError as error:
        raise UsageError(f"out: cannot write to {out}: {error.strerror or error}") from None


def look(cells: Sequence[Cell], *, retry_failed: bool = False) -> GridStatus:
    """The grid as the folders say it stands; with ``retry_failed``, broken cells wait again."""
    board = GridStatus([CellStatus(cell) for cell in cells])
    for status in board.cells:
        failure = status.cell.failure
        if status.cell.done:
            status.state = CellState.DONE
        elif failure is not None:
            status.attempts = failure.attempts
            if retry_failed:
                status.anew = failure.kind == "diverged"
            else:
                status.state = CellState.DIVERGED if failure.kind == "diverged" else CellState.FAILED
                status.reason = failure.reason
    return board
