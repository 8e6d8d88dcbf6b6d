"""Exact costs of a training step (operations, FLOPs), compared with the committed record.

    python benchmarks/step_costs.py              print this tree's and benchmarks/records/step-costs.json
    python benchmarks/step_costs.py --check      also exit with status 1 if a count has changed
    python benchmarks/step_costs.py --write      write the record: commit it with the change

For every registered model, on digits with its default networks: operations that reach torch's kernels and FLOPs in one
step, and the bytes of its optimizers' state. They depend only on the code and on the
version of torch, which the record has. For the models of benchmarks/loops.py it also has the measured ratio of the
engine's speed to that of the loop, which is printed but not checked; ratios below 0.9 are marked.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from loops import LOOPS, Resident
from timing import seconds
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, register_flop_formula

import zoo
import zoo.accelerators.cpu  # defines the operators whose costs are declared below
from zoo import options
from zoo.data import Dataset, load_dataset
from zoo.engine import BatchStream, Engine
from zoo.registry import registry
from zoo.run.trained import make_networks

RECORD = Path(__file__).resolve().parent / "records/step-costs.json"
BATCH = 64
Shape = Sequence[int]
CPU = torch.device("cpu")
SLOW = 0.9
"""A ratio that should not be: below what this machine's noise does to twenty-one pairs."""


# The engine's own operations: what the mathematics has, not what their way of doing it adds.
@register_flop_formula(torch.ops.latent_zoo.linear)
def product_flops(x: Shape, w: Shape, *_: Any, **__: Any) -> int:
    """Of x wᵀ: x (m, k), w (n, k)."""
    return 2 * x[0] * x[1] * w[0]


@register_flop_formula(torch.ops.latent_zoo.upscale)
def upscale_flops(x: Shape, w: Shape, *_: Any, **__: Any) -> int:
    """Of a transposed convolution."""
    return 2 * x[0] * x[2] * x[3] * math.prod(w)


@register_flop_formula(torch.ops.latent_zoo.weight_gradient)
def weight_gradient_flops(large: Shape, small: Shape, kernel: int, *_: Any, **__: Any) -> int:
    """Of a convolution's gradient by its weights."""
    return 2 * math.prod(small) * large[1] * kernel * kernel


class Counter(TorchDispatchMode):
    """Counts the operations that torch dispatches, views and the profiler's own marks left out, and their FLOPs.

    Not torch's FlopCounterMode, whose hooks cannot follow a gradient of a gradient; its formulas.
    """

    def __init__(self) -> None:
        super().__init__()
        self.count = self.flops = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if not (func.is_view or func.namespace == "profiler" or func is torch.ops.aten.detach.default):
            self.count += 1
        if formula := flop_registry.get(func._overloadpacket):
            self.flops += formula(*args, **(kwargs or {}), out_val=out)
        return out


def make_engine(name: str, data: Dataset, **settings: Any) -> Engine:
    """A model's engine on digits."""
    torch.manual_seed(0)
    model = options.build(registry().model(name), settings)
    networks = make_networks(model, data.spec)
    return Engine(model, networks, BatchStream(data.train.images, BATCH, 0, CPU, data.train.labels))


def counts(name: str, data: Dataset) -> dict[str, int]:
    """Of one step, the third: the first also makes what all later ones have."""
    engine = make_engine(name, data)
    engine.step()
    engine.step()
    with Counter() as counter:  # type: ignore[no-untyped-call]
        engine.step()
    state = sum(v.numel() * v.element_size() for k, v in engine.state().items() if k.startswith("update/"))
    return {"operations": counter.count, "FLOPs": counter.flops, "optimizer bytes": state}


def ratio(name: str, family: str, data: Dataset, pairs: int = 21) -> float:
    """Median of the engine's pace over the hand-written loop's, in alternating blocks of a tenth of a second."""
    engine = make_engine(name, data, family=family)
    model = engine.objective
    torch.manual_seed(0)
    bare = LOOPS[name](Resident(data.train.images, BATCH, CPU), make_networks(model, data.spec), model)
    for step in (engine.step, bare):
        seconds(step, 5, CPU)
    steps = max(2, round(0.1 / (seconds(engine.step, 5, CPU) / 5)))
    found = []
    for i in range(pairs):
        first, second = (bare, engine.step) if i % 2 else (engine.step, bare)
        spent = {first: seconds(first, steps, CPU), second: seconds(second, steps, CPU)}
        found.append(spent[bare] / spent[engine.step])
    return round(statistics.median(found), 3)


def main() -> int:
    """Count, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="status 1 where a count differs from the record's")
    parser.add_argument("--write", action="store_true", help="make this the record")
    parser.add_argument("--no-ratios", action="store_true", help="only the counts")
    args = parser.parse_args()
    torch.set_num_threads(1)
    data = load_dataset("digits", zoo.DataOptions(), registry().sources())
    version = torch.__version__.partition("+")[0]
    now: dict[str, Any] = {"torch": version, "steps": {n: counts(n, data) for n in sorted(registry().models)}}
    last = json.loads(RECORD.read_text()) if RECORD.is_file() else {"torch": "", "steps": {}, "ratios": {}}

    print(f"One step on digits, batch {BATCH}: this tree (torch {version}) beside the record (torch {last['torch']})")
    changed = []
    for name, mine in now["steps"].items():
        before = last["steps"].get(name, {})
        if mine != before:
            changed.append(name)
        cells = [
            f"{key} {value:,}" + (f" (was {before.get(key, 0):,})" if before.get(key) != value else "")
            for key, value in mine.items()
        ]
        print(f"  {name:14} " + "   ".join(cells))
    if not args.no_ratios:
        now["ratios"] = {f"{n}, {f}": ratio(n, f, data) for n in LOOPS for f in ("mlp", "conv")}
        print("Pace beside the loop written by hand, one thread; in brackets the record's")
        for name, value in now["ratios"].items():
            mark = "   SLOW" if value < SLOW else ""
            print(f"  {name:14} {value:.3f} ({last['ratios'].get(name, '—')}){mark}")
    if args.write:
        RECORD.write_text(json.dumps({**last, **now}, indent=1) + "\n")
        print(f"kept in {RECORD.name}")
        return 0
    if not changed:
        print("no count has changed")
        return 0
    print(f"changed: {', '.join(changed)}; if it is meant, --write, and commit the record with the change")
    if last["torch"] != version:
        print(f"torch is another one than the record's, {last['torch']}, which may be all there is to it")
        return 0
    return 1 if args.check else 0


if __name__ == "__main__":
    sys.exit(main())
