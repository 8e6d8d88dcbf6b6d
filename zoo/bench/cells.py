"""A cell of the grid: its settings, its folder, and what the folder says has become of it.

The folder alone decides: ``result.json`` means done, ``failed.json`` without it broken, anything else not done yet.
What a driver or a worker remembers is lost when it is killed; what it wrote is not.
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

__all__ = ["LOCK", "LOG", "PROGRESS", "Cell", "End", "FailedCell", "Job", "read_progress"]

LOCK, LOG, PROGRESS, FAILED, RESULT = ".bench.lock", "log.txt", ".progress.json", "failed.json", "result.json"

EndKind = Literal["done", "failed", "busy", "stopped", "disk", "killed", "timeout"]


@attrs.frozen
class End:
    """How one attempt at a job ended.

    Attributes:
        kind: ``done``: the result is there. ``failed``: the run broke, and ``failed.json`` says how. ``busy``: somebody
            else is at this cell. ``stopped``: it was asked to stop, and kept a checkpoint. ``disk``: its folder could
            not be written to. ``killed``: the process vanished. ``timeout``: it went past its time limit.
        reason: one line.
    """

    kind: EndKind
    reason: str = ""


@attrs.frozen
class FailedCell:
    """What ``failed.json`` says."""

    kind: str
    reason: str
    attempts: int


@attrs.frozen
class Job:
    """One attempt at a cell, as it goes to a worker: nothing but values that JSON can hold.

    Attributes:
        settings: what ``zoo.train`` is given: the model, settings of the run and options of the model.
        folder: the run folder, which worker and driver both reach.
        threads: processor threads.
        attempt: 1, 2, …: how often the cell has been tried.
        anew: whether to begin at the beginning, in place of at the last checkpoint.
        environment: variables to set, such as the data root or the GPU.
        seconds: the time limit; None is none.
    """

    settings: Mapping[str, Any]
    folder: str
    threads: int = 1
    attempt: int = 1
    anew: bool = False
    environment: Mapping[str, str] = attrs.field(factory=dict)
    seconds: float | None = None

    def to_json(self) -> str:
        """The job on one line; :meth:`from_json` reads it back."""
        return json.dumps(attrs.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Job:
        """A job from :meth:`to_json`."""
        return cls(**json.loads(text))


@attrs.frozen
class Cell:
    """One model on one data set with one seed, and its place under the benchmark's folder."""

    model: str
    dataset: str
    seed: int
    folder: Path
    settings: Mapping[str, Any] = attrs.field(factory=dict, eq=False)

    @property
    def name(self) -> str:
        """``DATASET MODEL seed K``, without the path of a folder of images."""
        return f"{self.folder.parent.parent.name} {self.model} seed {self.seed}"

    @property
    def done(self) -> bool:
        """Whether the result is there."""
        return (self.folder / RESULT).is_file()

    @property
    def busy(self) -> bool:
        """Whether a worker is at it, be it another driver's."""
        try:
            with FileLock(self.folder / LOCK, timeout=0):
                return False
        except Timeout:
            return True
        except OSError:  # no folder yet, or one that cannot be written to: the worker will say so
            return False

    @property
    def failure(self) -> FailedCell | None:
        """Why the cell broke, where it did and has not been mended since."""
        if self.done:
            return None
        try:
            table = json.loads((self.folder / FAILED).read_text(encoding="utf-8"))
            return FailedCell(str(table["kind"]), str(table["reason"]), int(table["attempts"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None  # none there, or nothing that can be read: then the cell is simply not done

    def result(self) -> dict[str, Any]:
        """The finished run's ``result.json``."""
        found: dict[str, Any] = json.loads((self.folder / RESULT).read_text(encoding="utf-8"))
        return found

    def fail(self, kind: str, reason: str, attempts: int) -> bool:
        """Write ``failed.json`` for a worker that no longer can; False where somebody else has the cell now."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / LOCK, timeout=0):
                if not self.done:
                    write_failure(self.folder, self.settings, kind, reason, attempts)
                return True
        except Timeout:
            return False
        except OSError as error:
            raise ZooError(f"cannot write to {self.folder}: {error.strerror or error}") from None


def write_failure(folder: Path, settings: Mapping[str, Any], kind: str, reason: str, attempts: int) -> None:
    """Write ``failed.json``: what broke, how, and under which settings."""
    from zoo.files import write_atomically
    from zoo.run.result import describe_plugin, parse_protocol, public_settings
    from zoo.run.run_folder import RunFolder

    given: Mapping[str, Any] = {k: v for k, v in settings.items() if k not in ("model", "protocol", "data_dir")}
    with contextlib.suppress(ZooError):  # where the run got so far, what it resolved to is there
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
    """How far a worker is: ``fraction`` of its training, and what it is at."""

    fraction: float
    phase: str
    pid: int


def read_progress(folder: Path) -> Progress | None:
    """What the worker at a folder last said of itself; None where none is at work, or it has not said anything yet."""
    try:
        table = json.loads((folder / PROGRESS).read_text(encoding="utf-8"))
        return Progress(table["images"] / max(1, table["total"]), table["phase"], table["pid"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
