"""Jobs in processes of this machine: one per core, or one or several per GPU."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence

import attrs

from zoo.bench.cells import End, Job
from zoo.bench.executors.executor import Resources
from zoo.bench.executors.fork_server import GRACE
from zoo.bench.machine import cores, gpus
from zoo.errors import UsageError, ZooError

__all__ = ["LocalExecutor"]

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
_MAX_FAILED_STARTS = 3  # consecutive servers that died before any job ended


@attrs.define
class _Running:
    job: Job
    gpu: str | None
    deadline: float | None
    timed_out: bool = False


class LocalExecutor:
    """Processes of this machine, forked by :mod:`zoo.bench.executors.fork_server`.

    The cores are divided among the jobs. Each job sees at most one GPU; ``1 / gpu_fraction`` jobs share one.

    Args:
        resources: Resources for the jobs.
        spawn: Start each worker as a fresh interpreter, as is always done on macOS, where a fork may crash.

    Raises:
        UsageError: If a GPU is requested and none is available, or more jobs than the GPUs hold.
    """

    def __init__(self, resources: Resources, *, spawn: bool = False) -> None:
        found = gpus() if resources.device != "cpu" else []
        if resources.device == "cuda" and not found:
            raise UsageError("device: no CUDA device is available; use --device cpu, and see zoo doctor")
        shares = [gpu for _ in range(int(1 / resources.gpu_fraction + 1e-9)) for gpu in found]
        self.slots = resources.jobs or len(shares) or cores()
        if shares and self.slots > len(shares):
            raise UsageError(
                f"jobs: {self.slots} is not allowed; {len(found)} GPU(s) at --gpu-fraction {resources.gpu_fraction:g} "
                f"hold {len(shares)} at once"
            )
        self.threads = resources.threads or max(1, cores() // self.slots)
        self._free: list[str | None] = [*shares] if shares else [None] * self.slots
        self._running: dict[int, _Running] = {}
        self._spawn = spawn
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._unread = b""
        self._failed_starts = 0
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - output of a server that fails to start
        self._start_server()

    def _start_server(self) -> None:
        ours, theirs = socket.socketpair()
        path = os.pathsep.join(p for p in sys.path if p)  # workers find the same plugins as this process
        environment = {**os.environ, **dict.fromkeys(_THREADS, str(self.threads)), "PYTHONPATH": path}
        command = [sys.executable, "-P", "-m", "zoo.bench.executors.fork_server", *(["--spawn"] if self._spawn else [])]
        with theirs:
            self._process = subprocess.Popen(
                command,
                stdin=theirs.fileno(),
                stdout=self._errors,
                stderr=self._errors,
                env=environment,
                start_new_session=True,
            )
        self._control, self._unread = ours, b""

    def start(self, jobs: Sequence[tuple[int, Job]]) -> None:
        """Start numbered jobs, at most as many as there are free slots."""
        for number, job in jobs:
            gpu = self._free.pop(0)
            environment = dict(job.environment) | ({"CUDA_VISIBLE_DEVICES": gpu} if gpu is not None else {})
            job = attrs.evolve(job, threads=self.threads, environment=environment)
            deadline = None if job.seconds is None else time.monotonic() + job.seconds
            self._running[number] = _Running(job, gpu, deadline)
            self._send({"start": number, "job": job.to_json()})

    def wait(self, seconds: float) -> list[tuple[int, End]]:
        """Return the numbers and ends of jobs as soon as one has ended; an empty list after ``seconds``."""
        now = time.monotonic()
        for number, running in self._running.items():
            if running.deadline is None:
                continue
            if now >= running.deadline and not running.timed_out:
                running.timed_out = True
                self._send({"signal": number, "number": int(signal.SIGKILL)})
            elif not running.timed_out:
                seconds = min(seconds, running.deadline - now)
        assert self._control is not None
        if not select.select([self._control], [], [], max(0.0, seconds))[0]:
            return []
        try:
            got = self._control.recv(65536)
        except OSError:
            got = b""
        if not got:
            return self._handle_dead_server()
        *lines, self._unread = (self._unread + got).split(b"\n")
        return [self._parse_end(json.loads(line)) for line in lines]

    def _parse_end(self, message: Mapping[str, object]) -> tuple[int, End]:
        number, status, output = message["ended"], message["status"], message["end"]
        assert isinstance(number, int)
        assert isinstance(status, int)
        running = self._running.pop(number)
        self._free.append(running.gpu)
        self._failed_starts = 0
        if isinstance(output, dict):
            return number, End(**output)
        if running.timed_out:
            return number, End("timeout", f"exceeded the time limit of {running.job.seconds:g} s")
        if os.WIFSIGNALED(status):
            return number, End("killed", f"killed by {signal.Signals(os.WTERMSIG(status)).name}")
        code = os.waitstatus_to_exitcode(status)
        return number, End("stopped") if code == 130 else End("killed", f"the process ended with status {code}")

    def _handle_dead_server(self) -> list[tuple[int, End]]:
        # Its workers die with it. Their cells may stay locked for a moment.
        lost = [(number, End("killed", "the process that starts the workers died")) for number in self._running]
        self._free += [running.gpu for running in self._running.values()]
        self._running.clear()
        self._failed_starts += 1
        self._stop_server()
        if self._failed_starts >= _MAX_FAILED_STARTS:
            self._errors.seek(0)
            output = self._errors.read().decode(errors="replace").strip().splitlines() or ["no output"]
            raise ZooError(f"no worker can be started: {output[-1]}")
        self._start_server()
        return lost

    def _send(self, message: Mapping[str, object]) -> None:
        assert self._control is not None
        with contextlib.suppress(OSError):  # wait() reports a dead server
            self._control.sendall(json.dumps(message).encode() + b"\n")

    def stop(self) -> None:
        """Ask every job to save a checkpoint and stop; :meth:`wait` returns their ends."""
        limit = time.monotonic() + GRACE
        for number, running in self._running.items():
            running.deadline = limit if running.deadline is None else min(limit, running.deadline)
            self._send({"signal": number, "number": int(signal.SIGINT)})

    def close(self) -> None:
        """Kill all jobs that still run, and the fork server."""
        assert self._process is not None
        for number in self._running:
            self._send({"signal": number, "number": int(signal.SIGKILL)})
        if not self._running:
            self._process.kill()  # nothing to wait for
        self._running.clear()
        self._stop_server()
        self._errors.close()

    def _stop_server(self) -> None:
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            try:
                self._process.wait(2)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


def run_in_subprocess(text: str) -> tuple[str, str]:
    """Run one job, given as JSON, in a process of its own; the task of the Ray and SLURM executors.

    The job dies with the calling process.

    Returns:
        Kind and reason of the job's end.
    """
    job = Job.from_json(text)
    executor = LocalExecutor(Resources(jobs=1, threads=job.threads, device="cpu"), spawn=True)
    try:
        executor.start([(0, job)])
        while True:
            for _, end in executor.wait(60.0):
                return end.kind, end.reason
    finally:
        executor.close()
