"""CPU cores and GPUs that are available to this process."""

from __future__ import annotations

import math
import os
from pathlib import Path

__all__ = ["cores", "gpus"]


def cores() -> int:
    """Number of available physical cores, limited by the CPU affinity and the quota of the container."""
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    siblings = set()
    for cpu in allowed:
        try:
            siblings.add(Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text())
        except OSError:
            siblings.add(str(cpu))
    return max(1, min(len(siblings), _quota()))


def _quota() -> int:
    # A container with a quota of 2 CPUs may see all 64 of the machine.
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return 10**6 if quota == "max" else max(1, math.ceil(int(quota) / int(period)))
    except (OSError, ValueError):
        return 10**6


def gpus() -> list[str]:
    """Available GPUs, as in ``CUDA_VISIBLE_DEVICES``."""
    import torch

    count = torch.cuda.device_count()
    named = [part for part in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if part]
    return named[:count] if named else [str(i) for i in range(count)]
