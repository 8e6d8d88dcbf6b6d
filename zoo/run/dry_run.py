"""``zoo run --dry-run``: what a run will do and how long it will take, found without its data or a folder."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import torch

from zoo.data import DataOptions, DataSpec, count_held_out, load_dataset
from zoo.engine import BatchStream, Engine
from zoo.errors import UsageError
from zoo.interfaces import Objective
from zoo.registry import registry
from zoo.run.length import count_steps
from zoo.run.resolve import resolve
from zoo.run.settings import RunSettings
from zoo.run.train import choose_device
from zoo.run.trained import make_networks

__all__ = ["Plan", "plan_run"]

TIMED_SECONDS = 2.0
"""Steps are timed for about as long, and at least once."""
CLASSES = 10


@attrs.frozen
class Plan:
    """What a run will do.

    Args:
        settings: The resolved settings.
        shape: (C, H, W) of the images.
        train_images: Number of training images.
        steps: Number of steps.
        images: Images that they draw.
        parameters: Number of parameters by network.
        device: Where it will run.
        step_seconds: Time of a step here, measured on random images.
    """

    settings: RunSettings
    shape: tuple[int, int, int]
    train_images: int
    steps: int
    images: int
    parameters: Mapping[str, int]
    device: torch.device
    step_seconds: float

    @property
    def epochs(self) -> float:
        """Passes over the training images."""
        return self.images / self.train_images

    @property
    def seconds(self) -> float:
        """Estimated duration of training, without loading and scoring."""
        return self.steps * self.step_seconds


def plan_run(
    model: str | None = None,
    *,
    config: str | Path | None = None,
    preset: str | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    **given: Any,
) -> Plan:
    """Resolve a run as :func:`zoo.train` does and time a few of its steps on random images.

    Nothing is downloaded, and nothing is written. A data set whose size is not announced is loaded.

    Args:
        model: Name of a registered model; may be omitted if ``config`` names it.
        config: A ``config.toml`` with settings.
        preset: Name of a preset of the model.
        out: The run folder.
        resume: Whether to continue the run in the folder.
        given: Settings and the model's options.

    Raises:
        UsageError: If a setting is not allowed.
        ZooError: If the data set must be loaded and is not there.
    """
    run = resolve(model, given, config=config, preset=preset, out=out, resume=resume)
    settings, objective = run.settings, run.objective
    shape, train_images, epochs = _describe_data(settings)
    if settings.validation is not None:
        train_images -= count_held_out(train_images, settings.validation)
    if settings.epochs is None and settings.images is None:
        settings = attrs.evolve(settings, epochs=epochs)
    if settings.batch > train_images:
        raise UsageError(
            f"batch: {settings.batch} is not allowed; the data set has {train_images} training images, use at most that"
        )
    device = choose_device(settings.device)
    engine = _random_engine(settings, objective, shape, device)
    steps = count_steps(settings, train_images // settings.batch, engine.batches_per_step)
    networks = engine.networks
    return Plan(
        settings,
        shape,
        train_images,
        steps,
        steps * engine.images_per_step,
        {name: sum(p.numel() for p in networks[name].parameters()) for name in networks.names()},
        device,
        _time_step(engine) if steps else 0.0,
    )


def _describe_data(settings: RunSettings) -> tuple[tuple[int, int, int], int, int]:
    """Shape, number of training images and default epochs of a data set; it is loaded only if it must be."""
    source = registry().sources().get(settings.dataset)
    if source is not None and source.shape is not None and source.train_images is not None:
        return source.shape, source.train_images, source.epochs
    data_options = DataOptions(
        data_dir=Path(settings.data_dir) if settings.data_dir else None,
        format=settings.image_format,
        download=False,
    )
    data = load_dataset(settings.dataset, data_options, registry().sources())
    return data.shape, len(data.train), data.epochs


def _random_engine(
    settings: RunSettings, objective: Objective, shape: tuple[int, int, int], device: torch.device
) -> Engine:
    turns = objective.turns()
    images = max(settings.batch * max(turn.repeat for turn in turns), *(turn.labeled_images for turn in turns))
    torch.manual_seed(settings.seed)
    networks = make_networks(objective, DataSpec(settings.dataset, shape, tuple("0123456789"))).to(device)
    pixels = torch.randint(0, 256, (images, *shape), dtype=torch.uint8)
    stream = BatchStream(pixels, settings.batch, settings.seed, device, torch.arange(images) % CLASSES)
    return Engine(
        objective,
        networks.train(),
        stream,
        "fp32" if settings.precision == "auto" else settings.precision,
        optimization=settings.optimization(),
        compile=settings.compile,
        graphs=settings.graphs,
    )


def _time_step(engine: Engine) -> float:
    """Seconds per step, after steps that warm up: the first allocate, compile or capture."""
    device = engine.stream.device
    for _ in range(5 if device.type == "cuda" else 1):
        engine.step()
    steps, begin = 0, _now(device)
    while not steps or _now(device) - begin < TIMED_SECONDS:
        engine.step()
        steps += 1
    return (_now(device) - begin) / steps


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
