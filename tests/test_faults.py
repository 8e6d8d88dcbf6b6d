"""Randomized faults: runs that are killed at any moment, and run folders that are damaged in any way.

Set ``ZOO_FAULTS=100`` for the full suite of 100 kills and 100 damaged folders.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from test_received_folders import contents
from test_resume import (  # fixtures too
    CHECKPOINT,
    EVERY_STEP,
    Launcher,
    Trap,
    assert_same,
    launcher,  # noqa: F401
    result_of,
    undisturbed,  # noqa: F401
)

import zoo
from zoo.cli import main
from zoo.run.run_folder import RunFolder

FAULTS = int(os.environ.get("ZOO_FAULTS", "10"))
"""Number of kills, and of damaged folders."""

MODELS = ("vae", "vaegan", "gan", "wgan-gp", "aae")
PLACES = [
    *("before step", "after step", "before update", "after update", "after metrics"),
    *(f"{moment} {CHECKPOINT}" for moment in ("empty", "half", "unsynced", "whole", "renamed")),
    *(f"{moment} model.safetensors" for moment in ("half", "renamed")),
    *("before pictures", "before scoring", "half result.json"),
]


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_killed_again_and_again(model, tmp_path, launcher: Launcher, undisturbed):  # noqa: F811
    """Kill −9 by the clock and at places of the code, in turn: a run that ends has the undisturbed bits."""
    argv = [model, "--family", "mlp", "--width", "2", "--epochs", "1"]
    chance, reference = random.Random(model), undisturbed(argv)
    took = (reference / "result.json").stat().st_mtime - (reference / "config.toml").stat().st_mtime
    kills, finished, target = 0, 0, max(1, FAULTS // len(MODELS))
    while kills < target or finished == 0:
        out = tmp_path / f"run{finished}"
        trap = None
        if kills % 2 and kills < target:
            trap = Trap(chance.choice(PLACES), chance.randint(1, 4))
        process = launcher.start([*argv, *EVERY_STEP, "--resume"], out, trap)
        if trap is None and kills < target:
            deadline = time.monotonic() + 60
            while not out.exists() and process.is_alive() and time.monotonic() < deadline:
                time.sleep(0.001)
            process.join(chance.uniform(0.0, 0.5 * took))
            process.kill()
        process.join(120)
        assert process.exitcode in (0, -signal.SIGKILL), launcher.said(out)
        if process.exitcode == 0:
            assert_same(out, reference)
            finished += 1
        else:
            kills += 1
            assert not (out / "result.json").exists() or trap is not None or result_of(out) == result_of(reference)
    print(f"{model}: {kills} kills, {finished} runs finished")


# Damaged folders


@attrs.frozen
class Originals:
    """Undamaged folders: two runs that differ in their seed, finished and not, and what their commands give."""

    root: Path

    def folder(self, seed: int, finished: bool) -> Path:
        return self.root / f"seed{seed}-{'finished' if finished else 'unfinished'}"

    def weights(self, seed: int) -> dict[str, torch.Tensor]:
        return dict(zoo.load(self.folder(seed, True)).networks.state_dict())

    def scores(self, seed: int) -> dict[str, Any]:
        return dict(RunFolder(self.folder(seed, True)).load_result()["scores"])


class Stopper(zoo.Callback):
    def step_logged(self, step: int, *_: Any) -> None:
        if step == 7:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Iterator[Originals]:
    made = Originals(tmp_path_factory.mktemp("originals"))
    small: dict[str, Any] = {"family": "mlp", "width": 2, "epochs": 1, "samples": 100, "checkpoint_seconds": 0.0}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_CACHE", str(cache))
        patch.setattr(importlib.import_module("zoo.run.train"), "draw_curves", lambda folder: [])
        for seed in (0, 1):
            zoo.train("vae", out=made.folder(seed, True), seed=seed, **small)
            with pytest.raises(KeyboardInterrupt):
                zoo.train("vae", out=made.folder(seed, False), seed=seed, callbacks=[Stopper()], **small)
        yield made


FILES = ("config.toml", "result.json", "model.safetensors", "metrics.jsonl", "checkpoint/state.safetensors")
OTHERS = (".lock", "checkpoint", "samples.png", "grid.png", "log.txt")
DAMAGES = (
    "truncate",
    "flip",
    "swap",
    "exchange",
    "delete",
    "link",
    "link to a folder",
    "folder",
    "pipe",
    "text",
    "empty",
)

damages = st.lists(
    st.tuples(
        st.sampled_from(DAMAGES),
        st.one_of(st.sampled_from(FILES), st.sampled_from(FILES), st.sampled_from(OTHERS)),
        st.floats(0, 1, exclude_max=True),
        st.integers(0, 7),
    ),
    min_size=1,
    max_size=2,
)
TEXTS = (b"", b"\xff", b"[]", b"null", b"[" * 50_000, b'{"a": 1}', b"a = [", b"\0" * 64)


def damage(run: Path, donor: Path, canary: Path, kind: str, name: str, where: float, bit: int) -> None:
    path = run / name
    old = path.read_bytes() if path.is_file() else b""
    if kind in ("truncate", "flip", "exchange") and not old:
        return
    if kind == "flip":
        at = int(where * len(old))
        path.write_bytes(old[:at] + bytes([old[at] ^ 1 << bit]) + old[at + 1 :])
        return
    if kind == "truncate":
        path.write_bytes(old[: int(where * len(old))])
        return
    other = run / FILES[int(where * len(FILES))]
    if kind == "exchange":
        if other.is_file() and not other.is_symlink():
            content = other.read_bytes()
            other.write_bytes(old)
            path.write_bytes(content)
        return
    if path.is_symlink() or path.is_file() or path.is_fifo():
        path.unlink()
    elif path.is_dir():
        shutil.rmtree(path)
    if not path.parent.is_dir():
        return
    if kind == "swap" and (donor / name).is_file():
        shutil.copy(donor / name, path)
    elif kind == "link":
        path.symlink_to(canary / "file" if where < 0.5 else donor / name)
    elif kind == "link to a folder":
        path.symlink_to(canary)
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "text":
        path.write_bytes(TEXTS[bit])


def command(*args: object) -> tuple[int, str]:
    """The exit status and the output of a command in this process, which has a minute."""
    out, err = io.StringIO(), io.StringIO()
    signal.alarm(120)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as ended:
            main([str(a) for a in args])
    finally:
        signal.alarm(0)
    status, text = int(ended.value.code or 0), err.getvalue()
    assert status in (0, 1, 2), (args, status, text)
    assert "Traceback" not in text + out.getvalue(), text
    assert "--debug" not in text, (args, text)
    errors = [line for line in text.splitlines() if line.startswith("zoo: error: ")]
    assert len(errors) == (1 if status else 0), (args, text)
    return status, out.getvalue()


@pytest.mark.slow
def test_damaged_folders(originals: Originals, tmp_path_factory: pytest.TempPathFactory):
    """One line or the right result: never a traceback, another run's result, or a write outside the folder."""
    root = tmp_path_factory.mktemp("damaged")
    weights = {seed: originals.weights(seed) for seed in (0, 1)}
    scores = {seed: originals.scores(seed) for seed in (0, 1)}
    before = contents(originals.root)
    counts = {"folders": 0, "accepted": 0, "refused": 0}

    @settings(
        max_examples=FAULTS,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.booleans(), damages)
    def check(finished: bool, chosen: list[tuple[str, str, float, int]]) -> None:
        place = root / f"{counts['folders']}"
        counts["folders"] += 1
        run, canary = place / "run", place / "canary"
        shutil.copytree(originals.folder(0, finished), run)
        canary.mkdir()
        (canary / "file").write_bytes(b"mine")
        (canary / "state.safetensors").write_bytes(b"mine")
        for kind, name, where, bit in chosen:
            event(kind)
            damage(run, originals.folder(1, finished), canary, kind, name, where, bit)
        outside = contents(canary)

        def note(status: int) -> bool:
            counts["refused" if status else "accepted"] += 1
            assert contents(canary) == outside, "a write outside the folder"
            return status == 0

        def seed() -> int:
            return RunFolder(run).settings().seed if (run / "config.toml").is_file() else 0

        if note(command("sample", run, "-n", 2, "--out", place / "a.npy")[0]):
            found = zoo.load(run).networks.state_dict()
            assert all(torch.equal(found[name], value) for name, value in weights[seed()].items())
        else:
            with pytest.raises(zoo.ZooError):
                zoo.load(run)
        if note(command("eval", run, "--metrics", "quick", "-n", 100, "--out", place / "eval.json")[0]):
            assert json.loads((place / "eval.json").read_text())["scores"] == pytest.approx(scores[seed()])
        if note(command("compare", run, originals.folder(1, True))[0]):
            assert RunFolder(run).load_result()["scores"] == scores[seed()]
        status, text = command("leaderboard", run, "--format", "json")
        if note(status):
            stored = json.loads((run / "result.json").read_text())
            assert stored["scores"] == scores[stored["seed"]]
            assert text.startswith("{")
        if note(command("run", "vae", "--resume", "--out", run)[0]):
            assert RunFolder(run).load_result()["scores"] == pytest.approx(scores[seed()])
            found = zoo.load(run).networks.state_dict()
            assert all(torch.equal(found[name], value) for name, value in weights[seed()].items())
        assert contents(originals.root) == before, "a write into another run"
        shutil.rmtree(place)

    begin = time.perf_counter()
    check()
    print(f"{counts}, {time.perf_counter() - begin:.0f} s")
