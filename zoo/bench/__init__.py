"""Benchmarks: every model on every data set with every seed under one protocol, on whatever machines there are.

>>> from zoo.bench import Protocol
>>> Protocol().label.partition("#")[0]
'quick@1'
"""

from __future__ import annotations

from zoo.bench.board import Board, State
from zoo.bench.cells import Cell, End, Job
from zoo.bench.executors import Executor, Resources
from zoo.bench.grid import StoppedError
from zoo.bench.protocol import Grid, Protocol
from zoo.bench.run import run_grid

__all__ = [
    "Board",
    "Cell",
    "End",
    "Executor",
    "Grid",
    "Job",
    "Protocol",
    "Resources",
    "State",
    "StoppedError",
    "run_grid",
]
