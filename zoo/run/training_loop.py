"""The training loop of a run: steps, metrics, checkpoints, and a clean stop on a signal."""

from __future__ import annotations

import contextlib
import shlex
import time
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from zoo.callbacks import Callback
from zoo.engine import Engine
from zoo.errors import DivergedError, ZooError
from zoo.health import parse_stop_on
from zoo.interrupts import Interrupts
from zoo.run import scoring
from zoo.run.run_folder import RunFolder
from zoo.run.run_health import RunHealth
from zoo.run.settings import RunSettings
from zoo.run.snapshots import Snapshots
from zoo.terminal import count

__all__ = ["fit"]

LOGGED_LINES = 200
"""Approximate number of lines of ``metrics.jsonl`` per run."""


def fit(
    settings: RunSettings,
    folder: RunFolder,
    engine: Engine,
    callback: Callback,
    steps: int,
    snapshots: Snapshots,
    *,
    identity: Mapping[str, Any],
    resumable: bool,
    interrupts: Interrupts,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Train for ``steps`` steps, from the checkpoint if ``resumable``; write metrics and checkpoints.

    Args:
        settings: Settings of the run.
        folder: The run folder, open.
        engine: The engine, before its first step.
        callback: Called with the progress.
        steps: Number of steps of the whole run.
        snapshots: Takes samples at its steps.
        identity: Facts by which a checkpoint names its run.
        resumable: Whether the folder has a checkpoint to start from.
        interrupts: Signals, which stop the run after the current step.

    Returns:
        The cost: seconds, images, images per second, and the mode of the steps; and the health, in the main process.

    Raises:
        DivergedError: If a term or a weight is no longer finite.
        ZooError: If a finding of ``stop_on`` ends the run, the checkpoint does not fit, or the disk is full.
        Interrupted: After the step in which a signal arrived, with a checkpoint of it.
    """
    every = max(1, steps // LOGGED_LINES)
    ranks, device = engine.ranks, engine.stream.device
    seconds = 0.0
    if resumable:
        tensors, facts = folder.load_checkpoint()
        try:
            engine.load_state(tensors)
        except (KeyError, RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise ZooError(
                f"{folder.checkpoint} does not fit this run: {reason}; delete it, and --resume begins anew"
            ) from None
        del tensors  # several times the memory of the networks
        seconds = facts["seconds"]
    if ranks.is_main:
        malformed = folder.trim_metrics(engine.step_count)
        if malformed:
            callback.note(f"{folder.metrics}: {count(malformed, 'malformed line')} removed; the curves lack them")
    health: RunHealth | None = None
    if ranks.is_main:
        health = RunHealth(folder, engine, callback, steps, every, parse_stop_on(settings.stop_on))
    begin_images, before = engine.images_seen, seconds
    callback.started(settings.to_table(), folder.path, steps * engine.images_per_step, begin_images)
    begin = saved = time.perf_counter()

    def save() -> None:
        engine.check_finite()
        state = engine.state(copy=False)
        for name, value in state.items():
            if name.startswith("net/") and value.is_floating_point() and not value.isfinite().all():
                raise DivergedError(name[4:], f"not finite after step {engine.step_count}", engine.step_count)
        elapsed = before + time.perf_counter() - begin
        if ranks.is_main:
            folder.save_checkpoint(state, {"seconds": elapsed, "steps": steps, **identity})

    with interrupts.deferred(), _recording_divergence(health):
        stop, noted = ranks.broadcast(health is not None and health.stop is not None, device), False
        if not engine.step_count:
            snapshots.take()
        while engine.step_count < steps and not stop:
            engine.step()
            step = engine.step_count
            snapshots.take()  # before the checkpoint of this step: no run resumes after a snapshot that it lacks
            if engine.fallbacks and not noted:
                noted = True
                for what, why in engine.fallbacks.items():
                    callback.note(f"{what}: not used, steps run eagerly: {why}")
            epoch = step * engine.batches_per_step / engine.stream.per_epoch
            logged = step % every == 0 or step == steps
            if logged:
                norms = {k.removeprefix("grad/"): v for k, v in engine.gradient_norms().items()}
                terms = engine.read_terms()
                seconds = before + time.perf_counter() - begin
                if health is not None:
                    folder.append_metrics(scoring.metrics_line(step, engine.images_seen, seconds, terms, norms))
                    health.logged(step, norms, quiet=interrupts.received is not None)
                if interrupts.received is None:  # after SIGHUP the terminal is gone: output would fail before the save
                    callback.step_logged(step, engine.images_seen, epoch, terms, norms)
            if (step % 8 == 0 or logged) and interrupts.received is None:
                callback.progressed(engine.images_seen, epoch)
            unwell = health is not None and health.stop is not None
            stop = unwell or interrupts.received is not None
            due = time.perf_counter() - saved >= settings.checkpoint_seconds
            if ranks.size > 1:
                # All processes stop and save at the same step, decided by the first.
                stop, due = (logged and ranks.broadcast(flag, device) for flag in (stop, due))
            if due:
                save()
                saved = time.perf_counter()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds = before + time.perf_counter() - begin
        if steps:
            save()
    if health is not None and (finding := health.stop) is not None:
        continued = shlex.join(["zoo", "run", "--resume", "--out", str(folder.path), "--stop-on", "none"])
        raise ZooError(f"stopped: {finding}; {continued} continues the run")
    if engine.step_count < steps:
        raise ZooError("stopped by the first process")
    cost = {
        "seconds": round(seconds, 3),
        "images_seen": engine.images_seen,
        "images_per_second": round(engine.images_seen / seconds, 1) if seconds > 0 else None,
        "steps": {"mode": engine.mode, "quick_layers": engine.accelerated_layers, **engine.fallbacks},
    }
    return cost, health.summary() if health is not None else {}


@contextlib.contextmanager
def _recording_divergence(health: RunHealth | None) -> Iterator[None]:
    try:
        yield
    except DivergedError as error:
        if health is not None:
            health.diverged(error)
        raise
