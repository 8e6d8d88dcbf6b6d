"""The papers' numbers beside ours: trains a target's models by their paper's settings and measures as the paper did.

    python benchmarks/reproduce.py list
    python benchmarks/reproduce.py vae                          the full schedule: hours on a GPU
    python benchmarks/reproduce.py bigan --budget 0.05          a twentieth of its epochs
    python benchmarks/reproduce.py all --budget 0.01 --record benchmarks/records/reproduce

A budget below 1 shortens the schedule, learning rates with it, and the record says so: nothing is extrapolated. Runs
are kept under --runs and resumed from there. A target is *met* only when its full measure passes; at a fraction of the
budget a number that passes is met too, one that does not is said to be at that fraction.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor

import zoo
from zoo.data import Dataset, to_uint8
from zoo.metrics import fit_parzen, knn_accuracy, log_likelihood, observe
from zoo.run.evaluation_inputs import make_density
from zoo.run.run_folder import RunFolder
from zoo.run.train import load_data

CURVE = 40
"""Points of the training curve that a record keeps."""


@attrs.frozen
class Job:
    """One run of a target: a model, its settings (over its ``paper`` preset), and its full schedule in epochs."""

    model: str
    epochs: int
    settings: Mapping[str, Any] = attrs.field(factory=dict)
    preset: str | None = "paper"


@attrs.frozen
class Target:
    """What a paper reports, and how we measure it."""

    paper: str
    published: str
    accept: str
    jobs: Mapping[str, Job]
    measure: Callable[[Mapping[str, zoo.TrainedModel], Dataset, argparse.Namespace], Mapping[str, float]]
    met: Callable[[Mapping[str, float]], bool]


def log_p(trained: zoo.TrainedModel, data: Dataset, arguments: argparse.Namespace) -> float:
    """Log p(x) of binarized test images by 5000 importance samples, in nats."""
    density = make_density(trained)
    assert density is not None
    chosen = torch.randperm(len(data.test), generator=torch.Generator().manual_seed(0))[: arguments.images]
    x = observe(data.test.images[chosen], density.observation)
    torch.manual_seed(0)
    chunk = 5000 if trained.device.type == "cuda" else 100
    return log_likelihood(density, x, chunk=chunk).mean


def likelihoods(runs: Mapping[str, zoo.TrainedModel], data: Dataset, arguments: argparse.Namespace) -> dict[str, float]:
    """Of every run."""
    return {f"log p(x), {name}": log_p(run, data, arguments) for name, run in runs.items()}


@torch.no_grad()
def features(trained: zoo.TrainedModel, images: Tensor) -> Tensor:
    """BiGAN's: the layer before the encoder's output."""
    body = trained.networks["encoder"].encoder.body
    parts = [body(x.to(trained.device).float() / 127.5 - 1).flatten(1) for x in torch.split(images, 500)]
    return torch.cat(parts).cpu()


def nearest(runs: Mapping[str, zoo.TrainedModel], data: Dataset, arguments: argparse.Namespace) -> dict[str, float]:
    """1-NN accuracy on those features, and the reconstruction error over that of a random pair."""
    run = runs["BiGAN"]
    assert data.train.labels is not None
    assert data.test.labels is not None
    train, test = features(run, data.train.images), features(run, data.test.images)
    (accuracy,) = knn_accuracy(train, data.train.labels, test, data.test.labels, ks=(1,))
    x = data.test.images.float() / 127.5 - 1
    again = run.reconstruct(x).cpu()
    error = (x - again).flatten(1).norm(dim=1).mean()
    pair = (x - x[torch.randperm(len(x), generator=torch.Generator().manual_seed(0))]).flatten(1).norm(dim=1).mean()
    return {"1-NN accuracy, %": 100 * accuracy, "reconstruction / random pair": float(error / pair)}


def errors(runs: Mapping[str, zoo.TrainedModel], data: Dataset, arguments: argparse.Namespace) -> dict[str, float]:
    """Reconstruction MSE of test images, on [−1, 1], of ALI and ALICE, and their ratio."""
    x = data.test.images.float() / 127.5 - 1
    found = {name: float((run.reconstruct(x).cpu() - x).square().mean()) for name, run in runs.items()}
    return {f"MSE, {n}": v for n, v in found.items()} | {"ratio": found["λ = 0"] / found["λ = 1"]}


def windows(runs: Mapping[str, zoo.TrainedModel], data: Dataset, arguments: argparse.Namespace) -> dict[str, float]:
    """Parzen log-likelihood of the test images under 10,000 samples, σ chosen on 1,000 training images."""
    made = to_uint8(runs["AAE"].sample(10_000, seed=0)).cpu().flatten(1)
    validation = data.train.images[-1000:].flatten(1)
    found = fit_parzen(made, validation, data.test.images[: arguments.images].flatten(1))
    return {
        "Parzen log-likelihood": found.log_likelihood,
        "σ": found.bandwidth,
        "standard error": found.standard_error,
    }


@torch.no_grad()
def mistakes(runs: Mapping[str, zoo.TrainedModel], data: Dataset, arguments: argparse.Namespace) -> dict[str, float]:
    """Test error of the code's one-hot part, in per cent."""
    found = {}
    for name, run in runs.items():
        guess = run.encode(data.test.images)[:, :10].argmax(1).cpu()  # type: ignore[attr-defined]
        found[f"error, {name}, %"] = 100 * float((guess != data.test.labels).double().mean())
    return found


