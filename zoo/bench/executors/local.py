"""Jobs in processes of this machine: one a core, one a GPU, or several a GPU."""

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
from zoo.bench.executors.base import Resources
from zoo.bench.executors.fork_server import GRACE
from zoo.bench.machine import cores, gpus
from zoo.errors import UsageError, ZooError

__all__ = ["LocalExecutor"]

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
_MAX_FAILED_STARTS = 3  # in a row that died before any job ended


@attrs.define
class _Running:
    job: Job
    gpu: str | None
    deadline: float | None
    timed_out: bool = False


class LocalExecutor:
    """Processes of this machine, forked by :mod:`zoo.bench.executors.fork_server`.

    Threads are set so that the jobs do not fight over the cores. With GPUs, each job sees one, and a GPU is shared by
    as many jobs as its fraction allows.

    Args:
        resources: what the jobs may use.
        spawn: start each worker with imports of its own, as on macOS, where a fork may crash.

    Raises:
        UsageError: where a GPU is asked for and there is none.
    """

    def __init__(self, resources: Resources, *, spawn: bool = False) -> None:
        found = gpus() if resources.device != "cpu" else []
        if resources.device == "cuda" and not found:
            raise UsageError("device: no CUDA device is available; --device cpu runs anywhere, zoo doctor tells more")
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
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - what a server that cannot begin says of it
        self._begin()

    def _begin(self) -> None:
        ours, theirs = socket.socketpair()
        path = os.pathsep.join(p for p in sys.path if p)  # workers find the plugins that this process finds
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
        """Begin these jobs, each under a number; there are slots for all of them."""
        for number, job in jobs:
            gpu = self._free.pop(0)
            environment = dict(job.environment) | ({"CUDA_VISIBLE_DEVICES": gpu} if gpu is not None else {})
            job = attrs.evolve(job, threads=self.threads, environment=environment)
            deadline = None if job.seconds is None else time.monotonic() + job.seconds
            self._running[number] = _Running(job, gpu, deadline)
            self._say({"start": number, "job": job.to_json()})

    def wait(self, seconds: float) -> list[tuple[int, End]]:
        """The jobs that ended, by number, as soon as there is one, or after so many seconds none."""
        now = time.monotonic()
        for number, running in self._running.items():
            if running.deadline is None:
                continue
            if now >= running.deadline and not running.timed_out:
                running.timed_out = True
                self._say({"signal": number, "number": int(signal.SIGKILL)})
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
            return self._buried()
        *lines, self._unread = (self._unread + got).split(b"\n")
        return [self._ended(json.loads(line)) for line in lines]

    def _ended(self, word: Mapping[str, object]) -> tuple[int, End]:
        number, status, said = word["ended"], word["status"], word["end"]
        assert isinstance(number, int)
        assert isinstance(status, int)
        running = self._running.pop(number)
        self._free.append(running.gpu)
        self._failed_starts = 0
        if isinstance(said, dict):
            return number, End(**said)
        if running.timed_out:
            return number, End("timeout", f"still at it after {running.job.seconds:g} s, its time limit")
        if os.WIFSIGNALED(status):
            return number, End("killed", f"killed by {signal.Signals(os.WTERMSIG(status)).name}")
        code = os.waitstatus_to_exitcode(status)
        return number, End("stopped") if code == 130 else End("killed", f"the process ended with status {code}")

    def _buried(self) -> list[tuple[int, End]]:
        # The server is dead, and its workers with it, if not at once: then their cells are busy for a moment more.
        lost = [(number, End("killed", "the process that starts the workers died")) for number in self._running]
        self._free += [running.gpu for running in self._running.values()]
        self._running.clear()
        self._failed_starts += 1
        self._end_process()
        if self._failed_starts >= _MAX_FAILED_STARTS:
            self._errors.seek(0)
            said = self._errors.read().decode(errors="replace").strip().splitlines() or ["it said nothing"]
            raise ZooError(f"no worker can be started: {said[-1]}")
        self._begin()
        return lost

    def _say(self, word: Mapping[str, object]) -> None:
        assert self._control is not None
        with contextlib.suppress(OSError):  # of a dead server, wait() tells
            self._control.sendall(json.dumps(word).encode() + b"\n")

    def stop(self) -> None:
        """Ask every job to keep a checkpoint and stop; :meth:`wait` then tells of their ends."""
        limit = time.monotonic() + GRACE
        for number, running in self._running.items():
            running.deadline = limit if running.deadline is None else min(limit, running.deadline)
            self._say({"signal": number, "number": int(signal.SIGINT)})

    def close(self) -> None:
        """End whatever still runs, at once."""
        assert self._process is not None
        for number in self._running:
            self._say({"signal": number, "number": int(signal.SIGKILL)})
        if not self._running:
            self._process.kill()  # there is nothing that it would have to wait for
        self._running.clear()
        self._end_process()
        self._errors.close()

    def _end_process(self) -> None:
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            try:
                self._process.wait(2)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


def run_in_subprocess(text: str) -> tuple[str, str]:
    """Run one job, as JSON, in a process of its own on this machine; its end's kind and reason.

    What Ray and SLURM run on their machines. When the calling process dies, so does the job.
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
