"""The training loop of a run: steps, metrics, checkpoints, and a clean stop on a signal."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch

from zoo.callbacks import Callback
from zoo.engine import Engine
from zoo.errors import ZooError
from zoo.interrupts import Interrupts
from zoo.run import scoring
from zoo.run.run_folder import RunFolder
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
) -> dict[str, Any]:
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
        The cost: seconds, images, images per second, and the mode of the steps.

    Raises:
        ZooError: If a term or a weight is no longer finite, the checkpoint does not fit, or the disk is full.
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
        seconds = facts["seconds"]
    if ranks.is_main:
        malformed = folder.trim_metrics(engine.step_count)
        if malformed:
            callback.note(f"{folder.metrics}: {count(malformed, 'malformed line')} removed; the curves lack them")
    begin_images, before = engine.images_seen, seconds
    callback.started(settings.to_table(), folder.path, steps * engine.images_per_step, begin_images)
    begin = saved = time.perf_counter()

    def save() -> None:
        engine.check_finite()
        state = engine.state()
        for name, value in state.items():
            if name.startswith("net/") and value.is_floating_point() and not value.isfinite().all():
                raise ZooError(
                    f"diverged: {name[4:]} is not finite after step {engine.step_count}; "
                    "a lower --lr or another --norm is the usual remedy"
                )
        elapsed = before + time.perf_counter() - begin
        if ranks.is_main:
            folder.save_checkpoint(state, {"seconds": elapsed, "steps": steps, **identity})

    with interrupts.deferred():
        stop, noted = False, False
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
                if ranks.is_main:
                    folder.append_metrics(scoring.metrics_line(step, engine.images_seen, seconds, terms, norms))
                if interrupts.received is None:  # after SIGHUP the terminal is gone: output would fail before the save
                    callback.step_logged(step, engine.images_seen, epoch, terms, norms)
            if (step % 8 == 0 or logged) and interrupts.received is None:
                callback.progressed(engine.images_seen, epoch)
            stop, due = interrupts.received is not None, time.perf_counter() - saved >= settings.checkpoint_seconds
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
    return {
        "seconds": round(seconds, 3),
        "images_seen": engine.images_seen,
        "images_per_second": round(engine.images_seen / seconds, 1) if seconds > 0 else None,
        "steps": {"mode": engine.mode, "quick_layers": engine.accelerated_layers, **engine.fallbacks},
    }
