"""``zoo bench`` with killed workers and drivers, full disks, broken models, and two drivers on one folder.

Each test ends with the same checks: the grid completes, no finished cell is lost or repeated, and every cell has the
bits of an undisturbed run.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bench_helpers import Noted, alive, bench, board, facts, finishes, install, protocol, tensors

from zoo.bench import CellState, Resources, run_grid
from zoo.bench.cells import End, Job, read_progress
from zoo.bench.executors.local import LocalExecutor
from zoo.bench.grid import run_cells
from zoo.errors import UsageError, ZooError
from zoo.registry import Plugin, Registered, registry


class Kept(LocalExecutor):
    """Stays open after a grid is filled, for the next test: starting costs more than most of them."""

    def close(self) -> None:
        assert not self._running

    @property
    def workers(self) -> list[int]:
        """The processes at work."""
        server = self._process.pid
        return [int(p) for p in Path(f"/proc/{server}/task/{server}/children").read_text().split()]


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Iterator[dict[str, str]]:
    """The misbehaving package, installed; the environment in which processes find it."""
    root = tmp_path_factory.mktemp("toys")
    site = install(root / "site")
    environment = {"TOYS": str(root), "ZOO_CACHE": str(cache), "TOYS_WITHOUT_CURVES": "1", "OMP_NUM_THREADS": "1"}
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(site))
        import misbehaving

        for name, model in misbehaving.MODELS.items():
            entry = Registered(name, model, Plugin("misbehaving", "misbehaving", "1.0"))
            patch.setitem(registry().models, name, entry)
        for name, value in environment.items():
            patch.setenv(name, value)
        yield {**environment, "PYTHONPATH": str(site)}


@pytest.fixture(scope="module")
def workers(toys: dict[str, str]) -> Iterator[Kept]:
    executor = Kept(Resources(jobs=2, threads=1, device="cpu"))
    yield executor
    LocalExecutor.close(executor)


@pytest.fixture
def mended(toys: dict[str, str]) -> Iterator[Path]:
    """A file that, once touched, makes every model behave."""
    path = Path(toys["TOYS"]) / "mended"
    yield path
    path.unlink(missing_ok=True)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, workers: Kept) -> Any:
    """The facts of a cell that nobody disturbed, by model and seed."""
    out, known = tmp_path_factory.mktemp("undisturbed"), {}
    grid = board(out, ["steady"], 6)
    run_cells(grid, workers, Noted())
    assert grid.complete
    for status in grid.cells:
        known[status.cell.seed] = facts(status.cell.folder)
    return known


def slow(pause: float) -> dict[str, str]:
    """So that a run lasts long enough to be struck while it trains."""
    return {"TOYS_PAUSE": str(pause)}


@pytest.mark.slow
def test_workers_killed_at_random_moments(tmp_path, workers, undisturbed):
    """SIGKILL to twenty workers, wherever they happen to be: starting, training, saving, scoring."""
    rng, killed, over = random.Random(7), [], threading.Event()

    def kill() -> None:
        while len(killed) < 20 and not over.is_set():
            time.sleep(rng.uniform(0.05, 0.8))
            with contextlib.suppress(ProcessLookupError, IndexError):  # there was none, or no longer
                pid = rng.choice([p for p in workers.workers if p not in killed])
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)

    def filled(out: Path) -> None:
        noted, grid = Noted(), board(out, ["steady"], 6)
        run_cells(grid, workers, noted, environment=slow(0.02))
        while not grid.complete:  # cells that were hit three times in a row
            grid = board(out, ["steady"], 6, retry_failed=True)
            assert grid.count(CellState.WAITING)
            run_cells(grid, workers, noted, environment=slow(0.02))
        assert len(noted.results) == 6
        for path, then in noted.results.items():
            assert path.read_bytes() == then, "a finished result is not touched again"
            assert facts(path.parent) == undisturbed[int(path.parent.name.removeprefix("seed"))]
            assert finishes(path.parent) == 1
            assert not (path.parent / "failed.json").exists()

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        grids = 0
        while killer.is_alive() and grids < 10:
            filled(tmp_path / str(grids))
            grids += 1
    finally:
        over.set()
        killer.join()
    assert len(set(killed)) == 20


@pytest.mark.slow
def test_every_way_to_break_leaves_its_reason_and_the_others_finish(tmp_path, workers, undisturbed, mended):
    """Raised, NaN, killed, full disk: each cell says what happened; nothing broken is run again until asked for."""
    models = ["raises", "nan", "dies", "fills", "steady"]
    noted = Noted()
    grid = board(tmp_path, models, 1)
    run_cells(grid, workers, noted)
    states = {status.cell.model: status.state for status in grid.cells}
    assert states == {
        "raises": CellState.FAILED,
        "nan": CellState.DIVERGED,
        "dies": CellState.FAILED,
        "fills": CellState.OPEN,
        "steady": CellState.DONE,
    }
    written = {m: json.loads((tmp_path / "digits" / m / "seed0" / "failed.json").read_text()) for m in models[:3]}
    for failure in written.values():  # so that the leaderboard places it beside the protocol's other runs
        assert set(failure["protocol_file"]) == {"name", "version", "digest"}
    assert {m: t["kind"] for m, t in written.items()} == {"raises": "error", "nan": "diverged", "dies": "killed"}
    assert written["raises"]["reason"] == "ValueError: two lines of explanation"
    assert written["nan"]["reason"].startswith("diverged: ")
    assert "SIGKILL" in written["dies"]["reason"]
    assert {m: t["attempts"] for m, t in written.items()} == {"raises": 1, "nan": 1, "dies": 3}
    for model, table in written.items():
        assert (table["format"], table["model"], table["dataset"], table["seed"]) == (1, model, "digits", 0)
        assert table["plugin"] == {"name": "misbehaving", "package": "misbehaving", "version": "1.0"}
        assert table["settings"]["options"]["good"] == 5
        assert "data_dir" not in table["settings"]
        folder = tmp_path / "digits" / model / "seed0"
        assert (folder / "checkpoint" / "state.safetensors").is_file(), "the last checkpoint is kept"
        assert "attempt 1" in (folder / "log.txt").read_text()
    assert "Traceback" in (tmp_path / "digits" / "raises" / "seed0" / "log.txt").read_text()
    # A disk that was full is held against nobody.
    full = tmp_path / "digits" / "fills" / "seed0"
    assert not (full / "failed.json").exists()
    assert (full / "checkpoint" / "state.safetensors").is_file()

    noted.events.clear()
    mended.touch()
    again = board(tmp_path, models, 1)
    run_cells(again, workers, noted, environment=slow(0.02))
    assert {name for name, _ in noted.events} == {"digits fills seed 0"}, "only what is not settled is run again"
    assert again.count(CellState.DONE) == 2

    retried = board(tmp_path, models, 1, retry_failed=True)
    assert retried.count(CellState.WAITING) == 3
    run_cells(retried, workers, noted)
    assert retried.complete
    assert retried.count(CellState.DONE) == 5
    for model in models:
        folder = tmp_path / "digits" / model / "seed0"
        assert tensors(folder) == tensors(tmp_path / "digits" / "steady" / "seed0")
        assert facts(folder)["metrics"] == undisturbed[0]["metrics"]
        assert not (folder / "failed.json").exists(), "a cell that succeeds is no longer broken"
        assert finishes(folder) == 1


@pytest.mark.slow
def test_a_run_that_hangs_is_ended_at_its_time_limit(tmp_path, workers, undisturbed, mended):
    """It ignores a polite word; its place is free for the others after that, and it can go on later."""
    grid = board(tmp_path, ["hangs", "steady"], 2)
    began = time.monotonic()
    run_cells(grid, workers, Noted(), time_limit=8.0)
    assert time.monotonic() - began < 40
    assert grid.count(CellState.FAILED) == grid.count(CellState.DONE) == 2
    hung = json.loads((tmp_path / "digits" / "hangs" / "seed0" / "failed.json").read_text())
    assert hung["kind"] == "timeout"
    assert "8 s" in hung["reason"]
    assert not workers.workers
    mended.touch()
    grid = board(tmp_path, ["hangs", "steady"], 2, retry_failed=True)
    run_cells(grid, workers, Noted())
    assert grid.complete
    assert facts(tmp_path / "digits" / "hangs" / "seed1")["metrics"] == undisturbed[1]["metrics"]


@pytest.mark.slow
@pytest.mark.parametrize(("spawn", "times"), [(False, 20), (True, 3)], ids=["fork", "spawn"])
def test_a_time_limit_shorter_than_the_start_of_a_worker_is_enforced(spawn, times, tmp_path, toys):
    """The kill must not be lost while the worker's process group does not yet exist."""
    executor = LocalExecutor(Resources(jobs=1, threads=1, device="cpu"), spawn=spawn)
    (status,) = board(tmp_path, ["steady"], 1).cells
    job = Job(status.cell.settings, str(status.cell.folder), environment=slow(1.0), seconds=1e-9)
    try:
        for number in range(times):
            executor.start([(number, job)])
            assert wait_for_ends(executor) == [(number, "timeout")]
    finally:
        executor.close()
    assert not status.cell.done


