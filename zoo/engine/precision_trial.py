"""Which precision trains faster here: found by trying, since processors and cards differ, and models too."""

from __future__ import annotations

import copy
import statistics
import time

import torch

from zoo.engine.engine import Engine
from zoo.engine.stream import Stream
from zoo.interfaces import Networks, Objective

__all__ = ["bf16_speedup"]

BLOCKS = 5
BLOCK_SECONDS = 0.2
MIN_SPEEDUP = 1.05
"""How much faster bf16 must be: less is not worth eight bits of mantissa, nor beyond a short trial's noise."""


def bf16_speedup(objective: Objective, networks: Networks, stream: Stream) -> float:
    """How many times as fast uncompiled steps in bf16 are as those in fp32, on copies: nothing here moves or is drawn.

    Arguments:
        objective: the model.
        networks: its networks.
        stream: the training images.

    Returns:
        The ratio, a median of alternating blocks; above :data:`MIN_SPEEDUP` it is worth it.
    """
    cuda = [stream.device] if stream.device.type == "cuda" else []
    with torch.random.fork_rng(cuda):
        fp32, bf16 = (Engine(objective, copy.deepcopy(networks), stream, p) for p in ("fp32", "bf16"))
        each = max(_seconds(engine, 6) for engine in (fp32, bf16)) / 6  # the first steps are slow: they also warm up
        steps = max(2, round(BLOCK_SECONDS / each))
        ratios = []
        for i in range(BLOCKS):
            first, second = (fp32, bf16) if i % 2 == 0 else (bf16, fp32)
            spent = {first: _seconds(first, steps), second: _seconds(second, steps)}
            ratios.append(spent[fp32] / spent[bf16])
    return statistics.median(ratios)


def _seconds(engine: Engine, steps: int) -> float:
    start = time.perf_counter()
    for _ in range(steps):
        engine.step()
    if engine.stream.device.type == "cuda":
        torch.cuda.synchronize(engine.stream.device)
    return time.perf_counter() - start
