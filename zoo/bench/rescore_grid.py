"""``zoo bench --rescore``: scores the finished runs of a benchmark again from their weights."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from zoo.errors import UsageError, ZooError

if TYPE_CHECKING:
    from zoo.data import Dataset
    from zoo.run.settings import RunSettings

__all__ = ["Rescored", "rescore_grid"]


@attrs.frozen
class Rescored:
    """Outcome of scoring one run again.

    Attributes:
        folder: The run folder, relative to the folder of the benchmark.
        outcome: ``scored``, ``current`` (all scores of the current protocol were present) or ``failed``.
        reason: Reason of a failure, in one line.
    """

    folder: str
    outcome: str
    reason: str = ""


def finished_runs(out: Path) -> list[Path]:
    """Find the finished runs of a benchmark: ``OUT/DATASET/MODEL/seedK`` with a ``result.json``."""
    return sorted(path.parent for path in out.glob("*/*/seed*/result.json"))


def rescore_grid(
    out: str | Path,
    *,
    jobs: int | None = None,
    threads: int | None = None,
    device: str = "auto",
    data_dir: str | Path | None = None,
    again: bool = False,
    report: Callable[[Rescored], None] = lambda outcome: None,
) -> list[Rescored]:
    """Score the finished runs of a benchmark again from their weights; see `zoo.run.rescoring.rescore`.

    Each result is replaced atomically, so that an interruption loses at most the runs in progress. Repeat the call to
    resume.

    Args:
        out: The folder of the benchmark.
        jobs: Number of processes; by default one per core.
        threads: Threads per process; by default the cores divided among the processes.
        device: ``auto``, ``cpu`` or ``cuda``.
        data_dir: Data root; by default that of the runs, or ``$ZOO_DATA``.
        again: Whether to score runs that already have all scores of the current protocol.
        report: Called with the outcome of each run.

    Returns:
        The outcomes, in the order of the folders.

    Raises:
        UsageError: If there is no finished run.
    """
    out = Path(out)
    folders = finished_runs(out)
    if not folders:
        raise UsageError(f"out: {out} contains no finished run of zoo bench (OUT/DATASET/MODEL/seedK/result.json)")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    jobs = min(jobs or cores, len(folders))
    threads = threads or max(1, cores // jobs)
    return list(_outcomes(out, folders, jobs, threads, device, data_dir, again, report))


def _outcomes(
    out: Path,
    folders: list[Path],
    jobs: int,
    threads: int,
    device: str,
    data_dir: str | Path | None,
    again: bool,
    report: Callable[[Rescored], None],
) -> Iterator[Rescored]:
    data = None if data_dir is None else os.path.abspath(Path(data_dir).expanduser())
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(jobs, context, _set_threads, (threads,)) as pool:
        futures = [pool.submit(_rescore, str(folder), device, data, again) for folder in folders]
        names = {future: str(folder.relative_to(out)) for future, folder in zip(futures, folders, strict=True)}
        found = {}
        try:
            for future in concurrent.futures.as_completed(futures):
                outcome, reason = future.result()
                found[future] = Rescored(names[future], outcome, reason)
                report(found[future])
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    yield from (found[future] for future in futures)


def _set_threads(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)


def _rescore(folder: str, device: str, data_dir: str | None, again: bool) -> tuple[str, str]:
    from zoo.run.rescoring import rescore

    try:
        scored = rescore(folder, data_dir=data_dir, device=device, again=again, load_dataset=_load_once)
    except ZooError as error:
        return "failed", str(error)
    except Exception as error:  # a plugin may raise anything; the other runs are still scored
        return "failed", f"{type(error).__name__}: {' '.join(str(error).split())}"
    return ("scored" if scored else "current"), ""


def _load_once(settings: RunSettings) -> Dataset:
    """Load a data set, or return it if the last call loaded the same one."""
    given = (settings.dataset, settings.data_dir, settings.image_size, settings.crop, settings.channels)
    if given not in _LOADED:
        from zoo.run.train import load_data

        _LOADED.clear()  # keep one only: runs are ordered by data set
        _LOADED[given] = load_data(settings)
    return _LOADED[given]


_LOADED: dict[tuple[object, ...], Dataset] = {}
