"""All benchmarks and tests that need a GPU, each with a time limit.

    python benchmarks/gpu.py --data-dir DIR --out OUT                     all parts, about half an hour on one H200
    python benchmarks/gpu.py --data-dir DIR --out OUT --part speed        one part
    python benchmarks/gpu.py --small --out OUT                            a short version on a CPU, in minutes

Parts, the most important first:

- ``equality``: the tests of CUDA graphs: every registered model, captured, against the eager step over 20 steps.
- ``speed``: benchmarks/speed.py, whose record goes to OUT/speed-cuda.json.
- ``leaderboard``: every bundled model, five seeds, twenty epochs of MNIST (protocols/mnist-gpu.toml), and the
  formats generated from it; the target is ten minutes on one H200, evaluation included.
- ``sharing``: throughput of a small grid with one, two, four, eight and sixteen runs per GPU.
- ``devices``: comparison of the scores of a CPU and the GPU.
- ``reproduce``: benchmarks/reproduce.py as far as the time goes; what is not finished is resumed by the next call.

Each part leaves OUT/PART.log; OUT/summary.json says what ran, how long, and how it ended. What is cut off by its time
is said to be; a grid and a reproduction go on where they were when the command is given again with the same --work.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
FRACTION = 1 / 16
"""Of the card, for one run of the leaderboard: sixteen runs at once, one for each core of the machines in mind."""


def equality(args: argparse.Namespace) -> list[list[str]]:
    """Graph ≡ eager."""
    what = ["-k", "recorded or compiled_step"] if args.small else ["-m", "cuda"]
    return [[sys.executable, "-m", "pytest", str(HERE.parent / "tests/test_engine_compile_and_graphs.py"), *what]]


def speed(args: argparse.Namespace) -> list[list[str]]:
    """Against hand-written loops and pythae, ablation, costs, scaling."""
    base = [sys.executable, str(HERE / "speed.py"), "--record", str(args.out / f"speed-{args.device}.json")]
    if args.small:
        return [[*base, "--dataset", "digits", "--pairs", "3", "--block-seconds", "0.1", "--part", "loops"]]
    from peers import available

    parts = ["loops", "ablation", "cost", "scaling", "throughput", "job", *(["peers"] if available() else [])]
    named = [word for part in parts for word in ("--part", part)]
    return [[*base, "--device", "cuda", "--data-dir", args.data_dir, *named, "--plot", str(args.out / "speed.svg")]]


def bench(args: argparse.Namespace, out: Path, fraction: float, *more: str) -> list[str]:
    """A grid."""
    device = ["--device", "cpu"] if args.small else ["--device", "cuda", "--gpu-fraction", str(fraction)]
    return [sys.executable, "-m", "zoo", "bench", "--out", str(out), *device, *more]


def leaderboard(args: argparse.Namespace) -> list[list[str]]:
    """The grid, then what of it is kept, then the forms."""
    name = "quick" if args.small else "mnist-gpu"
    grid, kept = args.work / "leaderboard", args.out / "leaderboard"
    more = ["--models", "vae,gan", "--seeds", "2"] if args.small else ["--data-dir", args.data_dir]
    keeper = [sys.executable, str(HERE / "leaderboard.py")]
    return [
        bench(args, grid, FRACTION, "--protocol", str(HERE / f"protocols/{name}.toml"), *more),
        [*keeper, "keep", str(grid), str(kept)],
        [*keeper, "make", str(kept)],
    ]


def sharing(args: argparse.Namespace) -> list[list[str]]:
    """The same grid with ever more runs at once; its wall times are in the summary."""
    shares = (1, 2) if args.small else (1, 2, 4, 8, 16)
    protocol = args.work / "sharing.toml"
    images = 4_000 if args.small else 300_000
    dataset = "digits" if args.small else "mnist"
    protocol.write_text(
        f'name = "sharing"\nversion = 1\n\n[train]\nimages = {images}\nbatch = 128\nprecision = "fp32"\n\n'
        f'[grid]\nmodels = ["vae", "vaegan"]\ndatasets = ["{dataset}"]\nseeds = {2 if args.small else 8}\n'
    )
    more = ["--protocol", str(protocol), *([] if args.small else ["--data-dir", args.data_dir])]
    return [
        bench(args, args.work / f"sharing-{n}", 1 / n, *more, *(["--jobs", str(n)] if args.small else []))
        for n in shares
    ]


def devices(args: argparse.Namespace) -> list[list[str]]:
    """Scores of both devices."""
    script = [sys.executable, str(HERE / "evaluation.py"), "--part", "devices"]
    return [[*script, *(["--data-dir", args.data_dir] if args.data_dir else [])]]


def reproduce(args: argparse.Namespace) -> list[list[str]]:
    """The papers' numbers."""
    script = [sys.executable, str(HERE / "reproduce.py")]
    kept = ["--runs", str(args.work / "reproduce"), "--record", str(args.out / "reproduce")]
    if args.small:
        return [[*script, "list"]]
    return [
        [*script, target, "--device", "cuda", "--data-dir", args.data_dir, *kept]
        for target in ("bigan", "alice", "aae-labels", "aae-parzen", "vae", "iwae")
    ]


