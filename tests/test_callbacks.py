"""Callbacks of a training run: their arguments, and callbacks from callers, plugins and other packages."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from conftest import SMALL
from test_plugin_commands import install

import zoo
from zoo.callbacks import CallbackList
from zoo.registry import Plugin, Registry

pytestmark = pytest.mark.usefixtures("own_cache")

EVENTS = ("decoded", "started", "progressed", "step_logged", "scored", "images", "note", "finished", "stopped")


class Recorder(zoo.Callback):
    """Records every call."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...]]] = []

    def __getattribute__(self, name: str) -> Any:
        if name in EVENTS:
            return lambda *args: self.calls.append((name, args))
        return super().__getattribute__(name)

    def of(self, name: str) -> list[tuple[Any, ...]]:
        return [args for called, args in self.calls if called == name]


class Announcer:
    """A plugin with the hook ``zoo_callbacks``."""

    def __init__(self, make: Any) -> None:
        self.make = make

    @zoo.hookimpl
    def zoo_callbacks(self) -> Any:
        return self.make()


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch):
    """``register(make)``: install a plugin whose hook returns ``make()``."""
    registry = Registry()
    monkeypatch.setattr(importlib.import_module("zoo.run.train"), "registry", lambda: registry)
    return lambda make: registry.add(Announcer(make), Plugin("tracker", "zoo-tracker", "1.0"))


def test_a_callback_follows_the_run(tmp_path: Path) -> None:
    recorder = Recorder()
    out = tmp_path / "run"
    zoo.train("vae", out=out, epochs=1, callbacks=[recorder], **SMALL)
    ((settings, folder, total, seen),) = recorder.of("started")
    assert (settings["model"], settings["epochs"], settings["options"]["width"]) == ("vae", 1, SMALL["width"])
    assert (folder, total, seen) == (out, 1280, 0)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    logged = recorder.of("step_logged")
    assert [call[:2] for call in logged] == [(line["step"], line["images"]) for line in lines]
    assert [call[3:] for call in logged] == [(line["terms"], line["gradients"]) for line in lines]
    assert logged[-1][2] == 1.0
    assert recorder.of("progressed")[-1] == (1280, 1.0)
    ((paths,),) = recorder.of("images")
    assert {path.name for path in paths} == {path.name for pattern in ("*.png", "*.gif") for path in out.glob(pattern)}
    assert recorder.of("scored")[-1] == (1297, 1297)
    ((result, folder),) = recorder.of("finished")
    stored = json.loads((out / "result.json").read_text())
    del stored["content_sha256"]
    assert (result, folder) == (stored, out)
    names = [name for name, _ in recorder.calls if name not in ("progressed", "step_logged")]
    assert list(dict.fromkeys(names)) == ["started", "images", "scored", "finished"]


def test_a_plugins_hook_returns_new_callbacks_for_every_run(tmp_path: Path, register) -> None:
    recorders: list[Recorder] = []

    def make() -> list[zoo.Callback]:
        recorders.append(Recorder())
        return [recorders[-1]]

    register(make)
    own = Recorder()
    for seed in (0, 1):
        zoo.train("vae", out=tmp_path / str(seed), epochs=0, seed=seed, extractor="none", callbacks=[own], **SMALL)
    assert [r.of("started")[0][0]["seed"] for r in recorders] == [0, 1]
    assert [len(r.of("finished")) for r in recorders] == [1, 1]
    assert len(own.of("finished")) == 2


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: 1 / 0, "zoo_callbacks: ZeroDivisionError: division by zero"),
        (lambda: [print], "is not a zoo.Callback"),
        (lambda: [Recorder], "is not a zoo.Callback"),
    ],
    ids=["exception", "function", "class"],
)
def test_a_failing_hook_is_a_note_and_does_not_stop_the_run(tmp_path: Path, register, make, reason) -> None:
    register(make)
    own = Recorder()
    for name in ("a", "b"):
        zoo.train("vae", out=tmp_path / name, epochs=0, extractor="none", callbacks=[own], **SMALL)
    notes = [text for (text,) in own.of("note")]
    assert len(notes) == 2  # one per run
    for text in notes:
        assert text.startswith("plugin 'tracker' (zoo-tracker): ")
        assert reason in text
    assert len(own.of("finished")) == 2


def test_a_list_of_callbacks_forwards_every_call() -> None:
    methods = [name for name in vars(zoo.Callback) if not name.startswith("_")]
    assert set(methods) == set(EVENTS)
    first, second = Recorder(), Recorder()
    both = CallbackList([first, second])
    for name in methods:
        count = zoo.Callback.__dict__[name].__code__.co_argcount - 1
        getattr(both, name)(*range(count))
    assert (
        first.calls
        == second.calls
        == [(name, tuple(range(zoo.Callback.__dict__[name].__code__.co_argcount - 1))) for name in methods]
    )


@pytest.mark.usefixtures("toys")
def test_a_run_that_fails_says_so_once(tmp_path: Path) -> None:
    seen = Recorder()
    with pytest.raises(zoo.ZooError, match="diverged") as failed:
        zoo.train("doomed", out=tmp_path / "run", epochs=1, callbacks=[seen])
    assert seen.of("stopped") == [(failed.value,)]
    assert not seen.of("finished")


TRACKER = """
    import json

    class Tracker(zoo.Callback):
        def __init__(self):
            self.steps, self.pictures = [], []

        def started(self, settings, folder, total_images, images_seen):
            self.seed = settings["seed"]

        def step_logged(self, step, images_seen, epoch, terms, gradients):
            self.steps.append([step, sorted(terms)])

        def images(self, paths):
            self.pictures = [path.name for path in paths]

        def finished(self, result, folder):
            seen = {"seed": self.seed, "steps": self.steps, "images": self.pictures, "model": result["model"]}
            (folder / "tracked.json").write_text(json.dumps(seen))

    @zoo.hookimpl
    def zoo_callbacks():
        return [Tracker()]
"""


@pytest.mark.slow
def test_a_package_outside_the_repository_follows_zoo_run(tmp_path: Path) -> None:
    install(tmp_path / "site", "tracker", dedent(TRACKER))
    out = tmp_path / "run"
    words = ["run", "vae", "--family", "mlp", "--width", "4", "--images", "640", "--seed", "3", "--out", str(out)]
    done = subprocess.run(
        [Path(sys.executable).with_name("zoo"), *words],
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads((out / "tracked.json").read_text())
    assert (seen["seed"], seen["model"]) == (3, "vae")
    assert seen["steps"] == [[step, ["kl", "nll"]] for step in range(1, 11)]
    assert "samples.png" in seen["images"]
