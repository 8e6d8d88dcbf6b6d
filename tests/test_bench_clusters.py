"""``zoo bench`` on Ray and through submitit: the grid and bits of the local executor, also if a machine is lost."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bench_helpers import Noted, board, facts, finishes, install

from zoo.bench import Resources
from zoo.bench.cells import read_progress
from zoo.bench.executors import create_executor
from zoo.bench.executors.local import LocalExecutor
from zoo.bench.grid import run_cells
from zoo.errors import UsageError
from zoo.registry import Plugin, Registered, registry

CELLS = 3
SLOW = {"TOYS_PAUSE": "0.1"}


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Iterator[Path]:
    """The package of toys, installed where every process of this test finds it."""
    root = tmp_path_factory.mktemp("toys")
    site = install(root / "site")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(site))
        import misbehaving

        for name, model in misbehaving.MODELS.items():
            entry = Registered(name, model, Plugin("misbehaving", "misbehaving", "1.0"))
            patch.setitem(registry().models, name, entry)
        path = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
        settings = {"TOYS": str(root), "ZOO_CACHE": str(cache), "TOYS_WITHOUT_CURVES": "1", "PYTHONPATH": path}
        for name, value in settings.items():
            patch.setenv(name, value)
        yield root


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory, toys: Path) -> list[dict[str, Any]]:
    """The facts of the grid as ``--executor local`` computes it."""
    grid = board(tmp_path_factory.mktemp("local"), ["steady"], CELLS)
    run_cells(grid, LocalExecutor(Resources(jobs=2, threads=1, device="cpu")), Noted())
    assert grid.complete
    return [facts(status.cell.folder) for status in grid.cells]


def at_work(out: Path) -> list[Path]:
    """The cells whose workers say that they train."""
    found = [path.parent for path in out.glob("digits/*/*/.progress.json")]
    return [folder for folder in found if (p := read_progress(folder)) is not None and p.phase == "training"]


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def two_nodes(tries: int = 3) -> tuple[Any, Any]:
    """A cluster of two nodes on this machine, and the one of them that is not the head."""
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "num_gpus": 0, "object_store_memory": 80_000_000}
    cluster = Cluster()
    try:
        cluster.add_node(**node, include_dashboard=False)
        second = cluster.add_node(**node)
        cluster.wait_for_nodes()
    except Exception:  # Ray gives a node 30 s to begin, which a machine that is busy with other tests may not have
        cluster.shutdown()
        if tries > 1:
            return two_nodes(tries - 1)
        raise
    return cluster, second


@pytest.mark.slow
def test_ray_completes_the_grid_although_a_machine_is_lost(tmp_path, toys, local, monkeypatch):
    """Two nodes, a worker on each; one node is killed in the middle of its run, which then goes on on the other."""
    monkeypatch.setenv("RAY_gcs_server_request_timeout_seconds", "180")
    import ray

    cluster, second = two_nodes()
    try:
        ray.init(address=cluster.address, log_to_driver=False, logging_level="error")
        executor = create_executor("ray", Resources(threads=1, device="cpu"), tmp_path)
        removed = threading.Event()

        class Killer(Noted):
            def ticked(self) -> None:
                if not removed.is_set() and len(at_work(tmp_path)) == 2:
                    removed.set()
                    cluster.remove_node(second, allow_graceful=False)

        noted = Killer()
        grid = board(tmp_path, ["steady"], CELLS)
        # Long runs: on a loaded machine the second node's first run starts seconds after the first's.
        run_cells(grid, executor, noted, environment={"TOYS_PAUSE": "1.0"})
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert removed.is_set(), "no node was lost"
    assert any("ray lost the worker" in event for _, event in noted.events)
    assert grid.complete
    for status, expected in zip(grid.cells, local, strict=True):
        assert facts(status.cell.folder) == expected
        assert finishes(status.cell.folder) == 1


@pytest.mark.slow
def test_submitit_computes_what_local_does(tmp_path, toys, local, monkeypatch):
    """Its own local executor stands for SLURM here; a job that is killed is begun again from its checkpoint."""
    monkeypatch.setattr("zoo.bench.executors.slurm._POLL_SECONDS", 0.2)
    executor = create_executor("submitit", Resources(jobs=2, threads=1, device="cpu"), tmp_path)
    struck: list[int] = []

    class Killer(Noted):
        def ticked(self) -> None:
            if not struck and (folders := at_work(tmp_path)):
                worker = read_progress(folders[0]).pid
                struck.append(parent(parent(worker)))  # submitit's process: worker, server, then that
                os.kill(struck[0], signal.SIGKILL)

    noted = Killer()
    grid = board(tmp_path, ["steady"], CELLS)
    run_cells(grid, executor, noted, environment=SLOW)
    assert struck
    assert any("resumes from its checkpoint" in event for _, event in noted.events)
    assert grid.complete
    for status, expected in zip(grid.cells, local, strict=True):
        assert facts(status.cell.folder) == expected
        assert finishes(status.cell.folder) == 1


def test_a_missing_extra_is_named_with_its_remedy(tmp_path, monkeypatch):
    """One line that says what to install, in place of an ImportError."""
    for name, package, extra in (("ray", "ray", "ray"), ("submitit", "submitit", "slurm")):
        monkeypatch.setitem(__import__("sys").modules, package, None)
        with pytest.raises(UsageError, match=rf"{package} is not installed; pip install 'latent-zoo\[{extra}\]'"):
            create_executor(name, Resources(device="cpu"), tmp_path)
    with pytest.raises(UsageError, match="must be one of local, ray, submitit"):
        create_executor("cloud", Resources(), tmp_path)
