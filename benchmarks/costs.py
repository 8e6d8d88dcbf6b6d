"""Cost of a step: FLOPs, share of the machine's peak, operations, memory. Part of benchmarks/speed.py."""

from __future__ import annotations

import ctypes
import statistics
import subprocess
import sys
from pathlib import Path

import torch
from loops import LOOPS
from step_costs import Counter
from timing import CHECK_STEPS, Bench, Table, show
from torch.profiler import ProfilerActivity, profile

from zoo.accelerators import cpu
from zoo.engine import Engine


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
            memory = measure_memory(bench, name, family)
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
    # In float32 torch's own product may not be what a processor can do.
    own = bench.device.type == "cpu" and dtype == torch.float32 and cpu.AVX512
    product = (lambda: torch.ops.latent_zoo.linear(a, b, None)) if own else (lambda: torch.mm(a, b))
    bench.seconds(product, 2)
    return max(2 * n**3 * 4 / bench.seconds(product, 4) for _ in range(4))


OPERATIONS = ("aten::", "mkldnn::", "latent_zoo::")
KINDS = {
    "convolution": ("conv", "mkldnn_conv", "xmma", "implicit"),
    "matrix product": ("mm", "linear", "gemm", "product"),
    "normalization": ("batch_norm", "bn_", "native_batch"),
    "optimizer": ("adam", "sgd", "rmsprop"),
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
        if mine <= 0 or (cuda and event.device_type.name != "CUDA") or not (cuda or event.key.startswith(OPERATIONS)):
            continue
        count += event.count
        kind = next((k for k, words in KINDS.items() if any(w in event.key.lower() for w in words)), "other")
        times[kind] = times.get(kind, 0.0) + mine
    total = sum(times.values())
    ranked = sorted(times.items(), key=lambda kv: -kv[1])
    return {kind: t / total for kind, t in ranked}, round(count / steps), min(1.0, total / 1e6 / spent)


def measure_memory(bench: Bench, name: str, family: str) -> int:
    """Bytes that training needs beyond an idle process (CPU), or at most has allocated (GPU)."""
    if bench.device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        engine = bench.engine(bench.model(name, family=family))
        bench.seconds(engine.step, 6)
        return torch.cuda.max_memory_allocated() - before
    command = [
        sys.executable,
        str(Path(__file__).with_name("speed.py")),
        "--part",
        "memory",
        "--dataset",
        bench.dataset,
        "--batch",
        str(bench.batch),
    ]
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
