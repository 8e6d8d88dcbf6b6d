"""The run folder: its files, its lock, and writes that an interruption cannot corrupt."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from torch import Tensor

from zoo.compatibility import convert_metrics_line, convert_options, convert_result
from zoo.errors import UsageError, ZooError
from zoo.evaluation.extractors import sha256_of
from zoo.files import append, is_temporary, refuse_special, write_atomically
from zoo.health import Measurements
from zoo.reading import parse_json, read_bytes, read_json, read_toml
from zoo.result_file import read_result_file, seal
from zoo.run.settings import RunSettings, differences, public_settings
from zoo.run.stored import (
    check_checkpoint_facts,
    check_metrics_line,
    check_model_facts,
    read_tensors,
    serialize,
)
from zoo.terminal import printable

__all__ = ["OTHER_FILES", "RunFolder"]

OTHER_FILES = (".lock", ".bench.lock", ".progress.json", ".progress.tmp", "log.txt", "failed.json", "trackers")
"""Files that a folder may contain before a run begins: locks, logs of ``zoo bench``, and those of trackers."""

PICTURES = ("samples", "reconstructions", "interpolations", "neighbors", "class_samples", "curves")
"""Images that a run writes, as PNG."""

_SUBFOLDERS = ("checkpoint", "snapshots", "trackers")
_MAX_LOG_BYTES = 64 << 20


class RunFolder:
    """The files of one run. Construct it to read; call :meth:`open` before writing.

    Args:
        path: The folder, which need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.config, self.result = self.path / "config.toml", self.path / "result.json"
        self.metrics, self.model = self.path / "metrics.jsonl", self.path / "model.safetensors"
        self.health = self.path / "health.json"
        self.checkpoint = self.path / "checkpoint" / "state.safetensors"
        self.snapshots = self.path / "snapshots"
        self._lock: FileLock | None = None
        self._made = False

    @property
    def finished(self) -> bool:
        """Whether ``result.json`` exists, which is written last."""
        return self.result.is_file()

    def settings(self) -> RunSettings:
        """Read the settings of the run.

        Raises:
            UsageError: If this is not a run folder.
        """
        if not self.config.is_file():
            raise UsageError(f"{self.path} is not a run folder: it has no config.toml")
        return RunSettings.from_file(self.config)

    def open(self, settings: RunSettings, *, resume: bool) -> bool:
        """Create and lock the folder.

        Args:
            settings: Settings of the run; those in the folder must agree.
            resume: Whether the folder may contain a run.

        Returns:
            Whether the folder has a checkpoint to resume from.

        Raises:
            UsageError: If the folder contains another run, a run while ``resume`` is False, or other files.
            ZooError: If another process has locked it.
        """
        self._refuse_foreign_files()
        try:
            self._made = not self.path.is_dir()
            self._refuse_links()
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(self.path / ".lock")
            self._lock.acquire(timeout=0)
        except Timeout:
            raise ZooError(f"{self.path} is in use: another process is working on this run") from None
        except OSError as error:
            raise UsageError(f"out: cannot write to {self.path}: {error.strerror or error}") from None
        try:
            resumable = self._prepare(settings, resume)
            for folder in (self.path, *(self.path / name for name in _SUBFOLDERS)):
                for leftover in folder.glob(".*.tmp"):
                    leftover.unlink()  # from a process killed during a write
            return resumable
        except BaseException:
            if self._made:
                self.discard_if_empty()
            self.close()
            raise

    def _refuse_links(self) -> None:
        # A run folder may come from another person: its links must not redirect writes.
        files = [*OTHER_FILES, "config.toml", "result.json", "metrics.jsonl", "health.json", "model.safetensors"]
        files += ["samples.gif", *(f"{name}.png" for name in PICTURES), *_SUBFOLDERS]
        for file in (*(self.path / name for name in files), self.checkpoint):
            if file.is_symlink():
                raise UsageError(
                    f"out: {file} is a symbolic link; replace it by the file itself, or choose another --out"
                )
            if file.name not in _SUBFOLDERS:
                refuse_special(file)

    def refuse_if_taken(self) -> None:
        """Raise a :class:`UsageError` if the folder contains a run."""
        if self.config.is_file():
            there = self.settings()
            state = "a finished" if self.finished else "an unfinished"
            raise UsageError(
                f"out: {self.path} holds {state} run ({there.model} on {there.dataset}, seed {there.seed}); "
                "--resume continues it, --out DIR begins another"
            )

    def _prepare(self, settings: RunSettings, resume: bool) -> bool:
        if self.config.is_file():
            if not resume:
                self.refuse_if_taken()
            there = self.settings()
            changed = differences(there, settings)
            if changed:
                raise UsageError(f"out: {self.path} holds another run: {'; '.join(changed)}; choose another --out")
            return self.checkpoint.is_file()
        self._refuse_foreign_files()
        write_atomically(self.config, settings.to_toml().encode())
        return False

    def _refuse_foreign_files(self) -> None:
        # Checked before the lock is created: the folder may not belong to zoo at all.
        if self.config.is_file() or not self.path.is_dir():
            return
        foreign = sorted(p.name for p in self.path.iterdir() if p.name not in OTHER_FILES and not _is_leftover(p.name))
        if foreign:
            raise UsageError(
                f"out: {self.path} is not empty and not a run folder ({', '.join(foreign[:3])}); choose another --out"
            )

    def discard_if_empty(self) -> None:
        """Remove what :meth:`open` created if the run has written nothing, so that a new run can use the folder."""
        if self.checkpoint.is_file() or self.model.is_file() or self.logged():
            return
        for file in (self.metrics, self.health, self.config):
            file.unlink(missing_ok=True)
        for file in self.snapshots.glob("step-*.png"):
            file.unlink(missing_ok=True)
        for folder in (self.checkpoint.parent, self.snapshots):
            with contextlib.suppress(OSError):  # no folder, or not empty
                folder.rmdir()
        if self._made:
            with contextlib.suppress(OSError):
                (self.path / ".lock").unlink(missing_ok=True)
                self.path.rmdir()

    def close(self) -> None:
        """Release the lock."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def save_checkpoint(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Replace the checkpoint, one file of tensors and facts."""
        try:
            self.checkpoint.parent.mkdir(exist_ok=True)
        except OSError as error:
            raise ZooError(f"cannot write {self.checkpoint}: {error.strerror or error}") from error
        write_atomically(self.checkpoint, *serialize(tensors, "facts", facts))

    def load_checkpoint(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Read the tensors and the facts of the last checkpoint.

        Raises:
            ZooError: If the file is damaged.
        """
        return self._read_checkpoint()

    def checkpoint_facts(self) -> dict[str, Any]:
        """The facts of the last checkpoint, without its tensors; empty if there is none."""
        return self._read_checkpoint(only_facts=True)[1] if self.checkpoint.is_file() else {}

    def _read_checkpoint(self, *, only_facts: bool = False) -> tuple[dict[str, Tensor], dict[str, Any]]:
        try:
            return read_tensors(self.checkpoint, "facts", check_checkpoint_facts, only_facts=only_facts)
        except ZooError as error:
            raise ZooError(f"{error}; delete it, and --resume begins anew") from None

    def save_model(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Write the trained networks and the facts needed to rebuild them."""
        write_atomically(self.model, *serialize(tensors, "zoo", facts))

    def load_model(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Read the tensors of the trained networks and the facts needed to rebuild them.

        Raises:
            UsageError: If the run has no trained networks yet.
            ZooError: If the file is damaged or belongs to another run.
        """
        if not self.model.is_file():
            self.settings()
            raise UsageError(f"{self.path} has no trained networks yet; finish it with zoo run … --resume")
        tensors, facts = read_tensors(self.model, "zoo", check_model_facts)
        self._refuse_foreign_model(facts)
        return tensors, {**facts, "options": convert_options(facts["model"], facts["options"], self._stored_settings())}

    def _stored_settings(self) -> dict[str, Any] | None:
        # As they are stored, which tells whether 0.1.0 wrote them.
        return read_toml(self.config, "config") if self.config.is_file() else None

    def _refuse_foreign_model(self, facts: Mapping[str, Any]) -> None:
        if self.config.is_file():
            there = self.settings()
            options = convert_options(facts["model"], facts["options"], self._stored_settings())
            stored = {"model": facts["model"], **options}
            wanted = {"model": there.model, **there.options}
            changed = [
                f"{k} {stored[k]!r}, not {wanted[k]!r}" for k in stored if k in wanted and stored[k] != wanted[k]
            ]
            if not changed and "settings" in facts:  # not in those of zoo 0.1.0
                changed = self._changed_settings({**facts["settings"], "model": facts["model"]}, self.model)
            if changed:
                raise ZooError(f"{self.model} is of another run than config.toml: {'; '.join(changed)}")
        digest = self.load_result().get("weights_sha256") if self.finished else None
        if digest is not None and sha256_of(self.model) != digest:
            raise ZooError(f"{self.model} is of another run than result.json: its SHA-256 is not weights_sha256")

    def _changed_settings(self, table: Mapping[str, Any], source: Path) -> list[str]:
        """The public settings in which ``config.toml`` differs from those stored in another file of the run."""
        here = RunSettings.from_table({"model": self.settings().model, **public_settings(self.settings())})
        return differences(RunSettings.from_table(table, str(source)), here)

    def save_result(self, result: Mapping[str, Any]) -> None:
        """Write ``result.json``, which marks the run as finished."""
        write_atomically(self.result, (json.dumps(seal(result), indent=2, allow_nan=False) + "\n").encode())

    def load_result(self) -> dict[str, Any]:
        """Read ``result.json``.

        Raises:
            UsageError: If the run is not finished.
            ZooError: If the file is damaged or belongs to another run.
        """
        if not self.finished:
            self.settings()
            raise UsageError(f"{self.path} is not finished; continue it with zoo run … --resume")
        remedy = "; delete it, and zoo run --resume scores the run again"
        try:
            found = convert_result(read_result_file(self.result))
        except ZooError as error:
            raise ZooError(str(error) + remedy) from None
        stored = found.get("settings")
        if self.config.is_file() and stored is not None:
            try:
                changed = self._changed_settings({**stored, "model": found.get("model")}, self.result)
            except UsageError as error:
                raise ZooError(f"{self.result} cannot be read: {error}{remedy}") from None
            if changed:
                raise ZooError(f"{self.result} is of another run than config.toml: {'; '.join(changed)}")
        return found

    def save_health(self, table: Mapping[str, Any]) -> None:
        """Write ``health.json``."""
        write_atomically(self.health, (json.dumps(table, indent=2, allow_nan=False) + "\n").encode())

    def load_health(self) -> list[Measurements]:
        """Read the measurements in ``health.json``; empty if there is none.

        Raises:
            ZooError: If the file is damaged.
        """
        try:
            table = read_json(self.health)
            if not isinstance(table, dict) or not isinstance(table.get("probes"), list):
                raise ValueError("it has no list of probes")
            return [Measurements.from_dict(entry) for entry in table["probes"]]
        except FileNotFoundError:
            return []
        except ValueError as error:
            raise ZooError(f"{self.health} cannot be read: {printable(str(error))}") from None

    def append_metrics(self, line: str) -> None:
        """Append a line to ``metrics.jsonl``."""
        append(self.metrics, line.encode())

    def trim_metrics(self, step: int) -> int:
        """Remove lines after ``step`` and an incomplete last line; the resumed run logs them again.

        Returns:
            The number of other lines that were removed because they are malformed.
        """
        lines, malformed = self._read_metrics()
        kept = [line for line in lines if line["step"] <= step]
        write_atomically(self.metrics, "".join(json.dumps(line) + "\n" for line in kept).encode())
        return malformed

    def logged(self) -> list[dict[str, Any]]:
        """Read the lines of ``metrics.jsonl``, without malformed ones."""
        return self._read_metrics()[0]

    def _read_metrics(self) -> tuple[list[dict[str, Any]], int]:
        if not self.metrics.is_file():
            return [], 0
        model = self.settings().model if self.config.is_file() else ""
        texts = read_bytes(self.metrics, _MAX_LOG_BYTES).decode(errors="replace").split("\n")
        lines: list[dict[str, Any]] = []
        for text in texts[:-1]:  # a complete line ends with a line feed
            with contextlib.suppress(ZooError):
                if check_metrics_line(line := parse_json(text, "line")):
                    lines.append(convert_metrics_line(model, line))
        return lines, len(texts) - 1 - len(lines)


def _is_leftover(name: str) -> bool:
    return any(is_temporary(name, target) for target in ("config.toml", "failed.json", ".progress.json"))
