"""Values from strangers: each is checked for type, size and characters, or refused with the reason."""

from __future__ import annotations

import functools
import math
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["RefusedError", "item", "name", "note", "number", "pairs", "scalar", "table", "whole"]

NAME, NOTE = 100, 600
"""Characters at most in a name, which is refused beyond, and in a note, which is cut."""
_HUGE = 1e30
_MANY = 256


class RefusedError(ValueError):
    """A value that cannot be taken in, and why, in words that hold nothing of it but a short, clean part."""


def item(entries: Mapping[str, Any], key: str) -> Any:
    """The entry, which must be there."""
    if key not in entries:
        raise RefusedError(f"{key} is missing")
    return entries[key]


def table(value: Any, what: str) -> Mapping[str, Any]:
    """An object of JSON, of a size that a person could have meant."""
    if not isinstance(value, dict):
        raise RefusedError(f"{what} is no object")
    if len(value) > _MANY:
        raise RefusedError(f"{what} has {len(value)} entries; at most {_MANY} are taken")
    return value


def name(value: Any, what: str, *, empty: bool = False) -> str:
    """A name: refused, not repaired, where it is long or holds what cannot be seen; no two names may look like one."""
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
    """Free text on one line, without what cannot be seen; cut where it is long."""
    if not isinstance(value, str):
        raise RefusedError(f"{what} is no text")
    text = value[: 4 * limit]
    if not (text.isascii() and text.isprintable()):
        text = "".join(" " if _hidden(c) else c for c in unicodedata.normalize("NFC", text))
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def number(value: Any, what: str) -> float:
    """A finite number of a size that can be added up."""
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
    """A whole number between ``low`` and ``high``."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise RefusedError(f"{what} is no whole number from {low} to {high}")
    return value


def scalar(value: Any, what: str) -> str | float | int | bool | None:
    """An option's value."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return name(value, what, empty=True)
    found = number(value, what)
    return value if isinstance(value, int) else found


def pairs(value: Any, what: str) -> Iterator[tuple[str, Any]]:
    """The entries of an object, with their names checked."""
    for key, entry in table(value, what).items():
        yield name(key, f"a name in {what}"), entry
