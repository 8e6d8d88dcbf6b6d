"""Executors by name: processes of this machine, a Ray cluster, SLURM.

A new executor is a module beside :mod:`~zoo.bench.executors.local` and an entry here. No module of this package imports
the package itself.
"""

from __future__ import annotations

from pathlib import Path

from zoo.bench.executors.executor import Executor, Resources
from zoo.errors import UsageError

__all__ = ["EXECUTORS", "Executor", "Resources", "create_executor"]

EXECUTORS = ("local", "ray", "submitit")
"""Names accepted by :func:`create_executor` and by ``zoo bench --executor``."""


def create_executor(name: str, resources: Resources, out: Path) -> Executor:
    """Create the executor called ``name``.

    Args:
        name: One of :data:`EXECUTORS`.
        resources: Number of jobs at once, threads, device, share of a GPU.
        out: Folder of the benchmark.

    Raises:
        UsageError: If the name is unknown, the executor's package is missing, or the resources are not available.
    """
    if name == "local":
        from zoo.bench.executors.local import LocalExecutor

        return LocalExecutor(resources)
    if name == "ray":
        from zoo.bench.executors.ray import RayExecutor

        return RayExecutor(resources)
    if name == "submitit":
        from zoo.bench.executors.slurm import SlurmExecutor

        return SlurmExecutor(resources, out)
    raise UsageError(f"executor: {name!r} is not allowed; must be one of {', '.join(EXECUTORS)}")
