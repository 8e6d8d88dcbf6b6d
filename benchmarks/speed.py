"""Speed of the engine relative to hand-written loops and pythae; ratios are measured in pairs within one process.

    python benchmarks/speed.py                            all parts, on this machine's CPU
    python benchmarks/speed.py --part loops --part peers  some of them
    python benchmarks/speed.py --device cuda --record speed-cuda.json --plot speed-cuda.svg

Parts:

- ``loops``: the engine and hand-written loops (benchmarks/loops.py) with equal networks, losses, batches and noise;
  after the same steps both must have equal weights, to the bit on a CPU.
- ``peers``: pythae, with equal MLPs and losses (benchmarks/peers.py) and the same comparison of weights.
- ``ablation``: from a DataLoader to the fastest step, with the difference from the eager step after 20 steps.
- ``cost``: FLOPs per image, share of the machine's peak, operations per step, time by kind, memory.
- ``scaling``: images/s over width, batch, resolution and the size of the data set.
- ``throughput``: sampling, reconstruction, scoring.
- ``job``: where the seconds of a whole ``zoo run`` go.

Blocks of steps alternate, so that what else the machine does hits both; a ratio is the median of the pairs.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from costs import cost, memory
from loops import LOOPS, Loader, Resident
from peers import GAMES, Fed, available, trainer
from timing import CHECK_STEPS, Bench, Step, Table, largest_difference, show
from whole_run import job

from zoo.accelerators import cpu
from zoo.data import DataSpec
from zoo.run.trained import wrap_trained


def loops(bench: Bench) -> Table:
    """The engine against hand-written loops."""
    rows = []
    for name, loop in LOOPS.items():
        for family in ("mlp", "conv"):
            model = bench.model(name, family=family)
            ours = bench.engine(model)
            nets = [bench.networks(model) for _ in range(2)]
            if bench.device.type == "cpu":
                # Bits depend on the order of sums: the proof has the engine's layout and layers, the race torch's own.
                cpu.accelerate(nets[0].to(memory_format=torch.channels_last))
            same, bare = (loop(Resident(bench.images, bench.batch, bench.device), net, model) for net in nets)
            for step in (ours.step, same, bare):
                torch.manual_seed(1)
                bench.seconds(step, CHECK_STEPS)
            difference = largest_difference(ours.networks, nets[0])
            found = bench.compare({"engine": ours.step, "bare": bare}, "bare")
            rows.append(
                {
                    "model": name,
                    "networks": family,
                    "bare images/s": found["bare"]["images/s"],
                    "images/s": found["engine"]["images/s"],
                    "ratio": found["engine"]["ratio"],
                    "quartiles": found["engine"]["quartiles"],
                    "weights differ by": difference,
                    "steps": ours.mode,
                }
            )
            show(rows[-1])
    return rows


def peers(bench: Bench) -> Table:
    """The engine against pythae."""
    if not available():
        raise SystemExit("pythae: not installed; pip install 'latent-zoo[speed]', or leave out --part peers")
    rows = []
    for name, (game, paper_game) in GAMES.items():
        theirs, own = game(), paper_game()
        # The proof: pythae on the engine's batches, from the same weights, with the same noise.
        ours = bench.engine(theirs)
        checked = bench.networks(theirs)
        if bench.device.type == "cpu":
            cpu.accelerate(checked)
        proof = trainer(name, checked, theirs, bench.images, bench.batch, bench.device)
        proof.prepare_training()
        proof.train_loader = Fed(ours.stream, CHECK_STEPS, name)
        torch.manual_seed(1)
        proof.train_step(1)
        torch.manual_seed(1)
        bench.seconds(ours.step, CHECK_STEPS)
        difference = largest_difference(ours.networks, checked)
        # The race: pythae with its own loader, as it comes.
        some = bench.images[: 50 * bench.batch]
        racer = trainer(name, bench.networks(theirs), theirs, some, bench.batch, bench.device)
        racer.prepare_training()
        racer.train_step(1)
        others = {
            "same losses": ours,
            "same losses, compiled, bf16": bench.engine(theirs, compile=True, precision="bf16"),
            "the paper's": bench.engine(own),
        }
        steps = {}
        for label, engine in others.items():
            bench.seconds(engine.step, CHECK_STEPS)
            steps[label] = bench.steps_a_block(engine.step)
        rates: dict[str, list[float]] = {label: [] for label in ["pythae", *others]}
        for _ in range(bench.pairs):
            bench.wait()
            start = time.perf_counter()
            racer.train_step(1)
            bench.wait()
            rates["pythae"].append(len(some) / (time.perf_counter() - start))
            for label, engine in others.items():
                rates[label].append(steps[label] * bench.batch / bench.seconds(engine.step, steps[label]))
        row: dict[str, Any] = {"model": name, "pythae images/s": round(statistics.median(rates["pythae"]))}
        for label in others:
            ratios = [a / b for a, b in zip(rates[label], rates["pythae"], strict=True)]
            row[f"{label} images/s"] = round(statistics.median(rates[label]))
            row[f"{label} ratio"] = round(statistics.median(ratios), 3)
        rows.append({**row, "weights differ by": difference})
        show(rows[-1])
    return rows


def ablation(bench: Bench) -> Table:
    """What each part of the engine brings."""
    rows: Table = []
    for name, family in (("vae", "mlp"), ("vae", "conv"), ("vaegan", "conv")):
        model = bench.model(name, family=family)
        steps: dict[str, Step] = {}
        for label, feed in (("DataLoader", Loader), ("bare loop", Resident)):
            steps[label] = LOOPS[name](feed(bench.images, bench.batch, bench.device), bench.networks(model), model)
        ways: dict[str, dict[str, Any]] = {"engine, eager": {"graphs": False}}
        if bench.device.type == "cuda":
            ways |= {"+ graph": {}, "+ graph, compile": {"compile": True}}
            ways |= {"+ graph, bf16": {"precision": "bf16"}}
            ways |= {"+ graph, compile, bf16": {"compile": True, "precision": "bf16"}}
        else:
            ways |= {"+ bf16": {"precision": "bf16"}, "+ compile": {"compile": True}}
            ways |= {"+ compile, bf16": {"compile": True, "precision": "bf16"}}
        engines = {label: bench.engine(model, **settings) for label, settings in ways.items()}
        terms: dict[str, dict[str, float]] = {}
        for label, engine in engines.items():
            torch.manual_seed(1)
            bench.seconds(engine.step, CHECK_STEPS)
            terms[label] = engine.read_terms()
            steps[label] = engine.step
        oracle = terms["engine, eager"]
        for label, found in bench.compare(steps, "bare loop").items():
            mine = terms.get(label)
            row = {"model": name, "networks": family, "step": label, **found}
            row["terms differ by"] = None if mine is None else round(apart(mine, oracle), 7)
            row["ran"] = engines[label].mode if label in engines else "by hand"
            rows.append(row)
            show(row)
    return rows


def apart(terms: Mapping[str, float], oracle: Mapping[str, float]) -> float:
    """The largest difference of a term's mean over the steps, relative to the largest of the terms."""
    scale = max(abs(v) for v in oracle.values())
    return max(abs(terms[k] - oracle[k]) for k in oracle) / scale


