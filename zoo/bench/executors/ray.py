"""Jobs on a Ray cluster, whose machines share the folder of the benchmark."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

import attrs

from zoo.bench.cells import End, Job
from zoo.bench.executors.executor import Resources
from zoo.bench.executors.local import run_in_subprocess
from zoo.errors import UsageError, ZooError

__all__ = ["RayExecutor"]

_DEFAULT_SLOTS = 10_000  # Ray queues the jobs


class RayExecutor:
    """Runs each job as a Ray task in a process of its own; jobs on a lost machine end as ``killed``.

    Connects to the cluster of ``RAY_ADDRESS`` or of this machine; if there is none, starts one on this machine.

    Args:
        resources: Resources for the jobs.

    Raises:
        UsageError: If ray is not installed.
        ZooError: If the cluster is not reachable.
    """

    def __init__(self, resources: Resources) -> None:
        try:
            import ray
        except ImportError:
            raise UsageError("executor: ray is not installed; pip install 'latent-zoo[ray]'") from None
        self._ray: Any = ray
        self._owns_connection = not self._ray.is_initialized()
        if self._owns_connection:
            try:
                self._ray.init(log_to_driver=False, logging_level="error")
            except Exception as error:  # Ray's errors have no common base class
                raise ZooError(f"ray: {' '.join(str(error).split())}") from None
        self.slots = resources.jobs or _DEFAULT_SLOTS
        self.threads = resources.threads or 1
        on_gpu = resources.device == "cuda" or (
            resources.device == "auto" and self._ray.cluster_resources().get("GPU", 0) > 0
        )
        self._task = self._ray.remote(run_in_subprocess).options(
            num_cpus=self.threads,
            num_gpus=resources.gpu_fraction if on_gpu else 0,
            max_retries=0,  # the grid restarts lost jobs from their checkpoints
        )
        self._running: dict[Any, int] = {}
        self._stopping = False

    def start(self, jobs: Sequence[tuple[int, Job]]) -> None:
        """Start numbered jobs, at most as many as there are free slots."""
        for number, job in jobs:
            self._running[self._task.remote(attrs.evolve(job, threads=self.threads).to_json())] = number

    def wait(self, seconds: float) -> list[tuple[int, End]]:
        """Return the numbers and ends of jobs as soon as one has ended; an empty list after ``seconds``."""
        if not self._running:
            time.sleep(seconds)
            return []
        ready, _ = self._ray.wait(list(self._running), num_returns=1, timeout=seconds)
        return [(self._running.pop(task), self._parse_end(task)) for task in ready]

    def _parse_end(self, task: Any) -> End:
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
        """Ask every job to save a checkpoint and stop; :meth:`wait` returns their ends."""
        self._stopping = True
        for task in self._running:
            self._ray.cancel(task, force=False)

    def close(self) -> None:
        """Kill all jobs that still run, and leave the cluster."""
        for task in self._running:
            self._ray.cancel(task, force=True)
        self._running.clear()
        if self._owns_connection and "RAY_ADDRESS" not in os.environ:
            self._ray.shutdown()
