"""A process that imports everything once and forks a fresh worker for every job.

It is not :mod:`multiprocessing`'s fork server, with which three guarantees of ``zoo bench`` do not hold:

- **No orphans.** There, server and workers outlive a driver that is killed. Here they end with it: the server sees
  the end of its socket, lets the workers save a checkpoint for ``GRACE`` seconds, then kills them. A killed server
  takes its workers along (``PR_SET_PDEATHSIG``).
- **Time limits.** A worker's whole process group is killed, and before the worker is reaped: until then the group's
  number is not reused. There, the server reaps before the driver learns of the end.
- **Scripts without a main guard.** There, each worker imports the driver's main module, so that a script which calls
  ``run_grid`` at its top level fails. There is also only one server per process, with the environment of its first
  start, which fixes the number of threads.

Importing torch takes seconds, a fork milliseconds; and since each job has a process of its own, neither memory nor
random state nor a crash of one run reaches the next. Run as ``python -m zoo.bench.executors.fork_server``, with a
socket as standard input. Messages are lines of JSON:

    driver → server    {"start": NUMBER, "job": JOB} · {"signal": NUMBER, "number": SIGNAL}
    server → driver    {"ended": NUMBER, "status": WAIT STATUS, "end": END or null}
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from typing import Any

__all__ = ["GRACE", "main"]

GRACE = 20.0
"""Seconds in which a worker may save a checkpoint after it was asked to stop, or after the driver's death."""

_PRELOAD = (
    "matplotlib.backends.backend_agg",
    "matplotlib.figure",
    "scipy.linalg",
    "sklearn.datasets",
    "torch._dynamo",
    "zoo.bench.worker",
    "zoo.run.train",
)
"""Modules that a run needs. None of them may start a thread or touch a GPU when imported."""
_MAX_END_BYTES = 4096  # below the capacity of a pipe, so that a worker never blocks


class _ForkServer:
    def __init__(self, control: socket.socket, forks: bool) -> None:
        self.control, self.forks = control, forks
        self.workers: dict[int, tuple[int, int]] = {}  # by process id: number of the job, reading end of its pipe
        self.unread = b""

    def run(self) -> None:
        wake, woken = socket.socketpair()
        for end in (wake, woken):
            end.setblocking(False)
        signal.set_wakeup_fd(woken.fileno())
        signal.signal(signal.SIGCHLD, lambda *_: None)
        with selectors.DefaultSelector() as selector:
            selector.register(self.control, selectors.EVENT_READ)
            selector.register(wake, selectors.EVENT_READ)
            while True:
                ready = [key.fileobj for key, _ in selector.select()]
                if wake in ready:
                    with contextlib.suppress(BlockingIOError):
                        wake.recv(4096)
                    self.reap()
                if self.control in ready and not self.receive():
                    break
        self.stop_all()

    def receive(self) -> bool:
        """Handle the driver's messages; False once it has closed the socket."""
        try:
            got = self.control.recv(65536)
        except OSError:
            return False
        *lines, self.unread = (self.unread + got).split(b"\n")
        for line in lines:
            message = json.loads(line)
            if "start" in message:
                self.start(message["start"], message["job"])
            else:
                self.signal(message["signal"], message["number"])
        return bool(got)

    def start(self, number: int, job: str) -> None:
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        if self.forks:
            # SIGINT stays pending until the worker has a handler: the server ignores it, and so would the worker.
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            pid = os.fork()
            if pid == 0:
                _run_worker(job, writing, self.control)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
            # The worker does the same. Whoever comes first, the group exists before a message can ask for its end.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.setpgid(pid, pid)
        else:
            pid = _spawn(job, writing)
        os.close(writing)
        self.workers[pid] = (number, reading)

    def signal(self, number: int, what: int) -> None:
        for pid, (mine, _) in self.workers.items():
            if mine == number and what == signal.SIGKILL:
                _kill(pid)
            elif mine == number:
                os.kill(pid, what)

    def reap(self) -> None:
        for pid in list(self.workers):
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                continue
            _kill(pid)  # processes that the model started; while the worker is not reaped, its number is its own
            _, status = os.waitpid(pid, 0)
            number, reading = self.workers.pop(pid)
            try:
                said = os.read(reading, _MAX_END_BYTES * 2)
            except BlockingIOError:
                said = b""
            os.close(reading)
            end = json.loads(said) if said.endswith(b"}") else None
            self.send({"ended": number, "status": status, "end": end})

    def send(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            self.control.sendall(json.dumps(message).encode() + b"\n")

    def stop_all(self) -> None:
        for pid in self.workers:
            os.kill(pid, signal.SIGINT)
        deadline = time.monotonic() + GRACE
        while self.workers and time.monotonic() < deadline:
            time.sleep(0.05)
            self.reap()
        for pid in self.workers:
            _kill(pid)


def _kill(pid: int) -> None:
    """Kill a worker that is not yet reaped and its process group, which the worker itself may have left."""
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: PermissionError for a zombie
            kill(pid, signal.SIGKILL)


def _run_worker(job: str, writing: int, control: socket.socket) -> None:
    # The forked process. Whatever happens, it must not return into the server's loop.
    status = 70
    try:
        os.setpgid(0, 0)  # Ctrl-C in the terminal reaches the driver alone, which passes it on
        _die_with_parent()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        control.close()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        from zoo.bench.cells import Job
        from zoo.bench.worker import run_job

        asked = Job.from_json(job)
        if asked.seconds:
            # The driver enforces the time limit. If the driver is gone, the kernel does.
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_REAL, asked.seconds + 2 * GRACE)
        os.environ.update(asked.environment)
        end = run_job(asked)
        text = json.dumps({"kind": end.kind, "reason": end.reason[: _MAX_END_BYTES // 4]})
        os.write(writing, text.encode())
        status = 0
    except KeyboardInterrupt:
        status = 130
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _spawn(job: str, writing: int) -> int:
    # macOS: a fork of a process that has loaded torch may crash, so each worker imports for itself.
    environment = {**os.environ, **json.loads(job)["environment"]}
    worker = subprocess.Popen(
        [sys.executable, "-P", "-m", "zoo.bench.worker"],
        stdin=subprocess.PIPE,
        stdout=writing,
        env=environment,
        process_group=0,
    )
    assert worker.stdin is not None
    with worker.stdin as pipe:
        pipe.write(job.encode() + b"\n")
    worker.returncode = 0  # reap() waits for the process, not this object
    return worker.pid


def _die_with_parent() -> None:
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)


def _preload() -> None:
    for name in _PRELOAD:
        importlib.import_module(name)


def main() -> None:
    """Serve the driver at the other end of standard input until it closes the socket."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    forks = "--spawn" not in sys.argv[1:] and sys.platform != "darwin"
    control = socket.socket(fileno=os.dup(0))
    if forks:
        _preload()
    _ForkServer(control, forks).run()
    os._exit(0)  # a regular exit would take seconds to free all modules


if __name__ == "__main__":
    main()
