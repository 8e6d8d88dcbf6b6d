from zoo.bench.bench_protocol import BenchProtocol, Grid
from zoo.bench.cells import Cell, End, Job
from zoo.bench.executors import Executor, Resources
from zoo.bench.grid import StoppedError
from zoo.bench.grid_status import CellState, GridStatus
from zoo.bench.run_grid import run_grid

__all__ = [
    "BenchProtocol",
    "Cell",
    "CellState",
    "End",
    "Executor",
    "Grid",
    "GridStatus",
    "Job",
    "Resources",
    "StoppedError",
    "run_grid",
]