def scaling(bench: Bench) -> Table:
    """Images/s over width, batch, resolution and data-set size."""
    rows = []
    base = {"width": 32, "batch": bench.batch, "side": 28, "images": 10_000}
    axes = {"width": (8, 16, 32, 64), "batch": (16, 32, 64, 128, 256), "side": (16, 28, 32, 64)}
    axes["images"] = (1_000, 10_000, 60_000)
    for axis, values in axes.items():
        for value in values:
            at = {**base, axis: value}
            images = torch.randint(0, 256, (at["images"], 1, at["side"], at["side"]), dtype=torch.uint8)
            spec = DataSpec("scaling", (1, at["side"], at["side"]), (), torch.zeros(1, at["side"], at["side"]))
            engine = bench.engine(bench.model("vaegan", width=at["width"]), images, spec, batch=at["batch"])
            bench.seconds(engine.step, 6)
            steps = bench.steps_a_block(engine.step)
            rates = [steps * at["batch"] / bench.seconds(engine.step, steps) for _ in range(3)]
            rows.append({"vaegan, conv": axis, "value": value, "images/s": round(statistics.median(rates))})
            show(rows[-1])
    return rows


def throughput(bench: Bench) -> Table:
    """Images/s of sampling, reconstruction and the classifier's features."""
    from zoo.evaluation import PinnedClassifier

    model = bench.model("vaegan")
    trained = wrap_trained(model, bench.networks(model).eval(), bench.spec)
    extractor = PinnedClassifier().to(bench.device)
    n, images = 10_000, bench.images[:10_000]
    jobs: dict[str, tuple[int, Callable[[], object]]] = {
        "sample": (n, lambda: trained.sample(n, seed=0)),
        "reconstruct": (len(images), lambda: trained.reconstruct(images)),
        "features for the FD": (len(images), lambda: extractor(images)),
    }
    rows = []
    for name, (count, work) in jobs.items():
        work()
        rates = []
        for _ in range(3):
            bench.wait()
            start = time.perf_counter()
            work()
            bench.wait()
            rates.append(count / (time.perf_counter() - start))
        rows.append({"vaegan, conv": name, "images/s": round(statistics.median(rates))})
        show(rows[-1])
    return rows


