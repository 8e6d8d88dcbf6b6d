"""Data beyond memory: peak memory of a whole run on mapped images, and speed relative to resident ones.

    python benchmarks/mapped_data.py --work DIR --record benchmarks/records/mapped-data.json   # 4 GB of pixels
    python benchmarks/mapped_data.py --work DIR --small                                        # 100 MB of pixels

Makes a folder of gray images in DIR and runs `zoo run` on it twice with a small limit of resident data. The first run
decodes, trains, saves checkpoints and is scored; the second maps what the first stored. Each runs in a control group
of 1.5 GB where this machine allows to make one: the kernel then ends a process that takes more. Peak memory is that of
the process, code, networks and mapped pages included. Then speeds are measured in one process, in alternating blocks
of steps. The folder is deleted at the end.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import zoo
from zoo import options
from zoo.data import is_mapped, load_dataset
from zoo.engine import BatchStream, Engine
from zoo.registry import registry
from zoo.run.trained import make_networks

SIDE = 128
LIMIT = 1_500_000_000
"""Bytes that a run may take."""
FIELDS = ("VmHWM", "RssAnon", "RssFile")
SPEED_FORMAT = zoo.ImageFormat((32, 32))


def make_images(folder: Path, count: int) -> None:
    """Write ``count`` gray BMP images: links to 200 smooth random ones, since only decoding is to cost time."""
    rng = np.random.default_rng(0)
    for i in range(count):
        path = folder / f"class{i % 4}" / f"{i:07}.bmp"
        path.parent.mkdir(parents=True, exist_ok=True)
        if i < 200:
            coarse = Image.fromarray(rng.integers(0, 256, (6, 6), dtype=np.uint8))
            coarse.resize((SIDE, SIDE)).save(path)
        else:
            os.link(folder / f"class{i % 200 % 4}" / f"{i % 200:07}.bmp", path)


@contextlib.contextmanager
def control_group(limit: int) -> Iterator[Path | None]:
    """A control group of this memory limit; None if this machine does not allow to make one."""
    roots = {"": (Path("/sys/fs/cgroup"), "memory.max"), "memory": (Path("/sys/fs/cgroup/memory"), None)}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers not in roots:
            continue
        root, file = roots[controllers]
        group = root / path.strip("/") / f"zoo-mapped-data-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            try:
                (group / (file or "memory.limit_in_bytes")).write_text(str(limit))
            except OSError:
                continue
            yield group
            return
        finally:
            group.rmdir()
    yield None


def watched_run(group: Path | None, out: Path, *arguments: str) -> dict[str, Any]:
    """Run `zoo run`, in a control group if one is given.

    Returns:
        Seconds, and the largest memory values in bytes: of the whole process (VmHWM), its own, and its mapped pages.
    """
    begin, most = time.perf_counter(), dict.fromkeys(FIELDS, 0)
    command = [sys.executable, "-m", "zoo", "run", *arguments, "--out", str(out)]
    if group is not None:
        command = ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(group / "cgroup.procs"), *command]
    process = subprocess.Popen(command)
    status = Path(f"/proc/{process.pid}/status")
    while process.poll() is None:
        for line in status.read_text().splitlines():
            name, _, value = line.partition(":")
            if name in most:
                most[name] = max(most[name], int(value.split()[0]) * 1024)
        time.sleep(0.02)
    if process.returncode:
        raise SystemExit(f"zoo run failed with status {process.returncode}")
    result = json.loads((out / "result.json").read_text())
    assert (out / "checkpoint" / "state.safetensors").is_file()
    return {"seconds": round(time.perf_counter() - begin, 1), "scores": len(result["scores"]), **most}


def paired_speed(dataset: str, model: str, family: str, pairs: int, seconds: float) -> dict[str, Any]:
    """Speed on mapped images relative to resident ones: median and quartiles over alternating blocks of steps."""
    engines = []
    for memory in (2**62, 0):
        data = load_dataset(dataset, zoo.DataOptions(memory=memory, format=SPEED_FORMAT), registry().sources())
        assert is_mapped(data.train.images) == (memory == 0)
        torch.manual_seed(0)
        objective = options.build(registry().model(model), {"family": family})
        stream = BatchStream(data.train.images, 128, 0, torch.device("cpu"))
        engines.append(Engine(objective, make_networks(objective, data.spec), stream))
    resident, mapped = engines
    run_steps(mapped, 3)
    steps = max(2, round(seconds / (run_steps(resident, 3) / 3)))
    ratios = []
    for i in range(pairs):
        first, second = (resident, mapped) if i % 2 == 0 else (mapped, resident)
        taken = {first: run_steps(first, steps), second: run_steps(second, steps)}
        ratios.append(taken[resident] / taken[mapped])
    low, middle, high = statistics.quantiles(ratios, n=4)
    return {
        "model": model,
        "family": family,
        "ratio": round(middle, 3),
        "quartiles": [round(low, 3), round(high, 3)],
        "pairs": pairs,
        "steps": steps,
    }


def run_steps(engine: Engine, steps: int) -> float:
    """Seconds of so many steps."""
    begin = time.perf_counter()
    for _ in range(steps):
        engine.step()
    return time.perf_counter() - begin


def processor() -> str:
    """Family and model of the processor."""
    with contextlib.suppress(OSError):
        facts = dict(line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().splitlines() if ":" in line)
        facts = {key.strip(): value.strip() for key, value in facts.items()}
        return f"{facts.get('model name')}, family {facts.get('cpu family')}, model {facts.get('model')}"
    return "unknown"


def main() -> None:
    """Measure, print the figures as JSON, and fail where the limit is exceeded."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="Folder for 5 GB of temporary files.")
    parser.add_argument("--small", action="store_true", help="100 MB of pixels, and short blocks of steps.")
    parser.add_argument("--only", choices=("memory", "speed"), help="Measure this alone.")
    parser.add_argument("--record", type=Path, help="Write the figures to this file; others in it stay.")
    arguments = parser.parse_args()
    small, work = arguments.small, arguments.work / "zoo-mapped-data"
    count, few, pairs, seconds = (6_100, 500, 4, 0.1) if small else (245_000, 5000, 30, 0.4)
    shutil.rmtree(work, ignore_errors=True)
    os.environ["ZOO_CACHE"] = str(work / "cache")
    figures: dict[str, Any] = {}
    try:
        if arguments.only != "speed":
            figures |= measure_memory(work, count, few)
        if arguments.only != "memory":
            make_images(work / "few", few)
            kinds = (("vae", "mlp"), ("vae", "conv"))
            speeds = [paired_speed(f"folder:{work / 'few'}", *kind, pairs, seconds) for kind in kinds]
            figures["speed"] = {"images": few, "threads": torch.get_num_threads(), "models": speeds}
    finally:
        shutil.rmtree(work, ignore_errors=True)
    figures["machine"] = {"processor": processor(), "torch": torch.__version__}
    text = json.dumps(figures, indent=2)
    print(text)
    if arguments.record:
        old = json.loads(arguments.record.read_text()) if arguments.record.is_file() else {}
        arguments.record.write_text(json.dumps({**old, **figures}, indent=2) + "\n")
    # A control group needs no check; VmHWM also counts pages of libraries that processes share.
    watched = {} if figures.get("control group") else figures.get("memory", {})
    if any(run["VmHWM"] > LIMIT for run in watched.values()):
        raise SystemExit("the limit was exceeded")


def measure_memory(work: Path, count: int, few: int) -> dict[str, Any]:
    """Peak memory of two runs, which share one store of decoded images."""
    make_images(work / "images", count)
    common = ["vae", "--dataset", f"folder:{work / 'images'}", "--data-memory", "16MiB"]
    common += ["--images", "3840", "--batch", "128", "--family", "mlp", "--width", "16"]
    common += ["--checkpoint-seconds", "5", "--samples", str(few)]
    with control_group(LIMIT) as group:
        runs = {
            "decoding, training, scores": watched_run(group, work / "first", *common),
            "mapping, training": watched_run(group, work / "again", *common, "--extractor", "none"),
        }
    shutil.rmtree(work / "images")
    return {"pixels": count * SIDE**2, "limit": LIMIT, "control group": group is not None, "memory": runs}


if __name__ == "__main__":
    main()
