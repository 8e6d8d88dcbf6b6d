"""A process that imports everything once and forks a fresh worker for every job.

Importing torch takes seconds, a fork milliseconds; yet each job has a process to itself, so that nothing of one run,
not its memory, its random state nor its crash, reaches the next. It says and hears lines of JSON on its standard input,
a socket, and lives and dies with the driver at the other end: when that is gone, so are the workers.

    driver → server    {"start": ID, "job": JOB} · {"signal": ID, "number": N}
    server → driver    {"ended": ID, "status": WAIT STATUS, "end": END or null}
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

__all__ = ["main"]

GRACE = 20.0  # seconds to write a checkpoint after the driver's death, or after being asked to stop
_IMPORTED = (
    "matplotlib.backends.backend_agg",
    "matplotlib.figure",
    "scipy.linalg",
    "sklearn.datasets",
    "torch._dynamo",
    "zoo.bench.worker",
    "zoo.run.train",
)
"""What a run needs, so that no worker has to import it; nothing of it may start a thread or touch a GPU."""
_LONGEST_END = 4096  # bytes, well below what a pipe holds unread


class _ForkServer:
    def __init__(self, control: socket.socket, forks: bool) -> None:
        self.control, self.forks = control, forks
        self.workers: dict[int, tuple[int, int]] = {}  # by process: the job's number, and where its end is read
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
                if self.control in ready and not self.hear():
                    break
        self.end_all()

    def hear(self) -> bool:
        """Do what the driver asks; False when it is gone."""
        try:
            got = self.control.recv(65536)
        except OSError:
            return False
        *lines, self.unread = (self.unread + got).split(b"\n")
        for line in lines:
            word = json.loads(line)
            if "start" in word:
                self.start(word["start"], word["job"])
            else:
                self.signal(word["signal"], word["number"])
        return bool(got)

    def start(self, number: int, job: str) -> None:
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        if self.forks:
            pid = os.fork()
            if pid == 0:
                _child(job, writing, self.control)
        else:
            pid = _spawn(job, writing)
        os.close(writing)
        self.workers[pid] = (number, reading)

    def signal(self, number: int, what: int) -> None:
        for pid, (mine, _) in self.workers.items():
            if mine == number:
                with contextlib.suppress(ProcessLookupError):
                    if what == signal.SIGKILL:
                        os.killpg(pid, what)  # and whatever the model started
                    else:
                        os.kill(pid, what)

    def reap(self) -> None:
        for pid in list(self.workers):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                number, reading = self.workers.pop(pid)
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(pid, signal.SIGKILL)  # what a model started must not outlive its run
                try:
                    said = os.read(reading, _LONGEST_END * 2)
                except BlockingIOError:
                    said = b""
                os.close(reading)
                end = json.loads(said) if said.endswith(b"}") else None
                self.tell({"ended": number, "status": status, "end": end})

    def tell(self, word: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            self.control.sendall(json.dumps(word).encode() + b"\n")

    def end_all(self) -> None:
        for pid in self.workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGINT)
        deadline = time.monotonic() + GRACE
        while self.workers and time.monotonic() < deadline:
            time.sleep(0.05)
            self.reap()
        for pid in self.workers:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)


def _child(job: str, writing: int, control: socket.socket) -> None:
    # From here on another process: whatever happens, it must not return into the server's loop.
    status = 70
    try:
        os.setpgid(0, 0)  # a Ctrl-C at the terminal is the driver's to hand on
        _die_with_parent()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        control.close()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        from zoo.bench.cells import Job
        from zoo.bench.worker import run_job

        asked = Job.from_json(job)
        if asked.seconds:
            # The driver ends a run that goes past its limit; should the driver be gone, the kernel does.
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_REAL, asked.seconds + 2 * GRACE)
        os.environ.update(asked.environment)
        end = run_job(asked)
        text = json.dumps({"kind": end.kind, "reason": end.reason[: _LONGEST_END // 4]})
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
    # macOS: a fork of a process that has loaded torch may crash there, so each worker imports for itself.
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
    worker.returncode = 0  # it is waited for here, not by the object
    return worker.pid


def _die_with_parent() -> None:
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)


def _import_all() -> None:
    for name in _IMPORTED:
        importlib.import_module(name)


def main() -> None:
    """Serve the driver at the other end of standard input until it is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    forks = "--spawn" not in sys.argv[1:] and sys.platform != "darwin"
    control = socket.socket(fileno=os.dup(0))
    if forks:
        _import_all()
    _ForkServer(control, forks).run()
    os._exit(0)  # taking down all that was imported would take seconds


if __name__ == "__main__":
    main()
