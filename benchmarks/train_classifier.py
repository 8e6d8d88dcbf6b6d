"""Train the pinned classifier behind `FD-classifier`, save its weights and record how well it does.

    python benchmarks/train_classifier.py --data-dir DIR      # DIR/MNIST/raw/*.gz

One network for MNIST and for scikit-learn's digits, trained on their training splits by cross-entropy, without
augmentation, dropout, label smoothing or averaged weights: together these made classifier-v1 blind to blur
(docs/judge.md). Nothing is chosen on a test split.
"""

from __future__ import annotations

import argparse
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
from zoo.evaluation.classifier import LeNet, prepare

ROOT = Path(__file__).resolve().parent.parent
WEIGHTS = ROOT / "zoo/evaluation/weights/classifier-v2.safetensors"
RECORD = ROOT / "benchmarks/records/classifier-v2.json"
VARIANCE = (80.0, 20.0)
"""Total variance of the hidden layer and of the convolution on MNIST's training images."""


def prepared(split: Split) -> tuple[Tensor, Tensor]:
    """Images as the network's input, float32 (N, 1, 28, 28), and their labels (N,)."""
    assert split.labels is not None
    return prepare(split.images), split.labels


@torch.no_grad()
def accuracy(net: LeNet, x: Tensor, y: Tensor) -> float:
    """Share of images whose largest logit is their label's."""
    hits = sum(int((net(a).argmax(1) == b).sum()) for a, b in zip(x.split(500), y.split(500), strict=True))
    return hits / len(y)


def train(x: Tensor, y: Tensor, index: Tensor, args: argparse.Namespace) -> LeNet:
    """Adam with 100 steps of warm-up and a cosine schedule."""
    torch.manual_seed(args.seed)
    generator = torch.Generator().manual_seed(args.seed)
    net = LeNet()
    optimizer = torch.optim.Adam(net.parameters(), lr=args.lr)
    steps, done, start = args.epochs * (len(index) // args.batch), 0, time.perf_counter()
    for epoch in range(args.epochs):
        order = index[torch.randperm(len(index), generator=generator)]
        for part in order[: len(order) // args.batch * args.batch].split(args.batch):
            cosine = 0.5 + 0.5 * math.cos(math.pi * done / steps)
            optimizer.param_groups[0]["lr"] = args.lr * min(1.0, (done + 1) / 100) * cosine
            loss = F.cross_entropy(net(x[part]), y[part])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            done += 1
        print(
            f"epoch {epoch + 1}/{args.epochs}  {time.perf_counter() - start:.0f} s  loss {loss.item():.3f}", flush=True
        )
    return net.eval()


@torch.no_grad()
def set_scale(net: LeNet, x: Tensor) -> None:
    """Set the scale of both parts of the features by their variance on ``x``."""
    net.scale.fill_(1)
    features = torch.cat([net.features(part) for part in x.split(500)]).double()
    parts = features.split([net.hidden.out_features, features.shape[1] - net.hidden.out_features], 1)
    for i, (part, variance) in enumerate(zip(parts, VARIANCE, strict=True)):
        net.scale[i] = math.sqrt(variance / part.var(0).sum().item())


def main() -> None:
    """Train, judge, save."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repeat", type=int, default=6, help="times a digits scan is seen per epoch")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="file of the weights")
    args = parser.parse_args()

    sources = {source.name: source for source in bundled_sources()}
    options = DataOptions(data_dir=args.data_dir, download=False)
    digits, mnist = (load_dataset(name, options, sources) for name in ("digits", "mnist"))
    (dx, dy), (dx_test, dy_test) = prepared(digits.train), prepared(digits.test)
    (mx, my), (mx_test, my_test) = prepared(mnist.train), prepared(mnist.test)
    index = torch.cat((torch.arange(len(mx)), torch.arange(len(mx), len(mx) + len(dx)).repeat(args.repeat)))
    net = train(torch.cat((mx, dx)), torch.cat((my, dy)), index, args)
    set_scale(net, mx)

    scores = {"digits": accuracy(net, dx_test, dy_test), "mnist": accuracy(net, mx_test, my_test)}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in net.state_dict().items()}, args.out)
    libraries = ("torch", "numpy", "scikit-learn", "safetensors")
    record = {
        "name": "classifier-v2",
        "sha256": hashlib.sha256(args.out.read_bytes()).hexdigest(),
        "bytes": args.out.stat().st_size,
        "test_accuracy": scores,
        "test_images": {"digits": len(dy_test), "mnist": len(my_test)},
        "dataset_digests": {"digits": digits.digest, "mnist": mnist.digest},
        "settings": {k: v for k, v in vars(args).items() if k not in ("data_dir", "out")},
        "python": platform.python_version(),
        "libraries": {name: importlib.metadata.version(name) for name in libraries},
        "threads": torch.get_num_threads(),
    }
    if args.out == WEIGHTS:
        RECORD.parent.mkdir(parents=True, exist_ok=True)
        RECORD.write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
