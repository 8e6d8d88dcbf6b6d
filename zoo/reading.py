"""Reading of files that other people may have written: regular files of a limited size, strict JSON, TOML."""

from __future__ import annotations

import json
import os
import stat
import tomllib
from pathlib import Path
from typing import Any, NoReturn

from zoo.errors import UsageError, ZooError
from zoo.terminal import printable

__all__ = ["MAX_BYTES", "parse_json", "read_bytes", "read_json", "read_toml"]

MAX_BYTES = 4 << 20
"""Largest file of settings or results that is read."""


def read_bytes(path: Path, limit: int = MAX_BYTES) -> bytes:
    """Read a regular file, following links.

    Raises:
        FileNotFoundError: If there is no file.
        ZooError: If it is not a regular file, has more than ``limit`` bytes, or cannot be read.
    """
    try:
        # Without O_NONBLOCK, opening a pipe would wait for somebody to write to it.
        with os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ZooError(f"{path} cannot be read: it is not a regular file")
            content = file.read(limit + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ZooError(f"{path} cannot be read: {error.strerror or error}") from None
    if len(content) > limit:
        raise ZooError(f"{path} cannot be read: it has more than {limit:,} bytes")
    return content


def parse_json(text: str | bytes, what: str) -> Any:
    """Parse JSON without the numbers NaN and Infinity, which JSON does not have.

    Args:
        text: The JSON, in UTF-8 if bytes.
        what: Its source, for errors.

    Raises:
        ZooError: If it is not JSON.
    """

    def refuse(number: str) -> NoReturn:
        raise ValueError(f"{number} is not a number of JSON")

    try:
        return json.loads(text if isinstance(text, str) else text.decode(), parse_constant=refuse)
    except UnicodeDecodeError:
        reason = "it is not UTF-8"
    except RecursionError:
        reason = "it is nested too deeply"
    except ValueError as error:  # also an integer of too many digits
        reason = f"it is not JSON: {printable(str(error))}"
    raise ZooError(f"{what} cannot be read: {reason}")


def read_json(path: Path) -> Any:
    """Read a JSON file; see :func:`read_bytes` and :func:`parse_json`.

    Raises:
        FileNotFoundError: If there is no file.
        ZooError: If it cannot be read or is not JSON.
    """
    return parse_json(read_bytes(path), str(path))


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """Read a TOML file, with or without a byte order mark.

    Args:
        path: The file.
        what: What it is, for errors.

    Raises:
        UsageError: If there is no such file, or it is not TOML.
    """
    try:
        return tomllib.loads(read_bytes(path).decode("utf-8-sig"))
    except FileNotFoundError:
        raise UsageError(f"{what}: no file {path}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{what}: {path} cannot be read: it is not UTF-8") from None
    except RecursionError:
        raise UsageError(f"{what}: {path} cannot be read: it is nested too deeply") from None
    except ZooError as error:
        raise UsageError(f"{what}: {error}") from None
    except ValueError as error:
        raise UsageError(f"{what}: {path} is not TOML: {error}") from None
