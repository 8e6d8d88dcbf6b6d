"""``zoo.train``: a resumable run from settings to result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import attrs
import torch

from zoo import options
from zoo.accelerators import KERNELS, choose_kernels, parse_kernels
from zoo.callbacks import Callback, CallbackList
from zoo.data import DataOptions, Dataset, cache_dir, hold_out, load_dataset, parse_bytes
from zoo.engine import MIN_SPEEDUP, BatchStream, Engine, Ranks, bf16_speedup
from zoo.errors import Interrupted, UsageError, ZooError
from zoo.evaluation import EvaluationSettings
from zoo.interfaces import Networks, Objective
from zoo.interrupts import Interrupts
from zoo.registry import registry
from zoo.run import scoring
from zoo.run.identity import describe_run, is_checkpoint_of_0_1_0, refuse_other_run
from zoo.run.image_grids import draw_curves, draw_images
from zoo.run.length import count_steps
from zoo.run.resolve import ResolvedRun, resolve
from zoo.run.result import build_result
from zoo.run.settings import RESULT_NEUTRAL_SETTINGS, RunSettings, public_settings
from zoo.run.snapshots import Snapshots, draw_animation
from zoo.run.trained import TrainedModel, load, make_networks, wrap_trained
from zoo.run.training_loop import fit

__all__ = ["choose_device", "load_data", "train"]


def load_data(settings: RunSettings, progress: Callable[[int, int], None] | None = None) -> Dataset:
    """Load the data set of a run.

    Args:
        settings: Settings of the run.
        progress: Called while images are decoded, with their number so far and in total.
    """
    data_options = DataOptions(
        data_dir=Path(settings.data_dir) if settings.data_dir else None,
        format=settings.image_format,
        memory=None if settings.data_memory is None else parse_bytes(settings.data_memory, "data_memory"),
        progress=progress,
    )
    data = load_dataset(settings.dataset, data_options, registry().sources())
    return data if settings.validation is None else hold_out(data, settings.validation)


def choose_device(name: str) -> torch.device:
    """Return the device called ``auto``, ``cpu`` or ``cuda``.

    Raises:
        ZooError: If ``cuda`` is not available.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ZooError("device: no CUDA device is available; use --device cpu, or see zoo doctor")
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

    Args:
        model: Name of a registered model; may be omitted if ``config`` names it.
        config: A ``config.toml`` with settings.
        preset: Name of a preset of the model, such as ``paper``; other arguments take precedence over it.
        out: The run folder; ``runs/MODEL-DATASET-seedK`` by default.
        resume: Continue the run in the folder, if there is one.
        callbacks: Called during the run, before the callbacks of installed packages (hook ``zoo_callbacks``) and the
            trackers of the setting ``tracker``.
        given: Settings (``dataset="mnist"``, ``epochs=20``, ``seed=1``, …) and the model's own options.

    Raises:
        UsageError: If a setting is not allowed.
        ZooError: If the run fails: data are not available, a loss diverges, a finding of ``stop_on``, the disk is full.
        Interrupted: If SIGINT, SIGTERM or SIGHUP stops the run; its checkpoint is saved.
    """
    for name, path in (("config", config), ("out", out)):
        if path is not None and not str(path):
            raise UsageError(f"{name}: '' is not allowed; must be a path")
    ranks = Ranks.from_environment()
    callback = _collect_callbacks(callbacks) if ranks.is_main else CallbackList()
    run = resolve(model, given, config=config, preset=preset, out=out, resume=resume)
    if ranks.is_main:
        callback.callbacks += registry().make_trackers(options.split_names(run.settings.tracker))
    with Interrupts() as interrupts:
        try:
            return _run(run, ranks, callback, interrupts, resume)
        except Interrupted as error:
            error.folder = run.folder.path if run.folder.config.is_file() else None
            callback.stopped(error)
            raise
        except Exception as error:
            callback.stopped(error)
            raise


def _run(run: ResolvedRun, ranks: Ranks, callback: CallbackList, interrupts: Interrupts, resume: bool) -> TrainedModel:
    settings, objective, folder = run.settings, run.objective, run.folder
    device = ranks.device(choose_device(settings.device))
    data = load_data(settings, callback.decoded)
    if settings.epochs is None and settings.images is None:
        settings = attrs.evolve(settings, epochs=data.epochs)
    evaluation = EvaluationSettings(n=settings.samples)
    scorer = scoring.Scorer(settings.extractor, data, callback.note, evaluation, callback.scored)
    torch.manual_seed(settings.seed)
    networks = make_networks(objective, data.spec).to(device)
    if not ranks.is_main:  # the networks are equal, the noise of each process its own
        torch.manual_seed((settings.seed + 1_000_003 * ranks.rank) % 2**63)
    stream = BatchStream(data.train.images, settings.batch, settings.seed, device, data.train.labels, ranks)
    if settings.precision == "auto":
        settings = _choose_precision(settings, objective, networks, stream, callback)
    settings = _choose_kernels(settings, networks, stream, data)
    engine = Engine(
        objective,
        networks,
        stream,
        settings.precision,
        kernels=parse_kernels(settings.kernels),
        optimization=settings.optimization(),
        compile=settings.compile,
        graphs=settings.graphs,
    )
    steps = engine.steps = count_steps(settings, stream.per_epoch, engine.batches_per_step)
    trained = wrap_trained(objective, networks, data.spec)
    # The folder is created after all checks, and after every process has looked for a finished run.
    ranks.broadcast(True, device)
    resumable = ranks.broadcast(ranks.is_main and folder.open(settings, resume=resume), device)
    try:
        if ranks.is_main:
            refuse_other_run(folder, settings, data)
        if resumable and is_checkpoint_of_0_1_0(folder.checkpoint_facts()):
            steps = engine.steps = count_steps(
                settings, stream.per_epoch, engine.batches_per_step, round_each_epoch=True
            )
        if ranks.broadcast(folder.finished and folder.model.is_file(), device):
            finished = load(folder.path, device=str(device))  # also checks the result
            callback.note(f"{folder.path} is finished already; nothing to do")
            return finished
        networks.train()
        cost, health = fit(
            settings,
            folder,
            engine,
            callback,
            steps,
            Snapshots(folder, trained, engine, steps, settings.snapshots),
            identity=describe_run(settings, data) if ranks.is_main else {},
            resumable=resumable,
            interrupts=interrupts,
        )
        engine.finish()
        if engine.ema is not None:
            engine.ema.copy_to(networks)
        networks.eval()
        if not ranks.is_main:
            return trained
        facts = {
            "model": settings.model,
            "options": dict(settings.options),
            "dataset": data.name,
            "shape": list(data.shape),
            "classes": list(data.classes),
            "settings": {k: v for k, v in public_settings(settings).items() if k not in RESULT_NEUTRAL_SETTINGS},
        }
        folder.save_model(networks.state_dict(), facts)
        drawn = [*draw_curves(folder), *draw_animation(folder)]
        callback.images([*drawn, *draw_images(folder, trained, data, scorer.extractor)])
        result = build_result(settings, folder, objective, engine, data.name, scorer.score(trained), cost, health)
        folder.save_result(result)
        callback.finished(result, folder.path)
        return trained
    except Exception:
        if ranks.is_main:
            folder.discard_if_empty()
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
    settings: RunSettings, objective: Objective, networks: Networks, stream: BatchStream, callback: Callback
) -> RunSettings:
    ratio = bf16_speedup(objective, networks, stream)
    pays = stream.ranks.broadcast(ratio > MIN_SPEEDUP, stream.device)
    chosen: Literal["bf16", "fp32"] = "bf16" if pays else "fp32"
    callback.note(f"precision: {chosen}; steps are {ratio:.2f} times as fast in bf16 as in fp32")
    return attrs.evolve(settings, precision=chosen)


def _choose_kernels(settings: RunSettings, networks: Networks, stream: BatchStream, data: Dataset) -> RunSettings:
    ranks, chosen = stream.ranks, settings.kernels
    if ranks.is_main:
        folder, bf16 = cache_dir() / "kernels", settings.precision == "bf16"
        batch, pixels = settings.batch // ranks.size, data.shape[1] * data.shape[2]
        chosen = choose_kernels(chosen, networks, stream.device, batch, pixels, folder, bf16=bf16)
    # The first process decides for all.
    names = [name for name in KERNELS if ranks.broadcast(name in chosen.split(","), stream.device)]
    return attrs.evolve(settings, kernels=",".join(names) or "torch")
