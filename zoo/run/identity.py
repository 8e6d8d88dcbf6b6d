"""The facts by which a checkpoint names its run: model, settings and data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zoo.data import Dataset
from zoo.errors import UsageError
from zoo.run.run_folder import RunFolder
from zoo.run.settings import RESULT_NEUTRAL_SETTINGS, RunSettings, differences

__all__ = ["describe_run", "is_checkpoint_of_0_1_0", "refuse_other_run"]


def describe_run(settings: RunSettings, data: Dataset) -> dict[str, Any]:
    """The model, the settings that determine the result, and the SHA-256 of the data, for the facts of a checkpoint."""
    table = {k: v for k, v in settings.to_table().items() if k not in RESULT_NEUTRAL_SETTINGS}
    return {"model": settings.model, "settings": table, "data_sha256": data.digest}


def is_checkpoint_of_0_1_0(facts: Mapping[str, Any]) -> bool:
    """Whether the facts of a checkpoint are those of zoo 0.1.0, which stored the time and the number of steps only."""
    return bool(facts) and "settings" not in facts


def refuse_other_run(folder: RunFolder, settings: RunSettings, data: Dataset) -> None:
    """Refuse the checkpoint of a run with another model, other settings or other data; without one, do nothing.

    A checkpoint of zoo 0.1.0, which does not name its run, is accepted.

    Raises:
        UsageError: If the checkpoint does not belong to this run, or 0.1.0 split its data in another way.
    """
    facts: Mapping[str, Any] = folder.checkpoint_facts() if folder.checkpoint.is_file() else {}
    if is_checkpoint_of_0_1_0(facts):
        if settings.dataset.startswith("folder:") and len(data.train) + len(data.test) < 100:
            raise UsageError(
                f"resume: {folder.path} was begun by zoo 0.1.0, which had fewer test images in a folder of fewer than "
                f"100; start a new run with zoo run --config {folder.config} --out DIR"
            )
        return
    if "settings" not in facts:
        return
    stored = RunSettings.from_table(facts["settings"], str(folder.checkpoint))
    changed = differences(stored, settings)
    if changed:
        raise UsageError(
            f"resume: the checkpoint in {folder.path} is of a run with {'; '.join(changed)}; "
            "restore config.toml, or choose another --out"
        )
    if facts["data_sha256"] != data.digest:
        raise UsageError(
            f"resume: the images of {data.name} have changed since {folder.path} was begun; "
            "restore them, or choose another --out"
        )