IWAE = "Burda, Grosse & Salakhutdinov, arXiv:1509.00519, table 1 (dynamic binarization, one layer)"
SEMI = {"dataset": "mnist", "family": "aae-flat", "latent": 10, "batch": 100}
TARGETS = {
    "vae": Target(
        IWAE,
        "log p(x) = −86.76 at k = 1",
        "−86.8 ± 1",
        {"k = 1": Job("vae", 3280)},
        likelihoods,
        lambda v: abs(v["log p(x), k = 1"] + 86.8) <= 1,
    ),
    "iwae": Target(
        IWAE,
        "log p(x) = −86.76 at k = 1, −84.78 at k = 50",
        "k = 50 better than k = 1 by at least 1 nat",
        {"k = 1": Job("iwae", 3280, {"k": 1}), "k = 50": Job("iwae", 3280, {"k": 50})},
        likelihoods,
        lambda v: v["log p(x), k = 50"] - v["log p(x), k = 1"] >= 1,
    ),
    "bigan": Target(
        "Donahue, Krähenbühl & Darrell, arXiv:1605.09782, table 1 and figure 2",
        "1-NN 97.39 %; reconstruction about 5.95 against 9.60 of a random pair",
        "1-NN ≥ 96.5 % and ratio ≤ 0.65",
        {"BiGAN": Job("bigan", 400)},
        nearest,
        lambda v: v["1-NN accuracy, %"] >= 96.5 and v["reconstruction / random pair"] <= 0.65,
    ),
    "alice": Target(
        "Li, Liu, Chen et al., arXiv:1709.01215, table 1",
        "MSE 0.480 at λ = 0, 0.080 at λ = 1",
        "λ = 1 cuts the MSE by at least 3 times",
        {"λ = 0": Job("alice", 100, {"cycle": 0.0}), "λ = 1": Job("alice", 100)},
        errors,
        lambda v: v["ratio"] >= 3,
    ),
    "aae-parzen": Target(
        "Makhzani, Shlens, Jaitly, Goodfellow & Frey, arXiv:1511.05644, table 1 (10,000 samples)",
        "340 ± 2",
        "at least 300",
        {"AAE": Job("aae", 1000)},
        windows,
        lambda v: v["Parzen log-likelihood"] >= 300,
    ),
    "aae-labels": Target(
        "Makhzani, Shlens, Jaitly, Goodfellow & Frey, arXiv:1511.05644, table 2",
        "error 1.90 % with 100 labels, 1.60 % with 1000",
        "at most 3 % with 100 labels and 2.5 % with 1000",
        {
            "100 labels": Job("aae", 500, {**SEMI, "labels": 100}, preset=None),
            "1000 labels": Job("aae", 500, {**SEMI, "labels": 1000}, preset=None),
        },
        mistakes,
        lambda v: v["error, 100 labels, %"] <= 3 and v["error, 1000 labels, %"] <= 2.5,
    ),
}