def test_a_worker_that_is_stopped_while_it_starts_ends_at_once(tmp_path, workers):
    """Ctrl-C right after the start reaches the worker although the fork server ignores SIGINT."""
    (status,) = board(tmp_path, ["steady"], 1).cells
    workers.start([(0, Job(status.cell.settings, str(status.cell.folder), environment=slow(1.0)))])
    workers.stop()
    began = time.monotonic()
    assert wait_for_ends(workers) == [(0, "stopped")]
    assert time.monotonic() - began < 10


def wait_for_ends(executor: LocalExecutor, seconds: float = 60) -> list[tuple[int, str]]:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if ends := executor.wait(1.0):
            return [(number, end.kind) for number, end in ends]
    return []


@pytest.mark.slow
def test_the_process_that_starts_the_workers_is_killed(tmp_path, workers, undisturbed):
    """Its workers die with it and another one takes its place: the grid does not notice more than two kills."""
    grid = board(tmp_path, ["steady"], 3)
    first = workers.workers, workers._process

    class Killer(Noted):
        def ticked(self) -> None:
            nonlocal first
            if workers.workers and not first[0]:
                first = workers.workers, workers._process
                workers._process.kill()

    run_cells(grid, workers, Killer(), environment=slow(0.05))
    assert grid.complete
    assert workers._process is not first[1]
    assert not any(alive(pid) for pid in first[0])
    assert [facts(s.cell.folder) for s in grid.cells] == [undisturbed[i] for i in range(3)]


