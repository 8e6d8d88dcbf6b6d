"""``run_grid``: runs all cells of a benchmark, the Python equivalent of ``zoo bench``."""

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
from zoo.bench.grid import GridCallback, run_cells
from zoo.bench.grid_status import CellState, CellStatus, GridStatus, make_cells, read_status, write_protocol
from zoo.errors import UsageError

__all__ = ["plan", "read_protocol", "run_grid", "with_grid"]


class _NoCallback:
    def started(self, grid_status: GridStatus) -> None: ...

    def changed(self, status: CellStatus, event: str) -> None: ...

    def ticked(self) -> None: ...


def with_grid(
    protocol: BenchProtocol,
    models: Sequence[str] | None = None,
    datasets: Sequence[str] | None = None,
    seeds: int | None = None,
) -> BenchProtocol:
    """Return the protocol with the given models, data sets or number of seeds; ``["all"]`` selects all models."""
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
    """Return the status of the grid of a protocol in a folder, without writing anything.

    Raises:
        UsageError: If the protocol contains an unknown name.
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
    """Run all unfinished cells of a grid.

    Args:
        out: Folder of the benchmark; ``OUT/DATASET/MODEL/seedK`` are ordinary run folders.
        protocol: Protocol of all runs; by default that of the folder, or ``quick`` for a new folder.
        models: Models, instead of those of the protocol; ``["all"]`` selects all registered models.
        datasets: Data sets, instead of those of the protocol.
        seeds: Number of seeds, instead of that of the protocol.
        executor: ``local``, ``ray``, ``submitit`` or an executor object.
        resources: Number of jobs at once, threads, device, share of a GPU.
        data_dir: Torchvision-style data root; by default ``$ZOO_DATA``.
        time_limit: Time limit per attempt at a cell, in seconds.
        retry_failed: Whether to run failed cells again.
        callback: Receives progress events.

    Returns:
        The status of the grid after the run.

    Raises:
        UsageError: If an argument is not allowed, or the folder has another protocol.
        StoppedError: After Ctrl-C, once all runs in progress have saved a checkpoint.
        ZooError: If no worker can be started or, with ``local``, a data set is not available.
    """
    out, resources = Path(out), resources or Resources()
    data = None if data_dir is None else os.path.abspath(Path(data_dir).expanduser())
    if data is not None and executor == "local" and not os.path.isdir(data):
        raise UsageError(f"data_dir: no folder {data}")
    protocol = with_grid(protocol or read_protocol(out) or BenchProtocol(), models, datasets, seeds)
    grid_status = plan(out, protocol, device=resources.device, retry_failed=retry_failed)
    write_protocol(out, protocol)
    callback = callback or _NoCallback()
    if not grid_status.count(CellState.WAITING):
        callback.started(grid_status)
        return grid_status
    if executor == "local":
        _load_datasets(
            {status.cell.dataset: status.cell for status in grid_status.cells if status.state is CellState.WAITING},
            data,
        )
    environment = {} if data is None else {"ZOO_DATA": data}
    runner = create_executor(executor, resources, out) if isinstance(executor, str) else executor
    run_cells(grid_status, runner, callback, environment=environment, time_limit=time_limit)
    return grid_status


def _load_datasets(cells: Mapping[str, Cell], data: str | None) -> None:
    # Before the first worker starts, so that data are downloaded only once, and missing data are a single error.
    from zoo.run.settings import RunSettings
    from zoo.run.train import load_data

    known = options.get_options(RunSettings)
    for cell in cells.values():
        settings = RunSettings(**{k: v for k, v in cell.settings.items() if k in known})
        load_data(attrs.evolve(settings, data_dir=data))


def read_protocol(out: Path) -> BenchProtocol | None:
    """Read the protocol of a benchmark folder; None for a new folder."""
    path = out / "protocol.toml"
    return BenchProtocol.from_file(path) if path.is_file() else None
