"""Memory that data sets may take: its default, and sizes as text."""

from __future__ import annotations

import os
import re

from zoo.errors import UsageError
from zoo.memory import available_memory

__all__ = ["half_of_available", "parse_bytes"]

_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def half_of_available() -> int:
    """Half of the available memory, in bytes, divided by the number of processes of ``torchrun`` on this machine."""
    return available_memory() // 2 // max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def parse_bytes(text: str, name: str) -> int:
    """Parse a size such as ``800MB`` or ``1.5GiB``.

    Args:
        text: A number and a unit: KB, MB, GB, TB, KiB, MiB, GiB, TiB, or none for bytes.
        name: Name of the argument, for errors.

    Raises:
        UsageError: If it is not a size.

    >>> parse_bytes("1.5GiB", "data_memory")
    1610612736
    """
    found = re.fullmatch(r"(\d{1,12}(?:\.\d{1,6})?)\s*(?:([kmgt]?)(i?)b)?", text.strip().lower())
    if found is None or (found[3] and not found[2]):
        raise UsageError(f"{name}: {text!r} is not allowed; must be a size such as 800MB or 2GiB")
    return int(float(found[1]) * (1024 if found[3] else 1000) ** _POWERS[found[2] or ""])