@pytest.mark.slow
def test_a_fresh_process_computes_the_same_bits_as_a_forked_one(tmp_path, toys, undisturbed):
    """Where a fork may crash, each worker imports for itself."""
    executor = LocalExecutor(Resources(jobs=1, threads=1, device="cpu"), spawn=True)
    grid = board(tmp_path, ["steady"], 1)
    run_cells(grid, executor, Noted())
    assert grid.complete
    folder = grid.cells[0].cell.folder
    assert facts(folder) == undisturbed[0]
    assert not [name for name in ("snapshots", "samples.gif", "report.html") if (folder / name).exists()]


ARGS = ("--models", "steady", "--seeds", "4", "--jobs", "2", "--device", "cpu")


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    path = tmp_path / "toys.toml"
    path.write_text(protocol().to_toml())
    return path


def running(out: Path) -> list[int]:
    """The processes that say they are training."""
    found = [read_progress(path.parent) for path in out.glob("digits/*/*/.progress.json")]
    return [p.pid for p in found if p is not None and p.phase == "training" and alive(p.pid)]


def wait_for(condition: Any, seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["killed", "interrupted"])
def test_the_driver_goes(number, tmp_path, toys, toml, undisturbed):
    """Its workers stop too, and keep what they have; the same command completes the grid, and redoes nothing."""
    out = tmp_path / "out"
    driver = bench(out, "--protocol", toml, *ARGS, env=toys | slow(0.1))
    wait_for(lambda: list(out.glob("digits/*/*/result.json")) and running(out))
    workers = running(out)
    driver.send_signal(number)
    _, said = driver.communicate(timeout=120)
    if number == signal.SIGINT:
        assert driver.returncode == 130
        assert "of 4 cells done; rerun the command to resume" in said
        assert said.count("\n") == 1
        assert not any(alive(pid) for pid in workers)
    wait_for(lambda: not any(alive(pid) for pid in workers), 60)
    before = {path: path.read_bytes() for path in out.glob("digits/*/*/result.json")}
    kept = [
        p for p in out.glob("digits/*/*/checkpoint/state.safetensors") if p.parents[1] / "result.json" not in before
    ]
    assert kept, "what was under way is not lost"
    assert not list(out.glob("digits/*/*/failed.json"))
    second = bench(out, "--jobs", 2, "--device", "cpu", env=toys)  # the folder knows its protocol and its grid
    told, error = second.communicate(timeout=300)
    assert second.returncode == 0, error
    assert "4 cells: 4 done" in told
    assert all(path.read_bytes() == then for path, then in before.items())
    for seed in range(4):
        folder = out / "digits" / "steady" / f"seed{seed}"
        assert facts(folder) == undisturbed[seed]
        assert finishes(folder) == 1


