"""Checks of untrusted values: type, size and characters."""

from __future__ import annotations

import functools
import math
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["RefusedError", "item", "name", "note", "number", "pairs", "scalar", "table", "whole"]

NAME, NOTE = 100, 600
"""Largest number of characters of a name (longer ones are refused) and of a note (longer ones are cut)."""
_HUGE = 1e30
_MANY = 256


class RefusedError(ValueError):
    """A value is refused; the message has the reason and at most a short, clean part of the value."""


def item(entries: Mapping[str, Any], key: str) -> Any:
    """Get a required entry."""
    if key not in entries:
        raise RefusedError(f"{key} is missing")
    return entries[key]


def table(value: Any, what: str) -> Mapping[str, Any]:
    """Check that a value is a JSON object of plausible size."""
    if not isinstance(value, dict):
        raise RefusedError(f"{what} is no object")
    if len(value) > _MANY:
        raise RefusedError(f"{what} has {len(value)} entries; at most {_MANY} are taken")
    return value


def name(value: Any, what: str, *, empty: bool = False) -> str:
    """Check a name: long names and invisible characters are refused, so that different names look different."""
    if not isinstance(value, str):
        raise RefusedError(f"{what} is no text")
    if len(value) > NAME:
        raise RefusedError(f"{what} has {len(value)} characters; at most {NAME} are taken")
    if not value.isprintable() or value != value.strip() or not (value.isascii() or _visible(value)):
        raise RefusedError(f"{what} holds characters that cannot be seen")
    if not value and not empty:
        raise RefusedError(f"{what} is empty")
    return value


@functools.lru_cache(4096)
def _visible(value: str) -> bool:
    return not any(_hidden(c) for c in value)


def _hidden(char: str) -> bool:
    # Mn and Me: accents are fine once composed, and what is left then can pile up over the lines around it.
    return unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Mn", "Me")


def note(value: Any, what: str, limit: int = NOTE) -> str:
    """Clean free text: one line, no invisible characters, limited length."""
    if not isinstance(value, str):
        raise RefusedError(f"{what} is no text")
    text = value[: 4 * limit]
    if not (text.isascii() and text.isprintable()):
        text = "".join(" " if _hidden(c) else c for c in unicodedata.normalize("NFC", text))
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def number(value: Any, what: str) -> float:
    """Check that a value is a finite number of plausible size."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RefusedError(f"{what} is no number")
    try:
        found = float(value)
    except OverflowError:
        found = math.inf
    if not abs(found) <= _HUGE:  # NaN, too
        raise RefusedError(f"{what} is not a finite number, or beyond {_HUGE:g}")
    return found


def whole(value: Any, what: str, low: int = 0, high: int = 2**53) -> int:
    """Check that a value is an integer between ``low`` and ``high``."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise RefusedError(f"{what} is no whole number from {low} to {high}")
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
    """Entries of an object, with their names checked."""
    for key, entry in table(value, what).items():
        yield name(key, f"a name in {what}"), entry
