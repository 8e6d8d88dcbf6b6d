"""Formats numbers, in the same way for all output formats."""

from __future__ import annotations

import math

from zoo.leaderboard.intervals import Summary

__all__ = ["format_number", "format_places", "plus_minus", "share"]


def format_number(value: float | None) -> str:
    """Format a number with four digits; n/a for None.

    >>> format_number(0.0123456), format_number(485.12), format_number(12345.6), format_number(None)
    ('0.01235', '485.1', '12,346', 'n/a')
    """
    if value is None:
        return "n/a"
    if value == 0:
        return "0"
    size = math.floor(math.log10(abs(value)))
    if not -5 < size < 9:
        return f"{value:.3g}"
    digits = 0 if value == int(value) else max(0, 3 - size)
    return f"{value:,.{digits}f}".replace("-", "−")


def plus_minus(found: Summary | None) -> str:
    """Format mean and half-width to the second digit of the half-width; the mean alone without an interval.

    >>> plus_minus(Summary(5, 11.0349, 0.25, 0.3104))
    '11.03 ± 0.31'
    """
    if found is None:
        return "n/a"
    if not found.half or max(abs(found.mean), found.half) >= 1e9 or found.half < 1e-6:
        return format_number(found.mean) + (f" ± {format_number(found.half)}" if found.half is not None else "")
    digits = max(0, 1 - math.floor(math.log10(found.half)))
    return f"{found.mean:,.{digits}f} ± {found.half:,.{digits}f}".replace("-", "−")


def share(part: tuple[int, int]) -> str:
    """Format a count of a total, such as ``1/5``; n/a for a total of zero.

    >>> share((1, 5)), share((0, 0))
    ('1/5', 'n/a')
    """
    return f"{part[0]}/{part[1]}" if part[1] else "n/a"


def format_places(span: tuple[int, int]) -> str:
    """Format a place or a range of places.

    >>> format_places((3, 3)), format_places((1, 4))
    ('place 3', 'places 1 to 4')
    """
    return f"place {span[0]}" if span[0] == span[1] else f"places {span[0]} to {span[1]}"
