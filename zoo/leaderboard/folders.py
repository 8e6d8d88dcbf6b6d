"""Finds results: folders on disk and in archives with a ``result.json`` or a ``failed.json``."""

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
"""Names of the images of a run that a page shows; no other image is opened."""
_MAX_BYTES = 4 << 20
_FILES = frozenset({"result.json", "failed.json"})


@attrs.frozen(order=True)
class LeftOut:
    """A result excluded from all tables, and the reason."""

    path: str
    reason: str
    kind: str
    """``unreadable``, ``duplicate``, ``conflict`` or ``unplaced``."""
    digest: str = ""


def read_all(paths: Sequence[Path]) -> tuple[list[Run], list[FailedResult], list[LeftOut]]:
    """Read all results below the folders and in the archives.

    Returns:
        Finished runs, failed runs, and refused results with the reason.
    """
    runs: list[Run] = []
    failures: list[FailedResult] = []
    left: list[LeftOut] = []
    collecting = gc.isenabled()
    gc.disable()  # all objects are kept; garbage collection would take a quarter of the time
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
            found, content = _read_object(folder, file)
            if file == "result.json":
                pictures = frozenset(p for p in PICTURES if picture_file(p, folder.names) in folder.names)
                runs.append(read_result(found, content, path, folder, pictures))
            else:
                failures.append(read_failure(found, content, path, folder))
        except (RefusedError, RecursionError) as error:
            reason = str(error) if isinstance(error, RefusedError) else "is nested too deeply"
            left.append(LeftOut(path, f"{file}: {reason}", "unreadable"))


def _find(paths: Sequence[Path], left: list[LeftOut]) -> Iterator[tuple[str, ResultFolder]]:
    # A folder found twice, below DIR and below DIR/a, is read once, with its path relative to the outermost.
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
            add(file, inside, _clean_path(posixpath.normpath(posixpath.join(path, inside))), folder)

    for root in paths:
        top = os.path.realpath(root)
        if os.path.isfile(top):
            add_archive(top, "")
            continue
        for here, folders, files in os.walk(top):  # links are not followed: they may lead out of the folder
            folders.sort()
            path = _clean_path(os.path.relpath(here, top))
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


def _clean_path(path: str) -> str:
    return note(path.replace(os.sep, "/"), "path", limit=200)


def _refuse_constant(text: str) -> NoReturn:
    raise RefusedError(f"contains {text}, which is not JSON")


def _read_object(folder: ResultFolder, file: str) -> tuple[Any, bytes]:
    content = folder.read(file, _MAX_BYTES)
    try:
        found = json.loads(content.decode(), parse_constant=_refuse_constant)
    except UnicodeDecodeError:
        raise RefusedError("is not UTF-8") from None
    except RefusedError:
        raise
    except ValueError:
        raise RefusedError("is not JSON") from None
    return table(found, "it"), content
