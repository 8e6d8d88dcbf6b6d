"""Weights and scores of short runs, compared with those of another commit: a refactoring changes neither.

    python benchmarks/compare_commits.py 7c4789f

The other commit is unpacked and installed into a scratch environment, which has the libraries of this one. Each model
is trained there and then here, from the ``config.toml`` of the first run, and both runs are scored by ``zoo eval``.
Weights must be equal to the bit and scores to 1e-9. Both run on the same machine with the same libraries, so the
comparison holds on any processor and with any version of torch; the weights of two machines need not be equal.

The extractor ``classifier`` of 0.1.0 is today's ``classifier-v1``; ``--extractors`` names the pair for other commits.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

ROOT = Path(__file__).parent.parent
TOLERANCE = 1e-9


def make_environment(commit: str, scratch: Path) -> Path:
    """Check the commit out, install it into a new environment, and return that environment's Python."""
    tree, environment = scratch / "tree", scratch / "environment"
    tree.mkdir()
    content = subprocess.run(["git", "-C", ROOT, "archive", commit], check=True, capture_output=True).stdout
    subprocess.run(["tar", "-x", "-C", tree], input=content, check=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    python = environment / "bin" / "python"
    libraries = [path for path in sys.path if path.endswith("site-packages")]
    find = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
    site = Path(subprocess.run([python, "-c", find], check=True, capture_output=True, text=True).stdout.strip())
    (site / "libraries.pth").write_text("\n".join(libraries) + "\n")
    pip = [python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--editable", tree]
    subprocess.run(pip, check=True)
    return python


def train(python: Path, cwd: Path, arguments: list[str], out: Path, extractor: str) -> None:
    """Train and score one run with the command line of one tree."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ZOO_CACHE": str(out.parent / "cache")}
    for command in (
        ["run", *arguments, "--extractor", extractor, "--out", str(out)],
        ["eval", str(out), "--extractor", extractor, "--out", str(out / "eval.json")],
    ):
        done = subprocess.run(
            [python, "-m", "zoo", *command], cwd=cwd, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"zoo {' '.join(command)}\n{done.stdout}{done.stderr}")


def compare_weights(before: Path, after: Path) -> list[str]:
    """Names of the tensors that are not equal to the bit."""
    a, b = (load_file(folder / "model.safetensors") for folder in (before, after))
    return sorted(
        name for name in a.keys() | b.keys() if name not in a or name not in b or not same_bits(a[name], b[name])
    )


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether two tensors have the same type, shape and bits."""
    return a.dtype == b.dtype and a.shape == b.shape and a.numpy().tobytes() == b.numpy().tobytes()


def compare_scores(before: Path, after: Path, extractors: tuple[str, str]) -> tuple[int, dict[str, list[float | None]]]:
    """The number of scores of both runs, and the scores that differ, with both values.

    Scores that only one of the commits knows are not compared.
    """
    a, b = (json.loads((folder / "eval.json").read_text())["scores"] for folder in (before, after))
    old, new = extractors
    a = {f"{name} ".replace(f"-{old} ", f"-{new} ").strip(): value for name, value in a.items()}
    common = [name for name in a if name in b]
    return len(common), {name: [a[name], b[name]] for name in common if not close(a[name], b[name])}


def close(a: float | None, b: float | None) -> bool:
    """Whether two scores are equal up to rounding, or both undefined."""
    if a is None or b is None:
        return a is b
    return math.isclose(a, b, rel_tol=TOLERANCE, abs_tol=TOLERANCE)


def main() -> None:
    """Compare the working tree with a commit; exit with 1 if a weight or a score differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commit")
    parser.add_argument("--models", default="vae,vaegan,aae,bigan")
    parser.add_argument("--epochs", default="1")
    parser.add_argument("--kernels", default="rules", help="--kernels of the run here; 0.1.0 chose by rules")
    parser.add_argument("--extractors", nargs=2, default=("classifier", "classifier-v1"), metavar=("OLD", "NEW"))
    parser.add_argument("--record", type=Path, help="JSON file for the outcome")
    arguments = parser.parse_args()
    old, new = arguments.extractors
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="zoo-compare-") as name:
        scratch = Path(name)
        python = make_environment(arguments.commit, scratch)
        for model in arguments.models.split(","):
            before, after = scratch / f"{model}-before", scratch / f"{model}-after"
            train(python, scratch / "tree", [model, "--epochs", arguments.epochs, "--device", "cpu"], before, old)
            again = ["--config", str(before / "config.toml"), "--device", "cpu", "--kernels", arguments.kernels]
            train(Path(sys.executable), ROOT, again, after, new)
            weights = compare_weights(before, after)
            count, scores = compare_scores(before, after, (old, new))
            tensors = len(load_file(after / "model.safetensors"))
            found[model] = {"tensors": tensors, "weights": weights, "scores": count, "different": scores}
            print(
                f"{model}: {len(weights)} of {tensors} tensors and {len(scores)} of {count} scores differ", flush=True
            )
            for line in (*weights[:5], *(f"{k}: {a} became {b}" for k, (a, b) in scores.items())):
                print(f"  {line}")
    if arguments.record:
        head = subprocess.run(["git", "-C", ROOT, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
        record = {
            "command": "python benchmarks/compare_commits.py " + arguments.commit,
            "before": arguments.commit,
            "after": head.stdout.strip(),
            "torch": torch.__version__,
            "epochs": int(arguments.epochs),
            "models": found,
        }
        arguments.record.write_text(json.dumps(record, indent=1) + "\n")
    raise SystemExit(any(entry["weights"] or entry["different"] for entry in found.values()))


if __name__ == "__main__":
    main()
