"""``run_grid``: from a protocol to a folder full of results; what ``zoo bench`` does, in one call."""

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
from zoo.bench.grid_status import CellState, CellStatus, GridStatus, cells_of, claim, look
from zoo.errors import UsageError

__all__ = ["plan", "run_grid", "with_grid"]


class _Nobody:
    def begun(self, board: GridStatus) -> None: ...

    def changed(self, status: CellStatus, event: str) -> None: ...

    def ticked(self) -> None: ...


def with_grid(
    protocol: BenchProtocol,
    models: Sequence[str] | None = None,
    datasets: Sequence[str] | None = None,
    seeds: int | None = None,
) -> BenchProtocol:
    """The protocol with other models, data sets or seeds where they are given; ``["all"]`` is every model."""
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
    """The grid of a protocol as it stands in a folder; writes nothing.

    Raises:
        UsageError: where the protocol names what is not there.
    """
    return look(cells_of(protocol, protocol.grid, Path(out), device), retry_failed=retry_failed)


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
    watcher: GridCallback | None = None,
) -> GridStatus:
    """Run every cell of the grid that is not done, and return the grid as it then stands.

    Arguments:
        out: the benchmark's folder; ``OUT/DATASET/MODEL/seedK`` are run folders like any other.
        protocol: what all runs have in common; by default that of the folder, or ``quick`` where it is new.
        models: in place of the protocol's; ``["all"]`` is every registered one.
        datasets: in place of the protocol's.
        seeds: how many, in place of the protocol's.
        executor: ``local``, ``ray``, ``submitit``, or one of your own.
        resources: how many jobs at once, threads, device, share of a GPU.
        data_dir: a torchvision-style data root; by default ``$ZOO_DATA``.
        time_limit: seconds that one attempt at a cell may take.
        retry_failed: whether cells that broke before are tried again.
        watcher: who is told how it goes; nobody by default.

    Raises:
        UsageError: for what cannot be meant; the folder of another protocol, above all.
        StoppedError: after Ctrl-C, once every run has kept a checkpoint.
        ZooError: where no worker can be started, or, with ``local``, a data set cannot be had.
    """
    out, resources = Path(out), resources or Resources()
    data = None if data_dir is None else os.path.abspath(Path(data_dir).expanduser())
    if data is not None and executor == "local" and not os.path.isdir(data):
        raise UsageError(f"data_dir: no folder {data}")
    protocol = with_grid(protocol or stored(out) or BenchProtocol(), models, datasets, seeds)
    board = plan(out, protocol, device=resources.device, retry_failed=retry_failed)
    claim(out, protocol)
    watcher = watcher or _Nobody()
    if not board.count(CellState.WAITING):
        watcher.begun(board)
        return board
    if executor == "local":
        _find_data(
            {status.cell.dataset: status.cell for status in board.cells if status.state is CellState.WAITING}, data
        )
    environment = {} if data is None else {"ZOO_DATA": data}
    runner = create_executor(executor, resources, out) if isinstance(executor, str) else executor
    fill(board, runner, watcher, environment=environment, time_limit=time_limit)
    return board


def _find_data(cells: Mapping[str, Cell], data: str | None) -> None:
    # Before any worker is started: what is missing is told once and not by every cell, and fetched once.
    from zoo.run.settings import RunSettings
    from zoo.run.train import load_data

    known = options.get_options(RunSettings)
    for cell in cells.values():
        settings = RunSettings(**{k: v for k, v in cell.settings.items() if k in known})
        load_data(attrs.evolve(settings, data_dir=data))


def stored(out: Path) -> BenchProtocol | None:
    """The protocol that a benchmark's folder was begun under; None where it is new."""
    path = out / "protocol.toml"
    return BenchProtocol.from_file(path) if path.is_file() else None
