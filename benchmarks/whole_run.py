"""Time of a whole ``zoo run`` by stage. Part of benchmarks/speed.py."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time

from timing import Bench, Table, show

JOB = """
import sys, time
begin = time.perf_counter()
marks = []
def mark(name, function):
    def timed(*a, **k):
        start = time.perf_counter()
        try:
            return function(*a, **k)
        finally:
            marks.append((name, time.perf_counter() - start))
    return timed
import importlib
train = importlib.import_module("zoo.run.train")  # the module, not the function of its name
from zoo.engine import Engine
marks.append(("imports", time.perf_counter() - begin))
train.load_data = mark("data set", train.load_data)
train.make_networks = mark("networks", train.make_networks)
Scorer = train.scoring.Scorer
Scorer.score = mark("scores", Scorer.score)
train.scoring.Scorer = mark("extractor and its test features", Scorer)
Engine.__init__ = mark("engine", Engine.__init__)
whole, first = Engine.step, []
def step(self):
    if first:
        return whole(self)
    first.append(1)
    mark("first step", whole)(self)
Engine.step = step
train.fit = mark("training, first step included", train.fit)
train.draw_curves = mark("curves", train.draw_curves)
train.draw_images = mark("pictures", train.draw_images)
train.build_result = mark("record", train.build_result)
"""


def job(bench: Bench) -> Table:
    """Where the seconds of ``zoo run vaegan --epochs 1`` go, twice: the second time with what the first has cached."""
    rows: Table = []
    with tempfile.TemporaryDirectory() as scratch:
        script = JOB + (
            f"train.train('vaegan', dataset={bench.dataset!r}, data_dir={bench.data_dir!r}, epochs=1, "
            f"device={bench.device.type!r}, out=sys.argv[1])\n"
            "for name, seconds in marks: print(f'{name}\\t{seconds}')\n"
            "print(f'all\\t{time.perf_counter() - begin}')\n"
        )
        environment = {**os.environ, "ZOO_CACHE": f"{scratch}/cache"}
        for turn in ("first", "again"):
            start = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-c", script, f"{scratch}/{turn}"],
                capture_output=True,
                text=True,
                check=True,
                env=environment,
            )
            wall = time.perf_counter() - start
            stages = dict(line.split("\t") for line in done.stdout.splitlines() if "\t" in line)
            row = {"vaegan, 1 epoch": turn, **{k: round(float(v), 2) for k, v in stages.items()}}
            rows.append({**row, "the process": round(wall, 2)})
            show(rows[-1])
    return rows
