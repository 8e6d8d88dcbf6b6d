"""Data beyond memory: peak memory of a run on mapped images, and its speed relative to resident ones.

    python benchmarks/mapped_data.py --work DIR            # 4 GB of pixels, a limit of 1.5 GB
    python benchmarks/mapped_data.py --work DIR --small    # 60 MB of pixels, in a minute

Makes a folder of BMP images in DIR, trains on it twice with `zoo run` (the first decodes, the second maps what the
first stored), and deletes it. Memory is that of the whole process, code, networks and mapped pages included.
With --group the runs also live in a control group, whose memory limit the kernel enforces. Speeds are medians of
alternating blocks of steps in one process.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
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
FIELDS = ("VmHWM", "RssAnon", "RssFile")


def make_images(folder: Path, count: int) -> None:
    """Write ``count`` BMP images: links to 500 smooth random ones, since only decoding is to cost time."""
    rng = np.random.default_rng(0)
    for i in range(count):
        path = folder / f"class{i % 4}" / f"{i:07}.bmp"
        path.parent.mkdir(parents=True, exist_ok=True)
        if i < 500:
            coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
            coarse.resize((SIDE, SIDE)).save(path)
        else:
            os.link(folder / f"class{i % 500 % 4}" / f"{i % 500:07}.bmp", path)


def watched_run(group: Path | None, *arguments: str) -> dict[str, Any]:
    """Run `zoo run`, in a control group if one is given; return its seconds and its largest memory values in bytes."""
    begin, most = time.perf_counter(), dict.fromkeys(FIELDS, 0)
    command = [sys.executable, "-m", "zoo", "run", *arguments]
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
    return {"seconds": round(time.perf_counter() - begin, 1), **most}


def paired_speed(dataset: str, model: str, family: str, blocks: int, seconds: float) -> dict[str, Any]:
    """Speed on mapped images (32×32) relative to resident ones: median and quartiles of alternating blocks."""
    engines = []
    for memory in (2**62, 0):
        data = load_dataset(
            dataset, zoo.DataOptions(memory=memory, format=zoo.ImageFormat((32, 32))), registry().sources()
        )
        assert is_mapped(data.train.images) == (memory == 0)
        torch.manual_seed(0)
        objective = options.build(registry().model(model), {"family": family})
        stream = BatchStream(data.train.images, 128, 0, torch.device("cpu"))
        engines.append(Engine(objective, make_networks(objective, data.spec), stream))
    resident, mapped = engines
    run_steps(mapped, 3)
    steps = max(2, round(seconds / (run_steps(resident, 3) / 3)))
    ratios = []
    for i in range(blocks):
        first, second = (resident, mapped) if i % 2 == 0 else (mapped, resident)
        taken = {first: run_steps(first, steps), second: run_steps(second, steps)}
        ratios.append(taken[resident] / taken[mapped])
    low, middle, high = statistics.quantiles(ratios, n=4)
    return {
        "model": model,
        "family": family,
        "ratio": round(middle, 3),
        "quartiles": [round(low, 3), round(high, 3)],
        "blocks": blocks,
        "steps": steps,
    }


def run_steps(engine: Engine, steps: int) -> float:
    """Seconds of so many steps."""
    begin = time.perf_counter()
    for _ in range(steps):
        engine.step()
    return time.perf_counter() - begin


def main() -> None:
    """Measure, print the figures as JSON, and fail where a limit is exceeded."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="Folder for 9 GB of temporary files.")
    parser.add_argument("--group", type=Path, help="A control group with a memory limit.")
    parser.add_argument("--small", action="store_true", help="60 MB of pixels.")
    parser.add_argument("--record", type=Path, help="Write the figures to this file.")
    arguments = parser.parse_args()
    count, limit, blocks, seconds = (1_200, 1.5e9, 4, 0.3) if arguments.small else (82_000, 1.5e9, 15, 0.5)
    work = arguments.work / "zoo-mapped-data"
    shutil.rmtree(work, ignore_errors=True)
    os.environ["ZOO_CACHE"] = str(work / "cache")
    try:
        make_images(work / "images", count)
        dataset = f"folder:{work / 'images'}"
        common = ["vae", "--dataset", dataset, "--data-memory", "64MiB" if not arguments.small else "10MB"]
        common += ["--images", "2560", "--batch", "128", "--family", "mlp", "--width", "16", "--extractor", "none"]
        figures: dict[str, Any] = {
            "pixels": count * 3 * SIDE**2,
            "limit": limit,
            "first": watched_run(arguments.group, *common, "--out", str(work / "first")),
            "again": watched_run(arguments.group, *common, "--out", str(work / "again")),
        }
        few = work / "few"
        few.mkdir()
        for path in sorted((work / "images" / "class0").iterdir())[:5000]:
            os.link(path, few / path.name)
        shutil.rmtree(work / "images")
        figures["speed"] = [
            paired_speed(f"folder:{few}", model, family, blocks, seconds)
            for model, family in (("vae", "mlp"), ("vae", "conv"))
        ]
        figures["machine"] = {"threads": torch.get_num_threads(), "torch": torch.__version__}
    finally:
        shutil.rmtree(work, ignore_errors=True)
    text = json.dumps(figures, indent=2)
    print(text)
    if arguments.record:
        arguments.record.write_text(text + "\n")
    if max(figures[run]["VmHWM"] for run in ("first", "again")) > limit:
        raise SystemExit("the limit was exceeded")


if __name__ == "__main__":
    main()
