"""Tracker that logs to the MLflow server or store of ``MLFLOW_TRACKING_URI``."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import zoo

from .tracker import Status, Tracker, flatten, read_run_id

_STATUS = {"finished": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}


class MLflow(Tracker):
    """MLflow: MLFLOW_TRACKING_URI names the server or store, MLFLOW_EXPERIMENT_NAME the experiment (zoo)."""

    name = "mlflow"
    library = "mlflow"
    _client: Any
    _run: str

    def begin(self, settings: Mapping[str, Any], folder: Path, run: str, step: int) -> None:
        from mlflow.tracking import MlflowClient

        self._client = MlflowClient()
        file = folder / "mlflow-run.txt"
        if step and self._continue(read_run_id(file)):
            return
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or "zoo"
        found = self._client.get_experiment_by_name(name)
        experiment = found.experiment_id if found else self._client.create_experiment(name)
        self._run = self._client.create_run(
            experiment, run_name=run, tags={"model": str(settings.get("model", ""))}
        ).info.run_id
        file.write_text(self._run)
        from mlflow.entities import Param

        self._client.log_batch(self._run, params=[Param(k, str(v)) for k, v in flatten(settings).items()])

    def _continue(self, run: str | None) -> bool:
        from mlflow.exceptions import MlflowException

        if run is None:
            return False
        try:
            self._client.update_run(run, status="RUNNING")
        except MlflowException:  # of another server, or deleted: a new run begins
            return False
        self._run = run
        return True

    def log_scalars(self, values: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = round(time.time() * 1000)
        metrics = [Metric(_allowed(name), value, now, step) for name, value in values.items()]
        self._client.log_batch(self._run, metrics=metrics)

    def log_image(self, name: str, path: Path, step: int) -> None:
        self._client.log_artifact(self._run, str(path))

    def end(self, status: Status) -> None:
        self._client.set_terminated(self._run, _STATUS[status])


def _allowed(name: str) -> str:
    """A name without the characters that MLflow refuses, such as parentheses."""
    return re.sub(r"[^\w\-. :/]", "", name)


@zoo.hookimpl
def zoo_trackers() -> Mapping[str, type[zoo.Callback]]:
    return {"mlflow": MLflow}
