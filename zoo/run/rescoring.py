"""Renews the scores of a finished run from its weights, without training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
import torch
from filelock import FileLock, Timeout

from zoo.data import Dataset
from zoo.errors import ZooError
from zoo.evaluation import EvaluationSettings
from zoo.evaluation.protocol import Protocol
from zoo.run.run_folder import RunFolder
from zoo.run.scoring import Scorer
from zoo.run.settings import RunSettings
from zoo.run.train import choose_device, load_data
from zoo.run.trained import load
from zoo.version import __version__

__all__ = ["rescore"]


def rescore(
    run: str | Path,
    *,
    data_dir: str | Path | None = None,
    device: str = "auto",
    again: bool = False,
    load_dataset: Callable[[RunSettings], Dataset] = load_data,
    note: Callable[[str], None] = lambda text: None,
) -> bool:
    """Score a finished run again from its weights and write the scores into its ``result.json``.

    The entries of the training stay as they are, its date and its cost included. The scores, their protocol and its
    fingerprint are replaced in one write; ``provenance.rescored`` says when and by which versions.

    Args:
        run: The run folder.
        data_dir: Data root; by default that of the run.
        device: ``auto``, ``cpu`` or ``cuda``.
        again: Whether to score a run that has all scores of today's protocol already.
        load_dataset: Loads the data set of a run.
        note: Called with messages.

    Returns:
        Whether the run was scored; False if it has all scores of today's protocol already.

    Raises:
        UsageError: If the folder has no finished run.
        ZooError: If the images are not those that the run was scored on, another process has locked the folder, or the
            file cannot be written.
    """
    folder = RunFolder(Path(run))
    result = folder.load_result()
    settings = folder.settings()
    if data_dir is not None:
        settings = attrs.evolve(settings, data_dir=str(data_dir))
    data = load_dataset(settings)
    scorer = Scorer(settings.extractor, data, note, EvaluationSettings(n=settings.samples))
    if scorer.extractor is None:
        raise ZooError(f"{folder.path} was run with --extractor none; score it by zoo eval RUN --extractor auto")
    if (digest := (result.get("protocol") or {}).get("dataset_digest", data.digest)) != data.digest:
        raise ZooError(
            f"{folder.path} was scored on other images of {data.name}: their digest is {digest[:16]}, "
            f"but that of the images here is {data.digest[:16]}"
        )
    if not again and _is_current(result, scorer):
        return False
    lock = FileLock(folder.path / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ZooError(f"{folder.path} is in use: another process is working on this run") from None
    except OSError as error:
        raise ZooError(f"cannot write to {folder.path}: {error.strerror or error}") from None
    try:
        scores = scorer.score(load(folder.path, device=str(choose_device(device))))
        folder.save_result({**result, **scores, "provenance": _provenance(result)})
    finally:
        lock.release()
    return True


def _provenance(result: Mapping[str, Any]) -> dict[str, Any]:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    rescored = {"zoo": __version__, "torch": torch.__version__, "finished": now}
    return {**(result.get("provenance") or {}), "rescored": rescored}


def _is_current(result: Mapping[str, Any], scorer: Scorer) -> bool:
    """Whether the result has the scores of every selected metric under the protocol of today."""
    try:
        stored = Protocol.from_dict(result.get("protocol") or {})
    except ZooError:
        return False
    if stored != scorer.protocol():
        return False
    scores = result.get("scores") or {}
    return all(
        any(info.matches(name) for name in scores)
        for entry in scorer.settings.selected
        for info in entry.metric.scores
        if info.undefined_name is None
    )
