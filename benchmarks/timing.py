"""Shared by the speed benchmarks: engines with equal networks, and alternating timed blocks of steps."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Mapping
from typing import Any

import torch
from loops import Step
from torch import Tensor

import zoo
from zoo import options
from zoo.data import DataSpec, load_dataset
from zoo.engine import BatchStream, Engine
from zoo.registry import registry
from zoo.run.trained import make_networks

CHECK_STEPS = 20
Table = list[dict[str, Any]]


def seconds(step: Step, steps: int, device: torch.device) -> float:
    """That so many steps take."""
    wait(device)
    start = time.perf_counter()
    for _ in range(steps):
        step()
    wait(device)
    return time.perf_counter() - start


def wait(device: torch.device) -> None:
    """Until the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Bench:
    """Data, device and patience of a measurement."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.device, self.batch = torch.device(args.device), args.batch
        self.pairs, self.block = args.pairs, args.block_seconds
        data = load_dataset(args.dataset, zoo.DataOptions(data_dir=args.data_dir), registry().sources())
        self.dataset, self.data_dir = args.dataset, args.data_dir
        self.spec, self.images = data.spec, data.train.images

    def model(self, name: str, **settings: Any) -> Any:
        """A model by name, or one of the peers' games."""
        return options.build(registry().model(name), settings)

    def networks(self, model: Any, spec: DataSpec | None = None) -> zoo.Networks:
        """The same networks at every call."""
        torch.manual_seed(0)
        return make_networks(model, spec or self.spec).to(self.device)

    def engine(self, model: Any, images: Tensor | None = None, spec: DataSpec | None = None, **settings: Any) -> Engine:
        """A fresh engine on fresh networks."""
        images = self.images if images is None else images
        stream = BatchStream(images, settings.pop("batch", self.batch), 0, self.device)
        return Engine(model, self.networks(model, spec), stream, **settings)

    def seconds(self, step: Step, steps: int) -> float:
        """That so many steps take."""
        return seconds(step, steps, self.device)

    def wait(self) -> None:
        """Until the device is done."""
        wait(self.device)

    def steps_a_block(self, step: Step) -> int:
        """Steps that fill a block."""
        self.seconds(step, 3)
        return max(2, round(self.block / (self.seconds(step, 5) / 5)))

    def compare(self, steps: Mapping[str, Step], base: str) -> dict[str, dict[str, Any]]:
        """Images/s of each, and its ratio to ``base``: blocks in turn, the order turned about each round."""
        counts = {name: self.steps_a_block(step) for name, step in steps.items()}
        rates: dict[str, list[float]] = {name: [] for name in steps}
        for i in range(self.pairs):
            for name in list(steps)[:: 1 if i % 2 == 0 else -1]:
                rates[name].append(counts[name] * self.batch / self.seconds(steps[name], counts[name]))
        found = {}
        for name, mine in rates.items():
            ratios = [a / b for a, b in zip(mine, rates[base], strict=True)]
            low, middle, high = statistics.quantiles(ratios, n=4)
            found[name] = {
                "images/s": round(statistics.median(mine)),
                "ratio": round(middle, 3),
                "quartiles": [round(low, 3), round(high, 3)],
            }
        return found


def largest_difference(one: zoo.Networks, other: zoo.Networks) -> float:
    """Between weights, relative to the largest weight of each tensor."""
    pairs = ((a.detach(), b.detach()) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    return max(float((a - b).abs().max() / a.abs().max().clamp_min(1e-12)) for a, b in pairs)


def show(row: Mapping[str, Any]) -> None:
    """A row as it is measured."""
    print("  ".join(f"{k}: {v}" for k, v in row.items()), flush=True)
