"""The engine: plays a game table on device-resident data, one ``torch.autograd.grad`` a row, no host sync in a step."""

from __future__ import annotations

from zoo.engine.engine import Engine
from zoo.engine.probe import WORTH, bf16_pays
from zoo.engine.ranks import Ranks
from zoo.engine.stream import Stream

__all__ = ["WORTH", "Engine", "Ranks", "Stream", "bf16_pays"]
