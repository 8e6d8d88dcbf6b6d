"""``zoo.train``: a run from settings to result, resumable at any moment."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import attrs
import torch

from zoo import options
from zoo.callbacks import Callback, CallbackList
from zoo.data import DataOptions, Dataset, load_dataset
from zoo.engine import MIN_SPEEDUP, Engine, Ranks, Stream, bf16_speedup
from zoo.errors import Interrupted, UsageError, ZooError
from zoo.evaluation import EvaluationSettings
from zoo.interfaces import Networks, Objective
from zoo.registry import registry
from zoo.run import scoring
from zoo.run.identity import describe_run, refuse_other_run
from zoo.run.image_grids import draw_curves, draw_pictures
from zoo.run.interrupts import Interrupts
from zoo.run.resolve import resolve
from zoo.run.result import record
from zoo.run.run_folder import RunFolder
from zoo.run.settings import RunSettings, parse_size
from zoo.run.trained import TrainedModel, make_networks, wrap_trained
from zoo.run.training_loop import fit

__all__ = ["choose_device", "load_data", "train"]


def load_data(settings: RunSettings) -> Dataset:
    """The data set that a run's settings name."""
    data_options = DataOptions(
        data_dir=Path(settings.data_dir) if settings.data_dir else None,
        image_size=parse_size(settings.image_size),
        crop=settings.crop,
        channels=settings.channels,
    )
    return load_dataset(settings.dataset, data_options, registry().sources())


def choose_device(name: str) -> torch.device:
    """``auto``, ``cpu`` or ``cuda`` as a device; a missing GPU that was asked for is an error."""
    if name == "cuda" and not torch.cuda.is_available():
        raise ZooError("device: no CUDA device is available; --device cpu runs anywhere, zoo doctor tells more")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def train(
    model: str | None = None,
    *,
    config: str | Path | None = None,
    preset: str | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    callbacks: Sequence[Callback] = (),
    **given: Any,
) -> TrainedModel:
    """Train a model, score it, write a run folder, and return the trained model.

    Arguments:
        model: a registered name; may be left out where ``config`` names it.
        config: a ``config.toml`` to take settings from.
        preset: one of the model's named settings, such as ``paper``; what is given beside it goes before it.
        out: the run folder; ``runs/MODEL-DATASET-seedK`` by default.
        resume: continue the run in the folder, if one is there.
        callbacks: called during the run, before the callbacks of installed packages (hook ``zoo_callbacks``).
        given: settings (``dataset="mnist"``, ``epochs=20``, ``seed=1``, …) and the model's own options.

    Raises:
        UsageError: for settings that cannot be meant.
        ZooError: where the run fails: data that cannot be had, a loss that diverges, a full disk.
    """
    ranks = Ranks.here()
    callback = _collect_callbacks(callbacks) if ranks.leads else CallbackList()
    settings, folder = resolve(
        model,
        given,
        config=Path(config) if config else None,
        preset=preset,
        out=Path(out) if out else None,
        resume=resume,
    )
    with Interrupts() as interrupts:
        try:
            return _run(settings, folder, ranks, callback, interrupts, resume)
        except Interrupted as error:
            error.folder = folder.path if folder.config.is_file() else None
            raise


def _run(
    settings: RunSettings,
    folder: RunFolder,
    ranks: Ranks,
    callback: CallbackList,
    interrupts: Interrupts,
    resume: bool,
) -> TrainedModel:
    objective: Objective = options.build(registry().model(settings.model), settings.options)
    device = ranks.device(choose_device(settings.device))
    data = load_data(settings)
    if settings.epochs is None and settings.images is None:
        settings = attrs.evolve(settings, epochs=data.epochs)
    scorer = scoring.Scorer(settings.extractor, data, callback.note, EvaluationSettings(n=settings.samples))
    torch.manual_seed(settings.seed)
    networks = make_networks(objective, data.spec).to(device)
    if not ranks.leads:  # equal networks, but noise of its own for each process
        torch.manual_seed((settings.seed + 1_000_003 * ranks.rank) % 2**63)
    stream = Stream(data.train.images, settings.batch, settings.seed, device, data.train.labels, ranks)
    if settings.precision == "auto":
        settings = _choose_precision(settings, objective, networks, stream, callback)
    engine = Engine(objective, networks, stream, settings.precision, compile=settings.compile, graphs=settings.graphs)
    steps = engine.steps = _steps(settings, engine)
    trained = wrap_trained(objective, networks, data.spec)
    # Only now, with all that can be asked wrongly behind us, is there a folder; and only once all have looked at it.
    ranks.agree(True, device)
    resumable = ranks.agree(ranks.leads and folder.open(settings, resume=resume), device)
    try:
        if ranks.leads:
            refuse_other_run(folder, settings, data)
        if ranks.agree(folder.finished and folder.model.is_file(), device):
            callback.note(f"{folder.path} is finished already; nothing to do")
            tensors, _ = folder.load_model()
            networks.load_state_dict(tensors)
            return trained
        networks.train()
        cost = fit(
            settings,
            folder,
            engine,
            callback,
            steps,
            identity=describe_run(settings, data) if ranks.leads else {},
            resumable=resumable,
            interrupts=interrupts,
        )
        engine.release()
        networks.eval()
        if not ranks.leads:
            return trained
        facts = {
            "model": settings.model,
            "options": dict(settings.options),
            "dataset": data.name,
            "shape": list(data.shape),
            "classes": list(data.classes),
        }
        folder.save_model(networks.state_dict(), facts)
        callback.images([*draw_curves(folder), *draw_pictures(folder, trained, data, scorer.extractor)])
        result = record(settings, folder, objective, engine, data.name, scorer.score(trained), cost)
        folder.save_result(result)
        callback.finished(result, folder.path)
        return trained
    except Exception:
        if ranks.leads:
            folder.discard_if_bare()
        raise
    finally:
        folder.close()


def _collect_callbacks(callbacks: Sequence[Callback]) -> CallbackList:
    contributed, failed = registry().callbacks()
    found = CallbackList([*callbacks, *contributed])
    for failure in failed:
        found.note(str(failure))
    return found


def _choose_precision(
    settings: RunSettings, objective: Objective, networks: Networks, stream: Stream, callback: Callback
) -> RunSettings:
    ratio = bf16_speedup(objective, networks, stream)
    pays = stream.ranks.agree(ratio > MIN_SPEEDUP, stream.device)
    chosen: Literal["bf16", "fp32"] = "bf16" if pays else "fp32"
    callback.note(f"precision: {chosen}; steps in bf16 are {ratio:.2f} times as fast as in fp32 here")
    return attrs.evolve(settings, precision=chosen)


def _steps(settings: RunSettings, engine: Engine) -> int:
    if settings.images is not None:
        return max(1, settings.images // engine.images_per_step)
    batches = engine.stream.per_epoch * (settings.epochs or 0)
    if settings.epochs and batches < engine.batches_per_step:
        raise UsageError(
            f"batch: {settings.batch} is not allowed; {settings.model} draws {engine.batches_per_step} batches per "
            f"step, and {settings.epochs} epochs have {batches}; use a smaller batch or more epochs"
        )
    return batches // engine.batches_per_step
