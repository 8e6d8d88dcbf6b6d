"""The engine: plays a game table on device-resident data, one ``torch.autograd.grad`` a row, no host sync in a step."""

from __future__ import annotations

from zoo.engine.engine import Engine
from zoo.engine.precision_trial import MIN_SPEEDUP, bf16_speedup
from zoo.engine.ranks import Ranks
from zoo.engine.stream import Stream

__all__ = ["MIN_SPEEDUP", "Engine", "Ranks", "Stream", "bf16_speedup"]
