"""Archives of results: one ``.tar.xz`` file, read in memory. Nothing of it is written to disk.

An archive is a POSIX ``ustar`` archive of regular files. The reader is stricter than `tarfile` and bounds its time and
memory, since archives may be of unknown origin.
"""

from __future__ import annotations

import io
import lzma
import re
import tarfile
from collections.abc import Mapping

from zoo.leaderboard.untrusted import RefusedError, name

__all__ = ["ARCHIVE", "MAX_BYTES", "SUFFIX", "read_archive", "write_archive"]

SUFFIX = ".tar.xz"
ARCHIVE = f"results{SUFFIX}"
"""File name of an archive that is found below a folder."""
MAX_BYTES = 64 << 20
"""Size of the largest archive that is read."""
_MAX_CONTENT = 256 << 20
_MAX_FILES = 100_000
_MAX_MEMORY = 128 << 20
_BLOCK = 512


def write_archive(files: Mapping[str, bytes]) -> bytes:
    """The content of an archive; equal files give equal bytes.

    Args:
        files: Contents by path, relative and with ``/``.

    Raises:
        RefusedError: If :func:`read_archive` would refuse the archive.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path, content in sorted(files.items()):
            _check_path(path)
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            try:
                archive.addfile(entry, io.BytesIO(content))
            except ValueError:
                raise RefusedError(f"path {path!r} is too long for an archive") from None
    written = lzma.compress(buffer.getvalue(), preset=6)
    read_archive(written)
    return written


def read_archive(content: bytes) -> dict[str, bytes]:
    """The files of an archive by path, relative and with ``/``.

    Raises:
        RefusedError: If the archive is damaged or too large, or contains a link, a special file, a path that leaves the
            archive, or two files of one path.
    """
    data = _decompress(content)
    files: dict[str, bytes] = {}
    at = 0
    while (header := data[at : at + _BLOCK]).strip(b"\0"):
        path, size, is_file = _parse_header(header)
        at += _BLOCK
        if at + size > len(data):
            raise RefusedError("the archive is truncated")
        if is_file:
            if path in files:
                raise RefusedError("two files of the archive have the same path")
            if len(files) == _MAX_FILES:
                raise RefusedError(f"the archive has more than {_MAX_FILES:,} files")
            files[path] = data[at : at + size]
        at += -(-size // _BLOCK) * _BLOCK
    if len(header) < _BLOCK or data[at:].strip(b"\0"):
        raise RefusedError("the archive is truncated, or data follow its end")
    return files


def _decompress(content: bytes) -> bytes:
    if len(content) > MAX_BYTES:
        raise RefusedError(f"the archive has more than {MAX_BYTES:,} bytes")
    decompressor = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MAX_MEMORY)
    try:
        data = decompressor.decompress(content, _MAX_CONTENT + 1)
    except (lzma.LZMAError, MemoryError):
        raise RefusedError("the archive is not a .tar.xz file, or is damaged") from None
    if len(data) > _MAX_CONTENT:
        raise RefusedError(f"the archive has more than {_MAX_CONTENT:,} bytes after decompression")
    if not decompressor.eof or decompressor.unused_data:
        raise RefusedError("the archive is truncated, or data follow its end")
    return data


def _parse_header(header: bytes) -> tuple[str, int, bool]:
    """Path, size and whether the entry is a file; otherwise it is a directory, which has no content."""
    if len(header) < _BLOCK:
        raise RefusedError("the archive is truncated")
    if header[257:265] != b"ustar\x0000":
        raise RefusedError("the archive is not in the ustar format; write it by zoo leaderboard --pack")
    # The checksum is that of a header whose checksum consists of spaces.
    if _octal(header[148:156]) != sum(header) - sum(header[148:156]) + 8 * ord(" "):
        raise RefusedError("a header of the archive is damaged")
    kind, size = header[156:157], _octal(header[124:136])
    if kind not in (b"0", b"\0", b"5") or (kind == b"5" and size):
        raise RefusedError("the archive contains a link or a special file")
    prefix, base = header[345:500].partition(b"\0")[0], header[:100].partition(b"\0")[0]
    try:
        path = (prefix + b"/" + base if prefix else base).decode()
    except UnicodeDecodeError:
        raise RefusedError("a path in the archive is not UTF-8") from None
    is_file = kind != b"5"
    _check_path(path if is_file else path.removesuffix("/"))
    return path, size, is_file


def _octal(field: bytes) -> int:
    digits = field.strip(b" \0")
    if not re.fullmatch(rb"[0-7]{1,12}", digits):
        raise RefusedError("a header of the archive is damaged")
    return int(digits, 8)


def _check_path(path: str) -> None:
    for part in path.split("/"):
        if part in (".", "..") or "\\" in part or ":" in part:
            raise RefusedError("a path in the archive leaves it or is not in its shortest form")
        name(part, "a path in the archive")
