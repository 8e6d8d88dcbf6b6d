"""Memory that data sets may take: its default, and sizes as text."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

from zoo.errors import UsageError

__all__ = ["half_of_available", "parse_bytes"]

_UNITS = {"": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12, "kib": 2**10, "mib": 2**20, "gib": 2**30} | {
    "tib": 2**40
}


def half_of_available() -> int:
    """Half of the memory that is available to this process, in bytes: that of the machine or of its control group.

    Shared equally by the processes that ``torchrun`` starts on this machine. Where it is unknown, 2 GiB.
    """
    free = 2**32
    with contextlib.suppress(OSError, ValueError, IndexError):
        facts = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        free = int(facts["MemAvailable"].split()[0]) * 1024
    with contextlib.suppress(OSError, ValueError):
        group = Path("/sys/fs/cgroup")
        free = min(free, int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    return max(0, free) // 2 // max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


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
    found = re.fullmatch(r"(\d{1,12}(?:\.\d{1,6})?)\s*([a-z]{0,3})", text.strip().lower())
    if found is None or found[2] not in _UNITS:
        raise UsageError(f"{name}: {text!r} is not allowed; must be a size such as 800MB or 2GiB")
    return int(float(found[1]) * _UNITS[found[2]])
