"""Jobs as SLURM arrays by submitit, which runs local processes on a machine without SLURM."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

from zoo.bench.cells import End, Job
from zoo.bench.executors.executor import Resources
from zoo.bench.executors.fork_server import GRACE
from zoo.bench.executors.local import run_in_subprocess
from zoo.bench.machine import cores
from zoo.errors import UsageError, ZooError

__all__ = ["SlurmExecutor"]

_DEFAULT_SLOTS = 1_000  # SLURM limits the size of an array
_POLL_SECONDS = 1.0
_DEFAULT_MINUTES = 24 * 60  # time limit of jobs without one


class SlurmExecutor:
    """Runs each job as a task of a SLURM array.

    Args:
        resources: Resources for the jobs; its options are submitit's parameters, with or without the prefix ``slurm_``.
        out: Folder of the benchmark, shared by all machines; submitit's files are in its subfolder ``.submitit``.

    Raises:
        UsageError: If submitit is not installed.
    """

    def __init__(self, resources: Resources, out: Path) -> None:
        try:
            import submitit
        except ImportError:
            raise UsageError("executor: submitit is not installed; pip install 'latent-zoo[slurm]'") from None
        self._executor: Any = submitit.AutoExecutor(folder=out / ".submitit" / "%j")
        self._is_local = self._executor.cluster == "local"
        self.threads = resources.threads or 1
        self.slots = resources.jobs or (cores() if self._is_local else _DEFAULT_SLOTS)
        self._parameters: dict[str, Any] = {"cpus_per_task": self.threads, "name": "zoo-bench"}
        if resources.device == "cuda":
            self._parameters["gpus_per_node"] = 1
        given = {k if k.startswith("slurm_") else f"slurm_{k}": _parse_value(v) for k, v in resources.options.items()}
        if not self._is_local:
            self._parameters |= {"slurm_array_parallelism": self.slots} | given
        self._running: dict[int, Any] = {}
        self._stopping = False

    def start(self, jobs: Sequence[tuple[int, Job]]) -> None:
        """Submit numbered jobs as one array, at most as many as there are free slots.

        Raises:
            UsageError: If a SLURM parameter is unknown or has a value that is not allowed.
            ZooError: If SLURM rejects the array.
        """
        limits = [job.seconds for _, job in jobs]
        longest = max((limit for limit in limits if limit is not None), default=None)
        minutes = _DEFAULT_MINUTES if longest is None else math.ceil((longest + 2 * GRACE) / 60) + 1
        try:
            self._executor.update_parameters(**{"timeout_min": minutes, **self._parameters})
            with self._executor.batch():
                tasks = [
                    self._executor.submit(run_in_subprocess, attrs.evolve(job, threads=self.threads).to_json())
                    for _, job in jobs
                ]
        except (NameError, TypeError, ValueError) as error:
            raise UsageError(f"slurm: {error}") from None
        except Exception as error:  # such as an error of sbatch
            raise ZooError(f"slurm: {' '.join(str(error).split())}") from None
        self._running |= {number: task for (number, _), task in zip(jobs, tasks, strict=True)}

    def wait(self, seconds: float) -> list[tuple[int, End]]:
        """Return the numbers and ends of jobs as soon as one has ended; an empty list after ``seconds``."""
        deadline = time.monotonic() + seconds
        while True:
            ended = [number for number, task in self._running.items() if task.done()]
            if ended or time.monotonic() >= deadline:
                return [(number, self._parse_end(self._running.pop(number))) for number in ended]
            time.sleep(min(_POLL_SECONDS, max(0.0, deadline - time.monotonic())))

    def _parse_end(self, task: Any) -> End:
        try:
            error = task.exception()
            if error is None:
                kind, reason = task.result()
                return End(kind, reason)
        except Exception as read_error:  # the files of the job are missing or incomplete
            error = read_error
        last = (str(error).strip().splitlines() or [""])[-1]
        return End("stopped" if self._stopping else "killed", f"job {task.job_id}: {last or type(error).__name__}")

    def stop(self) -> None:
        """Ask every job to save a checkpoint and stop; :meth:`wait` returns their ends."""
        self._stopping = True
        for task in self._running.values():
            task.cancel(check=False)

    def close(self) -> None:
        """Kill all jobs that still run."""
        self.stop()
        self._running.clear()


def _parse_value(text: str) -> Any:
    return int(text) if text.isdigit() else text
