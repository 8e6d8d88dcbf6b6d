"""Resumed runs end in the same bits, whatever stopped them: a killed process, a signal, a full disk."""

from __future__ import annotations

import contextlib
import importlib
import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest

ZOO = Path(sys.executable).with_name("zoo")
VAE = ["vae", "--family", "mlp", "--width", "4", "--epochs", "2"]
# With a gate: its optimizers are held now and then, and their state must survive that.
VAEGAN = ["vaegan", "--family", "mlp", "--width", "2", "--epochs", "1", "--equilibrium"]
EVERY_STEP = ["--checkpoint-seconds", "0"]
ONLY_AT_THE_END = ["--checkpoint-seconds", "1e6"]


# In the child: a process of its own, forked from a server that has only imported, so that it starts in no time.


def child(argv: list[str], log: Path, cache: str, trap: Trap | None, file_size: int | None) -> None:
    """``zoo ARGV`` with its output in LOG.out and LOG.err, no curves (they cost more than the run), and a trap."""
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{log}.{name}", os.O_CREAT | os.O_WRONLY | os.O_TRUNC), number)
    os.environ["ZOO_CACHE"] = cache
    from zoo.cli import main

    importlib.import_module("zoo.run.train").draw_curves = lambda folder: []  # type: ignore[attr-defined]
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)  # the tests may run under nohup
    if trap is not None:
        trap.set()
    if file_size is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))
    main(argv)


