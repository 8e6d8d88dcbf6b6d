"""A cell of the grid: settings, run folder, and the state stored in the folder.

The state of a cell is defined by its folder alone, so that it survives a killed driver or worker: with ``result.json``
the cell is done, with only ``failed.json`` it has failed, otherwise it is unfinished.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import attrs
from filelock import FileLock, Timeout

from zoo.errors import ZooError
from zoo.files import refuse_special, write_atomically
from zoo.reading import read_json
from zoo.result_file import read_result_file

__all__ = ["LOCK", "LOG", "PROGRESS", "Cell", "End", "FailedCell", "Job", "make_cell_folder", "read_progress"]

LOCK, LOG, PROGRESS, FAILED, RESULT = ".bench.lock", "log.txt", ".progress.json", "failed.json", "result.json"

EndKind = Literal["done", "failed", "busy", "stopped", "disk", "killed", "timeout"]


@attrs.frozen
class End:
    """How one attempt at a job ended.

    Attributes:
        kind: ``done``: the result is written. ``failed``: the run raised an error or diverged; see ``failed.json``.
            ``busy``: the cell is locked by another process. ``stopped``: stopped on request, with a checkpoint.
            ``disk``: the folder is not writable or the disk is full. ``killed``: the process died. ``timeout``: the
            time limit was exceeded.
        reason: One line.
    """

    kind: EndKind
    reason: str = ""


@attrs.frozen
class FailedCell:
    """Content of ``failed.json``."""

    kind: str
    reason: str
    attempts: int


@attrs.frozen
class Job:
    """One attempt at a cell, as sent to a worker; all values are JSON-serializable.

    Attributes:
        settings: Arguments of ``zoo.train``: model, settings of the run, options of the model.
        folder: The run folder, accessible to both worker and driver.
        threads: CPU threads.
        attempt: Number of the attempt, from 1.
        from_scratch: Whether to start from the beginning instead of the last checkpoint.
        environment: Environment variables to set, such as the data root or the GPU.
        seconds: Time limit; None for no limit.
    """

    settings: Mapping[str, Any]
    folder: str
    threads: int = 1
    attempt: int = 1
    from_scratch: bool = False
    environment: Mapping[str, str] = attrs.field(factory=dict)
    seconds: float | None = None

    def to_json(self) -> str:
        """Serialize the job to one line, the inverse of :meth:`from_json`."""
        return json.dumps(attrs.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Job:
        """Parse the output of :meth:`to_json`."""
        return cls(**json.loads(text))


@attrs.frozen
class Cell:
    """A model, data set and seed, with the run folder."""

    model: str
    dataset: str
    seed: int
    folder: Path
    settings: Mapping[str, Any] = attrs.field(factory=dict, eq=False)

    @property
    def name(self) -> str:
        """Display name ``DATASET MODEL seed K``, without the path of a folder of images."""
        return f"{self.folder.parent.parent.name} {self.model} seed {self.seed}"

    @property
    def done(self) -> bool:
        """Whether ``result.json`` exists."""
        return (self.folder / RESULT).is_file()

    @property
    def busy(self) -> bool:
        """Whether a worker of any driver holds the lock of the cell."""
        try:
            refuse_special(self.folder / LOCK)
            if self.folder.is_symlink():
                return False
            with FileLock(self.folder / LOCK, timeout=0):
                return False
        except Timeout:
            return True
        except OSError:  # no folder yet, or not writable, which the worker reports
            return False

    @property
    def failure(self) -> FailedCell | None:
        """The recorded failure; None if the cell is done or has not failed."""
        if self.done:
            return None
        try:
            table = read_json(self.folder / FAILED)
            return FailedCell(str(table["kind"]), str(table["reason"]), int(table["attempts"]))
        except (OSError, ValueError, KeyError, TypeError, ZooError):
            return None  # missing or unreadable: the cell counts as unfinished

    def result(self) -> dict[str, Any]:
        """Content of ``result.json``."""
        return read_result_file(self.folder / RESULT)

    def fail(self, kind: str, reason: str, attempts: int) -> bool:
        """Write ``failed.json`` on behalf of a dead worker.

        Returns:
            False if another process holds the lock of the cell; nothing is written then.

        Raises:
            ZooError: If the folder is not writable.
        """
        try:
            make_cell_folder(self.folder)
            with FileLock(self.folder / LOCK, timeout=0):
                if not self.done:
                    write_failure(self.folder, self.settings, kind, reason, attempts)
                return True
        except Timeout:
            return False
        except OSError as error:
            raise ZooError(f"cannot write to {self.folder}: {error.strerror or error}") from None


def make_cell_folder(folder: Path) -> None:
    """Create the folder of a cell.

    Raises:
        OSError: If it, its lock or its log is a symbolic link, which might lead anywhere, or it cannot be created.
    """
    if folder.is_symlink():
        raise OSError("it is a symbolic link")
    folder.mkdir(parents=True, exist_ok=True)
    for name in (LOCK, LOG):
        refuse_special(folder / name)


def write_failure(folder: Path, settings: Mapping[str, Any], kind: str, reason: str, attempts: int) -> None:
    """Write ``failed.json``: kind and reason of the failure, number of attempts, settings."""
    from zoo.run.result import describe_plugin, parse_protocol
    from zoo.run.run_folder import RunFolder
    from zoo.run.settings import public_settings

    given: Mapping[str, Any] = {k: v for k, v in settings.items() if k not in ("model", "protocol", "data_dir")}
    with contextlib.suppress(ZooError):  # once training has started, its folder has the resolved settings
        given = public_settings(RunFolder(folder).settings())
    table = {
        "format": 1,
        "model": settings["model"],
        "dataset": folder.parent.parent.name,
        "seed": settings["seed"],
        "kind": kind,
        "reason": " ".join(reason.split()),
        "attempts": attempts,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "plugin": describe_plugin(settings["model"]),
        "protocol_file": parse_protocol(str(settings.get("protocol") or "")),
        "settings": given,
    }
    write_atomically(folder / FAILED, (json.dumps(table, indent=2) + "\n").encode())


@attrs.frozen
class Progress:
    """Progress of a worker.

    Attributes:
        fraction: Completed fraction of the training.
        phase: ``loading``, ``training`` or ``scoring``.
        pid: Process id of the worker.
    """

    fraction: float
    phase: str
    pid: int


def read_progress(folder: Path) -> Progress | None:
    """Read the last progress written by the worker of a folder; None if there is none."""
    try:
        table = read_json(folder / PROGRESS)
        return Progress(table["images"] / max(1, table["total"]), str(table["phase"]), int(table["pid"]))
    except (OSError, ValueError, KeyError, TypeError, ZooError):
        return None
