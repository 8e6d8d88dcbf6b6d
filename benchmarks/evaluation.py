"""Cost and resolution of the evaluation: speed, floor by number of images, bias of few images.

    python benchmarks/evaluation.py --data-dir DIR                  # DIR/MNIST/raw/*.gz; all parts, a few minutes
    python benchmarks/evaluation.py --data-dir DIR --part frechet --part scoring

Parts: ``frechet`` times the Fréchet term at d = 2048 against one eigvalsh and two matrix products of that size;
``scoring`` times the scores of 10,000 MNIST images with cached references; ``floor`` is the FD of training images to
the test split for N from 1,000 to 10,000; ``bias`` measures the bias of a known FD for few images; ``devices``
compares the scores of a CPU and a GPU, if there is one. Prints tables and writes benchmarks/records/evaluation.json.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo import options
from zoo.data import DataOptions, Dataset, load_dataset
from zoo.evaluation import EvaluationSettings, PinnedClassifier, evaluate_images, feature_moments, reference_moments
from zoo.metrics import Moments, ReferenceMoments, frechet_distance
from zoo.registry import registry
from zoo.run.scoring import Scorer
from zoo.run.trained import TrainedModel, make_networks, wrap_trained

RECORD = Path(__file__).resolve().parent / "records/evaluation.json"
PARTS = ("frechet", "scoring", "floor", "bias", "devices")
SIZES = (1000, 2000, 5000, 10_000)
SEEDS = 5
DIMENSIONS = 2048


def seconds(work: Callable[[], object]) -> float:
    """What one call takes on the clock."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """A table in Markdown, as the documents hold it."""
    names = list(head)
    print("\n| " + " | ".join(names) + " |\n|" + "---|" * len(names))
    for row in rows:
        print("| " + " | ".join(f"{v:.3g}" if isinstance(v, float) else str(v) for v in row) + " |")


def frechet(repeats: int) -> dict[str, Any]:
    """The Fréchet term and its yardstick, in turns, so that a busy machine slows both alike."""
    random = torch.Generator().manual_seed(0)
    found: dict[str, Any] = {"d": DIMENSIONS, "repeats": repeats, "threads": torch.get_num_threads()}
    rows = []
    for n in (10_000, 1500):
        x, y = (torch.randn(n, DIMENSIONS, generator=random, dtype=torch.float64) for _ in range(2))
        one, two = Moments(), Moments()
        one.update(x)
        two.update(y * 1.1)
        reference, a, b = ReferenceMoments.from_moments(one), one.cov, two.cov

        def yardstick(a: Tensor = a, b: Tensor = b) -> None:
            torch.linalg.eigvalsh(a)
            _ = a @ b @ a

        pairs = []
        for _ in range(repeats):
            pairs.append((seconds(lambda r=reference, m=two: frechet_distance(r, m)), seconds(yardstick)))
        ours, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
        ratio = statistics.median(a / b for a, b in pairs)
        rows.append((f"{n:,}", ours, theirs, ratio))
        found[f"n {n}"] = {"seconds": ours, "yardstick_seconds": theirs, "ratio": ratio}
    table(("N", "Fréchet term, s", "eigvalsh and two products, s", "ratio"), rows)
    found["within_twice"] = all(row[3] <= 2 for row in rows)
    return found


def model(data: Dataset) -> TrainedModel:
    """An untrained VAE-GAN: its scores cost what those of a trained one do."""
    torch.manual_seed(0)
    objective: Any = options.build(registry().model("vaegan"), {})
    return wrap_trained(objective, make_networks(objective, data.spec), data.spec)


def scoring(data: Dataset, repeats: int) -> dict[str, Any]:
    """10,000 images with cached references, as ``zoo run``, ``zoo eval --images`` and ``zoo eval RUN`` score them."""
    trained, n = model(data), 10_000
    images = data.train.images[torch.randperm(60_000, generator=torch.Generator().manual_seed(1))[:n]]
    settings = {kind: EvaluationSettings(n=n, metric_set=kind) for kind in ("quick", "full")}
    quick, full = (Scorer("classifier", data, print, settings[kind]) for kind in ("quick", "full"))
    extractor = PinnedClassifier()
    work = {
        "quick, of a model (zoo run)": lambda: quick.evaluate(trained),
        "quick, of images": lambda: evaluate_images([images], data, extractor, settings["quick"]),
        "full, of images (zoo eval --images)": lambda: evaluate_images([images], data, extractor, settings["full"]),
        "full, of a model without a density (zoo eval RUN)": lambda: full.evaluate(trained),
    }
    found: dict[str, Any] = {"n": n, "repeats": repeats, "threads": torch.get_num_threads()}
    for name, job in work.items():
        job()  # fills the cache
        found[name] = statistics.median(seconds(job) for _ in range(repeats))
    table(("what", "seconds"), [(name, found[name]) for name in work])
    return found


def predicted(eigenvalues: Tensor, n: int) -> float:
    """What an FD of n Gaussian vectors to the truth is in the mean, to first order in 1/n.

    The mean's error adds Σλ/n. The covariance's, E, has E|Eᵢⱼ|² = λᵢλⱼ/n, twice that for i = j, and the metric of the
    second term is ½ Σᵢⱼ |Eᵢⱼ|²/(λᵢ + λⱼ) (Bhatia, Jain & Lim, arXiv:1712.01504). With all λ = 1: d/n + d(d + 1)/4n.
    """
    values = eigenvalues.clamp(min=0).double()
    pairs = values[:, None] * values / (values[:, None] + values).clamp(min=1e-300)
    return float(values.sum() + 0.5 * (pairs.sum() + 0.5 * values.sum())) / n


def floor(data: Dataset) -> dict[str, Any]:
    """The FD of N training images to the test split: the least that a model can hope for at that N."""
    extractor = PinnedClassifier()
    test = reference_moments(extractor, data.test.images, dataset_digest=data.digest, split="test")
    spectrum, rows, found = torch.linalg.eigvalsh(test.moments.cov), [], []
    for n in SIZES:
        values = []
        for seed in range(SEEDS):
            order = torch.randperm(60_000, generator=torch.Generator().manual_seed(seed))[:n]
            values.append(frechet_distance(test, feature_moments(extractor, data.train.images[order])))
        theory = predicted(spectrum, n) + predicted(spectrum, len(data.test.images))
        mean, spread = statistics.mean(values), statistics.stdev(values)
        rows.append((f"{n:,}", mean, spread, theory))
        found.append({"n": n, "mean": mean, "std": spread, "values": values, "gaussian_theory": theory})
    table(("N", "FD-classifier floor", "its deviation over 5 draws", "of Gaussians, by theory"), rows)
    return {"dataset_digest": data.digest, "extractor_digest": extractor.digest, "n_real": 10_000, "rows": found}


def bias() -> dict[str, Any]:
    """An FD whose truth is 0.2, read from few vectors: in 64 dimensions as in 2048, of the same total variance."""
    random, rows, found = torch.Generator().manual_seed(0), [], []
    for d in (64, DIMENSIONS):
        values = 1 / torch.arange(1, d + 1, dtype=torch.float64)
        values *= 50 / values.sum()
        shift = torch.full((d,), (0.2 / d) ** 0.5, dtype=torch.float64)
        # The truth is known, so the reference has no error of its own.
        truth = ReferenceMoments(Moments.from_statistics(10**6, shift * 0, values.diag()), values.sqrt().diag())
        for n in (1500, *SIZES[1:]):
            x = torch.randn(n, d, generator=random, dtype=torch.float64) * values.sqrt() + shift
            seen = Moments()
            seen.update(x)
            read, theory = frechet_distance(truth, seen), 0.2 + predicted(values, n)
            rows.append((d, f"{n:,}", 0.2, read, theory))
            found.append({"d": d, "n": n, "truth": 0.2, "read": read, "gaussian_theory": theory})
    table(("d", "N", "true FD", "read", "by theory"), rows)
    return {"total_variance": 50, "spectrum": "1/i", "rows": found}


def devices(data: Dataset) -> dict[str, Any]:
    """How far the scores of a GPU are from those of a CPU, for the same weights."""
    if not torch.cuda.is_available():
        print("devices: no GPU here")
        return {"compared": False, "why": "no GPU"}
    trained = model(data)
    scorer = Scorer("classifier", data, print, EvaluationSettings(n=10_000, metric_set="full"))
    first = scorer.evaluate(trained).values
    second = scorer.evaluate(trained.to("cuda")).values
    apart = {k: abs(second[k] - v) / abs(v) if v else abs(second[k]) for k, v in first.items() if v is not None}
    table(("score", "relative difference"), apart.items())
    return {"compared": True, "device": torch.cuda.get_device_name(), "relative": apart}


def main() -> None:
    """Measure, print, record, assert."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, default=os.environ.get("ZOO_DATA"))
    parser.add_argument("--part", action="append", choices=PARTS, help="one or more; all by default")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1), help="2 by default")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    parts = arguments.part or PARTS
    record = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.is_file() else {}
    if set(parts) & {"scoring", "floor", "devices"}:
        where = DataOptions(data_dir=arguments.data_dir, download=False)
        data = load_dataset("mnist", where, registry().sources())
    for part in parts:
        print(f"\n{part}", flush=True)
        begin = time.perf_counter()
        match part:
            case "frechet":
                found = frechet(arguments.repeats)
            case "scoring":
                found = scoring(data, arguments.repeats)
            case "floor":
                found = floor(data)
            case "bias":
                found = bias()
            case _:
                found = devices(data)
        record[part] = {
            **found,
            "torch": importlib.metadata.version("torch"),
            "machine": platform.machine(),
            "part_seconds": round(time.perf_counter() - begin, 1),
        }
        RECORD.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"\nwrote {RECORD.relative_to(RECORD.parents[2])}")
    if "frechet" in parts:
        assert record["frechet"]["within_twice"], "the Fréchet term takes more than twice its yardstick"


if __name__ == "__main__":
    main()
