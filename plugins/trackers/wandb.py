"""Tracker that logs to Weights & Biases, or to the run folder with ``WANDB_MODE=offline``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import zoo

from .tracker import Status, Tracker, read_run_id


class WeightsAndBiases(Tracker):
    """Weights & Biases: WANDB_PROJECT names the project (zoo); WANDB_MODE=offline writes to the run folder only."""

    name = "wandb"
    library = "wandb"
    _run: Any

    def begin(self, settings: Mapping[str, Any], folder: Path, run: str, step: int) -> None:
        import wandb

        file = folder / "wandb-run.txt"
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or "zoo",
            name=run,
            dir=str(folder),
            config=dict(settings),
            id=read_run_id(file) if step else None,
            resume="allow" if step else None,
            reinit="create_new",
            settings=wandb.Settings(console="off", silent=True),
        )
        file.write_text(self._run.id)

    def log_scalars(self, values: Mapping[str, float], step: int) -> None:
        self._run.log(dict(values), step=step)

    def log_image(self, name: str, path: Path, step: int) -> None:
        if path.suffix != ".png":
            return
        import wandb

        self._run.log({name: wandb.Image(str(path))}, step=step)

    def end(self, status: Status) -> None:
        self._run.finish(exit_code=0 if status == "finished" else 1)


@zoo.hookimpl
def zoo_trackers() -> Mapping[str, type[zoo.Callback]]:
    return {"wandb": WeightsAndBiases}
