"""Scheduling of grid cells: starts waiting cells and updates their state when an attempt ends."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import deque
from collections.abc import Iterator
from typing import Protocol as Interface

import attrs

from zoo.bench.cells import End, Job
from zoo.bench.executors import Executor
from zoo.bench.grid_status import MIN_POLL_SECONDS, CellState, CellStatus, GridStatus
from zoo.errors import Interrupted, ZooError
from zoo.interrupts import Interrupts

__all__ = ["MAX_STARTS", "GridCallback", "StoppedError", "run_cells"]

MAX_STARTS = 3
"""Maximum starts of a cell per call; then the cell fails."""

MAX_POLL_SECONDS = 5.0
"""Longest time between checks of a cell locked by another process."""

_STOP_SECONDS = 60  # maximum wait for checkpoints after Ctrl-C


class StoppedError(ZooError):
    """A signal stopped the grid; runs in progress were asked to save a checkpoint. Exit status: 128 + signal number."""

    def __init__(self, message: str, signal_number: int = signal.SIGINT) -> None:
        super().__init__(message)
        self.exit_status = 128 + signal_number


class GridCallback(Interface):
    """Receives progress events of a grid."""

    def started(self, grid_status: GridStatus) -> None:
        """Called once, before the first cell starts."""

    def changed(self, status: CellStatus, event: str) -> None:
        """Called when the state of a cell changes; ``event`` is a short description."""

    def ticked(self) -> None:
        """Called about twice per second while cells run or wait."""


@attrs.define
class _GridRun:
    """State of one call of :func:`run_cells`. Cells are referred to by their index in ``grid_status.cells``."""

    grid_status: GridStatus
    executor: Executor
    callback: GridCallback
    environment: dict[str, str]
    time_limit: float | None
    queue: deque[int] = attrs.field(init=False)
    running: set[int] = attrs.field(init=False, factory=set)
    starts: dict[int, int] = attrs.field(init=False, factory=dict)  # per cell, in this call

    def __attrs_post_init__(self) -> None:
        self.queue = deque(i for i, s in enumerate(self.grid_status.cells) if s.state is CellState.WAITING)

    def launch(self) -> None:
        """Start queued cells in all free slots."""
        jobs = []
        for i in self.pop_ready(self.executor.slots - len(self.running)):
            status = self.grid_status.cells[i]
            failure = status.cell.failure
            if status.cell.done:  # finished by another process since the status was read
                self.settle(i, End("done", "already"))
                continue
            if failure is not None and failure.attempts > status.attempts:
                self.settle(i, End("failed"))
                continue
            if status.cell.busy:
                self.requeue(i, CellState.ELSEWHERE)
                continue
            status.attempts += 1
            status.started, status.state = time.monotonic(), CellState.RUNNING
            self.starts[i] = self.starts.get(i, 0) + 1
            self.running.add(i)
            cell = status.cell
            jobs.append(
                (
                    i,
                    Job(
                        cell.settings,
                        os.path.abspath(cell.folder),  # a link stays visible to the worker
                        attempt=status.attempts,
                        from_scratch=status.from_scratch,
                        environment=self.environment,
                        seconds=self.time_limit,
                    ),
                )
            )
            self.callback.changed(status, "started" if status.attempts == 1 else f"started, attempt {status.attempts}")
        if jobs:
            self.executor.start(jobs)

    def pop_ready(self, count: int) -> Iterator[int]:
        """Remove and yield up to ``count`` queued cells that may start now."""
        now, waiting = time.monotonic(), len(self.queue)
        for _ in range(waiting):
            if count <= 0:
                return
            i = self.queue.popleft()
            if self.grid_status.cells[i].not_before <= now:
                count -= 1
                yield i
            else:
                self.queue.append(i)

    def settle(self, i: int, end: End) -> None:
        """Update the cell after an attempt ends."""
        status = self.grid_status.cells[i]
        cell = status.cell
        self.running.discard(i)
        if cell.done:  # the folder decides, whatever the worker reported
            status.state = CellState.DONE
            if end.kind == "done" and end.reason != "already" and status.started:
                status.seconds = time.monotonic() - status.started
            self.callback.changed(status, "done")
        elif end.kind == "failed" and (failure := cell.failure) is not None:
            status.state = CellState.DIVERGED if failure.kind == "diverged" else CellState.FAILED
            status.reason = failure.reason
            self.callback.changed(status, failure.reason if failure.kind == "diverged" else f"failed: {failure.reason}")
        elif end.kind == "busy":
            status.attempts -= 1
            self.starts[i] -= 1
            self.requeue(i, CellState.ELSEWHERE)
        elif end.kind == "timeout":
            self.mark_failed(i, "timeout", end.reason)
        elif end.kind in ("disk", "stopped"):
            status.state, status.reason = CellState.OPEN, end.reason
            self.callback.changed(status, "stopped" if end.kind == "stopped" else f"not finished: {end.reason}")
        elif self.starts[i] < MAX_STARTS:
            status.from_scratch = False
            self.callback.changed(status, f"{end.reason or end.kind}; resumes from its checkpoint")
            self.requeue(i, CellState.WAITING, 0.0)
        else:
            self.mark_failed(i, "killed", f"{end.reason or end.kind}, {self.starts[i]} times in a row")

    def requeue(self, i: int, state: CellState, pause: float | None = None) -> None:
        """Queue the cell again after ``pause`` seconds; by default after its poll interval, which then grows."""
        status = self.grid_status.cells[i]
        if state is CellState.ELSEWHERE and status.poll_seconds == MIN_POLL_SECONDS:
            self.callback.changed(status, "running in another process")
        status.not_before = time.monotonic() + (status.poll_seconds if pause is None else pause)
        status.poll_seconds = min(MAX_POLL_SECONDS, status.poll_seconds * 1.5)
        status.state = state
        self.queue.append(i)

    def mark_failed(self, i: int, kind: str, reason: str) -> None:
        """Write ``failed.json`` on behalf of a worker that no longer exists."""
        status = self.grid_status.cells[i]
        status.state, status.reason = CellState.FAILED, reason
        try:
            if not status.cell.fail(kind, reason, status.attempts):
                self.requeue(i, CellState.ELSEWHERE)  # another process has started the cell in the meantime
                return
        except ZooError as error:
            status.state, status.reason = CellState.OPEN, f"{reason}; {error}"
        if status.cell.done:
            status.state = CellState.DONE
        self.callback.changed(status, "done" if status.state is CellState.DONE else f"failed: {status.reason}")

    def run(self) -> None:
        """Run until no cell is queued or running."""
        while self.queue or self.running:
            self.launch()
            pause = min((self.grid_status.cells[i].not_before for i in self.queue), default=0.0) - time.monotonic()
            free = self.executor.slots > len(self.running)
            for i, end in self.executor.wait(min(0.5, max(0.01, pause)) if free and self.queue else 0.5):
                self.settle(i, end)
            self.callback.ticked()

    def stop(self) -> None:
        """Stop all runs and wait for their checkpoints; a second Ctrl-C ends the wait."""
        self.queue.clear()
        with contextlib.suppress(KeyboardInterrupt):
            self.executor.stop()
            deadline = time.monotonic() + _STOP_SECONDS
            while self.running and time.monotonic() < deadline:
                for i, end in self.executor.wait(0.5):
                    self.settle(i, End("stopped") if end.kind in ("busy", "killed", "timeout") else end)
                self.queue.clear()
                self.callback.ticked()


def run_cells(
    grid_status: GridStatus,
    executor: Executor,
    callback: GridCallback,
    *,
    environment: dict[str, str] | None = None,
    time_limit: float | None = None,
) -> None:
    """Run every waiting cell until it has a result, has failed or has stopped; updates ``grid_status`` in place.

    Args:
        grid_status: State of the grid.
        executor: Runs the jobs; closed at the end.
        callback: Receives progress events.
        environment: Environment variables of all jobs.
        time_limit: Time limit per attempt, in seconds.

    Raises:
        StoppedError: After SIGINT, SIGTERM or SIGHUP; runs in progress have a minute to save a checkpoint.
    """
    grid_status.slots = executor.slots
    grid_run = _GridRun(grid_status, executor, callback, environment or {}, time_limit)
    callback.started(grid_status)
    try:
        with Interrupts():
            grid_run.run()
    except KeyboardInterrupt as error:
        grid_run.stop()
        number = error.signal if isinstance(error, Interrupted) else signal.SIGINT
        done = grid_status.count(CellState.DONE, CellState.DIVERGED)
        raise StoppedError(
            f"interrupted with {done} of {len(grid_status.cells)} cells done; rerun the command to resume",
            number,
        ) from None
    finally:
        executor.close()
