"""Throughput of ``zoo bench`` in runs per hour: short runs on all cores, compared with one worker of one thread.

    python benchmarks/throughput.py                    the table
    python benchmarks/throughput.py --record FILE      also write a JSON record

For comparison, a loop trains the same runs with ``zoo.train`` in processes of :mod:`multiprocessing`, one and then as
many as there are cores. Times are from the first call to the last result, start-up included. Needs an idle machine.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # of this process and, unless the executor says otherwise, of those it starts


def grid(out: Path, models: list[str], seeds: int, images: int, jobs: int) -> None:
    """The runs through ``zoo bench``."""
    from zoo.bench import BenchProtocol, Grid, Resources, run_grid
    from zoo.bench.bench_protocol import TrainRules

    protocol = BenchProtocol(name="throughput", train=TrainRules(images=images), grid=Grid(tuple(models), seeds=seeds))
    resources = Resources(jobs=jobs, threads=1, device="cpu")
    board = run_grid(out, protocol, resources=resources)
    assert board.complete


def one(job: dict[str, Any]) -> None:
    """One run of the bare loop."""
    import torch

    import zoo

    torch.set_num_threads(1)
    zoo.train(**job)


def bare(out: Path, models: list[str], seeds: int, images: int, jobs: int) -> None:
    """The same runs through a pool of processes, each of which imports once and trains one run after the other."""
    options = {"width": 32, "latent": 16, "images": images, "device": "cpu"}
    runs = [
        {"model": model, "seed": seed, "out": str(out / f"{model}{seed}"), **options}
        for seed in range(seeds)
        for model in models
    ]
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        for _ in pool.imap_unordered(one, runs, chunksize=1):
            pass


def seconds(loop: Callable[..., None], *args: Any) -> float:
    """The wall time of one way to do all the runs."""
    with tempfile.TemporaryDirectory() as scratch:
        begin = time.perf_counter()
        loop(Path(scratch) / "out", *args)
        return time.perf_counter() - begin


def main() -> None:
    """Measure, print, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="vae,gan,vaegan", help="names, separated by commas")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--images", type=int, default=60_000, help="images a run trains on")
    parser.add_argument("--jobs", type=int, help="runs at once; default the physical cores")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--record", type=Path, metavar="FILE", help="write the figures as JSON")
    arguments = parser.parse_args()

    import torch

    from zoo.bench.machine import cores

    models, jobs = arguments.models.split(","), arguments.jobs or cores()
    shape = (models, arguments.seeds, arguments.images)
    runs = len(models) * arguments.seeds
    ways = {
        "zoo bench, 1": (grid, 1),
        f"zoo bench, {jobs}": (grid, jobs),
        "bare, 1": (bare, 1),
        f"bare, {jobs}": (bare, jobs),
    }
    seconds(grid, models[:1], 1, 640, 1)  # caches filled, files in memory
    walls: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(arguments.repeats):
        for name, (loop, count) in ways.items():
            walls[name].append(seconds(loop, *shape, count))
            print(f"{name:14s} {runs} runs in {walls[name][-1]:7.1f} s", flush=True)
    wall = {name: statistics.median(values) for name, values in walls.items()}
    ours, limit = wall["zoo bench, 1"] / wall[f"zoo bench, {jobs}"], wall["bare, 1"] / wall[f"bare, {jobs}"]
    facts = {
        "runs": runs,
        "models": models,
        "images": arguments.images,
        "jobs": jobs,
        "seconds": {name: [round(v, 2) for v in values] for name, values in walls.items()},
        "runs_per_hour": {name: round(3600 * runs / value, 1) for name, value in wall.items()},
        "ratio": round(ours, 3),
        "ratio_of_the_bare_loop": round(limit, 3),
        "against_the_bare_loop": round(wall[f"bare, {jobs}"] / wall[f"zoo bench, {jobs}"], 3),
        "provenance": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "machine": f"{platform.machine()}, {cores()} cores",
        },
    }
    print(f"\n{jobs} workers against one: {ours:.2f} × the runs an hour; the bare loop {limit:.2f} ×")
    print(f"with {jobs} workers: {facts['against_the_bare_loop']:.2f} × the bare loop's runs an hour")
    if arguments.record:
        arguments.record.write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
