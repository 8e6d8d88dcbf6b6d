"""How fast is the engine, against what, and what holds it back? Ratios measured in pairs within one run.

    python benchmarks/speed.py                            all parts, on this machine's CPU
    python benchmarks/speed.py --part loops --part peers  some of them
    python benchmarks/speed.py --device cuda --record speed-cuda.json --plot speed-cuda.svg

Parts:

- ``loops``: the engine against loops written by hand (benchmarks/loops.py). Same networks, losses, batches and noise;
  after the same steps both must have the same weights, to the bit on a CPU.
- ``peers``: against pythae on the same MLPs and with its losses (benchmarks/peers.py), by the same proof.
- ``ablation``: from a DataLoader to the fastest step, each beside how far it is from the eager one after 20 steps.
- ``cost``: FLOPs an image, share of the machine's peak, operations a step, where the time goes, memory.
- ``scaling``: images/s over width, batch, resolution and the size of the data set.
- ``throughput``: sampling, reconstruction, scoring.
- ``job``: where the seconds of a whole ``zoo run`` go.

Blocks of steps alternate, so that what else the machine does hits both; a ratio is the median of the pairs.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from loops import LOOPS, Loader, Resident, Step
from peers import GAMES, Fed, available, trainer
from step_costs import Counter
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

import zoo
from zoo import options
from zoo.data import DataSpec, load_dataset
from zoo.engine import Engine, Stream
from zoo.registry import registry
from zoo.run.trained import bind, make_networks

CHECK_STEPS = 20
Table = list[dict[str, Any]]


class Bench:
    """Data, device and patience of a measurement."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.device, self.batch = torch.device(args.device), args.batch
        self.pairs, self.block = args.pairs, args.block_seconds
        data = load_dataset(args.dataset, zoo.DataOptions(data_dir=args.data_dir), registry().sources())
        self.dataset, self.data_dir = args.dataset, args.data_dir
        self.spec, self.images = data.spec, data.train.images

    def model(self, name: str, **settings: Any) -> Any:
        """A model by name, or one of the peers' games."""
        return options.build(registry().model(name), settings)

    def networks(self, model: Any, spec: DataSpec | None = None) -> zoo.Networks:
        """The same networks at every call."""
        torch.manual_seed(0)
        return make_networks(model, spec or self.spec).to(self.device)

    def engine(self, model: Any, images: Tensor | None = None, spec: DataSpec | None = None, **settings: Any) -> Engine:
        """A fresh engine on fresh networks."""
        images = self.images if images is None else images
        stream = Stream(images, settings.pop("batch", self.batch), 0, self.device)
        return Engine(model, self.networks(model, spec), stream, **settings)

    def seconds(self, step: Step, steps: int) -> float:
        """That so many steps take."""
        self.wait()
        start = time.perf_counter()
        for _ in range(steps):
            step()
        self.wait()
        return time.perf_counter() - start

    def wait(self) -> None:
        """Until the device is done."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def steps_a_block(self, step: Step) -> int:
        """Steps that fill a block."""
        self.seconds(step, 3)
        return max(2, round(self.block / (self.seconds(step, 5) / 5)))

    def compare(self, steps: Mapping[str, Step], base: str) -> dict[str, dict[str, Any]]:
        """Images/s of each, and its ratio to ``base``: blocks in turn, the order turned about each round."""
        counts = {name: self.steps_a_block(step) for name, step in steps.items()}
        rates: dict[str, list[float]] = {name: [] for name in steps}
        for i in range(self.pairs):
            for name in list(steps)[:: 1 if i % 2 == 0 else -1]:
                rates[name].append(counts[name] * self.batch / self.seconds(steps[name], counts[name]))
        found = {}
        for name, mine in rates.items():
            ratios = [a / b for a, b in zip(mine, rates[base], strict=True)]
            low, middle, high = statistics.quantiles(ratios, n=4)
            found[name] = {
                "images/s": round(statistics.median(mine)),
                "ratio": round(middle, 3),
                "quartiles": [round(low, 3), round(high, 3)],
            }
        return found


def largest_difference(one: zoo.Networks, other: zoo.Networks) -> float:
    """Between weights, relative to the largest weight of each tensor."""
    pairs = ((a.detach(), b.detach()) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    return max(float((a - b).abs().max() / a.abs().max().clamp_min(1e-12)) for a, b in pairs)


def loops(bench: Bench) -> Table:
    """The engine against hand-written loops."""
    rows = []
    for name, loop in LOOPS.items():
        for family in ("mlp", "conv"):
            model = bench.model(name, family=family)
            ours = bench.engine(model)
            nets = [bench.networks(model) for _ in range(2)]
            if bench.device.type == "cpu":
                # Bits depend on the memory layout: the proof has the engine's, the race torch's own.
                nets[0].to(memory_format=torch.channels_last)
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
        proof = trainer(name, checked := bench.networks(theirs), theirs, bench.images, bench.batch, bench.device)
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
            terms[label] = engine.read()
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


def cost(bench: Bench) -> Table:
    """FLOPs, share of peak, operations, where the time goes, memory."""
    peak = {dtype: peak_flops(bench, dtype) for dtype in (torch.float32, torch.bfloat16)}
    rows = []
    for name in LOOPS:
        for family in ("mlp", "conv"):
            engine = bench.engine(bench.model(name, family=family), graphs=False)
            bench.seconds(engine.step, 3)
            with Counter() as counter:  # type: ignore[no-untyped-call]
                engine.step()
            flops = counter.flops
            steps = bench.steps_a_block(engine.step)
            each = statistics.median(bench.seconds(engine.step, steps) / steps for _ in range(5))
            times, kernels, busy = where(bench, engine)
            arithmetic = times.get("convolution", 0.0) + times.get("matrix product", 0.0)
            limit = "launches and Python" if busy < 0.5 else "arithmetic" if arithmetic > 0.5 else "memory"
            memory = memory_of(bench, name, family)
            achieved = flops / each
            row = {
                "model": name,
                "networks": family,
                "MFLOP/image": round(flops / bench.batch / 1e6, 2),
                "GFLOP/s": round(achieved / 1e9, 1),
                "share of fp32 peak": round(achieved / peak[torch.float32], 3),
                "operations/step": kernels if bench.device.type == "cuda" else counter.count,
                "busy": round(busy, 2),
                "time": ", ".join(f"{kind} {100 * share:.0f} %" for kind, share in times.items() if share >= 0.005),
                "limit": limit,
                "peak memory MB": round(memory / 2**20),
            }
            rows.append(row)
            show(row)
    rows.append({f"peak {str(d).removeprefix('torch.')} GFLOP/s": round(p / 1e9, 1) for d, p in peak.items()})
    show(rows[-1])
    return rows


def peak_flops(bench: Bench, dtype: torch.dtype) -> float:
    """What the machine reaches on one large matrix product."""
    n = 8192 if bench.device.type == "cuda" else 1536
    a, b = (torch.randn(n, n, device=bench.device).to(dtype) for _ in range(2))
    product = lambda: torch.mm(a, b)  # noqa: E731
    bench.seconds(product, 2)
    return max(2 * n**3 * 4 / bench.seconds(product, 4) for _ in range(4))


KINDS = {
    "convolution": ("conv", "mkldnn_conv", "xmma", "implicit"),
    "matrix product": ("mm", "linear", "gemm", "addmm"),
    "normalisation": ("batch_norm", "bn_", "native_batch"),
    "optimiser": ("adam", "sgd", "rmsprop"),
}


def where(bench: Bench, engine: Engine) -> tuple[dict[str, float], int, float]:
    """Shares of the time by kind of operation, kernels a step, and the share of the clock's time inside them."""
    cuda = bench.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    steps = 5
    with profile(activities=activities) as profiled:
        spent = bench.seconds(engine.step, steps)
    times: dict[str, float] = {}
    count = 0
    for event in profiled.key_averages():
        mine = event.self_device_time_total if cuda else event.self_cpu_time_total
        if mine <= 0 or (cuda and event.device_type.name != "CUDA") or not (cuda or event.key.startswith("aten::")):
            continue
        count += event.count
        kind = next((k for k, words in KINDS.items() if any(w in event.key.lower() for w in words)), "other")
        times[kind] = times.get(kind, 0.0) + mine
    total = sum(times.values())
    ranked = sorted(times.items(), key=lambda kv: -kv[1])
    return {kind: t / total for kind, t in ranked}, round(count / steps), min(1.0, total / 1e6 / spent)


