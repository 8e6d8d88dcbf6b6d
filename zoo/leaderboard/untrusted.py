"""Checks untrusted values for type, size and characters."""

from __future__ import annotations

import functools
import math
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["RefusedError", "item", "name", "note", "number", "pairs", "scalar", "table", "whole"]

NAME, NOTE = 100, 600
"""Maximum length of a name, beyond which it is refused, and of a note, beyond which it is truncated."""
_MAX_NUMBER = 1e30
_MAX_ENTRIES = 256


class RefusedError(ValueError):
    """An untrusted value is refused. The message contains at most a short, clean part of it."""


def item(entries: Mapping[str, Any], key: str) -> Any:
    """Return an entry, or raise RefusedError if it is missing."""
    if key not in entries:
        raise RefusedError(f"{key} is missing")
    return entries[key]


def table(value: Any, what: str) -> Mapping[str, Any]:
    """Check a JSON object and its number of entries."""
    if not isinstance(value, dict):
        raise RefusedError(f"{what} is not an object")
    if len(value) > _MAX_ENTRIES:
        raise RefusedError(f"{what} has {len(value)} entries; at most {_MAX_ENTRIES} are allowed")
    return value


def name(value: Any, what: str, *, empty: bool = False) -> str:
    """Check a name. Names are refused, not cleaned, if they are long or contain invisible characters."""
    if not isinstance(value, str):
        raise RefusedError(f"{what} is not text")
    if len(value) > NAME:
        raise RefusedError(f"{what} has {len(value)} characters; at most {NAME} are allowed")
    if not value.isprintable() or value != value.strip() or not (value.isascii() or _visible(value)):
        raise RefusedError(f"{what} contains invisible characters")
    if not value and not empty:
        raise RefusedError(f"{what} is empty")
    return value


@functools.lru_cache(4096)
def _visible(value: str) -> bool:
    return not any(_hidden(c) for c in value)


def _hidden(char: str) -> bool:
    # Mn and Me: accents are allowed if composed; other combining marks can overlap adjacent lines.
    return unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Mn", "Me")


def note(value: Any, what: str, limit: int = NOTE) -> str:
    """Clean free text: one line, without invisible characters, truncated to ``limit`` characters."""
    if not isinstance(value, str):
        raise RefusedError(f"{what} is not text")
    text = value[: 4 * limit]
    if not (text.isascii() and text.isprintable()):
        text = "".join(" " if _hidden(c) else c for c in unicodedata.normalize("NFC", text))
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def number(value: Any, what: str) -> float:
    """Check a number that is finite and small enough for sums."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RefusedError(f"{what} is not a number")
    try:
        found = float(value)
    except OverflowError:
        found = math.inf
    if not abs(found) <= _MAX_NUMBER:  # NaN, too
        raise RefusedError(f"{what} is not a finite number, or beyond {_MAX_NUMBER:g}")
    return found


def number_or_none(value: Any) -> float | None:
    """The value as :func:`number` takes it; None if it is not allowed."""
    try:
        return number(value, "value")
    except RefusedError:
        return None


def whole(value: Any, what: str, low: int = 0, high: int = 2**53) -> int:
    """Check a whole number from ``low`` to ``high``."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise RefusedError(f"{what} is not a whole number from {low} to {high}")
    return value


def scalar(value: Any, what: str) -> str | float | int | bool | None:
    """Check the value of an option."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return name(value, what, empty=True)
    found = number(value, what)
    return value if isinstance(value, int) else found


def pairs(value: Any, what: str) -> Iterator[tuple[str, Any]]:
    """Iterate over the entries of an object and check their names."""
    for key, entry in table(value, what).items():
        yield name(key, f"a name in {what}"), entry
