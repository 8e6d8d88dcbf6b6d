"""Train the extractors that judge the judge: a panel of unlike networks, and the candidates for the pinned extractor.

    python benchmarks/judge/extractors.py --data-dir DIR --out FOLDER [NAME ...]

Each extractor is trained on the training splits alone and saved as ``NAME.safetensors``. The panel differs in
seed, architecture, objective and training data, so that what its members agree on is not a habit of one of them.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from networks import NETWORKS, AutoencoderNet, MultiLayer
from safetensors.torch import save_file
from torch import Tensor, nn

from zoo.data import DataOptions, bundled_sources, load_dataset
from zoo.evaluation.classifier import DigitClassifier, gray, prepare


def bilinear_views(x: Tensor, g: torch.Generator) -> Tensor:
    """Each image rotated, scaled and shifted with bilinear resampling, which blurs it (classifier-v1's views)."""
    draw = torch.rand(5, len(x), generator=g) * 2 - 1
    angle, sx, sy = draw[0] * math.radians(10), 1 + 0.1 * draw[1], 1 + 0.1 * draw[2]
    cos, sin = angle.cos(), angle.sin()
    move = draw[3:] * (2 * 2 / 28)
    theta = torch.stack((sx * cos, -sx * sin, move[0], sy * sin, sy * cos, move[1]), 1).reshape(-1, 2, 3)
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def shifted(x: Tensor, g: torch.Generator) -> Tensor:
    """Each batch shifted by whole pixels, −2 to 2 each way: no resampling."""
    dy, dx = (torch.randint(-2, 3, (2,), generator=g)).tolist()
    return torch.roll(F.pad(x, (2, 2, 2, 2)), (dy, dx), (2, 3))[:, :, 2:-2, 2:-2]


def supervised(
    net: Any,
    x: Tensor,
    y: Tensor,
    *,
    epochs: int,
    seed: int,
    views: Callable[[Tensor, torch.Generator], Tensor] | None = None,
    dropout: float = 0.0,
    smoothing: float = 0.0,
    average: bool = False,
    lr: float = 2e-3,
    decay: float = 0.0,
) -> None:
    """Train a classifier by cross-entropy, its rate falling along a cosine."""
    g = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(net.parameters(), lr=lr, weight_decay=decay)
    steps, done = epochs * (len(x) // 128), 0
    mean = [p.detach().clone() for p in net.parameters()]
    net.train()
    for _ in range(epochs):
        for part in torch.randperm(len(x), generator=g)[: len(x) // 128 * 128].split(128):
            optimizer.param_groups[0]["lr"] = (
                lr * min(1, (done + 1) / 100) * (0.5 + 0.5 * math.cos(math.pi * done / steps))
            )
            batch = x[part] if views is None else views(x[part], g)
            if isinstance(net, MultiLayer):
                logits = net(batch)
            else:
                logits = net.head(F.dropout(net.features(batch), dropout) if dropout else net.features(batch))
            loss = F.cross_entropy(logits, y[part], label_smoothing=smoothing)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            done += 1
            if average:
                for m, p in zip(mean, net.parameters(), strict=True):
                    m.lerp_(p.detach(), 1 - min(0.998, done / (done + 10)))
    if average:
        for m, p in zip(mean, net.parameters(), strict=True):
            p.data.copy_(m)
    net.eval()


def autoencode(net: AutoencoderNet, x: Tensor, *, epochs: int, seed: int, noise: float = 0.0) -> None:
    """Train an autoencoder by squared error; with ``noise`` its input is noisy and half masked by squares."""
    g = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    for _ in range(epochs):
        for part in torch.randperm(len(x), generator=g)[: len(x) // 128 * 128].split(128):
            clean = batch = x[part]
            if noise:
                mask = (torch.rand(len(batch), 1, 7, 7, generator=g) < 0.75).float()
                batch = batch * F.interpolate(mask, scale_factor=4) + noise * torch.randn(batch.shape, generator=g)
            loss = F.mse_loss(net.decode(net.encode(batch)), clean)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
    net.eval()


def contrast(net: Any, x: Tensor, *, epochs: int, seed: int) -> None:
    """SimCLR (2002.05709) with whole-pixel shifts, erased squares and changes of brightness as views."""
    g = torch.Generator().manual_seed(seed)
    project = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32))
    optimizer = torch.optim.Adam([*net.parameters(), *project.parameters()], lr=1e-3)

    def view(v: Tensor) -> Tensor:
        v = shifted(v, g)
        mask = (torch.rand(len(v), 1, 4, 4, generator=g) < 0.85).float()
        v = v * F.interpolate(mask, scale_factor=7) * (0.7 + 0.3 * torch.rand(len(v), 1, 1, 1, generator=g))
        return v

    for _ in range(epochs):
        for part in torch.randperm(len(x), generator=g)[: len(x) // 256 * 256].split(256):
            both = torch.cat((view(x[part]), view(x[part])))
            z = F.normalize(project(net.features(both)), dim=1)
            logits = z @ z.T / 0.2 - 1e9 * torch.eye(len(z))
            target = torch.arange(len(z)).roll(len(part))
            loss = F.cross_entropy(logits, target)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
    net.eval()


class Recipes:
    """The data, loaded once, and one method for each extractor."""

    def __init__(self, folder: Path) -> None:
        self.sources = {source.name: source for source in bundled_sources()}
        options = DataOptions(data_dir=folder, download=False)
        mnist, digits = (load_dataset(name, options, self.sources).train for name in ("mnist", "digits"))
        self.x, self.y = prepare(mnist.images), mnist.labels
        self.dx, self.dy = prepare(digits.images), digits.labels
        self.folder = folder

    def both(self, repeat: int = 6) -> tuple[Tensor, Tensor]:
        """MNIST's training split and scikit-learn's, the smaller one ``repeat`` times."""
        return torch.cat([self.x, *[self.dx] * repeat]), torch.cat([self.y, *[self.dy] * repeat])

    def panel_a(self) -> nn.Module:
        net = NETWORKS["panel_a"]()
        supervised(net, self.x, self.y, epochs=2, seed=1)
        return net

    def panel_b(self) -> nn.Module:
        net = NETWORKS["panel_b"]()
        supervised(net, self.x, self.y, epochs=2, seed=2)
        return net

    def panel_c(self) -> nn.Module:
        return NETWORKS["panel_c"]().eval()

    def panel_d(self) -> nn.Module:
        net = NETWORKS["panel_d"]()
        supervised(net, self.x, self.y, epochs=2, seed=4)
        return net

    def panel_resnet(self) -> nn.Module:
        net = NETWORKS["panel_resnet"]()
        supervised(net, self.x, self.y, epochs=2, seed=5)
        return net

    def panel_autoencoder(self) -> nn.Module:
        net = NETWORKS["panel_autoencoder"]()
        autoencode(net, self.x, epochs=3, seed=6)
        return net

    def panel_masked(self) -> nn.Module:
        net = NETWORKS["panel_masked"]()
        autoencode(net, self.x, epochs=3, seed=7, noise=0.2)
        return net

    def panel_simclr(self) -> nn.Module:
        net = NETWORKS["panel_simclr"]()
        contrast(net, self.x, epochs=3, seed=8)
        return net

    def panel_photographs(self) -> nn.Module:
        train = load_dataset(f"folder:{self.folder / 'cifar10-jpeg'}", DataOptions(), self.sources).train
        x = F.interpolate(gray(train.images).float() / 255, size=(28, 28), mode="bilinear", antialias=True)
        net = NETWORKS["panel_photographs"]()
        supervised(net, x, train.labels, epochs=12, seed=9)
        return net

    def panel_strokes(self) -> nn.Module:
        # Supervised by what the image is, not by its class: mean, extent and slant of the ink, and where it is.
        x = self.x
        m = x.flatten(1)
        grid = torch.linspace(-1, 1, 28)
        px, py = x.sum((1, 2)) @ grid, x.sum((1, 3)) @ grid
        ink = m.sum(1)
        cx, cy = px / ink, py / ink
        xx = (x.sum((1, 2)) @ grid.square()) / ink - cx.square()
        yy = (x.sum((1, 3)) @ grid.square()) / ink - cy.square()
        xy = torch.einsum("bchw,w,h->b", x, grid, grid) / ink - cx * cy
        edge = (x[..., 1:] - x[..., :-1]).abs().sum((1, 2, 3)) + (x[..., 1:, :] - x[..., :-1, :]).abs().sum((1, 2, 3))
        target = torch.stack([ink, cx, cy, xx, yy, xy, edge, edge / ink, m.std(1), (m > 0.5).float().mean(1)], 1)
        target = (target - target.mean(0)) / target.std(0)
        net = NETWORKS["panel_strokes"]()
        g = torch.Generator().manual_seed(10)
        optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
        for _ in range(3):
            for part in torch.randperm(len(x), generator=g)[: len(x) // 128 * 128].split(128):
                loss = F.mse_loss(net.head(net.features(x[part])), target[part])
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
        return net.eval()

    # Ablation of classifier-v1, at a quarter of its epochs: everything, and each ingredient alone.
    def _v1(self, net: Any = None, **given: Any) -> nn.Module:
        net = DigitClassifier() if net is None else net
        x, y = self.both()
        supervised(net, x, y, epochs=3, **{"seed": 0, "decay": 0.02, **given})
        return net

    def ablation_all(self) -> nn.Module:
        return self._v1(views=bilinear_views, dropout=0.2, smoothing=0.02, average=True)

    def ablation_views(self) -> nn.Module:
        return self._v1(views=bilinear_views)

    def ablation_rest(self) -> nn.Module:
        return self._v1(dropout=0.2, smoothing=0.02, average=True)

    def candidate_plain(self) -> nn.Module:
        return self._v1(decay=0.0)

    def candidate_shift(self) -> nn.Module:
        return self._v1(views=shifted, decay=0.0)

    def candidate_layers(self) -> nn.Module:
        return self._v1(NETWORKS["candidate_layers"](), decay=0.0)

    def candidate_lenet(self) -> nn.Module:
        return self._v1(NETWORKS["candidate_lenet"](), decay=0.0)

    def candidate_lenet_relu(self) -> nn.Module:
        return self._v1(NETWORKS["candidate_lenet_relu"](), decay=0.0)


def main() -> None:
    """Train what is named, or everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("names", nargs="*")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    recipes = Recipes(args.data_dir)
    for name in args.names or NETWORKS:
        path = args.out / f"{name}.safetensors"
        if path.exists():
            continue
        start = time.perf_counter()
        torch.manual_seed(sum(map(ord, name)))
        net = getattr(recipes, name)()
        save_file({k: v.contiguous() for k, v in net.state_dict().items()}, path)
        print(name, f"{time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
