"""Jobs as SLURM arrays, through submitit; where there is no SLURM, submitit runs them as processes of this machine."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

from zoo.bench.cells import End, Job
from zoo.bench.executors.base import Resources
from zoo.bench.executors.fork_server import GRACE
from zoo.bench.executors.local import run_in_subprocess
from zoo.bench.machine import cores
from zoo.errors import UsageError, ZooError

__all__ = ["SlurmExecutor"]

_MANY = 1_000  # jobs in the queue where nobody set a number: arrays have a largest size
_LOOK = 1.0  # seconds between two looks
_LONGEST = 24 * 60  # minutes a job may take where nobody set a limit


class SlurmExecutor:
    """Each job is a task of an array; ``--slurm partition=gpu`` and the like are handed on to the scheduler.

    Args:
        resources: what the jobs may use; its options are submitit's parameters without their ``slurm_``.
        out: the benchmark's folder, which all machines reach; submitit keeps its files in ``.submitit`` in it.

    Raises:
        UsageError: where submitit is not installed, or a parameter is not one.
    """

    def __init__(self, resources: Resources, out: Path) -> None:
        try:
            import submitit
        except ImportError:
            raise UsageError("executor: submitit is not installed; pip install 'latent-zoo[slurm]'") from None
        self._executor: Any = submitit.AutoExecutor(folder=out / ".submitit" / "%j")
        self._here = self._executor.cluster == "local"
        self.threads = resources.threads or 1
        self.slots = resources.jobs or (cores() if self._here else _MANY)
        self._parameters: dict[str, Any] = {"cpus_per_task": self.threads, "name": "zoo-bench"}
        if resources.device == "cuda":
            self._parameters["gpus_per_node"] = 1
        given = {k if k.startswith("slurm_") else f"slurm_{k}": _value(v) for k, v in resources.options.items()}
        if not self._here:
            self._parameters |= {"slurm_array_parallelism": self.slots} | given
        self._running: dict[int, Any] = {}
        self._stopping = False

    def start(self, jobs: Sequence[tuple[int, Job]]) -> None:
        """Begin these jobs as one array, each under a number."""
        limits = [job.seconds for _, job in jobs]
        longest = max((limit for limit in limits if limit is not None), default=None)
        minutes = _LONGEST if longest is None else math.ceil((longest + 2 * GRACE) / 60) + 1
        try:
            self._executor.update_parameters(**{"timeout_min": minutes, **self._parameters})
            with self._executor.batch():
                tasks = [
                    self._executor.submit(run_in_subprocess, attrs.evolve(job, threads=self.threads).to_json())
                    for _, job in jobs
                ]
        except (NameError, TypeError, ValueError) as error:
            raise UsageError(f"slurm: {error}") from None
        except Exception as error:  # sbatch said no
            raise ZooError(f"slurm: {' '.join(str(error).split())}") from None
        self._running |= {number: task for (number, _), task in zip(jobs, tasks, strict=True)}

    def wait(self, seconds: float) -> list[tuple[int, End]]:
        """The jobs that ended, by number, as soon as there is one, or after so many seconds none."""
        deadline = time.monotonic() + seconds
        while True:
            ended = [number for number, task in self._running.items() if task.done()]
            if ended or time.monotonic() >= deadline:
                return [(number, self._end(self._running.pop(number))) for number in ended]
            time.sleep(min(_LOOK, max(0.0, deadline - time.monotonic())))

    def _end(self, task: Any) -> End:
        try:
            error = task.exception()
            if error is None:
                kind, reason = task.result()
                return End(kind, reason)
        except Exception as unread:  # its files are not there, or not whole
            error = unread
        last = (str(error).strip().splitlines() or [""])[-1]
        return End("stopped" if self._stopping else "killed", f"job {task.job_id}: {last or type(error).__name__}")

    def stop(self) -> None:
        """Ask every job to keep a checkpoint and stop; :meth:`wait` then tells of their ends."""
        self._stopping = True
        for task in self._running.values():
            task.cancel(check=False)

    def close(self) -> None:
        """End whatever still runs, at once."""
        self.stop()
        self._running.clear()


def _value(text: str) -> Any:
    return int(text) if text.isdigit() else text
