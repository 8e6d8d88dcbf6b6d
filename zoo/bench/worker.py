"""The worker process: trains and scores one cell.

:func:`run_job` depends only on the job and on the content of its folder. It returns every error as an
:class:`~zoo.bench.cells.End`. After a kill or a crash, the folder is still valid and the run can be resumed.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from zoo.bench.cells import FAILED, LOCK, LOG, PROGRESS, RESULT, End, Job, make_cell_folder, write_failure
from zoo.callbacks import Callback
from zoo.errors import Interrupted, ZooError
from zoo.files import open_atomic
from zoo.terminal import printable

__all__ = ["main", "run_job"]

_PROGRESS_SECONDS = 0.5  # between writes of the progress file
_DISK_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


def run_job(job: Job) -> End:
    """Train and score one cell, resuming from its last checkpoint; never raises.

    Redirects standard output and error of the process to ``log.txt``.
    """
    folder = Path(job.folder)
    lock: FileLock | None = None
    try:
        make_cell_folder(folder)
        lock = FileLock(folder / LOCK)
        lock.acquire(timeout=0)
        if (folder / RESULT).is_file():  # finished by the worker of another driver
            (folder / FAILED).unlink(missing_ok=True)
            return End("done", "already")
        _open_log(folder / LOG)
        return _attempt(job, folder)
    except Timeout:
        return End("busy", "running in another process")
    except OSError as error:
        return End("disk", f"cannot write to {folder}: {error.strerror or error}")
    except KeyboardInterrupt:
        return End("stopped")
    finally:
        if lock is not None:
            lock.release()


def _open_log(path: Path) -> None:
    handle = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW, 0o644)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    os.close(handle)


def _attempt(job: Job, folder: Path) -> End:
    _log(f"attempt {job.attempt}: process {os.getpid()}, {job.threads} threads")
    try:
        import torch

        from zoo.run.train import train

        torch.set_num_threads(job.threads)
        if job.from_scratch:
            _delete_training_state(folder)
        with _report_progress(folder) as report:
            train(out=folder, resume=True, callbacks=[report], **{"snapshots": 0, **job.settings})
        (folder / FAILED).unlink(missing_ok=True)
        _log("done")
        return End("done")
    except KeyboardInterrupt as error:
        _log("stopped; the next attempt resumes from the checkpoint")
        if isinstance(error, Interrupted) and error.signal != signal.SIGINT:
            return End("killed", f"killed by {error.signal.name}")
        return End("stopped")
    except BaseException as error:  # a plugin may raise anything, SystemExit included
        return _record_error(job, folder, error)


def _record_error(job: Job, folder: Path, error: BaseException) -> End:
    kind, reason = "error", _format_error(error)
    with contextlib.suppress(OSError):
        if not isinstance(error, ZooError):
            traceback.print_exception(error)
        _log(f"failed: {reason}")
    if _is_disk_error(error):
        # Not a failure of the model: no failed.json is written, and the next call resumes the cell.
        return End("disk", reason)
    if isinstance(error, ZooError) and reason.startswith("diverged"):
        kind = "diverged"
    try:
        write_failure(folder, job.settings, kind, reason, job.attempt)
    except ZooError as unwritten:
        return End("disk", f"{reason}; {unwritten}")
    return End("failed", reason)


def _format_error(error: BaseException) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, ZooError):
        return text
    return f"{type(error).__name__}: {text or '(no message)'}"


def _is_disk_error(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, OSError) and error.errno in _DISK_ERRNOS:
            return True
        error = error.__cause__ or error.__context__
    return False


def _delete_training_state(folder: Path) -> None:
    # A diverged run would diverge again if resumed from its checkpoint; on a CPU, runs are deterministic.
    shutil.rmtree(folder / "checkpoint", ignore_errors=True)
    for name in ("config.toml", "metrics.jsonl", "health.json", "model.safetensors"):
        (folder / name).unlink(missing_ok=True)


def _log(text: str) -> None:
    print(f"--- {datetime.now(UTC).isoformat(timespec='seconds')} {printable(text)}", flush=True)


@contextlib.contextmanager
def _report_progress(folder: Path) -> Iterator[_ProgressCallback]:
    report = _ProgressCallback(folder)
    try:
        yield report
    finally:
        report.path.unlink(missing_ok=True)


class _ProgressCallback(Callback):
    """Writes the log of a cell and its progress file."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / PROGRESS
        self._total, self._last_write, self._parent = 1, 0.0, os.getppid()
        self._write(0, "loading")

    def started(self, settings: Mapping[str, Any], folder: Path, total_images: int, images_seen: int) -> None:
        self._total = total_images
        action = f"resumed at {images_seen:,} of" if images_seen else "started training on"
        budget = f"{total_images:,} images of {settings['dataset']}, seed {settings['seed']}"
        print(printable(f"{settings['model']}: {action} {budget}"), flush=True)
        self._write(images_seen, "training")

    def progressed(self, images_seen: int, epoch: float) -> None:
        if os.getppid() != self._parent:
            # The parent is dead, so another driver may start this cell soon.
            os.kill(os.getpid(), signal.SIGKILL)
        now = time.monotonic()
        if images_seen >= self._total:
            self._write(images_seen, "scoring")
        elif now - self._last_write >= _PROGRESS_SECONDS:
            self._last_write = now
            self._write(images_seen, "training")

    def note(self, text: str) -> None:
        print(f"note: {printable(text)}", flush=True)

    def finished(self, result: Mapping[str, Any], folder: Path) -> None:
        print(json.dumps(result["scores"]), flush=True)

    def _write(self, images: int, phase: str) -> None:
        # For display only: not synced, and errors are ignored.
        text = json.dumps({"images": images, "total": self._total, "phase": phase, "pid": os.getpid()})
        with contextlib.suppress(OSError), open_atomic(self.path, sync=False) as file:
            file.write(text.encode())


def main() -> None:
    """``python -m zoo.bench.worker``: reads a job from standard input and writes its end to standard output."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # SIGINT may be ignored by inheritance
    job = Job.from_json(sys.stdin.readline())
    with os.fdopen(os.dup(1), "w") as output:
        end = run_job(job)
        output.write(json.dumps({"kind": end.kind, "reason": end.reason}))


if __name__ == "__main__":
    main()
