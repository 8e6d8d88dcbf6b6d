"""Jobs on a Ray cluster: many machines, GPUs whole or in parts. All of them reach the benchmark's folder."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

import attrs

from zoo.bench.cells import End, Job
from zoo.bench.executors.base import Resources
from zoo.bench.executors.local import run_in_subprocess
from zoo.errors import UsageError, ZooError

__all__ = ["RayExecutor"]

_MANY = 10_000  # slots where nobody set a number: Ray keeps the queue


class RayExecutor:
    """Each job is a Ray task that runs a process of its own; a machine that is lost loses its jobs, no more.

    It joins the cluster that ``RAY_ADDRESS`` or this machine names, and begins one on this machine where there is none.

    Raises:
        UsageError: where ray is not installed.
        ZooError: where the cluster cannot be reached.
    """

    def __init__(self, resources: Resources) -> None:
        try:
            import ray
        except ImportError:
            raise UsageError("executor: ray is not installed; pip install 'latent-zoo[ray]'") from None
        self._ray: Any = ray
        self._ours = not self._ray.is_initialized()
        if self._ours:
            try:
                self._ray.init(log_to_driver=False, logging_level="error")
            except Exception as error:  # Ray has no one base class for them
                raise ZooError(f"ray: {' '.join(str(error).split())}") from None
        self.slots = resources.jobs or _MANY
        self.threads = resources.threads or 1
        on_gpu = resources.device == "cuda" or (
            resources.device == "auto" and self._ray.cluster_resources().get("GPU", 0) > 0
        )
        self._task = self._ray.remote(run_in_subprocess).options(
            num_cpus=self.threads,
            num_gpus=resources.gpu_fraction if on_gpu else 0,
            max_retries=0,  # the grid begins it again, from its checkpoint, as with any executor
        )
        self._running: dict[Any, int] = {}
        self._stopping = False

    def start(self, jobs: Sequence[tuple[int, Job]]) -> None:
        """Begin these jobs, each under a number."""
        for number, job in jobs:
            self._running[self._task.remote(attrs.evolve(job, threads=self.threads).to_json())] = number

    def wait(self, seconds: float) -> list[tuple[int, End]]:
        """The jobs that ended, by number, as soon as there is one, or after so many seconds none."""
        if not self._running:
            time.sleep(seconds)
            return []
        ready, _ = self._ray.wait(list(self._running), num_returns=1, timeout=seconds)
        return [(self._running.pop(task), self._end(task)) for task in ready]

    def _end(self, task: Any) -> End:
        try:
            kind, reason = self._ray.get(task)
            return End(kind, reason)
        except self._ray.exceptions.TaskCancelledError:
            return End("stopped")
        except self._ray.exceptions.RayTaskError as error:
            cause = error.cause if isinstance(error.cause, Exception) else error
            return End("stopped" if self._stopping else "killed", f"{type(cause).__name__}: {cause}")
        except self._ray.exceptions.RayError as error:
            return End("stopped" if self._stopping else "killed", f"ray lost the worker ({type(error).__name__})")

    def stop(self) -> None:
        """Ask every job to keep a checkpoint and stop; :meth:`wait` then tells of their ends."""
        self._stopping = True
        for task in self._running:
            self._ray.cancel(task, force=False)

    def close(self) -> None:
        """End whatever still runs, at once."""
        for task in self._running:
            self._ray.cancel(task, force=True)
        self._running.clear()
        if self._ours and "RAY_ADDRESS" not in os.environ:
            self._ray.shutdown()
