"""Output to terminals: text from files is shown without control characters, and a closed pipe ends no run."""

from __future__ import annotations

import contextlib
import os
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from typing import IO, TYPE_CHECKING, Any, cast

import attrs

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["HIDDEN_CATEGORIES", "count", "make_console", "open_standard_streams", "printable", "tolerant_output"]

HIDDEN_CATEGORIES = frozenset(("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"))
"""Unicode categories of characters that a terminal does not show as they are: control characters and escape
sequences, bidirectional overrides, zero-width characters, surrogates, line separators."""


def printable(text: str, *, keep: str = "") -> str:
    r"""Replace every character that a terminal might obey instead of showing it by its escape.

    All text that a command prints or logs passes through this function, because names, settings and results come from
    files of other people.

    Args:
        text: Any text.
        keep: Control characters to keep, such as a line feed.

    >>> printable("seed\x1b[2J 0\u202e")
    'seed\\x1b[2J 0\\u202e'
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        c if c in keep or unicodedata.category(c) not in HIDDEN_CATEGORIES else ascii(c)[1:-1]
        for c in unicodedata.normalize("NFC", text)
    )


def count(number: int, noun: str, plural: str | None = None) -> str:
    """A number with its noun in the singular or plural.

    >>> count(1, "epoch"), count(60_000, "image"), count(0, "class", "classes")
    ('1 epoch', '60,000 images', '0 classes')
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def make_console(*, width: int | None = None) -> Console:
    """A rich console for standard output that prints only :func:`printable` text.

    Args:
        width: Number of columns if standard output is not a terminal; rich assumes 80.
    """
    from rich import console, segment

    class PrintableConsole(console.Console):
        # Every renderable, nested ones included, is turned into segments here.
        def render(self, *args: Any, **kwargs: Any) -> Iterable[segment.Segment]:
            for part in super().render(*args, **kwargs):
                if part.control:  # cursor movements of rich itself; text cannot produce them
                    yield part
                else:
                    yield segment.Segment(printable(part.text, keep="\n"), part.style)

    found = PrintableConsole(highlight=False)
    return found if found.is_terminal or width is None else PrintableConsole(highlight=False, width=width)


def open_standard_streams() -> None:
    """Connect closed standard streams to the null device, so that no file gets their numbers."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number


class _TolerantStream:
    """A text stream that stops writing after the first error and keeps it."""

    def __init__(self, stream: IO[str]) -> None:
        self.stream = stream
        self.error: OSError | None = None

    def write(self, text: str) -> int:
        with self._catching():
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._catching():
            self.stream.flush()

    @contextlib.contextmanager
    def _catching(self) -> Iterator[None]:
        if self.error is None:
            try:
                yield
            except OSError as error:
                self.error = error
                discard_output(self.stream)
        else:
            with contextlib.suppress(OSError):
                yield

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def discard_output(stream: IO[str]) -> None:
    """Connect a stream to the null device: what it still buffers would fail again when Python exits."""
    with contextlib.suppress(OSError, ValueError):  # a stream without a file
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


@attrs.define
class OutputState:
    """State of standard output in :func:`tolerant_output`; ``error`` is the first one, None without any."""

    error: OSError | None = None


@contextlib.contextmanager
def tolerant_output() -> Iterator[OutputState]:
    """Context in which printing never fails: a closed pipe or a full disk must not cost a training run.

    After the first error nothing more is written. At the end of the context the state has that of standard output.
    """
    streams = sys.stdout, sys.stderr
    replaced = [None if stream is None else _TolerantStream(stream) for stream in streams]
    sys.stdout, sys.stderr = (cast(Any, new or old) for new, old in zip(replaced, streams, strict=True))
    state = OutputState()
    try:
        yield state
    finally:
        for stream in replaced:
            if stream is not None:
                stream.flush()
        sys.stdout, sys.stderr = streams
        state.error = replaced[0].error if replaced[0] is not None else None
