"""What the machine has: processor cores that this process may use, and GPUs."""

from __future__ import annotations

import math
import os
from pathlib import Path

__all__ = ["cores", "gpus"]


def cores() -> int:
    """Physical cores that this process may use: within its affinity, and within its container's share."""
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    siblings = set()
    for cpu in allowed:
        try:
            siblings.add(Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text())
        except OSError:
            siblings.add(str(cpu))
    return max(1, min(len(siblings), _share()))


def _share() -> int:
    # A container of two processors' time on a machine of 64 has two cores, whatever it sees.
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return 10**6 if quota == "max" else max(1, math.ceil(int(quota) / int(period)))
    except (OSError, ValueError):
        return 10**6


def gpus() -> list[str]:
    """The GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` names them; none is an empty list."""
    import torch

    count = torch.cuda.device_count()
    named = [part for part in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if part]
    return named[:count] if named else [str(i) for i in range(count)]