PARTS: dict[str, Callable[[Bench], Table]] = {
    "loops": loops,
    "peers": peers,
    "ablation": ablation,
    "cost": cost,
    "scaling": scaling,
    "throughput": throughput,
    "job": job,
}


def table(rows: Table) -> str:
    """Markdown."""
    keys = list(dict.fromkeys(k for row in rows for k in row))
    lines = ["| " + " | ".join(keys) + " |", "|" + "---|" * len(keys)]
    return "\n".join(lines + ["| " + " | ".join(str(row.get(k, "")) for k in keys) + " |" for row in rows])


def draw(record: Mapping[str, Any], path: Path) -> None:
    """Ratios to the bare loop: the loops, and what each part of the engine brings."""
    import matplotlib.pyplot as plt

    plt.rcParams["svg.hashsalt"] = "zoo"
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.2), constrained_layout=True)
    rows = record["loops"]
    for i, family in enumerate(("mlp", "conv")):
        mine = [r for r in rows if r["networks"] == family]
        axes[0].barh([j + 0.38 * i for j in range(len(mine))], [r["ratio"] for r in mine], 0.36, label=family)
    axes[0].set_yticks([j + 0.19 for j in range(len(mine))], [r["model"] for r in mine])
    axes[0].set_xlabel("images/s as a ratio to a loop written by hand")
    axes[0].axvline(1, color="black", linewidth=0.8)
    axes[0].legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncol=2, frameon=False)
    rows = record["ablation"]
    kinds = list(dict.fromkeys((r["model"], r["networks"]) for r in rows))
    labels = list(dict.fromkeys(r["step"] for r in rows))
    for i, kind in enumerate(kinds):
        ratios = [
            next(r["ratio"] for r in rows if (r["model"], r["networks"], r["step"]) == (*kind, x)) for x in labels
        ]
        axes[1].barh([j + 0.26 * i for j in range(len(labels))], ratios, 0.24, label=", ".join(kind))
    axes[1].set_yticks([j + 0.26 for j in range(len(labels))], labels)
    axes[1].invert_yaxis()
    axes[1].axvline(1, color="black", linewidth=0.8)
    axes[1].set_xlabel("images/s as a ratio to the bare loop")
    axes[1].legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncol=3, frameon=False)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", action="append", choices=[*PARTS, "memory"])
    parser.add_argument("--dataset", default="mnist")
    parser.add_argument("--data-dir")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--threads", type=int, help="default: torch's own")
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--block-seconds", type=float, default=0.5)
    parser.add_argument("--models", help="for the part memory")
    parser.add_argument("--record", type=Path, help="write what was measured into this JSON, beside the parts it has")
    parser.add_argument("--plot", type=Path, help="draw the record's loops and ablation")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    bench = Bench(args)
    if args.part == ["memory"]:
        print(memory(bench, args.models))
        return
    facts = {
        "torch": torch.__version__,
        "machine": torch.cuda.get_device_name() if args.device == "cuda" else platform.machine(),
        "threads": torch.get_num_threads(),
        "data set": args.dataset,
        "batch": args.batch,
    }
    record = json.loads(args.record.read_text()) if args.record and args.record.is_file() else {}
    for part in args.part or PARTS:
        print(f"\n{part}: {(PARTS[part].__doc__ or '').partition(chr(10))[0]}")
        rows = PARTS[part](bench)
        print("\n" + table(rows))
        record[part], record["facts"] = rows, facts
        if args.record:
            args.record.write_text(json.dumps(record, indent=1) + "\n")
    if args.plot:
        draw(record, args.plot)


if __name__ == "__main__":
    main()
