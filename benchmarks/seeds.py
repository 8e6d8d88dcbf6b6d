"""Train models with several seeds and option values, and print a table of scores and failures.

    python benchmarks/seeds.py vaegan --seeds 10
    python benchmarks/seeds.py vaegan --dataset mnist --epochs 5 --set gamma=0.01,0.1 --set norm=batch,none

A run has *diverged* if a term is not finite, and *collapsed* if a class of the data set has less than 3 % of the
samples (only if the extractor knows the classes). Each run has one thread; as many run concurrently as there are cores.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

SMALLEST_SHARE = 0.03


def one(job: dict[str, Any]) -> dict[str, Any]:
    """Train and score one cell; never raises."""
    import torch

    import zoo

    torch.set_num_threads(1)
    keep = job.pop("keep")
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(keep or scratch) / job.pop("name")
        try:
            zoo.train(**job, out=out)
        except zoo.ZooError as error:
            return {"error": str(error)}
        result = json.loads((out / "result.json").read_text())
    return {"seconds": time.perf_counter() - start, **result}


def outcome(result: dict[str, Any]) -> str:
    """``ok``, ``collapsed`` or ``diverged``."""
    if "error" in result:
        return "diverged"
    share = result["scores"].get("smallest class share")
    return "collapsed" if share is not None and share < SMALLEST_SHARE else "ok"


def parse(text: str) -> list[Any]:
    """Comma-separated values: numbers and booleans as such."""
    values: list[Any] = []
    for part in text.split(","):
        try:
            values.append(json.loads(part))
        except json.JSONDecodeError:
            values.append(part)
    return values


def main() -> None:
    """Run the grid, print the table, write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", help="names, separated by commas, or all")
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--data-dir")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], metavar="OPTION=A,B", help="try each of these values")
    parser.add_argument("--untrained", action="store_true", help="also score the networks before training")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--keep", metavar="DIR", help="keep the run folders here")
    parser.add_argument("--record", metavar="FILE", help="write the table as JSON")
    arguments = parser.parse_args()

    from zoo.registry import registry

    models = list(registry().models) if arguments.models == "all" else arguments.models.split(",")
    axes = {k: parse(v) for k, _, v in (text.partition("=") for text in arguments.set)}
    variants = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    jobs, cells = [], []
    for model, variant, seed in itertools.product(models, variants, range(arguments.seeds)):
        seed += arguments.first_seed
        for epochs in [arguments.epochs, 0] if arguments.untrained else [arguments.epochs]:
            label = " ".join([model, *(f"{k}={v}" for k, v in variant.items())])
            settings = {
                "model": model,
                "dataset": arguments.dataset,
                "seed": seed,
                "epochs": epochs,
                **variant,
            }
            settings |= {
                "data_dir": arguments.data_dir,
                "keep": arguments.keep,
                "name": f"{label}-{seed}-{epochs}",
            }
            jobs.append({k: v for k, v in settings.items() if v is not None or k == "keep"})
            cells.append((label, seed, epochs == 0))
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with multiprocessing.get_context("spawn").Pool(arguments.jobs, maxtasksperchild=1) as pool:
        results = []
        for cell, result in zip(cells, pool.imap(one, jobs, chunksize=1), strict=True):
            results.append(result)
            shown = result.get("error") or {k: round(v, 4) for k, v in result["scores"].items() if v is not None}
            print(cell, outcome(result), round(result.get("seconds", 0)), shown, flush=True)

    table = []
    for label in dict.fromkeys(cell[0] for cell in cells):
        mine = [(c, r) for c, r in zip(cells, results, strict=True) if c[0] == label]
        trained = [r for c, r in mine if not c[2]]
        before = [r for c, r in mine if c[2]]
        scored = [r for r in trained if "error" not in r]
        row: dict[str, Any] = {"variant": label, "runs": len(trained)}
        row |= {word: sum(outcome(r) == word for r in trained) for word in ("ok", "collapsed", "diverged")}
        if scored:
            name = next(iter(scored[0]["scores"]))
            distances = [r["scores"][name] for r in scored]
            row |= {"score": name, "mean": statistics.mean(distances), "worst": max(distances)}
            row |= {"floor": scored[0]["scores"][f"{name} floor"]}
            row |= {"seconds": statistics.mean(r["seconds"] for r in scored)}
            shares = [r["scores"]["smallest class share"] for r in scored]
            row |= {"smallest share": min(shares) if None not in shares else None}
            errors = [r["scores"]["reconstruction MSE"] for r in scored]
            row |= {"reconstruction MSE": statistics.mean(errors) if None not in errors else None}
            if before:
                row |= {"untrained": statistics.mean(r["scores"][name] for r in before)}
                pairs = zip(scored, before, strict=True)
                row |= {"worst ratio": max(a["scores"][name] / b["scores"][name] for a, b in pairs)}
        table.append(row)
    keys = list(dict.fromkeys(k for row in table for k in row))
    print("| " + " | ".join(keys) + " |\n|" + "---|" * len(keys))
    for row in table:
        cells_ = [f"{v:.4g}" if isinstance(v := row.get(k), float) else str("n/a" if v is None else v) for k in keys]
        print("| " + " | ".join(cells_) + " |")
    if arguments.record:
        facts = {
            "dataset": arguments.dataset,
            "epochs": arguments.epochs,
            "seeds": arguments.seeds,
            "table": table,
        }
        first = next(r for r in results if "error" not in r)
        facts |= {
            "provenance": first["provenance"],
            "fingerprint": first["fingerprint"],
            "cost": first["cost"],
        }
        Path(arguments.record).write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
