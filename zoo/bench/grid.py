"""Filling the grid: which cells run when, and what becomes of each attempt."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Iterator
from typing import Protocol as Interface

import attrs

from zoo.bench.cells import End, Job
from zoo.bench.executors import Executor
from zoo.bench.grid_status import AGAIN, CellState, CellStatus, GridStatus
from zoo.errors import ZooError

__all__ = ["ATTEMPTS", "GridCallback", "StoppedError", "fill"]

ATTEMPTS = 3
"""How often a cell is begun in one call before a worker that keeps vanishing counts as broken."""

_AT_MOST = 5.0  # seconds between two looks at a cell that somebody else is at


class StoppedError(ZooError):
    """The grid was stopped by Ctrl-C; every run has kept a checkpoint."""

    exit_status = 130


class GridCallback(Interface):
    """Who is told how the grid goes."""

    def begun(self, board: GridStatus) -> None:
        """The grid begins, or goes on."""

    def changed(self, status: CellStatus, event: str) -> None:
        """Something happened to a cell; ``event`` says what in a few words."""

    def ticked(self) -> None:
        """Some time has passed."""


@attrs.define
class _Filling:
    """One call's way through the grid."""

    board: GridStatus
    executor: Executor
    watcher: GridCallback
    environment: dict[str, str]
    time_limit: float | None
    queue: deque[int] = attrs.field(init=False)
    running: set[int] = attrs.field(init=False, factory=set)
    begun_here: dict[int, int] = attrs.field(init=False, factory=dict)

    def __attrs_post_init__(self) -> None:
        self.queue = deque(i for i, s in enumerate(self.board.cells) if s.state is CellState.WAITING)

    def launch(self) -> None:
        """Give every free slot the next cell that is due."""
        jobs = []
        for i in self.due(self.executor.slots - len(self.running)):
            status = self.board.cells[i]
            failure = status.cell.failure
            if status.cell.done:  # by another driver meanwhile
                self.settle(i, End("done", "already"))
                continue
            if failure is not None and failure.attempts > status.attempts:
                self.settle(i, End("failed"))
                continue
            if status.cell.busy:
                self.later(i, CellState.ELSEWHERE)
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
                        anew=status.anew,
                        environment=self.environment,
                        seconds=self.time_limit,
                    ),
                )
            )
            self.watcher.changed(status, "begins" if status.attempts == 1 else f"begins, attempt {status.attempts}")
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
        """What an attempt's end means for its cell."""
        status = self.board.cells[i]
        cell = status.cell
        self.running.discard(i)
        if cell.done:  # whatever the worker said last, or could not say
            status.state = CellState.DONE
            if end.kind == "done" and end.reason != "already" and status.begun:
                status.seconds = time.monotonic() - status.begun
            self.watcher.changed(status, "done")
        elif end.kind == "failed" and (failure := cell.failure) is not None:
            status.state = CellState.DIVERGED if failure.kind == "diverged" else CellState.FAILED
            status.reason = failure.reason
            self.watcher.changed(status, failure.reason if failure.kind == "diverged" else f"failed: {failure.reason}")
        elif end.kind == "busy":
            status.attempts -= 1
            self.begun_here[i] -= 1
            self.later(i, CellState.ELSEWHERE)
        elif end.kind == "timeout":
            self.broke(i, "timeout", end.reason)
        elif end.kind in ("disk", "stopped"):
            status.state, status.reason = CellState.OPEN, end.reason
            self.watcher.changed(status, "stopped" if end.kind == "stopped" else f"not done: {end.reason}")
        elif self.begun_here[i] < ATTEMPTS:
            status.anew = False
            self.watcher.changed(status, f"{end.reason or end.kind}; goes on from its checkpoint")
            self.later(i, CellState.WAITING, 0.0)
        else:
            self.broke(i, "killed", f"{end.reason or end.kind}, {self.begun_here[i]} times in a row")

    def later(self, i: int, state: CellState, pause: float | None = None) -> None:
        status = self.board.cells[i]
        if state is CellState.ELSEWHERE and status.pause == AGAIN:
            self.watcher.changed(status, "another process is at it")
        status.not_before = time.monotonic() + (status.pause if pause is None else pause)
        status.pause = min(_AT_MOST, status.pause * 1.5)
        status.state = state
        self.queue.append(i)

    def broke(self, i: int, kind: str, reason: str) -> None:
        status = self.board.cells[i]
        status.state, status.reason = CellState.FAILED, reason
        try:
            if not status.cell.fail(kind, reason, status.attempts):
                self.later(i, CellState.ELSEWHERE)  # somebody took it up again at once
                return
        except ZooError as error:
            status.state, status.reason = CellState.OPEN, f"{reason}; and {error}"
        if status.cell.done:
            status.state = CellState.DONE
        self.watcher.changed(status, "done" if status.state is CellState.DONE else f"failed: {status.reason}")

    def run(self) -> None:
        while self.queue or self.running:
            self.launch()
            pause = min((self.board.cells[i].not_before for i in self.queue), default=0.0) - time.monotonic()
            free = self.executor.slots > len(self.running)
            for i, end in self.executor.wait(min(0.5, max(0.01, pause)) if free and self.queue else 0.5):
                self.settle(i, end)
            self.watcher.ticked()

    def stop(self) -> None:
        """Have every run keep a checkpoint; a second Ctrl-C does not wait for that."""
        self.queue.clear()
        with contextlib.suppress(KeyboardInterrupt):
            self.executor.stop()
            deadline = time.monotonic() + 60
            while self.running and time.monotonic() < deadline:
                for i, end in self.executor.wait(0.5):
                    self.settle(i, End("stopped") if end.kind in ("busy", "killed", "timeout") else end)
                self.queue.clear()
                self.watcher.ticked()


def fill(
    board: GridStatus,
    executor: Executor,
    watcher: GridCallback,
    *,
    environment: dict[str, str] | None = None,
    time_limit: float | None = None,
) -> None:
    """Run every waiting cell of the board to a result, or to a reason why there is none.

    Raises:
        StoppedError: after Ctrl-C, once every run has kept a checkpoint.
    """
    board.slots, board.begun = executor.slots, time.monotonic()
    filling = _Filling(board, executor, watcher, environment or {}, time_limit)
    watcher.begun(board)
    try:
        filling.run()
    except KeyboardInterrupt:
        filling.stop()
        done = board.count(CellState.DONE, CellState.DIVERGED)
        raise StoppedError(
            f"interrupted with {done} of {len(board.cells)} cells done; the same command goes on from the checkpoints"
        ) from None
    finally:
        executor.close()
