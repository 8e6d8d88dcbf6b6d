"""Where results lie: every folder below the given ones with a ``result.json`` or a ``failed.json``."""

from __future__ import annotations

import gc
import json
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import attrs

from zoo.compatibility import picture_path
from zoo.leaderboard.results import FailedResult, Run, read_failure, read_result
from zoo.leaderboard.untrusted import RefusedError, note, table

__all__ = ["PICTURES", "LeftOut", "read_all", "read_file"]

PICTURES = ("samples", "reconstructions", "interpolations", "neighbors", "class_samples")
"""Pictures of a run that a page shows; no other file name is ever opened as one."""
_LARGEST = 4 << 20


@attrs.frozen(order=True)
class LeftOut:
    """A folder that stands in no table, and why."""

    path: str
    reason: str
    kind: str
    """``unreadable``, ``duplicate``, ``conflict`` or ``unplaced``."""
    digest: str = ""


def read_all(directories: Sequence[Path]) -> tuple[list[Run], list[FailedResult], list[LeftOut]]:
    """Everything below the directories that is a result, and what looks like one but cannot be taken in."""
    runs: list[Run] = []
    failures: list[FailedResult] = []
    left: list[LeftOut] = []
    collecting = gc.isenabled()
    gc.disable()  # all that is made here is kept, and looking for what is not costs a quarter of the time
    try:
        _read_into(runs, failures, left, directories)
    finally:
        if collecting:
            gc.enable()
    return runs, failures, left


def _read_into(runs: list[Run], failures: list[FailedResult], left: list[LeftOut], directories: Sequence[Path]) -> None:
    for path, folder, names in _folders(directories):
        try:
            if "result.json" in names:
                found, content = _object(folder / "result.json")
                files = frozenset(p for p in PICTURES if picture_path(folder, p).name in names)
                runs.append(read_result(found, content, path, folder, files))
            else:
                found, content = _object(folder / "failed.json")
                failures.append(read_failure(found, content, path, folder))
        except (RefusedError, RecursionError) as error:
            file = "result.json" if "result.json" in names else "failed.json"
            why = str(error) if isinstance(error, RefusedError) else "is nested too deeply"
            left.append(LeftOut(path, f"{file}: {why}", "unreadable"))


def _folders(directories: Sequence[Path]) -> Iterator[tuple[str, Path, frozenset[str]]]:
    # A folder that is reached twice, as DIR and as DIR/a, counts once, by its path from the outermost.
    found: dict[tuple[int, int], tuple[str, Path, frozenset[str]]] = {}
    for root in directories:
        top = os.path.realpath(root)
        for here, folders, files in os.walk(top):  # links are not followed: they may lead anywhere
            folders.sort()
            names = frozenset(files)
            if not names & {"result.json", "failed.json"}:
                continue
            status = os.stat(here)
            path = _shown(os.path.relpath(here, top))
            key = (status.st_dev, status.st_ino)
            if key not in found or (path.count("/"), path) > (found[key][0].count("/"), found[key][0]):
                found[key] = (path, Path(here), names)
    yield from sorted(found.values(), key=lambda entry: (entry[0], str(entry[1])))


def _shown(path: str) -> str:
    return note(path.replace(os.sep, "/"), "path", limit=200)


def read_file(path: Path, largest: int) -> bytes:
    """The content of an ordinary file.

    Raises:
        RefusedError: for a link, which may lead out of the run's folder, for no file, and beyond ``largest`` bytes.
    """
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(handle, "rb") as file:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode) or os.path.islink(path):
                raise RefusedError("it is no ordinary file")
            if status.st_size > largest:
                raise RefusedError(f"it has {status.st_size:,} bytes; at most {largest:,} are read")
            return file.read(largest + 1)
    except OSError as error:
        what = "it is a link, and links are not followed" if os.path.islink(path) else error.strerror or "unknown error"
        raise RefusedError(f"cannot be read: {what}") from None


def _no_number(text: str) -> NoReturn:
    raise RefusedError(f"holds {text}, which is no JSON")


def _object(path: Path) -> tuple[Any, bytes]:
    content = read_file(path, _LARGEST)
    try:
        found = json.loads(content.decode(), parse_constant=_no_number)
    except UnicodeDecodeError:
        raise RefusedError("is no UTF-8") from None
    except RefusedError:
        raise
    except ValueError:
        raise RefusedError("is no JSON") from None
    return table(found, "it"), content
