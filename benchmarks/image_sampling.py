"""How far a Fréchet distance on scikit-learn's digits moves with the choice of test images and samples.

    python benchmarks/image_sampling.py      # writes benchmarks/records/image-sampling.json

Damaged training images stand for the samples of models. For each damage: the distance to the 500 test images, its
standard error by `frechet_standard_errors`, and its standard deviation over bootstrap samples of the test images and of
the damaged ones. For pairs of damages: the standard deviation of the difference over the same resampled test images.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.data import DataOptions, bundled_sources, load_dataset
from zoo.evaluation import PinnedClassifier
from zoo.metrics import Moments, ReferenceMoments, frechet_distance, frechet_standard_errors

RECORD = Path(__file__).resolve().parent / "records" / "image-sampling.json"
RESAMPLES = 100
PAIRS = (
    ("training images", "noise 15"),
    ("noise 15", "noise 30"),
    ("half blur", "blur"),
    ("noise 60", "half blur"),
    ("noise 60", "7 classes"),
    ("half blur", "7 classes"),
)


def moments(features: Tensor) -> Moments:
    """Moments of features (N, d)."""
    found = Moments()
    found.update(features)
    return found


def damages(x: Tensor, labels: Tensor, g: torch.Generator) -> dict[str, Tensor]:
    """Damaged images by the name of the damage."""

    def noisy(sigma: float) -> Tensor:
        return (x.float() + sigma * torch.randn(x.shape, generator=g)).round().clamp(0, 255).to(torch.uint8)

    blurred = F.avg_pool2d(F.pad(x.float(), (1, 1, 1, 1), mode="replicate"), 3, 1)
    return {
        "training images": x,
        "noise 15": noisy(15),
        "noise 30": noisy(30),
        "noise 60": noisy(60),
        "7 classes": x[labels < 7],
        "half blur": ((x.float() + blurred) / 2).round().to(torch.uint8),
        "blur": blurred.round().to(torch.uint8),
    }


def main() -> None:
    """Measure and write the record."""
    digits = load_dataset("digits", DataOptions(), {source.name: source for source in bundled_sources()})
    extractor, g = PinnedClassifier(), torch.Generator().manual_seed(0)
    assert digits.train.labels is not None
    real = extractor(digits.test.images)
    features = {k: extractor(v) for k, v in damages(digits.train.images, digits.train.labels, g).items()}

    def drawn(x: Tensor) -> Tensor:
        return x[torch.randint(len(x), (len(x),), generator=g)]

    references = [ReferenceMoments.from_moments(moments(drawn(real))) for _ in range(RESAMPLES)]
    exact = ReferenceMoments.from_moments(moments(real))

    def spread(distance: Callable[[Tensor], float], made: Tensor) -> float:
        return float(torch.tensor([distance(made) for _ in range(RESAMPLES)]).std())

    rows: list[dict[str, Any]] = []
    by_images: dict[str, Tensor] = {}
    for name, made in features.items():
        own = moments(made)
        by_images[name] = torch.tensor([frechet_distance(reference, own) for reference in references])
        generated, images = frechet_standard_errors(real, made)
        row = {
            "images": name,
            "n": len(made),
            "distance": frechet_distance(exact, own),
            "error_generated": generated,
            "error_test_images": images,
            "error": math.hypot(generated, images),
            "bootstrap_generated": spread(lambda made: frechet_distance(exact, moments(drawn(made))), made),
            "bootstrap_test_images": float(by_images[name].std()),
        }
        rows.append(row)
        print(json.dumps(row), flush=True)
    pairs = [
        {
            "pair": pair,
            "correlation": float(torch.corrcoef(torch.stack([by_images[name] for name in pair]))[0, 1]),
            "separate": math.hypot(*(float(by_images[name].std()) for name in pair)),
            "difference": float((by_images[pair[0]] - by_images[pair[1]]).std()),
        }
        for pair in PAIRS
    ]
    record = {"dataset": "digits", "test_images": len(real), "resamples": RESAMPLES, "rows": rows, "pairs": pairs}
    RECORD.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    print(json.dumps(pairs, indent=1))


if __name__ == "__main__":
    main()
