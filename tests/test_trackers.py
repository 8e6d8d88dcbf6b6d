"""Trackers: what TensorBoard, MLflow and Weights & Biases hold after a run that stopped and was resumed, read back."""

from __future__ import annotations

import contextlib
import json
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import mlflow
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from wandb.proto import wandb_internal_pb2
from zoo_plugins.trackers.mlflow import MLflow
from zoo_plugins.trackers.tensorboard import TensorBoard
from zoo_plugins.trackers.tracker import read_run_id

import zoo
from zoo.registry import registry

SMALL = {"family": "mlp", "width": 2, "epochs": 1, "checkpoint_seconds": 0.0}
TRACKERS = "tensorboard,mlflow,wandb"


class Stop(zoo.Callback):
    """Raises in the step of a line, after the checkpoint of the step before."""

    def __init__(self, step: int) -> None:
        self.step = step

    def step_logged(self, step: int, *_: Any) -> None:
        if step == self.step:
            raise RuntimeError("pulled the plug")


@contextlib.contextmanager
def clients_offline(factory: pytest.TempPathFactory, cache: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_CACHE", str(cache))
        patch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        patch.setenv("MLFLOW_TRACKING_URI", f"file:{factory.getbasetemp() / 'mlruns'}")
        patch.setenv("MLFLOW_EXPERIMENT_NAME", "digits")
        patch.setenv("WANDB_MODE", "offline")
        yield


@pytest.fixture(autouse=True)
def offline(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Iterator[None]:
    with clients_offline(tmp_path_factory, cache):
        yield


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """The folder of a run that failed in step 12 and was resumed, with all three trackers."""
    folder = tmp_path_factory.mktemp("tracked") / "run"
    with clients_offline(tmp_path_factory, cache):
        with pytest.raises(RuntimeError, match="pulled the plug"):
            zoo.train("vae", out=folder, tracker=TRACKERS, callbacks=[Stop(12)], **SMALL)
        run = only_run(mlflow.MlflowClient())
        assert run.info.status == "FAILED"
        zoo.train("vae", out=folder, resume=True)
    return folder


def only_run(client: Any) -> Any:
    experiment = client.get_experiment_by_name("digits")
    (run,) = client.search_runs([experiment.experiment_id])
    return run


def lines(folder: Path) -> list[Mapping[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_the_run_stores_its_trackers_but_its_result_does_not_depend_on_them(tracked: Path) -> None:
    assert 'tracker = "tensorboard,mlflow,wandb"' in (tracked / "config.toml").read_text()
    assert "tracker" not in json.loads((tracked / "result.json").read_text())["settings"]


def test_tensorboard_holds_each_logged_step_once(tracked: Path) -> None:
    events = EventAccumulator(str(tracked / "trackers" / "tensorboard"))
    events.Reload()
    logged = lines(tracked)
    found = [(e.step, e.value) for e in events.Scalars("terms/nll")]
    assert found == [(line["step"], pytest.approx(line["terms"]["nll"], rel=1e-6)) for line in logged]
    norms = [(e.step, e.value) for e in events.Scalars("gradients/encoder+decoder")]
    assert norms[-1] == (logged[-1]["step"], pytest.approx(logged[-1]["gradients"]["encoder+decoder"], rel=1e-6))
    scores = {k: v for k, v in json.loads((tracked / "result.json").read_text())["scores"].items() if v is not None}
    assert {tag for tag in events.Tags()["scalars"] if tag.startswith("scores/")} == {f"scores/{k}" for k in scores}
    assert {"samples", "curves"} <= set(events.Tags()["images"])
    assert b"options.latent" in events.Tensors("settings/text_summary")[0].tensor_proto.string_val[0]


@pytest.mark.usefixtures("offline")
def test_mlflow_has_one_run_with_parameters_metrics_and_pictures(tracked: Path) -> None:
    client = mlflow.MlflowClient()
    run = only_run(client)
    assert (run.info.status, run.info.run_name) == ("FINISHED", "run")
    assert run.data.params["options.latent"] == "16"
    assert run.data.params["seed"] == "0"
    history = client.get_metric_history(run.info.run_id, "terms/nll")
    assert {(m.step, m.value) for m in history} == {(line["step"], line["terms"]["nll"]) for line in lines(tracked)}
    scores = json.loads((tracked / "result.json").read_text())["scores"]
    assert run.data.metrics["scores/FD-classifier"] == pytest.approx(scores["FD-classifier"])
    assert "scores/FD-autoencoder second opinion" in run.data.metrics  # without parentheses, which MLflow refuses
    assert "samples.png" in {artifact.path for artifact in client.list_artifacts(run.info.run_id)}


def records(path: Path) -> Iterator[Any]:
    """Records of a file of wandb: the log format of LevelDB after seven bytes."""
    data, at, part = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        _, size, kind = struct.unpack("<IHB", data[at : at + 7])
        part += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # whole, or the last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(part)
            yield record
            part = b""


def test_wandb_continues_the_same_run(tracked: Path) -> None:
    files = sorted((tracked / "trackers" / "wandb").glob("offline-run-*/*.wandb"))
    found = [record for file in files for record in records(file)]
    ids = {record.run.run_id for record in found if record.WhichOneof("record_type") == "run"}
    assert ids == {(tracked / "trackers" / "wandb-run.txt").read_text()}
    values: dict[int, float] = {}
    for record in found:
        if record.WhichOneof("record_type") == "history":
            items = {"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in record.history.item}
            if "terms/nll" in items:
                values[items["_step"]] = items["terms/nll"]
    assert values == {line["step"]: pytest.approx(line["terms"]["nll"]) for line in lines(tracked)}
    config = {i.key: i.value_json for r in found if r.WhichOneof("record_type") == "run" for i in r.run.config.update}
    assert json.loads(config["options"])["latent"] == 16


def test_libraries_are_imported_only_when_a_run_is_tracked() -> None:
    code = (
        "import sys; from zoo.registry import registry; print(sorted(registry().trackers)); "
        "print({'mlflow', 'wandb', 'tensorboard', 'torch.utils.tensorboard'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["['mlflow', 'tensorboard', 'wandb']", "set()"]


def test_a_missing_library_and_an_unknown_tracker_are_told_before_training(
    tmp_path: Path, cli: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    cli("run", "vae", "--out", out, "--tracker", "mlflow", "--tracker", "tensorbord").refused(
        2, "unknown tracker 'tensorbord'. Did you mean 'tensorboard'?"
    )
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wandb").mkdir()  # which offline runs leave behind: a folder is no installed library
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    done = cli("run", "vae", "--out", out, "--tracker", "wandb")
    done.refused(2, "tracker: wandb is not installed; pip install 'latent-zoo[wandb]'")
    assert not out.exists()
    assert "mlflow" in cli("list", "trackers").out


def test_a_tracker_that_fails_is_told_once_and_the_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tracker = TensorBoard()
    tracker.started({"seed": 0}, tmp_path, 100, 0)
    monkeypatch.setattr(tracker, "log_scalars", lambda *_: 1 / 0)
    with pytest.warns(UserWarning, match="tracker: tensorboard: division by zero; the run continues without it"):
        tracker.step_logged(1, 64, 0.1, {"nll": 1.0}, {})
    tracker.step_logged(2, 128, 0.2, {"nll": 1.0}, {})
    tracker.stopped(KeyboardInterrupt())


def test_a_tracker_that_cannot_start_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nonsense://here")
    with pytest.raises(zoo.ZooError, match=r"^tracker: mlflow cannot start: [^\n]+$"):
        MLflow().started({"seed": 0}, tmp_path, 100, 0)


def test_an_interrupted_run_is_killed_in_mlflow(tmp_path: Path) -> None:
    tracker = MLflow()
    tracker.started({"seed": 0}, tmp_path, 100, 0)
    tracker.stopped(KeyboardInterrupt())
    run = (tmp_path / "trackers" / "mlflow-run.txt").read_text()
    assert mlflow.MlflowClient().get_run(run).info.status == "KILLED"
    mlflow.MlflowClient().delete_run(run)


def test_files_of_a_received_run_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "trackers").mkdir()
    (tmp_path / "trackers" / "tensorboard").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(zoo.UsageError, match="tensorboard is a symbolic link; remove it"):
        TensorBoard().started({}, tmp_path, 100, 0)
    file = tmp_path / "id.txt"
    for text in ("../../x", "a" * 200, "a b", ""):
        file.write_text(text)
        assert read_run_id(file) is None
    file.write_text("abc-12\n")
    assert read_run_id(file) == "abc-12"


def test_only_callbacks_are_trackers() -> None:
    from zoo.registry import Plugin, Registry

    class Module:
        @staticmethod
        @zoo.hookimpl
        def zoo_trackers() -> Mapping[str, Any]:
            return {"bad": dict, "good": zoo.Callback}

    found = Registry([])
    found.add(Module, Plugin("p", "package", "1"))
    assert list(found.trackers) == ["good"]
    assert [f.reason for f in found.failures] == ["tracker 'bad': not a subclass of zoo.Callback"]
    assert set(registry().trackers) == {"tensorboard", "mlflow", "wandb"}