@pytest.mark.slow
def test_two_drivers_on_one_folder(tmp_path, toys, toml, undisturbed):
    """They share the work: both see the grid complete, and no cell is run twice."""
    out = tmp_path / "out"
    drivers = [bench(out, "--protocol", toml, *ARGS, env=toys | slow(0.04)) for _ in range(2)]
    for driver in drivers:
        told, error = driver.communicate(timeout=300)
        assert driver.returncode == 0, error
        assert "4 cells: 4 done" in told
    for seed in range(4):
        folder = out / "digits" / "steady" / f"seed{seed}"
        assert finishes(folder) == 1
        assert (folder / "log.txt").read_text().count("attempt") == 1
        assert facts(folder) == undisturbed[seed]


@pytest.mark.slow
def test_the_command_line_tells_what_broke(tmp_path, toys):
    """One line an event in a pipe, no control characters; status 1 and a line that names the cells and the remedy."""
    toml, out = tmp_path / "toys.toml", tmp_path / "out"
    toml.write_text(protocol().to_toml())
    driver = bench(out, "--protocol", toml, "--models", "steady,nan,raises", "--seeds", 1, env=toys | slow(0.04))
    told, error = driver.communicate(timeout=300)
    assert driver.returncode == 1
    assert error.startswith("zoo: error: 1 of 3 cells failed: digits raises seed 0; ")
    assert "--retry-failed" in error
    assert error.count("\n") == 1
    assert not set("\x1b\r") & set(told + error)
    assert "] digits steady seed 0: done in " in told
    assert "] digits raises seed 0: failed: ValueError: two lines of explanation" in told
    assert "] digits nan seed 0: diverged: " in told
    assert "3 cells: 1 done, 1 diverged, 1 failed" in told


def test_what_a_result_of_the_grid_says_of_itself(tmp_path, workers, toys):
    """The protocol it was made under, the command that repeats it, its card, and nothing of the machine."""
    grid = board(tmp_path, ["steady"], 1)
    run_cells(grid, workers, Noted(), environment={"ZOO_DATA": str(tmp_path / "secret")})
    text = (grid.cells[0].cell.folder / "result.json").read_text()
    assert str(tmp_path) not in text
    result = json.loads(text)
    rules = protocol()
    assert result["protocol_file"] == {"name": "toys", "version": 1, "digest": rules.digest[:12]}
    assert result["options_changed"] == {}
    asked = "zoo run steady --dataset digits --images 1920 --batch 64 --seed 0 --device cpu --samples 64"
    assert re.sub(r" --kernels \S+", "", result["command"]) == asked  # the kernels depend on the processor
    assert result["card"]["game"][0]["rows"] == [{"networks": ["decoder"], "weights": {"match": 1.0}}]
    assert "protocol = " in (grid.cells[0].cell.folder / "config.toml").read_text()


def test_a_grid_in_python(tmp_path, workers, toys):
    """``run_grid`` returns the grid; a second call finds it full and starts nothing."""
    rules = protocol()
    assert run_grid(tmp_path / "out", rules, executor=workers).complete
    noted = Noted()
    again = run_grid(tmp_path / "out", executor="ray", callback=noted)  # never started: there is nothing to do
    assert again.complete
    assert not noted.events
    with pytest.raises(UsageError, match=r"a different protocol: options.good 5, here 7; choose another --out"):
        run_grid(tmp_path / "out", protocol(7), executor=workers)
    more = run_grid(tmp_path / "out", seeds=3, executor=workers)
    assert len(more.cells) == 3
    assert more.complete


def test_a_folder_of_something_else_is_left_alone(tmp_path, toys):
    (tmp_path / "holiday.jpg").write_text("beach")
    with pytest.raises(UsageError, match=r"not a benchmark \(no protocol.toml\)"):
        run_grid(tmp_path, protocol())
    assert [p.name for p in tmp_path.iterdir()] == ["holiday.jpg"]


def test_workers_that_cannot_start_are_an_error_not_a_loop(tmp_path, toys, monkeypatch):
    """A broken installation is told in one line, with what Python said of it."""
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(ZooError, match="no worker can be started"):
        run_grid(tmp_path / "out", protocol(), resources=Resources(jobs=1, device="cpu"))


def test_jobs_and_ends_survive_their_journey(tmp_path):
    job = Job({"model": "vae", "seed": 1}, str(tmp_path), 2, 3, True, {"A": "b"}, 1.5)
    assert Job.from_json(job.to_json()) == job
    assert "\n" not in job.to_json()
    assert End("done") == End(**{"kind": "done", "reason": ""})


def test_resources_refuse_what_cannot_be(toys):
    for wrong, word in (({"jobs": 0}, "jobs"), ({"threads": 0}, "threads"), ({"gpu_fraction": 1.5}, "gpu_fraction")):
        with pytest.raises(UsageError, match=word):
            Resources(**wrong)
