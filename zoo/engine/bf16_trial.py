"""Speed of training steps in bfloat16 relative to float32, measured for ``--precision auto``."""

from __future__ import annotations

import copy
import statistics
import time

import torch

from zoo.engine.batch_stream import BatchStream
from zoo.engine.engine import Engine
from zoo.interfaces import Networks, Objective

__all__ = ["MIN_SPEEDUP", "bf16_speedup"]

BLOCKS = 5
BLOCK_SECONDS = 0.2
MIN_SPEEDUP = 1.05
"""Smallest speedup for which ``auto`` chooses bf16: less does not justify its precision and is within the noise."""


def bf16_speedup(objective: Objective, networks: Networks, stream: BatchStream) -> float:
    """Measure how many times faster uncompiled steps are in bf16 than in fp32.

    Trains copies of the networks; the networks themselves and the random state stay as they are.

    Args:
        objective: the model.
        networks: networks of the model.
        stream: training images.

    Returns:
        Ratio of seconds per step, fp32 to bf16: the median of alternating blocks.
    """
    cuda = [stream.device] if stream.device.type == "cuda" else []
    with torch.random.fork_rng(cuda):
        fp32, bf16 = (Engine(objective, copy.deepcopy(networks), stream, p) for p in ("fp32", "bf16"))
        step_seconds = max(_seconds(engine, 6) for engine in (fp32, bf16)) / 6  # also warms up
        steps = max(2, round(BLOCK_SECONDS / step_seconds))
        ratios = []
        for i in range(BLOCKS):
            first, second = (fp32, bf16) if i % 2 == 0 else (bf16, fp32)
            seconds = {first: _seconds(first, steps), second: _seconds(second, steps)}
            ratios.append(seconds[fp32] / seconds[bf16])
    return statistics.median(ratios)


def _seconds(engine: Engine, steps: int) -> float:
    start = time.perf_counter()
    for _ in range(steps):
        engine.step()
    if engine.stream.device.type == "cuda":
        torch.cuda.synchronize(engine.stream.device)
    return time.perf_counter() - start
