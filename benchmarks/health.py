"""Count the health findings of the runs in a folder, such as one of ``zoo bench``: on healthy runs, false alarms.

    python benchmarks/health.py DIR
    python benchmarks/health.py DIR --run --seeds 5 --jobs 2 --record benchmarks/records/health-digits.json

``--run`` first runs the grid: models with default options on the bundled digits. Finished runs are not repeated.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ALLOWED = 1 / 50
"""Allowed share of healthy runs with a finding."""


def outcomes(folder: Path) -> Iterator[dict[str, Any]]:
    """Model, seed, number of probes and findings of each run below a folder; a run that diverged has no probes."""
    for file in sorted(folder.rglob("*.json")):
        if file.name == "result.json":
            result = json.loads(file.read_text())
            if "health" in result:
                yield {"model": result["model"], "seed": result["seed"], **result["health"]}
        elif file.name == "failed.json" and not (file.parent / "result.json").is_file():
            failure = json.loads(file.read_text())
            if failure["kind"] == "diverged":
                finding = {"kind": "nan", "subject": "", "message": failure["reason"]}
                yield {"model": failure["model"], "seed": failure["seed"], "probes": 0, "findings": [finding]}


def run_models(folder: Path, models: list[str], seeds: int, images: int | None, jobs: int | None) -> None:
    """Run the grid of models and seeds on the digits."""
    import attrs

    from zoo.bench.bench_protocol import BenchProtocol
    from zoo.bench.executors import Resources
    from zoo.bench.run_grid import run_grid, with_grid

    protocol = with_grid(BenchProtocol(), models, ["digits"], seeds)
    if images is not None:
        protocol = attrs.evolve(protocol, train=attrs.evolve(protocol.train, images=images, epochs=None))
    run_grid(folder, protocol, executor="local", resources=Resources(jobs, 1))


def summarize(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The record: runs, those with findings, findings by kind and by model."""
    models: dict[str, dict[str, Any]] = {}
    for run in runs:
        row = models.setdefault(run["model"], {"runs": 0, "with findings": 0, "findings": []})
        row["runs"] += 1
        row["with findings"] += bool(run["findings"])
        row["findings"] += [{"seed": run["seed"], **finding} for finding in run["findings"]]
    unwell = sum(bool(run["findings"]) for run in runs)
    return {
        "runs": len(runs),
        "with findings": unwell,
        "share": unwell / len(runs) if runs else None,
        "by kind": dict(Counter(finding["kind"] for run in runs for finding in run["findings"])),
        "models": models,
    }


def main() -> None:
    """Run the grid if asked, count, print, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--run", action="store_true", help="first run the models")
    parser.add_argument("--models", default="all", help="names, separated by commas, or all")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--images", type=int, help="training images per run instead of the default 100 epochs")
    parser.add_argument("--jobs", type=int, help="concurrent runs; default: one per core")
    parser.add_argument("--record", type=Path, metavar="FILE", help="write the counts as JSON")
    arguments = parser.parse_args()
    if arguments.run:
        run_models(arguments.folder, arguments.models.split(","), arguments.seeds, arguments.images, arguments.jobs)
    record = summarize(list(outcomes(arguments.folder)))
    for model, row in record["models"].items():
        print(f"{model:14s} {row['runs']:3d} runs, {row['with findings']} with findings")
        for finding in row["findings"]:
            print(f"    seed {finding['seed']}: {finding['message']}")
    verdict = "no runs with health" if not record["runs"] else f"at most {ALLOWED:.0%} allowed"
    print(f"{record['with findings']} of {record['runs']} runs have findings ({verdict})")
    if arguments.record:
        arguments.record.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