def run(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Train what a target needs, measure, and return its record."""
    target = TARGETS[name]
    begin = time.perf_counter()
    runs, told = {}, {}
    for label, job in target.jobs.items():
        epochs = max(1, round(job.epochs * arguments.budget))
        out = Path(arguments.runs) / f"{name}-{label.replace(' ', '')}-{epochs}epochs-seed{arguments.seed}"
        print(f"{name}: {label}: {job.model}, {epochs} of {job.epochs} epochs -> {out}", flush=True)
        settings = {"dataset": "mnist", "device": arguments.device, "extractor": "none", **job.settings}
        if arguments.data_dir:
            settings["data_dir"] = arguments.data_dir
        preset = {} if (out / "config.toml").is_file() else {"preset": job.preset}
        settings |= {"epochs": epochs, "seed": arguments.seed}
        runs[label] = zoo.train(job.model, out=out, resume=True, **preset, **settings)
        folder = RunFolder(out)
        result, lines = folder.load_result(), folder.logged()
        there = folder.settings()
        keep = max(1, len(lines) // CURVE)
        told[label] = {
            "model": job.model,
            "epochs": epochs,
            "of": job.epochs,
            "batch": there.batch,
            "options": dict(there.options),
            "cost": result["cost"],
            "curve": [{"images": line["images"], **line["terms"]} for line in lines[::keep]],
        }
    found = target.measure(runs, load_data(there), arguments)
    met = bool(target.met(found))
    print(f"{name}: published {target.published}; accepted {target.accept}")
    for key, value in found.items():
        print(f"    {key}: {value:.4g}")
    part = "" if arguments.budget == 1 else f", at {arguments.budget:g} of the schedule"
    print(f"    {'met' if met else 'not met'}{part}")
    return {
        "format": 1,
        "target": name,
        "paper": target.paper,
        "published": target.published,
        "accept": target.accept,
        "found": found,
        "met": met,
        "budget": arguments.budget,
        "test images": min(arguments.images, 10_000),
        "seed": arguments.seed,
        "command": f"python benchmarks/reproduce.py {name} --budget {arguments.budget:g} --images {arguments.images}",
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


def commit() -> str | None:
    """The commit that was measured, with + where the tree had changed."""
    try:
        here = {"cwd": Path(__file__).parent, "capture_output": True, "text": True, "check": True}
        head = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], **here).stdout.strip()
        return head + ("+" if subprocess.run(["git", "status", "--porcelain", "-uno"], **here).stdout.strip() else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def main() -> None:
    """Reproduce one target, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=["list", "all", *TARGETS])
    parser.add_argument("--budget", type=float, default=1.0, help="share of the schedule's epochs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--images", type=int, default=10_000, help="test images for likelihoods")
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--data-dir")
    parser.add_argument("--runs", default="runs/reproduce", metavar="DIR")
    parser.add_argument("--record", metavar="DIR", help="write DIR/TARGET.json")
    arguments = parser.parse_args()
    if not 0 < arguments.budget <= 1:
        parser.error(f"--budget: {arguments.budget} is not allowed; must be above 0 and at most 1")
    if arguments.target == "list":
        for name, target in TARGETS.items():
            print(f"{name:12} {target.published}; accepted: {target.accept}\n{'':12} {target.paper}")
        return
    for name in TARGETS if arguments.target == "all" else [arguments.target]:
        record = run(name, arguments)
        if arguments.record:
            out = Path(arguments.record)
            out.mkdir(parents=True, exist_ok=True)
            text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
            (out / f"{name}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
