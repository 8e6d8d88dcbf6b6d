"""``run_grid``: run all cells of a protocol, as ``zoo bench`` does."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from zoo import options
from zoo.bench.bench_protocol import BenchProtocol
from zoo.bench.cells import Cell
from zoo.bench.executors import Executor, Resources, create_executor
from zoo.bench.grid import GridCallback, fill
from zoo.bench.grid_status import CellState, CellStatus, GridStatus, make_cells, read_status, write_protocol
from zoo.errors import UsageError

__all__ = ["plan", "run_grid", "with_grid"]


class _NoCallback:
    def begun(self, board: GridStatus) -> None: ...

    def changed(self, status: CellStatus, event: str) -> None: ...

    def ticked(self) -> None: ...


def with_grid(
    protocol: BenchProtocol,
    models: Sequence[str] | None = None,
    datasets: Sequence[str] | None = None,
    seeds: int | None = None,
) -> BenchProtocol:
    """Replace the models, data sets or seeds of a protocol, if given; ``["all"]`` means all models."""
    changes: dict[str, Any] = {}
    if models is not None:
        changes["models"] = None if list(models) == ["all"] else tuple(models)
    if datasets is not None:
        from zoo.data import absolute_name  # imports torch

        changes["datasets"] = tuple(absolute_name(name) for name in datasets)
    if seeds is not None:
        changes["seeds"] = seeds
    return attrs.evolve(protocol, grid=attrs.evolve(protocol.grid, **changes))


def plan(out: str | Path, protocol: BenchProtocol, *, device: str = "auto", retry_failed: bool = False) -> GridStatus:
    """Read the status of a grid without writing anything.

    Raises:
        UsageError: If the protocol has an unknown name.
    """
    return read_status(make_cells(protocol, protocol.grid, Path(out), device), retry_failed=retry_failed)


def run_grid(
    out: str | Path,
    protocol: BenchProtocol | None = None,
    *,
    models: Sequence[str] | None = None,
    datasets: Sequence[str] | None = None,
    seeds: int | None = None,
    executor: str | Executor = "local",
    resources: Resources | None = None,
    data_dir: str | Path | None = None,
    time_limit: float | None = None,
    retry_failed: bool = False,
    callback: GridCallback | None = None,
) -> GridStatus:
    """Run all unfinished cells of a grid and return its status.

    Args:
        out: Folder of the benchmark, with run folders ``OUT/DATASET/MODEL/seedK``.
        protocol: The protocol; by default that of the folder, or ``quick`` for a new folder.
        models: Models, instead of those of the protocol; ``["all"]`` for all registered ones.
        datasets: Data sets, instead of those of the protocol.
        seeds: Number of seeds, instead of that of the protocol.
        executor: ``local``, ``ray``, ``submitit``, or an object.
        resources: Concurrent jobs, threads, device and share of a GPU.
        data_dir: Torchvision-style data root; ``$ZOO_DATA`` by default.
        time_limit: Time limit per attempt at a cell, in seconds.
        retry_failed: Also run failed cells again.
        callback: Callback of the grid.

    Raises:
        UsageError: If an argument is invalid, or the folder has a different protocol.
        StoppedError: After Ctrl-C, once all runs have saved a checkpoint.
        ZooError: If no worker can be started or, for ``local``, a data set is not available.
    """
    out, resources = Path(out), resources or Resources()
    data = None if data_dir is None else os.path.abspath(Path(data_dir).expanduser())
    if data is not None and executor == "local" and not os.path.isdir(data):
        raise UsageError(f"data_dir: no folder {data}")
    protocol = with_grid(protocol or stored(out) or BenchProtocol(), models, datasets, seeds)
    board = plan(out, protocol, device=resources.device, retry_failed=retry_failed)
    write_protocol(out, protocol)
    callback = callback or _NoCallback()
    if not board.count(CellState.WAITING):
        callback.begun(board)
        return board
    if executor == "local":
        _find_data(
            {status.cell.dataset: status.cell for status in board.cells if status.state is CellState.WAITING}, data
        )
    environment = {} if data is None else {"ZOO_DATA": data}
    runner = create_executor(executor, resources, out) if isinstance(executor, str) else executor
    fill(board, runner, callback, environment=environment, time_limit=time_limit)
    return board


def _find_data(cells: Mapping[str, Cell], data: str | None) -> None:
    # Before workers start: missing data are reported and downloaded once, not by every cell.
    from zoo.run.settings import RunSettings
    from zoo.run.train import load_data

    known = options.get_options(RunSettings)
    for cell in cells.values():
        settings = RunSettings(**{k: v for k, v in cell.settings.items() if k in known})
        load_data(attrs.evolve(settings, data_dir=data))


def stored(out: Path) -> BenchProtocol | None:
    """Protocol of the folder of a benchmark; None for a new folder."""
    path = out / "protocol.toml"
    return BenchProtocol.from_file(path) if path.is_file() else None
