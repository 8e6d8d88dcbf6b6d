"""The data set of a run folder, and a note that says which images of this machine it reads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from zoo.cli.console import echo

if TYPE_CHECKING:
    from zoo.data import Dataset
    from zoo.run.settings import RunSettings

__all__ = ["load_run_data"]


def load_run_data(run: Path, data_dir: Path | None) -> tuple[RunSettings, Dataset]:
    """Load the settings and the data set of a run folder.

    A run folder may come from another person, and its ``config.toml`` may name any path: a note on standard error says
    which folder of this machine is read.

    Args:
        run: The run folder.
        data_dir: The data root; None for that of the run.
    """
    from zoo.run.run_folder import RunFolder
    from zoo.run.train import load_data

    settings = RunFolder(run).settings()
    if settings.dataset.startswith("folder:"):
        echo(f"note: reads the images in {settings.dataset.removeprefix('folder:')}, which {run} names", err=True)
    elif data_dir is None and settings.data_dir:
        echo(f"note: reads {settings.dataset} in {settings.data_dir}, which {run} names", err=True)
    if data_dir is not None:
        settings = attrs.evolve(settings, data_dir=str(data_dir))
    return settings, load_data(settings)
