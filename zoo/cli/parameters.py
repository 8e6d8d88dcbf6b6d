"""Types of command-line parameters that are checked before any work: paths, and numbers of images."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from zoo.errors import UsageError

__all__ = ["FilePath", "check_memory", "check_picture"]

_NAME_BYTES = 255  # of Linux and macOS file systems
_PICTURE_PIXELS = 100_000_000
_ENLARGED = 56 + 2  # pixels of a tile in a grid, its gap included


class FilePath(click.Path):
    """A path that a file system can hold: not empty, and no name longer than 255 bytes."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        argument = param.opts[0].lstrip("-").replace("-", "_") if param is not None else "path"
        if not str(value):
            raise UsageError(f"{argument}: '' is not allowed; must be a path")
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        for name in path.parts:
            if (length := len(os.fsencode(name))) > _NAME_BYTES:
                raise UsageError(
                    f"{argument}: {name[:20]!r}… is not allowed; a name has at most {_NAME_BYTES} bytes, not {length}"
                )
        return path


def check_picture(argument: str, value: int, rows: int, columns: int, shape: tuple[int, int, int], hint: str) -> None:
    """Refuse a grid of images that no program could show.

    Args:
        argument: Name of the argument to blame.
        value: Its value.
        rows: Rows of images.
        columns: Columns of images.
        shape: (C, H, W) of one image.
        hint: The remedy.
    """
    _, height, width = shape
    factor = max(1, round((_ENLARGED - 2) / height))
    pixels = rows * (height * factor + 2) * columns * (width * factor + 2)
    if pixels > _PICTURE_PIXELS:
        raise UsageError(
            f"{argument}: {value:,} is not allowed; a picture of {rows:,} × {columns:,} images would have "
            f"{pixels:.2g} pixels, at most {_PICTURE_PIXELS:,} are drawn; {hint}"
        )


def check_memory(argument: str, value: int, bytes_each: int, hint: str) -> None:
    """Refuse a number of images that half of the memory cannot hold.

    Args:
        argument: Name of the argument to blame.
        value: Its value, the number of images.
        bytes_each: Bytes that one image takes.
        hint: The remedy.
    """
    from zoo.memory import format_bytes, total_memory

    memory = total_memory() // 2
    if value * bytes_each > memory:
        raise UsageError(
            f"{argument}: {value:,} is not allowed; so many images take {format_bytes(value * bytes_each)} of "
            f"memory; {format_bytes(memory)} are allowed on this machine, for {memory // bytes_each:,} images; {hint}"
        )
