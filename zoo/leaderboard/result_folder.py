"""A folder with one result, on disk or in an archive."""

from __future__ import annotations

import abc
import os
import stat
from collections.abc import Mapping
from pathlib import Path

import attrs

from zoo.leaderboard.untrusted import RefusedError

__all__ = ["ArchivedFolder", "DiskFolder", "ResultFolder", "read_file"]


class ResultFolder(abc.ABC):
    """A folder with a ``result.json`` or a ``failed.json``."""

    @property
    @abc.abstractmethod
    def names(self) -> frozenset[str]:
        """Names of the files in the folder."""

    @abc.abstractmethod
    def read(self, name: str, largest: int) -> bytes:
        """The content of a file.

        Raises:
            RefusedError: If there is no such file, it is not a regular file, or it has more than ``largest`` bytes.
        """


@attrs.frozen
class DiskFolder(ResultFolder):
    """A folder on disk."""

    path: Path
    names: frozenset[str]

    def read(self, name: str, largest: int) -> bytes:
        """The content of a file; see :func:`read_file`."""
        return read_file(self.path / name, largest)


@attrs.frozen
class ArchivedFolder(ResultFolder):
    """A folder in an archive; ``files`` are the contents by file name."""

    files: Mapping[str, bytes] = attrs.field(repr=False)

    @property
    def names(self) -> frozenset[str]:
        """Names of the files in the folder."""
        return frozenset(self.files)

    def read(self, name: str, largest: int) -> bytes:
        """The content of a file."""
        if name not in self.files:
            raise RefusedError("cannot be read: it does not exist")
        return _checked_size(self.files[name], largest)


def read_file(path: Path, largest: int) -> bytes:
    """Read a regular file.

    Raises:
        RefusedError: If the file is a link, which may lead out of its folder, or a special file, does not exist, or has
            more than ``largest`` bytes.
    """
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(handle, "rb") as file:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode) or os.path.islink(path):
                raise RefusedError("it is not a regular file")
            _check_size(status.st_size, largest)
            return _checked_size(file.read(largest + 1), largest)
    except OSError as error:
        what = "it is a link, and links are not followed" if os.path.islink(path) else error.strerror or "unknown error"
        raise RefusedError(f"cannot be read: {what}") from None


def _check_size(size: int, largest: int) -> None:
    if size > largest:
        raise RefusedError(f"it has {size:,} bytes; at most {largest:,} are read")


def _checked_size(content: bytes, largest: int) -> bytes:
    _check_size(len(content), largest)
    return content
