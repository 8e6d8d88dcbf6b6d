"""Finds results: every folder below the given ones, and in archives, with a ``result.json`` or a ``failed.json``."""

from __future__ import annotations

import collections
import gc
import json
import os
import posixpath
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import attrs

from zoo.compatibility import picture_file
from zoo.leaderboard.archive import ARCHIVE, MAX_BYTES, read_archive
from zoo.leaderboard.result_folder import ArchivedFolder, DiskFolder, ResultFolder, read_file
from zoo.leaderboard.results import FailedResult, Run, read_failure, read_result
from zoo.leaderboard.untrusted import RefusedError, note, table

__all__ = ["PICTURES", "LeftOut", "read_all"]

PICTURES = ("samples", "reconstructions", "interpolations", "neighbors", "class_samples")
"""Pictures of a run that a page shows; no other file name is ever opened as one."""
_LARGEST = 4 << 20
_FILES = frozenset({"result.json", "failed.json"})


@attrs.frozen(order=True)
class LeftOut:
    """A folder that no table contains, and the reason."""

    path: str
    reason: str
    kind: str
    """``unreadable``, ``duplicate``, ``conflict`` or ``unplaced``."""
    digest: str = ""


def read_all(paths: Sequence[Path]) -> tuple[list[Run], list[FailedResult], list[LeftOut]]:
    """All results below the folders and in the archives, and what looks like a result but is refused."""
    runs: list[Run] = []
    failures: list[FailedResult] = []
    left: list[LeftOut] = []
    collecting = gc.isenabled()
    gc.disable()  # nothing that is made here is garbage, and searching for it takes a quarter of the time
    try:
        _read_into(runs, failures, left, paths)
    finally:
        if collecting:
            gc.enable()
    return runs, failures, left


def _read_into(runs: list[Run], failures: list[FailedResult], left: list[LeftOut], paths: Sequence[Path]) -> None:
    for path, folder in _find(paths, left):
        file = "result.json" if "result.json" in folder.names else "failed.json"
        try:
            found, content = _object(folder, file)
            if file == "result.json":
                pictures = frozenset(p for p in PICTURES if picture_file(p, folder.names) in folder.names)
                runs.append(read_result(found, content, path, folder, pictures))
            else:
                failures.append(read_failure(found, content, path, folder))
        except (RefusedError, RecursionError) as error:
            why = str(error) if isinstance(error, RefusedError) else "is nested too deeply"
            left.append(LeftOut(path, f"{file}: {why}", "unreadable"))


def _find(paths: Sequence[Path], left: list[LeftOut]) -> Iterator[tuple[str, ResultFolder]]:
    # A folder that is reached twice, as DIR and as DIR/a, counts once, by its path from the outermost.
    found: dict[tuple[int, int, str], tuple[str, str, ResultFolder]] = {}

    def add(file: str, inside: str, path: str, folder: ResultFolder) -> None:
        status = os.stat(file)
        key = status.st_dev, status.st_ino, inside
        if key not in found or (path.count("/"), path) > (found[key][0].count("/"), found[key][0]):
            found[key] = path, file, folder

    def add_archive(file: str, path: str) -> None:
        try:
            folders = _archived_folders(read_file(Path(file), MAX_BYTES))
        except RefusedError as error:
            left.append(LeftOut(path, str(error), "unreadable"))
            return
        for inside, folder in folders.items():
            add(file, inside, _shown(posixpath.normpath(posixpath.join(path, inside))), folder)

    for root in paths:
        top = os.path.realpath(root)
        if os.path.isfile(top):
            add_archive(top, "")
            continue
        for here, folders, files in os.walk(top):  # links are not followed: they may lead anywhere
            folders.sort()
            path = _shown(os.path.relpath(here, top))
            if _FILES & set(files):
                add(here, "", path, DiskFolder(Path(here), frozenset(files)))
            if ARCHIVE in files:
                add_archive(os.path.join(here, ARCHIVE), posixpath.normpath(posixpath.join(path, ARCHIVE)))
    for path, _, folder in sorted(found.values(), key=lambda entry: entry[:2]):
        yield path, folder


def _archived_folders(content: bytes) -> dict[str, ArchivedFolder]:
    folders: dict[str, dict[str, bytes]] = collections.defaultdict(dict)
    for path, file in read_archive(content).items():
        folder, name = posixpath.split(path)
        folders[folder][name] = file
    return {folder: ArchivedFolder(files) for folder, files in folders.items() if _FILES & files.keys()}


def _shown(path: str) -> str:
    return note(path.replace(os.sep, "/"), "path", limit=200)


def _no_number(text: str) -> NoReturn:
    raise RefusedError(f"holds {text}, which is no JSON")


def _object(folder: ResultFolder, file: str) -> tuple[Any, bytes]:
    content = folder.read(file, _LARGEST)
    try:
        found = json.loads(content.decode(), parse_constant=_no_number)
    except UnicodeDecodeError:
        raise RefusedError("is no UTF-8") from None
    except RefusedError:
        raise
    except ValueError:
        raise RefusedError("is no JSON") from None
    return table(found, "it"), content
