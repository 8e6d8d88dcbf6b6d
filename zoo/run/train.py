"""``zoo.train``: a run from settings to result, resumable at any moment."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Protocol, Self

import attrs
import torch

from zoo import options
from zoo.data import DataOptions, Dataset, load_dataset
from zoo.engine import WORTH, Engine, Ranks, Stream, bf16_pays
from zoo.errors import UsageError, ZooError, unknown_name
from zoo.interfaces import Networks, Objective
from zoo.registry import registry
from zoo.run import scoring
from zoo.run.folder import RunFolder
from zoo.run.pictures import draw_curves, draw_pictures
from zoo.run.record import record
from zoo.run.settings import INCIDENTAL, RunSettings, differences, parse_size
from zoo.run.trained import Trained, bind, make_networks

__all__ = ["Reporter", "Silent", "load_data", "resolve", "train"]

LOGGED_LINES = 200
"""Lines of metrics.jsonl in a run, about."""


class Reporter(Protocol):
    """Who is told how a run goes."""

    def started(self, settings: RunSettings, folder: Path, total_images: int, begin: int) -> None:
        """Training begins, at image ``begin`` of ``total_images``."""

    def progressed(self, images: int, epoch: float, terms: Mapping[str, float] | None) -> None:
        """So many images were seen; ``terms`` are their means when they were just read."""

    def note(self, text: str) -> None:
        """Something that the user should know."""

    def finished(self, result: Mapping[str, Any], folder: Path) -> None:
        """The run is done."""


class Silent:
    """Tells nobody."""

    def started(self, settings: RunSettings, folder: Path, total_images: int, begin: int) -> None: ...

    def progressed(self, images: int, epoch: float, terms: Mapping[str, float] | None) -> None: ...

    def note(self, text: str) -> None: ...

    def finished(self, result: Mapping[str, Any], folder: Path) -> None: ...


def resolve(
    model: str | None, given: Mapping[str, Any], *, config: Path | None, out: Path | None, resume: bool
) -> tuple[RunSettings, RunFolder]:
    """The settings and the folder that a request means.

    ``given`` holds what was asked for explicitly: settings of the run and options of the model by name. It goes before
    ``config``, and that before the defaults. With ``resume``, the folder's own settings hold, and what was asked for
    must agree with them.

    Raises:
        UsageError: for anything that cannot be meant.
    """
    base = RunSettings.from_file(config) if config else RunSettings()
    asked = {**base.options, **given} if config else dict(given)
    run_given = {k: v for k, v in given.items() if k in (*options.options_of(RunSettings), "protocol")}
    settings = _evolve(base, {"model": model or base.model, **run_given})
    chosen = {k: v for k, v in asked.items() if k not in run_given}
    if config and "protocol" not in given and _leaves_protocol(base, attrs.evolve(settings, options=chosen)):
        settings = attrs.evolve(settings, protocol="")
    folder = RunFolder(out or settings.default_folder())
    if resume and folder.config.is_file():
        there = folder.settings()
        merged = _evolve(there, {"options": {**there.options, **chosen}, **_explicit(base, config, run_given)})
        merged = attrs.evolve(merged, model=settings.model or there.model)
        if merged.precision == "auto":  # which was settled when the run began
            merged = attrs.evolve(merged, precision=there.precision)
        changed = differences(there, merged)
        if changed:
            raise UsageError(
                f"resume: {folder.path} was begun with {'; '.join(changed)}; leave that out, or choose another --out"
            )
        saved = {k: v for k, v in run_given.items() if k in INCIDENTAL}
        return attrs.evolve(there, **saved), folder
    if not settings.model:
        raise UsageError("model: name one, as in zoo run vaegan; zoo list models shows all")
    objective = options.build(registry().model(settings.model), chosen)
    if not resume:
        folder.refuse_if_taken()
    return attrs.evolve(settings, options=options.settings_of(objective)), folder


def _absolute(name: str, value: Any) -> Any:
    # A run is repeated and read from anywhere, so no path in its settings may hang on where it was begun.
    if name == "data_dir" and value:
        return os.path.abspath(Path(value).expanduser())
    if name == "dataset" and isinstance(value, str) and value.startswith("folder:") and value != "folder:":
        return "folder:" + os.path.abspath(Path(value.removeprefix("folder:")).expanduser())
    return value


def _preset(model: str | None, name: str, config: object, given: Mapping[str, Any]) -> dict[str, Any]:
    if config is not None:
        raise UsageError(f"preset: {name!r} is not allowed beside a config, which already holds every setting")
    if model is None:
        raise UsageError("model: name one, as in zoo run bigan --preset paper; zoo list models shows all")
    presets = registry().model(model).presets
    if name not in presets:
        raise unknown_name(f"preset of {model}", name, presets)
    amount = {"epochs", "images"}
    left_out = amount if amount & set(given) else set()
    return {k: v for k, v in presets[name].items() if k not in left_out}


def _evolve(settings: RunSettings, changes: Mapping[str, Any]) -> RunSettings:
    # The amount of training is named in one way or the other: naming it takes the other's place.
    changes = dict(changes)
    for name, other in (("epochs", "images"), ("images", "epochs")):
        if changes.get(name) is not None and changes.get(other) is None:
            changes[other] = None
    return attrs.evolve(settings, **changes)


def _leaves_protocol(base: RunSettings, settings: RunSettings) -> bool:
    # Another seed, or another machine, is still the same protocol; any other change is not.
    return bool(differences(base, attrs.evolve(settings, seed=base.seed, device=base.device)))


def _explicit(base: RunSettings, config: Path | None, run_given: Mapping[str, Any]) -> dict[str, Any]:
    return {**(options.settings_of(base) if config else {}), **run_given}


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
    report: Reporter | None = None,
    **given: Any,
) -> Trained:
    """Train a model, score it, write a run folder, and return the trained model.

    Arguments:
        model: a registered name; may be left out where ``config`` names it.
        config: a ``config.toml`` to take settings from.
        preset: one of the model's named settings, such as ``paper``; what is given beside it goes before it.
        out: the run folder; ``runs/MODEL-DATASET-seedK`` by default.
        resume: continue the run in the folder, if one is there.
        report: who is told about progress; nobody by default.
        given: settings (``dataset="mnist"``, ``epochs=20``, ``seed=1``, …) and the model's own options.

    Raises:
        UsageError: for settings that cannot be meant.
        ZooError: where the run fails: data that cannot be had, a loss that diverges, a full disk.
    """
    ranks = Ranks.here()
    reporter = report if report and ranks.leads else Silent()
    given = {k: _absolute(k, str(v) if isinstance(v, Path) else v) for k, v in given.items()}
    if preset is not None:
        given = {**_preset(model, preset, config, given), **given}
    settings, folder = resolve(
        model, given, config=Path(config) if config else None, out=Path(out) if out else None, resume=resume
    )
    objective: Objective = options.build(registry().model(settings.model), settings.options)
    device = ranks.device(choose_device(settings.device))
    data = load_data(settings)
    if settings.epochs is None and settings.images is None:
        settings = attrs.evolve(settings, epochs=data.epochs)
    scorer = scoring.Scorer(settings.extractor, data, reporter.note, settings.samples)
    torch.manual_seed(settings.seed)
    networks = make_networks(objective, data.spec).to(device)
    if not ranks.leads:  # equal networks, but noise of its own for each process
        torch.manual_seed((settings.seed + 1_000_003 * ranks.rank) % 2**63)
    stream = Stream(data.train.images, settings.batch, settings.seed, device, data.train.labels, ranks)
    if settings.precision == "auto":
        settings = _choose_precision(settings, objective, networks, stream, reporter)
    engine = Engine(objective, networks, stream, settings.precision, compile=settings.compile, graphs=settings.graphs)
    steps = engine.steps = _steps(settings, engine)
    trained = bind(objective, networks, data.spec)
    # Only now, with all that can be asked wrongly behind us, is there a folder; and only once all have looked at it.
    ranks.agree(True, device)
    resumable = ranks.agree(ranks.leads and folder.open(settings, resume=resume), device)
    try:
        if ranks.agree(folder.finished and folder.model.is_file(), device):
            reporter.note(f"{folder.path} is finished already; nothing to do")
            tensors, _ = folder.load_model()
            networks.load_state_dict(tensors)
            return trained
        networks.train()
        cost = _fit(settings, folder, engine, reporter, steps, resumable)
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
        draw_curves(folder)
        draw_pictures(folder, trained, data, scorer.extractor)
        result = record(settings, folder, objective, engine, data.name, scorer.score(trained), cost)
        folder.save_result(result)
        reporter.finished(result, folder.path)
        return trained
    except Exception:
        if ranks.leads:
            folder.discard_if_bare()
        raise
    finally:
        folder.close()


def _choose_precision(
    settings: RunSettings, objective: Objective, networks: Networks, stream: Stream, reporter: Reporter
) -> RunSettings:
    ratio = bf16_pays(objective, networks, stream)
    pays = stream.ranks.agree(ratio > WORTH, stream.device)
    chosen: Literal["bf16", "fp32"] = "bf16" if pays else "fp32"
    reporter.note(f"precision: {chosen}; steps in bf16 are {ratio:.2f} times as fast as in fp32 here")
    return attrs.evolve(settings, precision=chosen)


def _steps(settings: RunSettings, engine: Engine) -> int:
    if settings.images is not None:
        return max(1, settings.images // engine.images_per_step)
    per_epoch = engine.stream.per_epoch // engine.batches_per_step
    if per_epoch < 1:
        raise UsageError(
            f"batch: {settings.batch} is not allowed; {settings.model} draws {engine.batches_per_step} batches a "
            "step, more than the data set holds"
        )
    return per_epoch * (settings.epochs or 0)


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


def _fit(
    settings: RunSettings, folder: RunFolder, engine: Engine, reporter: Reporter, steps: int, resumable: bool
) -> dict[str, Any]:
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
    reporter.started(settings, folder.path, steps * engine.images_per_step, begin_images)
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
                    reporter.note(f"{what}: not used, steps stay eager: {why}")
            terms = None
            if step % every == 0 or step == steps:
                norms = engine.gradient_norms()
                terms = engine.read()
                seconds = before + time.perf_counter() - begin
                if ranks.leads:
                    folder.append_metrics(scoring.metrics_line(step, engine.images_seen, seconds, terms, norms))
            if step % 8 == 0 or terms:
                epoch = step * engine.batches_per_step / engine.stream.per_epoch
                reporter.progressed(engine.images_seen, epoch, terms)
            stop, due = interrupts.asked, time.perf_counter() - saved >= settings.checkpoint_seconds
            if ranks.size > 1:
                # What needs all of them they do at the same step, when the first says so.
                stop, due = (bool(terms) and ranks.agree(flag, device) for flag in (stop, due))
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
        "steps": {"mode": engine.mode, **engine.fallbacks},
    }
