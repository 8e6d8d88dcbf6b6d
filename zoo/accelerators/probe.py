"""Which kernels are faster on this machine: measured once, then read from a file, so that all runs decide alike."""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from filelock import FileLock
from torch import Tensor, nn

from zoo.accelerators import cpu
from zoo.accelerators.kernel_names import KERNELS
from zoo.files import open_atomic

__all__ = ["MIN_SPEEDUP", "faster_kernels", "processor", "speedups"]

MIN_SPEEDUP = 1.1
"""Smallest speedup for which a kernel is used: less is within the noise of the measurement."""
ROUNDS = 9

Case = tuple[Callable[[], nn.Module], tuple[int, ...]]
_CASES: dict[str, Case] = {
    "linear": (lambda: nn.Linear(784, 512), (128, 784)),
    "deconvolution": (lambda: nn.ConvTranspose2d(32, 1, 4, 2, 1), (128, 32, 14, 14)),
    "weight-gradient": (lambda: nn.Conv2d(32, 64, 4, 2, 1), (128, 32, 14, 14)),
}
"""A typical layer of each kernel, and its input."""


def faster_kernels(kernels: Iterable[str], folder: Path, *, bf16: bool = False) -> tuple[str, ...]:
    """Those of ``kernels`` that are faster than torch's on this machine; see :func:`speedups`."""
    found = speedups(kernels, folder, bf16=bf16)
    return tuple(name for name in KERNELS if found.get(name, 0.0) >= MIN_SPEEDUP)


def speedups(kernels: Iterable[str], folder: Path, *, bf16: bool = False) -> dict[str, float]:
    """Seconds of torch's kernel divided by those of ours, for a typical layer of each kernel.

    Measured in about 0.1 seconds per kernel and kept in ``folder`` under the processor, torch's version, the number of
    threads and the precision. Of several processes, one measures and the others read what it found.

    Args:
        kernels: names of kernels.
        folder: folder of the measurements; without access to it, each process measures for itself.
        bf16: whether to measure under bfloat16 autocast.
    """
    wanted = list(kernels)
    facts = [processor(), torch.__version__, torch.get_num_threads(), "bf16" if bf16 else "fp32"]
    path = folder / f"{hashlib.sha256(repr(facts).encode()).hexdigest()[:16]}.json"
    found = _read(path)
    if not set(wanted) <= found.keys():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(path.with_suffix(".lock")):
                found = _read(path)
                found |= {name: _measure(name, bf16) for name in wanted if name not in found}
                with open_atomic(path, sync=False) as file:
                    file.write(json.dumps({"machine": facts, "speedups": found}, indent=2).encode())
        except OSError:
            found |= {name: _measure(name, bf16) for name in wanted if name not in found}
    return {name: found[name] for name in wanted}


def processor() -> str:
    """Vendor, family, model and instructions of the processor, as one line."""
    keys = ("vendor_id", "cpu family", "model", "model name", "stepping")
    facts: dict[str, str] = {}
    try:
        for line in Path("/proc/cpuinfo").read_text(errors="replace").partition("\n\n")[0].splitlines():
            name, _, value = line.partition(":")
            facts[name.strip()] = value.strip()
    except OSError:
        return f"{platform.machine()} {platform.processor()} {torch.backends.cpu.get_cpu_capability()}"
    return " ".join([*(facts.get(key, "") for key in keys), torch.backends.cpu.get_cpu_capability()])


def _read(path: Path) -> dict[str, float]:
    try:
        found = json.loads(path.read_text())["speedups"]
        return {name: float(found[name]) for name in KERNELS if name in found}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _measure(name: str, bf16: bool) -> float:
    make, shape = _CASES[name]
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        ours, theirs, x = make(), make(), torch.randn(shape)
    if x.dim() == 4:
        x = x.contiguous(memory_format=torch.channels_last)
        ours, theirs = (layer.to(memory_format=torch.channels_last) for layer in (ours, theirs))
    cpu.accelerate(ours, bf16=bf16, kernels=(name,))
    x.requires_grad_()
    best = {ours: float("inf"), theirs: float("inf")}
    for i in range(2 + ROUNDS):
        for layer in (ours, theirs) if i % 2 else (theirs, ours):
            taken = _seconds(layer, x, bf16)
            if i >= 2:  # the shortest time is the one that other processes disturbed least
                best[layer] = min(best[layer], taken)
    return round(best[theirs] / best[ours], 3)


def _seconds(layer: nn.Module, x: Tensor, bf16: bool) -> float:
    begin = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        y = layer(x)
    torch.autograd.grad(y, [x, *layer.parameters()], torch.ones_like(y))
    return time.perf_counter() - begin
