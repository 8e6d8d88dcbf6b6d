"""The papers' numbers beside ours: trains a target's models by their presets and measures as the paper did.

    python benchmarks/reproduce.py list
    python benchmarks/reproduce.py vae                          the full schedule
    python benchmarks/reproduce.py bigan --share 0.05           a twentieth of it
    python benchmarks/reproduce.py vae --compile --record benchmarks/records/reproduce
    python benchmarks/reproduce.py judge --record benchmarks/records/reproduce

A share below 1 shortens the schedule, learning rates with it, and the record says so. Runs checkpoint under --runs; the
same command continues them after any interruption. A bar is met if the value is within the paper's tolerance and beats
every control (untrained networks, raw pixels, a constant image) by the published margin; a target, if all its bars are.
``judge`` measures the controls again and judges stored records by today's rules, without training.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from bars import is_met, judge
from targets import TARGETS, Job, Scope

import zoo
from zoo import options
from zoo.preset import get_presets
from zoo.registry import registry
from zoo.run.run_folder import RunFolder
from zoo.run.settings import RunSettings
from zoo.run.train import load_data
from zoo.run.trained import make_networks, wrap_trained

CURVE = 40
"""Points of the training curve that a record keeps."""
FORMAT = 2
CONTROL_SCOPE = Scope(images=200, samples=200)
"""Likelihoods of untrained networks are far below any bar: a small scope tells as much."""


def length(job: Job, share: float) -> dict[str, int]:
    """The epochs or images of a share of a job's schedule."""
    settings = {**get_presets(registry().model(job.model))[job.preset].settings, **job.settings}
    name = "epochs" if "epochs" in settings else "images"
    return {name: max(1, round(int(settings[name]) * share))}


