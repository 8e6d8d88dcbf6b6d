"""Format of numbers, the same in all formats of the leaderboard."""

from __future__ import annotations

import math

from zoo.leaderboard.intervals import Summary

__all__ = ["figure", "in_places", "plus_minus", "share"]


def figure(value: float | None) -> str:
    """Format a number with four digits; None is n/a.

    >>> figure(0.0123456), figure(485.12), figure(12345.6), figure(None)
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
    """Format mean and half-width to the second digit of the half-width; only the mean without an interval.

    >>> plus_minus(Summary(5, 11.0349, 0.25, 0.3104))
    '11.03 ± 0.31'
    """
    if found is None:
        return "n/a"
    if not found.half or max(abs(found.mean), found.half) >= 1e9 or found.half < 1e-6:
        return figure(found.mean) + (f" ± {figure(found.half)}" if found.half is not None else "")
    digits = max(0, 1 - math.floor(math.log10(found.half)))
    return f"{found.mean:,.{digits}f} ± {found.half:,.{digits}f}".replace("-", "−")


def share(part: tuple[int, int]) -> str:
    """Format a share as ``1/5``; n/a for a total of 0.

    >>> share((1, 5)), share((0, 0))
    ('1/5', 'n/a')
    """
    return f"{part[0]}/{part[1]}" if part[1] else "n/a"


def in_places(span: tuple[int, int]) -> str:
    """A place, or the places that a row shares with others.

    >>> in_places((3, 3)), in_places((1, 4))
    ('place 3', 'places 1 to 4')
    """
    return f"place {span[0]}" if span[0] == span[1] else f"places {span[0]} to {span[1]}"
