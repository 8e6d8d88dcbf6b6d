"""The training engine; :class:`Engine` in ``engine.py`` is the place to start reading."""

from __future__ import annotations

from zoo.engine.batch_stream import BatchStream
from zoo.engine.bf16_trial import MIN_SPEEDUP, bf16_speedup
from zoo.engine.distributed import Ranks
from zoo.engine.engine import Engine

__all__ = ["MIN_SPEEDUP", "BatchStream", "Engine", "Ranks", "bf16_speedup"]
