"""Train classifier-v1, the pinned classifier of zoo 0.1, save its weights and record how well it does.

    python benchmarks/judge/train_classifier_v1.py --data-dir DIR      # DIR/MNIST/raw/*.gz

One network for MNIST and for scikit-learn's digits, trained on their training splits. Its weights, averaged
over the last steps, are saved as they are: nothing is chosen on a test split.

How 8x8 scans are brought to 28x28 was settled by `--experiment`: two epochs on MNIST alone, judged on the
training scans. At 20x20 in a border of 4, MNIST's own framing, it reads 89 %; stretched to 28x28, 78 %.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import importlib.metadata
import json
import math
import platform
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from zoo.data import DataOptions, Split, bundled_sources, load_dataset
from zoo.evaluation.classifier import DigitClassifier, prepare

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = ROOT / "zoo/evaluation/weights/classifier-v1.safetensors"
RECORD = ROOT / "benchmarks/records/classifier-v1.json"

Pair = tuple[Tensor, Tensor]


def pair(split: Split) -> Pair:
    """The pictures as the network sees them, float32 (N, 1, 28, 28), and their labels (N,)."""
    assert split.labels is not None
    return prepare(split.images), split.labels


def augment(x: Tensor, generator: torch.Generator, degrees: float, scale: float, shift: float) -> Tensor:
    """Each picture turned, stretched and shifted by its own uniform draw; `shift` in pixels."""
    draw = torch.rand(5, len(x), generator=generator) * 2 - 1
    angle, sx, sy = draw[0] * math.radians(degrees), 1 + scale * draw[1], 1 + scale * draw[2]
    cos, sin = angle.cos(), angle.sin()
    move = draw[3:] * (2 * shift / x.shape[-1])
    theta = torch.stack((sx * cos, -sx * sin, move[0], sy * sin, sy * cos, move[1]), 1).reshape(-1, 2, 3)
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


@torch.no_grad()
def accuracy(net: DigitClassifier, x: Tensor, y: Tensor) -> float:
    """Share of pictures whose largest logit is their label's."""
    hits = sum(int((net(a).argmax(1) == b).sum()) for a, b in zip(x.split(500), y.split(500), strict=True))
    return hits / len(y)


def train(x: Tensor, y: Tensor, index: Tensor, args: argparse.Namespace) -> DigitClassifier:
    """AdamW, one rise and a cosine fall of the rate, light augmentation, averaged weights."""
    torch.manual_seed(args.seed)
    generator = torch.Generator().manual_seed(args.seed)
    net = DigitClassifier().to(memory_format=torch.channels_last)
    mean = copy.deepcopy(net).requires_grad_(False)
    optimizer = torch.optim.AdamW(net.parameters(), lr=args.lr, weight_decay=0.02)
    steps, done, start = args.epochs * (len(index) // args.batch), 0, time.perf_counter()
    for epoch in range(args.epochs):
        order = index[torch.randperm(len(index), generator=generator)]
        for part in order[: len(order) // args.batch * args.batch].split(args.batch):
            progress = done / steps
            fall = 0.5 + 0.5 * math.cos(math.pi * (progress - 0.15) / 0.85)
            optimizer.param_groups[0]["lr"] = args.lr * min(progress / 0.15, fall)
            views = augment(x[part], generator, degrees=10, scale=0.1, shift=2)
            features = F.dropout(net.features(views.contiguous(memory_format=torch.channels_last)), 0.2)
            loss = F.cross_entropy(net.head(features), y[part], label_smoothing=0.02)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            done += 1
            with torch.no_grad():
                keep = min(0.998, done / (done + 10))
                for m, p in zip(mean.parameters(), net.parameters(), strict=True):
                    m.lerp_(p, 1 - keep)
        spent = time.perf_counter() - start
        print(f"epoch {epoch + 1}/{args.epochs}  {spent:.0f} s  loss {loss.item():.3f}", flush=True)
    return mean.eval()


def main() -> None:
    """Train, judge, save."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repeat", type=int, default=6, help="times a digits scan is seen in an epoch")
    parser.add_argument("--experiment", action="store_true", help="compare the framings; save nothing")
    args = parser.parse_args()

    sources = {source.name: source for source in bundled_sources()}
    options = DataOptions(data_dir=args.data_dir, download=False)
    digits, mnist = (load_dataset(name, options, sources) for name in ("digits", "mnist"))
    (dx, dy), (dx_test, dy_test) = pair(digits.train), pair(digits.test)
    (mx, my), (mx_test, my_test) = pair(mnist.train), pair(mnist.test)
    if args.experiment:
        args.epochs = 2
        net = train(mx, my, torch.arange(len(mx)), args)
        plain = F.interpolate(digits.train.images / 255, size=(28, 28), mode="bilinear", align_corners=False)
        print(f"framed {accuracy(net, dx, dy):.4f}  plain {accuracy(net, plain, dy):.4f}")
        return
    index = torch.cat((torch.arange(len(mx)), torch.arange(len(mx), len(mx) + len(dx)).repeat(args.repeat)))
    net = train(torch.cat((mx, dx)), torch.cat((my, dy)), index, args)

    scores = {"digits": accuracy(net, dx_test, dy_test), "mnist": accuracy(net, mx_test, my_test)}
    WEIGHTS.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in net.state_dict().items()}, WEIGHTS)
    libraries = ("torch", "numpy", "scikit-learn", "safetensors")
    record = {
        "name": "classifier-v1",
        "sha256": hashlib.sha256(WEIGHTS.read_bytes()).hexdigest(),
        "bytes": WEIGHTS.stat().st_size,
        "test_accuracy": scores,
        "test_images": {"digits": len(dy_test), "mnist": len(my_test)},
        "dataset_digests": {"digits": digits.digest, "mnist": mnist.digest},
        "settings": {k: v for k, v in vars(args).items() if k not in ("data_dir", "experiment")},
        "python": platform.python_version(),
        "libraries": {name: importlib.metadata.version(name) for name in libraries},
        "threads": torch.get_num_threads(),
    }
    RECORD.parent.mkdir(parents=True, exist_ok=True)
    RECORD.write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
