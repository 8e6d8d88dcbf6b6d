"""The loop of a run: steps, lines of its metrics, checkpoints, and a stop between two steps where one is asked for."""

from __future__ import annotations

import signal
import threading
import time
from typing import Any, Self

import torch

from zoo.callbacks import Callback
from zoo.engine import Engine
from zoo.errors import ZooError
from zoo.run import scoring
from zoo.run.run_folder import RunFolder
from zoo.run.settings import RunSettings

__all__ = ["fit"]

LOGGED_LINES = 200
"""Lines of metrics.jsonl in a run, about."""


class _Interrupts:
    """Ctrl-C as a request, granted between two steps: within one, some networks have moved and others have not.

    A second Ctrl-C does not wait. Without the main thread, or with a handler of the caller's own, nothing is changed.
    """

    def __init__(self) -> None:
        self.asked = False
        self._ours = False

    def __enter__(self) -> Self:
        main = threading.current_thread() is threading.main_thread()
        self._ours = main and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if self._ours:
            signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if self.asked and kind is None:
            raise KeyboardInterrupt

    def _ask(self, *_: object) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


def fit(
    settings: RunSettings, folder: RunFolder, engine: Engine, callback: Callback, steps: int, resumable: bool
) -> dict[str, Any]:
    """Train up to ``steps`` steps, from the folder's checkpoint where ``resumable``; leave metrics and a checkpoint.

    Returns:
        What it cost: seconds, images, images a second, and how the steps ran.

    Raises:
        ZooError: where a term or a weight is no longer finite, or the disk is full.
        KeyboardInterrupt: after the step in which it was asked for, with all of it saved.
    """
    every = max(1, steps // LOGGED_LINES)
    ranks, device = engine.ranks, engine.stream.device
    seconds = 0.0
    if resumable:
        tensors, facts = folder.load_checkpoint()
        engine.load_state(tensors)
        seconds = facts["seconds"]
    if ranks.leads:
        folder.trim_metrics(engine.step_count)
    begin_images, before = engine.images_seen, seconds
    callback.started(settings.to_table(), folder.path, steps * engine.images_per_step, begin_images)
    begin = saved = time.perf_counter()

    def save() -> None:
        engine.check()
        state = engine.state()
        for name, value in state.items():
            if name.startswith("net/") and value.is_floating_point() and not value.isfinite().all():
                raise ZooError(
                    f"diverged: {name[4:]} is not finite after step {engine.step_count}; "
                    "a lower --lr or another --norm is the usual remedy"
                )
        elapsed = before + time.perf_counter() - begin
        if ranks.leads:
            folder.save_checkpoint(state, {"seconds": elapsed, "steps": steps})

    with _Interrupts() as interrupts:
        stop, told = False, False
        while engine.step_count < steps and not stop:
            engine.step()
            step = engine.step_count
            if engine.fallbacks and not told:
                told = True
                for what, why in engine.fallbacks.items():
                    callback.note(f"{what}: not used, steps stay eager: {why}")
            epoch = step * engine.batches_per_step / engine.stream.per_epoch
            logged = step % every == 0 or step == steps
            if logged:
                norms = {k.removeprefix("grad/"): v for k, v in engine.gradient_norms().items()}
                terms = engine.read()
                seconds = before + time.perf_counter() - begin
                if ranks.leads:
                    folder.append_metrics(scoring.metrics_line(step, engine.images_seen, seconds, terms, norms))
                callback.step_logged(step, engine.images_seen, epoch, terms, norms)
            if step % 8 == 0 or logged:
                callback.progressed(engine.images_seen, epoch)
            stop, due = interrupts.asked, time.perf_counter() - saved >= settings.checkpoint_seconds
            if ranks.size > 1:
                # What needs all of them they do at the same step, when the first says so.
                stop, due = (logged and ranks.agree(flag, device) for flag in (stop, due))
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
        "steps": {"mode": engine.mode, "quick_layers": engine.accelerated, **engine.fallbacks},
    }
