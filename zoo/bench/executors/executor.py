"""The interface of executors, which run jobs in processes of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import attrs

from zoo.bench.cells import End, Job
from zoo.errors import UsageError

__all__ = ["Executor", "Resources"]


@attrs.frozen
class Resources:
    """Resources for the jobs of a grid.

    Attributes:
        jobs: Number of jobs at once, at least 1; None lets the executor decide.
        threads: CPU threads per job, at least 1; None divides the cores evenly.
        device: ``auto``, ``cpu`` or ``cuda``.
        gpu_fraction: Share of a GPU per job, in (0, 1].
        options: Parameters of the SLURM scheduler, such as ``partition``.
    """

    jobs: int | None = None
    threads: int | None = None
    device: str = "auto"
    gpu_fraction: float = 1.0
    options: Mapping[str, str] = attrs.field(factory=dict)

    def __attrs_post_init__(self) -> None:
        for name, value in (("jobs", self.jobs), ("threads", self.threads)):
            if value is not None and value < 1:
                raise UsageError(f"{name}: {value} is not allowed; must be at least 1")
        if not 0 < self.gpu_fraction <= 1:
            raise UsageError(f"gpu_fraction: {self.gpu_fraction:g} is not allowed; must be above 0 and at most 1")


@runtime_checkable
class Executor(Protocol):
    """Runs each job in a process of its own and reports how it ended.

    A job that is reported as ended no longer writes to its folder. A lost job is reported as ``killed``; the grid
    decides whether to start it again.
    """

    slots: int
    """Number of jobs at once."""

    def start(self, jobs: Sequence[tuple[int, Job]]) -> None:
        """Start numbered jobs, at most as many as there are free slots."""

    def wait(self, seconds: float) -> list[tuple[int, End]]:
        """Return the numbers and ends of jobs as soon as one has ended; an empty list after ``seconds``."""

    def stop(self) -> None:
        """Ask every job to save a checkpoint and stop; :meth:`wait` returns their ends."""

    def close(self) -> None:
        """Kill all jobs that still run and release all resources."""
