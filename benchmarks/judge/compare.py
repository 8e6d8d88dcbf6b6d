"""Fréchet distances of many sets of images in many extractors.

    python benchmarks/judge/compare.py --data-dir DIR --nets FOLDER --sets FOLDER --out FILE.json

``--nets`` holds the networks of ``extractors.py``. ``--sets`` holds ``DATASET-MODEL-IMAGES.npy``: uint8 samples of a
model after so many training images. The reference is the test split; the damaged sets are made from training images.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from damages import damaged
from networks import NETWORKS
from safetensors.torch import load_file
from torch import Tensor

from zoo.data import DataOptions, bundled_sources, load_dataset
from zoo.evaluation.classifier import prepare
from zoo.metrics.frechet import frechet_distance
from zoo.metrics.moments import Moments
from zoo.registry import registry

N = 5000


def load_extractor(name: str, nets: Path) -> Callable[[Tensor], Tensor]:
    """Features (B, d) of uint8 images (B, C, H, W), by a registered extractor or by a network of ``extractors.py``."""
    if name not in NETWORKS:
        return registry().extractor(name)()
    net = NETWORKS[name]()
    net.load_state_dict(load_file(nets / f"{name}.safetensors"))
    net.eval()
    return lambda images: net.features(prepare(images))


@torch.no_grad()
def feature_moments(extract: Callable[[Tensor], Tensor], images: Tensor) -> Moments:
    """Mean and covariance of the features."""
    out = Moments()
    for part in images.split(500):
        out.update(extract(part))
    return out


def main() -> None:
    """Fill the table, one extractor after the other; values that are there stay."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("data-dir", "nets", "sets", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--dataset", default="mnist")
    parser.add_argument("--only", nargs="*", help="extractors; default all")
    args = parser.parse_args()
    sources = {source.name: source for source in bundled_sources()}
    data = load_dataset(args.dataset, DataOptions(data_dir=args.data_dir, download=False), sources)
    g = torch.Generator().manual_seed(0)
    chosen = torch.randperm(len(data.train.images), generator=g)[:N]
    sets = {
        path.stem.removeprefix(f"{args.dataset}-"): torch.from_numpy(np.load(path)[:N])
        for path in sorted(args.sets.glob(f"{args.dataset}-*.npy"))
    }
    assert data.train.labels is not None
    sets |= damaged(data.train.images[chosen], data.train.labels[chosen])
    table: dict[str, dict[str, float]] = json.loads(args.out.read_text()) if args.out.exists() else {}
    for name in args.only or [*NETWORKS, "classifier-v1", "classifier"]:
        row = table.setdefault(name, {})
        missing = [s for s in sets if s not in row]
        if not missing:
            continue
        extract = load_extractor(name, args.nets)
        real = feature_moments(extract, data.test.images)
        row |= {s: round(frechet_distance(real, feature_moments(extract, sets[s])), 6) for s in missing}
        args.out.write_text(json.dumps(table, indent=1) + "\n")
        print(name, len(missing), flush=True)


if __name__ == "__main__":
    main()