@attrs.frozen
class Trap:
    """What strikes when ``place`` is passed for the ``count``-th time: SIGKILL, or another signal, once or more."""

    place: str
    count: int = 1
    signal: int = signal.SIGKILL
    times: int = 1

    def set(self) -> None:
        import zoo.engine.engine
        import zoo.engine.gated_optimizer
        import zoo.evaluation
        import zoo.run.run_folder
        import zoo.run.scoring

        seen: dict[str, int] = {}

        def passing(place: str) -> None:
            seen[place] = seen.get(place, 0) + 1
            if place == self.place and seen[place] == self.count:
                for _ in range(self.times):
                    os.kill(os.getpid(), self.signal)
                    time.sleep(0.01)  # Python's handlers run between two instructions

        def around(owner: Any, name: str, place: str) -> None:
            inner = getattr(owner, name)

            def wrapped(*args: Any, **kwargs: Any) -> Any:
                passing(f"before {place}")
                result = inner(*args, **kwargs)
                passing(f"after {place}")
                return result

            setattr(owner, name, wrapped)

        around(zoo.engine.engine.Engine, "step", "step")
        around(zoo.engine.gated_optimizer.GatedOptimizer, "step", "update")
        around(zoo.run.scoring, "evaluate", "scoring")
        around(importlib.import_module("zoo.run.train"), "draw_images", "pictures")
        around(zoo.run.run_folder.RunFolder, "append_metrics", "metrics")

        # Every file goes through these three: made under another name, filled and synced, renamed.
        make, fill, sync, rename = (tempfile.mkstemp, os.fdopen, os.fsync, os.replace)
        writing = [""]

        def mkstemp(**kwargs: Any) -> tuple[int, str]:
            writing[0] = kwargs["prefix"].strip(".")
            made = make(**kwargs)
            passing(f"empty {writing[0]}")
            return made

        class Half:
            def __init__(self, handle: int, mode: str) -> None:
                self.file, self.parts = fill(handle, mode), 0

            def __enter__(self) -> Half:
                return self

            def __exit__(self, *_: object) -> None:
                self.file.close()

            def write(self, content: bytes) -> None:
                self.file.write(content[: len(content) // 2])
                self.file.flush()
                self.parts += 1
                if self.parts == 1:  # a file of tensors has a header and a part per tensor
                    passing(f"half {writing[0]}")
                self.file.write(content[len(content) // 2 :])

            def __getattr__(self, name: str) -> Any:
                return getattr(self.file, name)

        def fsync(handle: int) -> None:
            passing(f"unsynced {writing[0]}")
            sync(handle)

        def replace(source: str, target: Path) -> None:
            passing(f"whole {Path(target).name}")
            rename(source, target)
            passing(f"renamed {Path(target).name}")

        tempfile.mkstemp, os.fdopen, os.fsync, os.replace = mkstemp, Half, fsync, replace


# In the parent


@attrs.frozen
class Launcher:
    """Starts ``zoo run`` in processes."""

    context: Any
    root: Path
    cache: Path

    def start(self, argv: list[str], out: Path, trap: Trap | None = None, file_size: int | None = None) -> BaseProcess:
        args = (["run", *argv, "--no-report", "--out", str(out)], self.log(out), str(self.cache), trap, file_size)
        process = self.context.Process(target=child, args=args, daemon=True)
        process.start()
        return process

    def run(self, argv: list[str], out: Path, trap: Trap | None = None, file_size: int | None = None) -> int:
        process = self.start(argv, out, trap, file_size)
        process.join(60)
        assert process.exitcode is not None, "still running after a minute"
        return process.exitcode

    def log(self, out: Path) -> Path:
        return self.root / f"{out.parent.name}-{out.name}"

    def said(self, out: Path) -> str:
        """The last process's standard error."""
        return Path(f"{self.log(out)}.err").read_text()


@pytest.fixture(scope="module")
def launcher(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Launcher:
    context = multiprocessing.get_context("forkserver")
    ours = [
        "pytest",
        "zoo.cli.main",
        "zoo.cli.progress",
        "zoo.run.train",
        "zoo_plugins.models.vae",
        "zoo_plugins.models.vaegan",
    ]
    what_a_run_imports = ["torch._dynamo", "matplotlib.backends.backend_agg", "sklearn.datasets", "scipy.linalg"]
    context.set_forkserver_preload([*ours, *what_a_run_imports])
    return Launcher(context, tmp_path_factory.mktemp("logs"), cache)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, launcher: Launcher) -> Callable[[list[str]], Path]:
    """The folder of the run that nobody stopped, by its arguments; made on first use."""
    made: dict[str, Path] = {}

    def folder(argv: list[str]) -> Path:
        if argv[0] not in made:
            out = tmp_path_factory.mktemp("undisturbed") / argv[0]
            assert launcher.run([*argv, *EVERY_STEP], out) == 0, launcher.said(out)
            made[argv[0]] = out
        return made[argv[0]]

    return folder


def result_of(out: Path) -> dict[str, Any]:
    """Result.json without what the clock, the machine's load and the saving of checkpoints have a part in."""
    result = json.loads((out / "result.json").read_text())
    for changing in ("cost", "evaluation_seconds", "provenance", "content_sha256"):
        del result[changing]
    del result["settings"]["checkpoint_seconds"]
    return result


def metrics_of(out: Path) -> list[dict[str, Any]]:
    return [
        {k: v for k, v in json.loads(line).items() if k != "seconds"}
        for line in (out / "metrics.jsonl").read_text().splitlines()
    ]


def assert_same(out: Path, reference: Path) -> None:
    assert (out / "model.safetensors").read_bytes() == (reference / "model.safetensors").read_bytes()
    assert result_of(out) == result_of(reference)
    assert metrics_of(out) == metrics_of(reference)
    snapshots = [{p.name: p.read_bytes() for p in run.glob("snapshots/*")} for run in (out, reference)]
    assert snapshots[0] == snapshots[1] != {}
    for name in ("samples.png", "samples.gif", "reconstructions.png"):  # the last only of autoencoders
        assert (out / name).is_file() is (reference / name).is_file()
        assert not (out / name).is_file() or (out / name).read_bytes() == (reference / name).read_bytes()
    assert not [p for p in out.rglob("*") if p.name.endswith(".tmp")]


@pytest.mark.slow
def test_command_line_killed_and_resumed(tmp_path, launcher, undisturbed):
    """The very command that a user types, from console script to result, agrees with what the rest here runs."""
    out, env = tmp_path / "run", {**os.environ, "ZOO_CACHE": str(launcher.cache)}
    command = [ZOO, "run", *VAE, *EVERY_STEP, "--out", out]
    process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (out / "checkpoint" / "state.safetensors").is_file() and time.monotonic() < deadline:
        time.sleep(0.005)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not (out / "result.json").exists()
    done = subprocess.run([*command, "--resume"], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "resumes at" in done.stdout
    assert not set("\x1b\r") & set(done.stdout), "control characters in a pipe"
    assert done.stderr == ""
    assert_same(out, undisturbed(VAE))


@pytest.mark.slow
@pytest.mark.parametrize("argv", [VAE, VAEGAN], ids=["vae", "vaegan"])
def test_killed_at_random_moments(argv, tmp_path, launcher, undisturbed):
    """Kill −9 by the clock, again and again: each process takes over from the last, and the last finishes."""
    reference, out = undisturbed(argv), tmp_path / "run"
    moments = random.Random(f"{argv[0]} 1")
    took = (reference / "result.json").stat().st_mtime - (reference / "config.toml").stat().st_mtime
    killed, delays = 0, []
    for _ in range(5):
        process = launcher.start([*argv, *EVERY_STEP, "--resume"], out)
        deadline = time.monotonic() + 60
        while not out.exists() and time.monotonic() < deadline:
            time.sleep(0.001)
        delays.append(moments.uniform(0.0, 0.6 * took))
        time.sleep(delays[-1])
        process.kill()
        process.join()
        killed += process.exitcode == -signal.SIGKILL
    print("killed after", ", ".join(f"{d:.3f} s" for d in delays))
    assert killed, "the moments were too late to show anything"
    assert launcher.run([*argv, *EVERY_STEP, "--resume"], out) == 0, launcher.said(out)
    assert_same(out, reference)


CHECKPOINT = "state.safetensors"
PLACES = [
    Trap("whole config.toml"),  # the folder is there, and does not say yet what it is for
    Trap("before step"),  # before the first checkpoint
    Trap("after step", 23),
    Trap("before update", 17),
    Trap("after metrics", 9),  # logged, but not in a checkpoint
    Trap("empty " + CHECKPOINT),  # during the first checkpoint
    Trap("half " + CHECKPOINT, 6),
    Trap("unsynced " + CHECKPOINT, 11),
    Trap("whole " + CHECKPOINT, 12),
    Trap("renamed " + CHECKPOINT, 13),
    Trap("half model.safetensors"),
    Trap("renamed model.safetensors"),
    Trap("before pictures"),
    Trap("before scoring"),
    Trap("half result.json"),
]


@pytest.mark.parametrize("trap", PLACES, ids=[f"{t.place} {t.count}" for t in PLACES])
def test_killed_at_a_place(trap, tmp_path, launcher, undisturbed):
    """Kill −9 where it should hurt most, checkpoint writes above all."""
    reference, out = undisturbed(VAE), tmp_path / "run"
    assert launcher.run([*VAE, *EVERY_STEP], out, trap) == -signal.SIGKILL
    assert not (out / "result.json").exists(), "its presence means done"
    assert launcher.run([*VAE, *EVERY_STEP, "--resume"], out) == 0, launcher.said(out)
    assert_same(out, reference)


@pytest.mark.slow
@pytest.mark.parametrize("trap", [Trap("after update", 25), Trap("half " + CHECKPOINT, 9)], ids=lambda t: t.place)
def test_killed_between_players(trap, tmp_path, launcher, undisturbed):
    """Some networks of the game have moved, others not: what resumes must be a whole step."""
    reference, out = undisturbed(VAEGAN), tmp_path / "run"
    assert launcher.run([*VAEGAN, *EVERY_STEP], out, trap) == -signal.SIGKILL
    assert launcher.run([*VAEGAN, "--resume"], out) == 0, launcher.said(out)
    assert_same(out, reference)


@pytest.mark.slow
@pytest.mark.parametrize(
    "trap",
    [
        Trap("after update", 25, signal.SIGINT),  # in the middle of a step: it is played to its end
        Trap("after metrics", 9, signal.SIGINT),
        Trap("after metrics", 20, signal.SIGINT),  # after the last step
        Trap("after update", 25, signal.SIGTERM),
        Trap("after metrics", 9, signal.SIGHUP),
    ],
    ids=["within a step", "between steps", "after the last step", "SIGTERM", "SIGHUP"],
)
def test_interrupted(trap, tmp_path, launcher, undisturbed):
    """Status 128 + the signal, one line with the command that resumes, a checkpoint, and the same bits in the end."""
    reference, out = undisturbed(VAEGAN), tmp_path / "run"
    assert launcher.run([*VAEGAN, *ONLY_AT_THE_END], out, trap) == 128 + trap.signal
    error = launcher.said(out).strip()
    assert "\n" not in error
    assert error.startswith("zoo: error: interrupted")
    assert f"zoo run --resume --out {out}" in error
    logged = len(metrics_of(out))
    assert logged == {25: 9, 9: 9, 20: 20}[trap.count]  # 3 updates a step; a line each
    shutil.copy(out / "metrics.jsonl", tmp_path / "before.jsonl")
    assert launcher.run([*VAEGAN, "--resume"], out) == 0, launcher.said(out)
    # Nothing was lost: the lines of before are still those of before, seconds and all.
    assert (out / "metrics.jsonl").read_text().startswith((tmp_path / "before.jsonl").read_text())
    assert_same(out, reference)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
@pytest.mark.parametrize("argv", [VAE, VAEGAN], ids=["vae", "vaegan"])
def test_interrupted_at_random_moments(argv, number, tmp_path, launcher, undisturbed):
    """Ctrl-C and SIGTERM by the clock: saved, 130 or 143, one line, and the same bits in the end; 20 trials in all."""
    reference, timed = undisturbed(argv), tmp_path / "timed"
    assert launcher.run([*argv, *ONLY_AT_THE_END], timed) == 0, launcher.said(timed)
    took = (timed / "result.json").stat().st_mtime - (timed / "config.toml").stat().st_mtime
    moments = random.Random(f"{argv[0]} {number.name}")
    interrupted = resumed = 0
    for trial in range(15):
        out = tmp_path / f"run{trial}"
        process = launcher.start([*argv, *ONLY_AT_THE_END], out)
        deadline = time.monotonic() + 60
        while not (out / "config.toml").is_file() and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(moments.uniform(0.0, 0.9 * took))
        with contextlib.suppress(ProcessLookupError):  # it was faster than the one before
            os.kill(process.pid, number)
        process.join(60)
        assert process.exitcode in (0, 128 + number), launcher.said(out)
        if process.exitcode:
            interrupted += 1
            error = launcher.said(out).strip()
            assert error.startswith("zoo: error: interrupted"), error
            assert "\n" not in error
            assert not (out / "result.json").exists()
            steps = len(metrics_of(out)) if (out / "metrics.jsonl").is_file() else 0
            assert launcher.run(["--resume"], out) == 0, launcher.said(out)
            shown = Path(f"{launcher.log(out)}.out").read_text()
            assert not steps or f"resumes at {steps * 64:,} of" in shown
            resumed += bool(steps)
        assert_same(out, reference)
        if interrupted == 5:
            break
    assert interrupted == 5
    assert resumed >= 2, "the moments were outside of training"


@pytest.mark.parametrize(
    "trap",
    [
        Trap("after update", 25, signal.SIGINT, 2),
        Trap("before scoring", 1, signal.SIGINT),
        Trap("after update", 25, signal.SIGTERM, 2),
        Trap("before scoring", 1, signal.SIGTERM),
    ],
)
def test_interrupted_at_once(trap, tmp_path, launcher, undisturbed):
    """A second Ctrl-C does not wait for the step, nor does the first one while a run is scored; both lose nothing."""
    reference, out = undisturbed(VAEGAN), tmp_path / "run"
    assert launcher.run([*VAEGAN, *EVERY_STEP], out, trap) == 128 + trap.signal
    assert not (out / "result.json").exists()
    assert not [p for p in out.rglob("*") if p.name.endswith(".tmp")]
    assert launcher.run([*VAEGAN, "--resume"], out) == 0, launcher.said(out)
    assert_same(out, reference)


@pytest.mark.slow
def test_half_written_metrics_line(tmp_path, launcher, undisturbed):
    """The line that a killed process was writing is dropped, and what was logged after the checkpoint is not kept."""
    reference, out = undisturbed(VAE), tmp_path / "run"
    launcher.run([*VAE, *EVERY_STEP], out, Trap("after metrics", 9))
    with (out / "metrics.jsonl").open("a") as file:
        file.write('{"step": 10, "images": 6')
    assert len((out / "metrics.jsonl").read_text().splitlines()) == 10
    assert launcher.run([*VAE, *EVERY_STEP, "--resume"], out) == 0, launcher.said(out)
    assert_same(out, reference)


@pytest.mark.slow
@pytest.mark.parametrize(("file_size", "file"), [(100_000, CHECKPOINT), (3_000, "snapshots")])
def test_disk_full(file_size, file, tmp_path, launcher, undisturbed):
    """A disk that fills up ends the run with a line that names the file; the last checkpoint is as it was."""
    reference, out = undisturbed(VAE), tmp_path / "run"
    launcher.run([*VAE, *EVERY_STEP], out, Trap("after step", 6))
    before = (out / "checkpoint" / CHECKPOINT).read_bytes()
    assert len(before) > 100_000
    assert (
        launcher.run([*VAE, *(EVERY_STEP if file == CHECKPOINT else ONLY_AT_THE_END), "--resume"], out, None, file_size)
        == 1
    )
    error = launcher.said(out).strip()
    assert "\n" not in error
    assert error.startswith(f"zoo: error: cannot write {out}")
    assert file in error
    assert "File too large" in error
    assert (out / "checkpoint" / CHECKPOINT).read_bytes() == before
    assert not [p for p in out.rglob("*") if p.name.endswith(".tmp")]
    assert launcher.run([*VAE, "--resume"], out) == 0, launcher.said(out)
    assert_same(out, reference)


def test_disk_full_from_the_start(tmp_path, launcher):
    """Where not even the settings can be written, no folder is left that would refuse the next try."""
    out = tmp_path / "run"
    assert launcher.run([*VAE], out, None, 300) == 1
    assert launcher.said(out).startswith(f"zoo: error: cannot write {out / 'config.toml'}")
    assert not out.exists()


def test_one_process_a_folder(tmp_path, launcher):
    """A second process on a run that is under way is told so, and the first is not disturbed."""
    out = tmp_path / "run"
    first = launcher.start([*VAE, *EVERY_STEP], out, Trap("after step", 3, signal.SIGSTOP))
    try:
        checkpoint = out / "checkpoint" / CHECKPOINT
        deadline = time.monotonic() + 60
        while not checkpoint.is_file() and time.monotonic() < deadline:
            time.sleep(0.01)
        before = (out / "config.toml").read_bytes()
        second = Launcher(launcher.context, tmp_path, launcher.cache)
        assert second.run([*VAE, *EVERY_STEP, "--resume"], out) == 1
        assert "another process" in second.said(out)
        assert (out / "config.toml").read_bytes() == before
        os.kill(first.pid, signal.SIGCONT)
        first.join(60)
        assert first.exitcode == 0, launcher.said(out)
    finally:
        first.kill()  # also where it still stands


@pytest.mark.slow
def test_resumed_run_tells_all_of_its_time(tmp_path, launcher, undisturbed):
    """Seconds go on from where they stood: a resumed run does not look cheaper than it was."""
    out = tmp_path / "run"
    launcher.run([*VAE, *EVERY_STEP], out, Trap("after step", 38))
    before = json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])["seconds"]
    assert launcher.run([*VAE, "--resume"], out) == 0, launcher.said(out)
    seconds = [json.loads(line)["seconds"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert np.all(np.diff(seconds) >= 0)
    cost = json.loads((out / "result.json").read_text())["cost"]
    assert cost["seconds"] >= before
    assert cost["images_seen"] == 2 * 20 * 64
