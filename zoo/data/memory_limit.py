"""Memory that data sets may take: its default, and sizes as text."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

from zoo.errors import UsageError

__all__ = ["half_of_available", "parse_bytes"]

_GROUP_FILES = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def half_of_available() -> int:
    """Half of the memory that is available to this process, in bytes: that of the machine or of its control group.

    Shared equally by the processes that ``torchrun`` starts on this machine. Where it is unknown, 2 GiB.
    """
    free = 2**32
    with contextlib.suppress(OSError, ValueError, IndexError):
        facts = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        free = int(facts["MemAvailable"].split()[0]) * 1024
    for limit, used in _GROUP_FILES:
        with contextlib.suppress(OSError, ValueError):  # no such control group, or no limit
            free = min(free, int(Path(limit).read_text()) - int(Path(used).read_text()))
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
    found = re.fullmatch(r"(\d{1,12}(?:\.\d{1,6})?)\s*(?:([kmgt]?)(i?)b)?", text.strip().lower())
    if found is None or (found[3] and not found[2]):
        raise UsageError(f"{name}: {text!r} is not allowed; must be a size such as 800MB or 2GiB")
    return int(float(found[1]) * (1024 if found[3] else 1000) ** _POWERS[found[2] or ""])
