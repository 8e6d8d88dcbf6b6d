from .bench_protocol import BenchProtocol, Grid
from .cells import Cell, End, Job
from .executors import Executor, Resources
from .grid import StoppedError
from .grid_status import CellState, GridStatus
from .run_grid import run_grid

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