def train(name: str, label: str, job: Job, arguments: argparse.Namespace) -> tuple[zoo.TrainedModel, dict[str, Any]]:
    """Train one run of a target, or continue it; the model, and what the record says of the run."""
    part, full = length(job, arguments.share), length(job, 1.0)
    ((unit, amount),) = part.items()
    out = Path(arguments.runs) / f"{name}-{label.replace(' ', '')}-{amount}{unit}-seed{arguments.seed}"
    print(f"{name}: {label}: {job.model} --preset {job.preset}, {amount} of {full[unit]} {unit} -> {out}", flush=True)
    settings: dict[str, Any] = {"device": arguments.device, "extractor": "none", **job.settings, **part}
    if arguments.data_dir:
        settings["data_dir"] = arguments.data_dir
    if arguments.compile:
        settings["compile"] = True
    preset = {} if (out / "config.toml").is_file() else {"preset": job.preset}
    trained = zoo.train(job.model, out=out, resume=True, **preset, **settings, seed=arguments.seed)
    folder = RunFolder(out)
    lines, there = folder.logged(), folder.settings()
    table = {k: v for k, v in there.to_table().items() if k not in ("data_dir", "options", "checkpoint_seconds")}
    return trained, {
        "model": job.model,
        "preset": job.preset,
        "settings": table,
        "options": dict(there.options),
        "length": part,
        "of": full,
        "cost": folder.load_result()["cost"],
        "curve": [{"images": line["images"], **line["terms"]} for line in lines[:: max(1, len(lines) // CURVE)]],
    }


def untrained(job: Job, data: Any, seed: int) -> zoo.TrainedModel:
    """The networks of a job before training."""
    cls = registry().model(job.model)
    given = {**get_presets(cls)[job.preset].settings, **job.settings}
    objective = options.build(cls, {k: v for k, v in given.items() if k not in options.get_options(RunSettings)})
    torch.manual_seed(seed)
    return wrap_trained(objective, make_networks(objective, data.spec), data.spec)


def measure_controls(name: str, data: Any, seed: int = 0) -> dict[str, dict[str, float]]:
    """Values of every control of a target by measure."""
    target = TARGETS[name]
    networks = {label: untrained(job, data, seed) for label, job in target.jobs.items()}
    found = {"untrained network": target.measure(networks, data, CONTROL_SCOPE)}
    scope = Scope(images=2000)
    return found | {control: function(data, scope) for control, function in target.controls.items()}


def reproduce(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Train what a target needs, measure, and return its record."""
    target = TARGETS[name]
    begin = time.perf_counter()
    runs, told = {}, {}
    for label, job in target.jobs.items():
        runs[label], told[label] = train(name, label, job, arguments)
    data = load_data(RunSettings(dataset="mnist", data_dir=arguments.data_dir))
    found = target.measure(runs, data, Scope(arguments.images))
    controls = measure_controls(name, data, arguments.seed)
    flags = f" --share {arguments.share:g}" * (arguments.share != 1) + " --compile" * arguments.compile
    record = {
        "format": FORMAT,
        "target": name,
        "paper": target.paper,
        "found": found,
        "share": arguments.share,
        "test images": min(arguments.images, len(data.test)),
        "seed": arguments.seed,
        "command": f"python benchmarks/reproduce.py {name}{flags} --images {arguments.images}",
        "runs": told,
        "seconds": round(time.perf_counter() - begin),
        "provenance": {
            "zoo": zoo.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "hardware": torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine(),
            "threads": torch.get_num_threads(),
            "commit": commit(),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        },
    }
    return judged(record, controls)


def judged(record: Mapping[str, Any], controls: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """A record with the verdicts of today's rules.

    A record of format 1 was trained by other settings than today's presets: it keeps its values, and is not met.
    """
    bars = judge(TARGETS[record["target"]].bars, record["found"], controls)
    current = record["format"] == FORMAT and not record.get("outdated")
    dropped = ("published", "accept", "met", "bars", "budget", "format")
    kept = {key: value for key, value in record.items() if key not in dropped}
    share = record.get("share", record.get("budget"))
    outdated = {} if current else {"outdated": "trained by settings that today's presets have replaced"}
    return {"format": FORMAT, **kept, **outdated, "share": share, "bars": bars, "met": current and is_met(bars)}


def show(record: Mapping[str, Any]) -> None:
    """Print a record's verdicts."""
    for bar in record["bars"]:
        value = "not measured" if bar["found"] is None else f"{bar['found']:.4g}"
        print(f"{record['target']}: {bar['measure']}: published {bar['published']:.4g}, here {value}")
        for name, row in bar["controls"].items():
            outcome = "reached" if row["beaten"] else "missed"
            print(f"    {name}: {row['value']:.4g}; published margin over it, {row['margin']:.3g}, {outcome}")
    part = "" if record["share"] == 1 else f", at {record['share']:g} of the schedule"
    note = f" ({record['outdated']})" if "outdated" in record else ""
    print(f"    {'met' if record['met'] else 'not met'}{part}{note}", flush=True)


def commit() -> str | None:
    """The commit that was measured, with + where the tree had changed."""
    try:
        here = {"cwd": Path(__file__).parent, "capture_output": True, "text": True, "check": True}
        head = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], **here).stdout.strip()
        return head + ("+" if subprocess.run(["git", "status", "--porcelain", "-uno"], **here).stdout.strip() else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def write(record: Mapping[str, Any], folder: str) -> None:
    """Write a record as ``FOLDER/TARGET.json``."""
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
    (out / f"{record['target']}.json").write_text(text, encoding="utf-8")


def judge_records(arguments: argparse.Namespace) -> None:
    """Judge stored records by today's rules, with controls measured now."""
    data = load_data(RunSettings(dataset="mnist", data_dir=arguments.data_dir))
    for path in sorted(Path(arguments.record).glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        record = judged(record, measure_controls(record["target"], data, record["seed"]))
        show(record)
        write(record, arguments.record)


def main() -> None:
    """Reproduce one target, or all; or judge stored records."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=["list", "all", "judge", *TARGETS])
    parser.add_argument("--share", type=float, default=1.0, help="share of the schedule")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--images", type=int, default=10_000, help="test images for likelihoods")
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--threads", type=int, default=1, help="threads of a CPU")
    parser.add_argument("--compile", action="store_true", help="compile the steps")
    parser.add_argument("--data-dir")
    parser.add_argument("--runs", default="runs/reproduce", metavar="DIR", help="run folders, with their checkpoints")
    parser.add_argument("--record", metavar="DIR", help="write DIR/TARGET.json")
    arguments = parser.parse_args()
    if not 0 < arguments.share <= 1:
        parser.error(f"--share: {arguments.share} is not allowed; must be above 0 and at most 1")
    torch.set_num_threads(arguments.threads)
    if arguments.target == "list":
        for name, target in TARGETS.items():
            bars = "; ".join(f"{bar.measure} {bar.published:.4g} ± {bar.tolerance:g}" for bar in target.bars)
            print(f"{name:12} {bars}\n{'':12} {target.paper}")
        return
    if arguments.target == "judge":
        if not arguments.record:
            parser.error("judge: needs --record DIR, the folder of the records")
        judge_records(arguments)
        return
    for name in TARGETS if arguments.target == "all" else [arguments.target]:
        record = reproduce(name, arguments)
        show(record)
        if arguments.record:
            write(record, arguments.record)


if __name__ == "__main__":
    main()
