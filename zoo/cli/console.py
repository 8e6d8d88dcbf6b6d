"""Output of the commands: consoles, tables and one-line summaries."""

from __future__ import annotations

import inspect
import json
import time
from collections.abc import Callable
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from zoo import terminal

__all__ = [
    "as_json",
    "echo",
    "format_duration",
    "make_console",
    "make_table",
    "print_json",
    "progress_lines",
    "summary_line",
]

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
"""The option of commands whose output other programs read."""


def echo(text: str, *, err: bool = False, nl: bool = True) -> None:
    """Print text to standard output or error, see :func:`zoo.terminal.printable`."""
    click.echo(terminal.printable(text, keep="\n\t"), err=err, nl=nl)


def progress_lines(text: str, every_seconds: float = 10.0) -> Callable[[int, int], None]:
    """Function that prints the progress of long work to standard error, at most every ``every_seconds``.

    Args:
        text: Such as ``"generated {done:,} of {total:,} images"``.
        every_seconds: Seconds before the first line and between two.
    """
    last = time.monotonic()

    def progress(done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= every_seconds:
            last = time.monotonic()
            echo(text.format(done=done, total=total), err=True)

    return progress


def print_json(value: Any) -> None:
    """Print a value as JSON, in ASCII."""
    click.echo(json.dumps(value, indent=2, allow_nan=False))


def make_console() -> Console:
    """Console for standard output: as wide as the terminal, or 200 columns without one."""
    # Without a terminal rich assumes 80 columns and wraps cells, which hides words from grep.
    return terminal.make_console(width=200)


def make_table(*titles: str) -> Table:
    """Table without borders, with a header if titles are given."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", show_header=bool(titles))
    for title in titles:
        table.add_column(title)
    return table


def summary_line(thing: object) -> str:
    """First line of the docstring of an object."""
    return (inspect.getdoc(thing) or "").partition("\n")[0]


def format_duration(seconds: float) -> str:
    """A duration in the largest unit that it reaches.

    >>> [format_duration(s) for s in (4.2, 90, 5400, 2.6e6)]
    ['4.2 s', '1.5 min', '1.5 hours', '30 days']
    """
    for unit, size, limit in (("s", 1, 60), ("min", 60, 3600), ("hours", 3600, 172_800)):
        if seconds < limit:
            return f"{seconds / size:.2g} {unit}"
    return f"{seconds / 86_400:,.0f} days"
