"""Atomic writing of files: the target is the old file or the whole new one, never a part."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from zoo.errors import ZooError

__all__ = ["append", "is_temporary", "open_atomic", "refuse_special", "write_atomically"]


@contextlib.contextmanager
def open_atomic(path: Path, *, sync: bool = True) -> Iterator[BinaryIO]:
    """Open a binary file for writing that replaces ``path`` when the context ends without an exception.

    The content is written to a hidden temporary file in the same folder, then renamed.

    Args:
        path: The target; its folder must exist.
        sync: Write through to the disk before and after the rename, so that a power cut cannot lose the old and the
            new content; False for files that can be computed again.

    Raises:
        OSError: If the file cannot be written, or ``path`` is a symbolic link, a folder or a device.
    """
    refuse_special(path)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=_prefix(path.name), suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            yield cast(BinaryIO, file)
            file.flush()
            if sync:
                os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    if sync:
        _sync_folder(path.parent)


def write_atomically(path: Path, *parts: bytes | memoryview) -> None:
    """Replace the content of a file by the parts, in their order; see :func:`open_atomic`.

    Raises:
        ZooError: If the file cannot be written.
    """
    try:
        with open_atomic(path) as file:
            for part in parts:
                file.write(part)
    except OSError as error:
        raise ZooError(f"cannot write {path}: {error.strerror or error}; what was there before is untouched") from error


def append(path: Path, content: bytes) -> None:
    """Append to a regular file, which is created if there is none.

    Raises:
        ZooError: If the file cannot be written, or ``path`` is a symbolic link, a folder or a device.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    try:
        refuse_special(path)
        with os.fdopen(os.open(path, flags, 0o644), "ab") as file:
            file.write(content)
    except OSError as error:
        raise ZooError(f"cannot write {path}: {error.strerror or error}") from error


def refuse_special(path: Path) -> None:
    """Raise an ``OSError`` if ``path`` exists and is not a regular file."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(mode):
        raise OSError(f"it is {'a symbolic link' if stat.S_ISLNK(mode) else 'not a regular file'}")


def is_temporary(name: str, target: str) -> bool:
    """Whether a file called ``name`` is a temporary file that an interrupted write of ``target`` left.

    >>> is_temporary(".config.toml.x1y2.tmp", "config.toml")
    True
    """
    return name.startswith(_prefix(target)) and name.endswith(".tmp")


def _prefix(name: str) -> str:
    return f".{name.lstrip('.')}."


def _sync_folder(folder: Path) -> None:
    # A rename survives a power cut once its folder is on disk; not every file system can sync a folder.
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