def memory_of(bench: Bench, name: str, family: str) -> int:
    """Bytes that training needs beyond an idle process (CPU), or at most has allocated (GPU)."""
    if bench.device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        engine = bench.engine(bench.model(name, family=family))
        bench.seconds(engine.step, 6)
        return torch.cuda.max_memory_allocated() - before
    command = [sys.executable, __file__, "--part", "memory", "--dataset", bench.dataset, "--batch", str(bench.batch)]
    command += ["--models", f"{name}:{family}"] + (["--data-dir", bench.data_dir] if bench.data_dir else [])
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def memory(bench: Bench, which: str) -> int:
    """In a process of its own: how far 20 steps raise its highest resident size."""
    name, _, family = which.partition(":")
    model = bench.model(name, family=family)
    ctypes.CDLL(None).malloc_trim(0)  # what was freed and kept would be used again, and not be seen to grow
    Path("/proc/self/clear_refs").write_text("5")  # forget the highest so far, which is of the imports
    start = resident_bytes("VmRSS")
    bench.seconds(bench.engine(model).step, CHECK_STEPS)
    return resident_bytes("VmHWM") - start


def resident_bytes(field: str) -> int:
    """VmRSS or VmHWM of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


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
    trained = bind(model, bench.networks(model).eval(), bench.spec)
    extractor = PinnedClassifier().to(bench.device)
    n, images = 10_000, bench.images[:10_000]
    jobs: dict[str, tuple[int, Callable[[], object]]] = {
        "sample": (n, lambda: trained.sample(n, seed=0)),
        "reconstruct": (len(images), lambda: trained.reconstruct(images)),
        "features for the FD": (len(images), lambda: extractor(images)),
    }
    rows = []
    for name, (count, job) in jobs.items():
        job()
        rates = []
        for _ in range(3):
            bench.wait()
            start = time.perf_counter()
            job()
            bench.wait()
            rates.append(count / (time.perf_counter() - start))
        rows.append({"vaegan, conv": name, "images/s": round(statistics.median(rates))})
        show(rows[-1])
    return rows


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
train.draw_pictures = mark("pictures", train.draw_pictures)
train.record = mark("record", train.record)
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
        import os

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


PARTS: dict[str, Callable[[Bench], Table]] = {
    "loops": loops,
    "peers": peers,
    "ablation": ablation,
    "cost": cost,
    "scaling": scaling,
    "throughput": throughput,
    "job": job,
}


def show(row: Mapping[str, Any]) -> None:
    """A row as it is measured."""
    print("  ".join(f"{k}: {v}" for k, v in row.items()), flush=True)


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
