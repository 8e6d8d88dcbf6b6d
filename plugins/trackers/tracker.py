"""Base class of the bundled trackers: the events of a run as scalars, images, settings and a final status."""

from __future__ import annotations

import abc
import functools
import importlib.util
import json
import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import zoo

Status = Literal["finished", "failed", "interrupted"]


class Tracker(zoo.Callback, abc.ABC):
    """Logs terms, gradient norms, images, settings and scores of a run to a library.

    If the library cannot start, the run does not begin. If it fails later, a warning says so, and the run continues
    without it.

    Raises:
        UsageError: If the library is not installed.
    """

    name: ClassVar[str]
    """Name for ``--tracker``, and of the extra that installs the library."""
    library: ClassVar[str]
    """Name of the imported package."""

    def __init__(self) -> None:
        spec = importlib.util.find_spec(self.library)
        if spec is None or spec.origin is None:  # without an origin it is a folder of that name, such as ./wandb
            raise zoo.UsageError(f"tracker: {self.name} is not installed; pip install 'latent-zoo[{self.name}]'")
        self._active = False
        self._step = 0

    @abc.abstractmethod
    def begin(self, settings: Mapping[str, Any], folder: Path, run: str, step: int) -> None:
        """Begin, or continue, the run.

        Args:
            settings: Settings of the run, the model's options under ``options``.
            folder: Folder for the files of trackers, below the run folder.
            run: Name of the run folder.
            step: Last logged step of the run that is continued; 0 for a new run.
        """

    @abc.abstractmethod
    def log_scalars(self, values: Mapping[str, float], step: int) -> None:
        """Log numbers by name."""

    @abc.abstractmethod
    def log_image(self, name: str, path: Path, step: int) -> None:
        """Log an image file, PNG or GIF."""

    @abc.abstractmethod
    def end(self, status: Status) -> None:
        """End the run, and write what is pending."""

    def started(self, settings: Mapping[str, Any], folder: Path, total_images: int, images_seen: int) -> None:
        self._step = last_step(folder / "metrics.jsonl") if images_seen else 0
        try:
            self.begin(settings, make_folder(folder), folder.resolve().name, self._step)
        except zoo.ZooError:
            raise
        except Exception as error:  # of the library, of any kind
            raise zoo.ZooError(f"tracker: {self.name} cannot start: {describe(error)}") from error
        self._active = True

    def step_logged(
        self, step: int, images_seen: int, epoch: float, terms: Mapping[str, float], gradients: Mapping[str, float]
    ) -> None:
        self._step = step
        values = {
            **{f"terms/{name}": value for name, value in terms.items()},
            **{f"gradients/{name}": value for name, value in gradients.items() if math.isfinite(value)},
            "progress/epoch": epoch,
            "progress/images": float(images_seen),
        }
        self._attempt(lambda: self.log_scalars(values, step))

    def images(self, paths: Sequence[Path]) -> None:
        for path in paths:
            self._attempt(functools.partial(self.log_image, path.stem, path, self._step))

    def finished(self, result: Mapping[str, Any], folder: Path) -> None:
        scores = {f"scores/{name}": float(value) for name, value in result["scores"].items() if value is not None}
        if scores:
            self._attempt(lambda: self.log_scalars(scores, self._step))
        self._attempt(lambda: self.end("finished"))

    def stopped(self, error: BaseException) -> None:
        status: Status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        self._attempt(lambda: self.end(status))

    def _attempt(self, action: Callable[[], None]) -> None:
        if not self._active:
            return
        try:
            action()
        except Exception as error:  # hours of training are worth more than a log
            self._active = False
            warnings.warn(f"tracker: {self.name}: {describe(error)}; the run continues without it", stacklevel=2)


def describe(error: Exception) -> str:
    """The first line of an error."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as one table with names such as ``options.lr``.

    >>> flatten({"seed": 0, "options": {"lr": 0.1}})
    {'seed': 0, 'options.lr': 0.1}
    """
    found: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            found.update(flatten(value, f"{prefix}{name}."))
        else:
            found[prefix + name] = value
    return found


def last_step(metrics: Path) -> int:
    """Step of the last line of ``metrics.jsonl``; 0 without one."""
    lines = metrics.read_text().splitlines() if metrics.is_file() else []
    return int(json.loads(lines[-1])["step"]) if lines else 0


def make_folder(run: Path) -> Path:
    """Create the folder ``trackers`` of a run folder.

    Raises:
        UsageError: If a symbolic link below it leads elsewhere: the run folder may come from another person.
    """
    folder = run / "trackers"
    folder.mkdir(exist_ok=True)
    for path in (folder, *folder.iterdir()):
        if path.is_symlink():
            raise zoo.UsageError(f"tracker: {path} is a symbolic link; remove it")
    return folder


def read_run_id(file: Path) -> str | None:
    """The run's id in a tracker that an interrupted run stored; None without one."""
    if not file.is_file() or file.stat().st_size > 100:
        return None
    text = file.read_text(errors="replace").strip()
    return text if re.fullmatch(r"[A-Za-z0-9_-]+", text) else None
