"""Limits of memory: that of this process, and of the tensors that a block of code may create."""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import torch
from torch.overrides import TorchFunctionMode

__all__ = [
    "AllocationError",
    "AllocationLimit",
    "available_memory",
    "format_bytes",
    "release_free_memory",
    "total_memory",
]


@attrs.frozen
class _Hierarchy:
    """A mounted hierarchy of control groups and the names of its files."""

    root: Path
    controllers: str
    limit: str
    used: str
    cached: tuple[str, str]


_MEMBERSHIP = Path("/proc/self/cgroup")
_HIERARCHIES = (  # versions 2 and 1
    _Hierarchy(Path("/sys/fs/cgroup"), "", "memory.max", "memory.current", ("active_file", "inactive_file")),
    _Hierarchy(
        Path("/sys/fs/cgroup/memory"),
        "memory",
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        ("total_active_file", "total_inactive_file"),
    ),
)


def _groups() -> Iterator[tuple[_Hierarchy, Path]]:
    """Control groups that limit this process: its own and those above it, and the root of each hierarchy.

    A container may see its own group as the root, while its membership names the path outside of it.
    """
    members: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for line in _MEMBERSHIP.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            members |= dict.fromkeys(controllers.split(","), path)
    for hierarchy in _HIERARCHIES:
        group = hierarchy.root / members.get(hierarchy.controllers, "").strip("/")
        while group != hierarchy.root:
            yield hierarchy, group
            group = group.parent
        yield hierarchy, group


def _group_limit(hierarchy: _Hierarchy, group: Path) -> int:
    return int((group / hierarchy.limit).read_text())


def _group_use(hierarchy: _Hierarchy, group: Path) -> int:
    """Bytes in use without the pages of files, which the system takes back when it needs them."""
    facts = dict(line.split(" ", 1) for line in (group / "memory.stat").read_text().splitlines())
    return int((group / hierarchy.used).read_text()) - sum(int(facts[name]) for name in hierarchy.cached)


def total_memory() -> int:
    """Memory that this process may use, in bytes: that of the machine, its control group, or ``ulimit -v``."""
    found = [sys.maxsize]
    with contextlib.suppress(AttributeError, ValueError, OSError):  # no such call on this system
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for hierarchy, group in _groups():
        with contextlib.suppress(OSError, ValueError):  # no control group, or one without a limit
            found.append(_group_limit(hierarchy, group))
    with contextlib.suppress(ImportError):
        import resource

        space, _ = resource.getrlimit(resource.RLIMIT_AS)
        if space != resource.RLIM_INFINITY:
            found.append(space)
    return min(found)


def available_memory() -> int:
    """Memory that is free now, in bytes: that of the machine or of its control group; 4 GiB where it is unknown."""
    free = 2**32
    with contextlib.suppress(OSError, ValueError, IndexError):
        facts = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        free = int(facts["MemAvailable"].split()[0]) * 1024
    for hierarchy, group in _groups():
        with contextlib.suppress(OSError, ValueError, KeyError):
            free = min(free, _group_limit(hierarchy, group) - _group_use(hierarchy, group))
    return max(0, free)


def release_free_memory() -> None:
    """Return memory that glibc's allocator holds free to the system: it grows while batches of several sizes pass."""
    with contextlib.suppress(AttributeError, OSError, TypeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def format_bytes(number: float) -> str:
    """Bytes in the largest unit that keeps them above 1.

    >>> format_bytes(1_500_000), format_bytes(6.4e10)
    ('1.5 MB', '64 GB')
    """
    unit = min(int(math.log(max(1.0, number), 1000)), 6)
    return f"{number / 1000**unit:.3g} {('bytes', 'kB', 'MB', 'GB', 'TB', 'PB', 'EB')[unit]}"


class AllocationError(MemoryError):
    """More memory was requested than an :class:`AllocationLimit` allows.

    Args:
        requested: Bytes requested so far.
        limit: Bytes allowed.
    """

    def __init__(self, requested: int, limit: int) -> None:
        super().__init__(f"{format_bytes(requested)} requested, {format_bytes(limit)} allowed")
        self.requested, self.limit = requested, limit


_FACTORIES = frozenset((torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn))


class AllocationLimit(TorchFunctionMode):
    """Context in which new tensors may take ``limit`` bytes in total; checked before each is allocated.

    Counts tensors that are created by size, as the layers of ``torch.nn`` create their parameters.

    Args:
        limit: Bytes.

    Raises:
        AllocationError: In the context, by a call such as ``torch.empty(size)``.
    """

    # Not a TorchDispatchMode, which would import torch's compiler: seconds.

    def __init__(self, limit: int) -> None:
        super().__init__()
        self.limit, self.requested = limit, 0

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _FACTORIES:
            given = kwargs.get("size", args[0] if args and isinstance(args[0], Sequence) else args)
            size = [n for n in given if isinstance(n, int)]
            dtype = kwargs.get("dtype") or torch.get_default_dtype()
            self.requested += math.prod(size) * dtype.itemsize
            if self.requested > self.limit:
                raise AllocationError(self.requested, self.limit)
        return func(*args, **kwargs)