PARTS = {
    "equality": (equality, 300),
    "speed": (speed, 420),
    "leaderboard": (leaderboard, 600),
    "sharing": (sharing, 240),
    "devices": (devices, 120),
    "reproduce": (reproduce, 1200),
}
"""What each part runs, and the seconds that it has by default."""


def run(part: str, commands: list[list[str]], args: argparse.Namespace, limit: float) -> list[dict[str, Any]]:
    """A part's commands one after the other, all within the limit."""
    ends = time.monotonic() + limit
    steps = []
    with (args.out / f"{part}.log").open("w") as log:
        for command in commands:
            log.write("$ " + " ".join(command) + "\n")
            log.flush()
            start = time.monotonic()
            try:
                left = max(1.0, ends - start)
                status: int | str = subprocess.run(
                    command, stdout=log, stderr=subprocess.STDOUT, timeout=left
                ).returncode
            except subprocess.TimeoutExpired:
                status = f"cut off after {limit:g} s"
            words = [Path(word).name if os.sep in word else word for word in command[1:]]
            steps.append({"command": " ".join(words), "status": status, "seconds": round(time.monotonic() - start, 1)})
            print(f"{part}: {steps[-1]}", flush=True)
    return steps


def main() -> int:
    """Run the parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", action="append", choices=PARTS)
    parser.add_argument("--data-dir", default=os.environ.get("ZOO_DATA"), help="where MNIST lies; default $ZOO_DATA")
    parser.add_argument("--out", type=Path, required=True, help="what is to be kept")
    parser.add_argument("--work", type=Path, help="what a later call goes on from; default OUT/work")
    parser.add_argument("--seconds", type=float, help="for each part, in place of its own")
    parser.add_argument("--small", action="store_true", help="a rehearsal on the CPU")
    args = parser.parse_args()
    args.device = "cpu" if args.small else "cuda"
    args.work = (args.work or args.out / "work").resolve()
    args.out = args.out.resolve()
    for folder in (args.out, args.work):
        folder.mkdir(parents=True, exist_ok=True)
    if not args.small and not args.data_dir:
        parser.error("--data-dir: name the folder with MNIST/raw, or set ZOO_DATA")
    summary = {}
    for part in args.part or PARTS:
        if args.small and part == "devices":
            continue  # there is only one
        commands, limit = PARTS[part]
        summary[part] = run(part, commands(args), args, args.seconds or limit)
        (args.out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    return int(any(step["status"] != 0 for steps in summary.values() for step in steps))


if __name__ == "__main__":
    sys.exit(main())
