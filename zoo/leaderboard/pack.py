"""Packs results into one archive that can be committed beside the tables made from it."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Sequence
from pathlib import Path

from zoo.compatibility import picture_file
from zoo.errors import UsageError
from zoo.leaderboard.archive import write_archive
from zoo.leaderboard.folders import PICTURES, read_all
from zoo.leaderboard.ranking import build
from zoo.leaderboard.result_folder import ResultFolder
from zoo.leaderboard.results import Run
from zoo.leaderboard.untrusted import RefusedError

__all__ = ["pack"]

_MAX_POINTS = 40
_MAX_BYTES = 8 << 20


def pack(paths: Sequence[Path]) -> bytes:
    """The content of an archive of all results below the paths; equal results give equal bytes.

    It contains each ``result.json`` or ``failed.json`` unchanged, about 40 points of the training curves, and the
    images of the runs whose images the page shows.

    Args:
        paths: Folders or archives, as for `zoo.leaderboard.build`.

    Raises:
        UsageError: If two results have the same path, or a path is not allowed in an archive.
    """
    shown = {(row.median.path, row.median.digest) for g in build(paths).groups for row in g.rows if row.median}
    files: dict[str, bytes] = {}
    runs, failures, _ = read_all(paths)
    for result in (*runs, *failures):
        finished = isinstance(result, Run)
        names = ["result.json" if finished else "failed.json", "metrics.jsonl"]
        if finished and (result.path, result.digest) in shown:
            names += [picture_file(name, result.folder.names) for name in PICTURES]
        for name in names:
            path = posixpath.normpath(posixpath.join(result.path, name))
            if path in files:
                raise UsageError(f"DIR: two results have the path {result.path!r}; pack the folder above both")
            if (content := _content(result.folder, name)) is not None:
                files[path] = content
    try:
        return write_archive(files)
    except RefusedError as error:
        raise UsageError(f"DIR: the results cannot be packed: {error}") from None


def _content(folder: ResultFolder, name: str) -> bytes | None:
    try:
        content = folder.read(name, _MAX_BYTES)
    except RefusedError:
        return None
    return _thin_out(content) if name == "metrics.jsonl" else content


def _thin_out(content: bytes) -> bytes:
    """About 40 lines of a ``metrics.jsonl``, the last one included, with the entries that a curve shows."""
    lines = content.decode("utf-8", errors="replace").splitlines()
    step = max(1, -(-len(lines) // _MAX_POINTS))
    kept = []
    for text in lines[::-1][::step][::-1]:
        try:
            line = json.loads(text)
            kept.append(json.dumps({key: line[key] for key in ("step", "images", "terms")}) + "\n")
        except (ValueError, TypeError, LookupError, RecursionError):
            continue  # the page skips invalid lines too
    return "".join(kept).encode()
