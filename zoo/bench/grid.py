"""Execution of the grid: starts cells and handles the end of each attempt."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Iterator
from typing import Protocol as Interface

import attrs

from zoo.bench.cells import End, Job
from zoo.bench.executors import Executor
from zoo.bench.grid_status import FIRST_PAUSE, CellState, CellStatus, GridStatus
from zoo.errors import ZooError

__all__ = ["ATTEMPTS", "GridCallback", "StoppedError", "fill"]

ATTEMPTS = 3
"""Number of attempts per call at a cell whose worker is killed."""

_MAX_PAUSE = 5.0  # seconds between checks of a cell that another process runs


class StoppedError(ZooError):
    """The grid was stopped by Ctrl-C; all runs have saved a checkpoint."""

    exit_status = 130


class GridCallback(Interface):
    """Callback of a grid."""

    def begun(self, board: GridStatus) -> None:
        """The grid starts or resumes."""

    def changed(self, status: CellStatus, event: str) -> None:
        """The state of a cell changed; ``event`` is a short description."""

    def ticked(self) -> None:
        """Called periodically."""


@attrs.define
class _Execution:
    """State of one execution of the grid."""

    board: GridStatus
    executor: Executor
    callback: GridCallback
    environment: dict[str, str]
    time_limit: float | None
    queue: deque[int] = attrs.field(init=False)
    running: set[int] = attrs.field(init=False, factory=set)
    begun_here: dict[int, int] = attrs.field(init=False, factory=dict)

    def __attrs_post_init__(self) -> None:
        self.queue = deque(i for i, s in enumerate(self.board.cells) if s.state is CellState.WAITING)

    def start_due(self) -> None:
        """Start the next due cells on the free slots."""
        jobs = []
        for i in self.due(self.executor.slots - len(self.running)):
            status = self.board.cells[i]
            failure = status.cell.failure
            if status.cell.done:  # by another driver
                self.settle(i, End("done", "already"))
                continue
            if failure is not None and failure.attempts > status.attempts:
                self.settle(i, End("failed"))
                continue
            if status.cell.busy:
                self.postpone(i, CellState.ELSEWHERE)
                continue
            status.attempts += 1
            status.begun, status.state = time.monotonic(), CellState.RUNNING
            self.begun_here[i] = self.begun_here.get(i, 0) + 1
            self.running.add(i)
            cell = status.cell
            jobs.append(
                (
                    i,
                    Job(
                        cell.settings,
                        str(cell.folder.resolve()),
                        attempt=status.attempts,
                        restart=status.restart,
                        environment=self.environment,
                        seconds=self.time_limit,
                    ),
                )
            )
            self.callback.changed(status, "started" if status.attempts == 1 else f"started, attempt {status.attempts}")
        if jobs:
            self.executor.start(jobs)

    def due(self, count: int) -> Iterator[int]:
        now, waiting = time.monotonic(), len(self.queue)
        for _ in range(waiting):
            if count <= 0:
                return
            i = self.queue.popleft()
            if self.board.cells[i].not_before <= now:
                count -= 1
                yield i
            else:
                self.queue.append(i)

    def settle(self, i: int, end: End) -> None:
        """Update a cell after the end of an attempt."""
        status = self.board.cells[i]
        cell = status.cell
        self.running.discard(i)
        if cell.done:  # whatever the worker reported
            status.state = CellState.DONE
            if end.kind == "done" and end.reason != "already" and status.begun:
                status.seconds = time.monotonic() - status.begun
            self.callback.changed(status, "done")
        elif end.kind == "failed" and (failure := cell.failure) is not None:
            status.state = CellState.DIVERGED if failure.kind == "diverged" else CellState.FAILED
            status.reason = failure.reason
            self.callback.changed(status, failure.reason if failure.kind == "diverged" else f"failed: {failure.reason}")
        elif end.kind == "busy":
            status.attempts -= 1
            self.begun_here[i] -= 1
            self.postpone(i, CellState.ELSEWHERE)
        elif end.kind == "timeout":
            self.fail(i, "timeout", end.reason)
        elif end.kind in ("disk", "stopped"):
            status.state, status.reason = CellState.OPEN, end.reason
            self.callback.changed(status, "stopped" if end.kind == "stopped" else f"not finished: {end.reason}")
        elif self.begun_here[i] < ATTEMPTS:
            status.restart = False
            self.callback.changed(status, f"{end.reason or end.kind}; resumes from its checkpoint")
            self.postpone(i, CellState.WAITING, 0.0)
        else:
            self.fail(i, "killed", f"{end.reason or end.kind}, {self.begun_here[i]} times in a row")

    def postpone(self, i: int, state: CellState, pause: float | None = None) -> None:
        status = self.board.cells[i]
        if state is CellState.ELSEWHERE and status.pause == FIRST_PAUSE:
            self.callback.changed(status, "run by another process")
        status.not_before = time.monotonic() + (status.pause if pause is None else pause)
        status.pause = min(_MAX_PAUSE, status.pause * 1.5)
        status.state = state
        self.queue.append(i)

    def fail(self, i: int, kind: str, reason: str) -> None:
        status = self.board.cells[i]
        status.state, status.reason = CellState.FAILED, reason
        try:
            if not status.cell.fail(kind, reason, status.attempts):
                self.postpone(i, CellState.ELSEWHERE)  # another process has started it
                return
        except ZooError as error:
            status.state, status.reason = CellState.OPEN, f"{reason}; and {error}"
        if status.cell.done:
            status.state = CellState.DONE
        self.callback.changed(status, "done" if status.state is CellState.DONE else f"failed: {status.reason}")

    def run(self) -> None:
        while self.queue or self.running:
            self.start_due()
            pause = min((self.board.cells[i].not_before for i in self.queue), default=0.0) - time.monotonic()
            free = self.executor.slots > len(self.running)
            for i, end in self.executor.wait(min(0.5, max(0.01, pause)) if free and self.queue else 0.5):
                self.settle(i, end)
            self.callback.ticked()

    def stop(self) -> None:
        """Stop all runs with a checkpoint; a second Ctrl-C does not wait for them."""
        self.queue.clear()
        with contextlib.suppress(KeyboardInterrupt):
            self.executor.stop()
            deadline = time.monotonic() + 60
            while self.running and time.monotonic() < deadline:
                for i, end in self.executor.wait(0.5):
                    self.settle(i, End("stopped") if end.kind in ("busy", "killed", "timeout") else end)
                self.queue.clear()
                self.callback.ticked()


def fill(
    board: GridStatus,
    executor: Executor,
    callback: GridCallback,
    *,
    environment: dict[str, str] | None = None,
    time_limit: float | None = None,
) -> None:
    """Run all waiting cells.

    Args:
        status: The grid; updated in place.
        executor: Executor of the jobs; closed at the end.
        callback: Callback of the grid.
        environment: Environment variables of the jobs.
        time_limit: Time limit per attempt, in seconds.

    Raises:
        StoppedError: After Ctrl-C, once all runs have saved a checkpoint.
    """
    board.slots, board.begun = executor.slots, time.monotonic()
    execution = _Execution(board, executor, callback, environment or {}, time_limit)
    callback.begun(board)
    try:
        execution.run()
    except KeyboardInterrupt:
        execution.stop()
        done = board.count(CellState.DONE, CellState.DIVERGED)
        raise StoppedError(
            f"interrupted with {done} of {len(board.cells)} cells finished; repeat the command to resume them"
        ) from None
    finally:
        executor.close()
