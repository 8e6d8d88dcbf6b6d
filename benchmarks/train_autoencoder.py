"""Train the extractor `autoencoder`, the second opinion on gray images, and record its digest.

    python benchmarks/train_autoencoder.py --data-dir DIR      # DIR/MNIST/raw/*.gz

An autoencoder restores images of MNIST and scikit-learn's digits (training splits) from versions with Gaussian noise
and masked squares, by squared error and without labels; its code is the features. This is the member `masked` of the
panel in docs/judge.md, with the digits added.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import platform
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from zoo.data import DataOptions, bundled_sources, load_dataset
from zoo.evaluation.autoencoder import AutoencoderFeatures, CodeNet
from zoo.evaluation.classifier import prepare

ROOT = Path(__file__).resolve().parent.parent
RECORD = ROOT / "benchmarks/records/autoencoder.json"
VARIANCE = 100.0
"""Total variance of the features on MNIST's training images."""


def decoder(features: int = 64, width: int = 16) -> nn.Module:
    """Mirror image of `CodeNet`; used for training only."""
    return nn.Sequential(
        nn.Linear(features, 2 * width * 49),
        nn.ReLU(),
        nn.Unflatten(1, (2 * width, 7, 7)),
        nn.ConvTranspose2d(2 * width, width, 4, 2, 1),
        nn.ReLU(),
        nn.ConvTranspose2d(width, 1, 4, 2, 1),
    )


def damaged(x: Tensor, noise: float, generator: torch.Generator) -> Tensor:
    """Images with a quarter of their 49 squares masked and with Gaussian noise."""
    kept = (torch.rand(len(x), 1, 7, 7, generator=generator) < 0.75).float()
    return x * F.interpolate(kept, scale_factor=4) + noise * torch.randn(x.shape, generator=generator)


def train(x: Tensor, index: Tensor, args: argparse.Namespace) -> CodeNet:
    """Adam on the squared error of the restored images."""
    torch.manual_seed(args.seed)
    generator = torch.Generator().manual_seed(args.seed)
    net, back = CodeNet(), decoder()
    optimizer = torch.optim.Adam([*net.parameters(), *back.parameters()], lr=args.lr)
    for epoch in range(args.epochs):
        order = index[torch.randperm(len(index), generator=generator)]
        for part in order[: len(order) // args.batch * args.batch].split(args.batch):
            loss = F.mse_loss(back(net(damaged(x[part], args.noise, generator))), x[part])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch + 1}/{args.epochs}  loss {loss.item():.4f}", flush=True)
    return net.eval()


def main() -> None:
    """Train, scale, save."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--noise", type=float, default=0.2, help="standard deviation, of pixels in [0, 1]")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repeat", type=int, default=6, help="times a digits scan is seen per epoch")
    parser.add_argument("--out", type=Path, default=AutoencoderFeatures.WEIGHTS, help="file of the weights")
    args = parser.parse_args()

    sources = {source.name: source for source in bundled_sources()}
    options = DataOptions(data_dir=args.data_dir, download=False)
    digits, mnist = (load_dataset(name, options, sources) for name in ("digits", "mnist"))
    dx, mx = prepare(digits.train.images), prepare(mnist.train.images)
    index = torch.cat((torch.arange(len(mx)), torch.arange(len(mx), len(mx) + len(dx)).repeat(args.repeat)))
    net = train(torch.cat((mx, dx)), index, args)
    with torch.no_grad():
        features = torch.cat([net(part) for part in mx.split(500)]).double()
    net.scale.fill_((VARIANCE / features.var(0).sum().item()) ** 0.5)

    save_file({k: v.contiguous() for k, v in net.state_dict().items()}, args.out)
    record = {
        "name": "autoencoder",
        "sha256": hashlib.sha256(args.out.read_bytes()).hexdigest(),
        "bytes": args.out.stat().st_size,
        "dataset_digests": {"digits": digits.digest, "mnist": mnist.digest},
        "settings": {k: v for k, v in vars(args).items() if k not in ("data_dir", "out")},
        "python": platform.python_version(),
        "libraries": {n: importlib.metadata.version(n) for n in ("torch", "numpy", "scikit-learn", "safetensors")},
        "threads": torch.get_num_threads(),
    }
    if args.out == AutoencoderFeatures.WEIGHTS:
        RECORD.write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
