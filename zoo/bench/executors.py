"""Where jobs run: one small interface, and what fills it by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import attrs

from zoo.bench.cells import End, Job
from zoo.errors import UsageError

__all__ = ["EXECUTORS", "Executor", "Resources", "make"]

EXECUTORS = ("local", "ray", "submitit")


@attrs.frozen
class Resources:
    """What the jobs may use.

    Attributes:
        jobs: how many at once; None lets the executor decide.
        threads: processor threads a job; None shares the cores out evenly.
        device: ``auto``, ``cpu`` or ``cuda``.
        gpu_fraction: the share of a GPU that one job takes, up to 1.
        options: SLURM's own settings, such as its partition.
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
    """Runs jobs, each in a process of its own, and says how they ended.

    It promises that a job which it reports as ended no longer writes, and nothing else: a job that is lost in any way
    is reported as ``killed``, and the grid decides what to do about it.
    """

    slots: int
    """How many jobs it takes at a time."""

    def start(self, jobs: Sequence[tuple[int, Job]]) -> None:
        """Begin these jobs, each under a number; there are slots for all of them."""

    def wait(self, seconds: float) -> list[tuple[int, End]]:
        """The jobs that ended, by number, as soon as there is one, or after so many seconds none."""

    def stop(self) -> None:
        """Ask every job to keep a checkpoint and stop; :meth:`wait` then tells of their ends."""

    def close(self) -> None:
        """End whatever still runs, at once."""


def make(name: str, resources: Resources, out: Path) -> Executor:
    """The executor called ``name``.

    Raises:
        UsageError: where there is none of the name, its package is not installed, or it cannot give what is asked for.
    """
    if name == "local":
        from zoo.bench.local import LocalExecutor

        return LocalExecutor(resources)
    if name == "ray":
        from zoo.bench.on_ray import RayExecutor

        return RayExecutor(resources)
    if name == "submitit":
        from zoo.bench.on_slurm import SlurmExecutor

        return SlurmExecutor(resources, out)
    raise UsageError(f"executor: {name!r} is not allowed; must be one of {', '.join(EXECUTORS)}")
