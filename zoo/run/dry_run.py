"""``zoo run --dry-run``: what a run will do and how long it will take, found without its data or a folder."""

from __future__ import annotations

import math
import resource
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import torch

from zoo.data import DataOptions, DataSpec, count_held_out, load_dataset, parse_bytes
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
    """Plan of a run: data, steps, parameters, time and memory.

    Args:
        settings: The resolved settings.
        shape: (C, H, W) of the images.
        train_images: Number of training images.
        steps: Number of steps.
        images: Images that they draw.
        parameters: Number of parameters by network.
        device: Where it will run.
        step_seconds: Time of a step here, measured on random images.
        memory_bytes: Estimated peak memory of training: that of the measured steps, of the GPU or of this process, and
            the training images unless they will be mapped from disk.
    """

    settings: RunSettings
    shape: tuple[int, int, int]
    train_images: int
    steps: int
    images: int
    parameters: Mapping[str, int]
    device: torch.device
    step_seconds: float
    memory_bytes: int

    @property
    def epochs(self) -> float:
        """Passes over the training images."""
        return self.images / self.train_images

    @property
    def seconds(self) -> float:
        """Estimated duration of training, without loading and scoring."""
        return self.steps * self.step_seconds

    def to_dict(self) -> dict[str, Any]:
        """The plan for JSON."""
        return {
            "settings": self.settings.to_table(),
            "shape": list(self.shape),
            "train_images": self.train_images,
            "steps": self.steps,
            "images": self.images,
            "epochs": self.epochs,
            "parameters": dict(self.parameters),
            "device": str(self.device),
            "step_seconds": self.step_seconds,
            "seconds": self.seconds,
            "memory_bytes": self.memory_bytes,
        }


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
    (shape, train_images, epochs), loaded = _describe_data(settings)
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
    step_seconds = _time_step(engine) if steps else 0.0
    return Plan(
        settings,
        shape,
        train_images,
        steps,
        steps * engine.images_per_step,
        {name: sum(p.numel() for p in networks[name].parameters()) for name in networks.names()},
        device,
        step_seconds,
        _peak_memory(device) + (0 if loaded and device.type == "cpu" else _data_bytes(settings, shape, train_images)),
    )


def _describe_data(settings: RunSettings) -> tuple[tuple[tuple[int, int, int], int, int], bool]:
    """Shape, number of training images and default epochs of a data set; and whether it had to be loaded."""
    source = registry().sources().get(settings.dataset)
    if source is not None and source.shape is not None and source.train_images is not None:
        return (source.shape, source.train_images, source.epochs), False
    data_options = DataOptions(
        data_dir=Path(settings.data_dir) if settings.data_dir else None,
        format=settings.image_format,
        download=False,
    )
    data = load_dataset(settings.dataset, data_options, registry().sources())
    return (data.shape, len(data.train), data.epochs), True


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


def _peak_memory(device: torch.device) -> int:
    """Peak memory so far in bytes: that of the GPU, or that of the process with its libraries."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _data_bytes(settings: RunSettings, shape: tuple[int, int, int], train_images: int) -> int:
    """Bytes of the training images in memory: none if they will be mapped from disk."""
    memory = None if settings.data_memory is None else parse_bytes(settings.data_memory, "data_memory")
    size = train_images * math.prod(shape)
    return size if size <= DataOptions(memory=memory).memory_limit else 0
