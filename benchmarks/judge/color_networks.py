"""The panel of extractors for color images of 32 pixels, which differ in objective, architecture and training."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["PANEL", "train"]


class Classifier(nn.Module):
    """Three stages of 3×3 convolutions with batch normalization; the features are the pooled last stage."""

    def __init__(self, activation: type[nn.Module], width: int, classes: int = 10) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for wide in (width, 2 * width, 4 * width):
            layers += [nn.Conv2d(channels, wide, 3, 1, 1), nn.BatchNorm2d(wide), activation(), nn.MaxPool2d(2)]
            channels = wide
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(channels, classes)

    def features(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) in [−1, 1] → (B, 4·width)."""
        out: Tensor = self.body(x).mean((2, 3))
        return out


class Autoencoder(nn.Module):
    """A convolutional autoencoder; the features are its code."""

    def __init__(self, features: int = 64) -> None:
        super().__init__()
        self.encode = nn.Sequential(
            nn.Conv2d(3, 24, 4, 2, 1), nn.ReLU(), nn.Conv2d(24, 48, 4, 2, 1), nn.ReLU(),
            nn.Flatten(), nn.Linear(48 * 64, features),
        )  # fmt: skip
        self.decode = nn.Sequential(
            nn.Linear(features, 48 * 64), nn.ReLU(), nn.Unflatten(1, (48, 8, 8)),
            nn.ConvTranspose2d(48, 24, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(24, 3, 4, 2, 1),
        )  # fmt: skip

    def features(self, x: Tensor) -> Tensor:
        """(B, 3, 32, 32) in [−1, 1] → (B, features)."""
        out: Tensor = self.encode(x)
        return out


class Untrained(nn.Module):
    """Three convolutions with torch's initial weights, averaged over a 2×2 grid: 4 × 32 features."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 16, 5, 1, 2), nn.ReLU(), nn.Conv2d(16, 24, 3, 2, 1), nn.ReLU(),
            nn.Conv2d(24, 32, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        )  # fmt: skip

    def features(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) in [−1, 1] → (B, 128)."""
        out: Tensor = self.body(x)
        return out


class Statistics(nn.Module):
    """No network: color moments, and the deviations of the bands of a Laplacian pyramid and of a 4×4 DCT."""

    def features(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) in [−1, 1] → (B, 33)."""
        flat = x.flatten(2)
        mean, std = flat.mean(2), flat.std(2)
        z = (flat - mean[..., None]) / (std[..., None] + 1e-3)
        correlation = torch.stack([(z[:, i] * z[:, j]).mean(1) for i, j in ((0, 1), (0, 2), (1, 2))], 1)
        bands, low = [], x
        for _ in range(3):
            smaller = F.avg_pool2d(low, 2)
            bands.append((low - F.interpolate(smaller, scale_factor=2, mode="bilinear")).flatten(2).std(2))
            low = smaller
        k = torch.arange(4)
        dct = torch.cos(torch.pi * (k[None] + 0.5) * k[:, None] / 4) * torch.where(k == 0, 0.5, 0.5**0.5)[:, None]
        kernels = torch.einsum("iy,jx->ijyx", dct, dct).reshape(16, 1, 4, 4)[1:]
        dct_bands = F.conv2d(x.mean(1, keepdim=True), kernels, stride=4).flatten(2).std(2)
        return torch.cat((mean, std, correlation, *bands, dct_bands), 1)


class Thumbnail(nn.Module):
    """No network: the image at 6×6 pixels, 108 features."""

    def features(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) in [−1, 1] → (B, 108)."""
        return F.adaptive_avg_pool2d(x, 6).flatten(1)


PANEL: dict[str, Callable[[], nn.Module]] = {
    "classifier": lambda: Classifier(nn.ReLU, 24),
    "simclr": lambda: Classifier(nn.SiLU, 24),
    "autoencoder": Autoencoder,
    "untrained": Untrained,
    "statistics": Statistics,
    "thumbnail": Thumbnail,
}
"""The extractors apart from the stages of EfficientNet-Lite0, by name."""


def _crops(x: Tensor, g: torch.Generator) -> Tensor:
    # Each batch shifted by whole pixels and mirrored at random: no resampling.
    dy, dx, mirror = (int(torch.randint(n, (), generator=g)) for n in (9, 9, 2))
    x = F.pad(x, (4, 4, 4, 4), mode="reflect")[:, :, dy : dy + x.shape[2], dx : dx + x.shape[3]]
    return x.flip(3) if mirror else x


def _view(x: Tensor, g: torch.Generator) -> Tensor:
    # A view for contrastive learning: shift, erased blocks, gains of the colors.
    mask = (torch.rand(len(x), 1, 4, 4, generator=g) < 0.85).float()
    gain = 0.7 + 0.6 * torch.rand(len(x), 3, 1, 1, generator=g)
    return _crops(x, g) * F.interpolate(mask, size=x.shape[2:]) * gain


def train(name: str, x: Tensor, y: Tensor, epochs: int = 2) -> nn.Module:
    """Return the extractor ``name``, trained on images x (N, 3, 32, 32) in [−1, 1] and labels y (N,) if it learns."""
    torch.manual_seed(sum(map(ord, name)))
    g = torch.Generator().manual_seed(0)
    net = PANEL[name]()
    project = nn.Linear(96, 32)
    parameters = [*net.parameters()] + ([*project.parameters()] if name == "simclr" else [])
    if name in ("classifier", "simclr", "autoencoder"):
        optimizer = torch.optim.Adam(parameters, lr=2e-3)
        size = 256 if name == "simclr" else 64
        for _ in range(epochs):
            for part in torch.randperm(len(x), generator=g)[: len(x) // size * size].split(size):
                if isinstance(net, Autoencoder):
                    loss = F.mse_loss(net.decode(net.encode(x[part])), x[part])
                elif name == "simclr":
                    both = torch.cat((_view(x[part], g), _view(x[part], g)))
                    z = F.normalize(project(net.features(both)), dim=1)
                    loss = F.cross_entropy(z @ z.T / 0.2 - 1e9 * torch.eye(len(z)), torch.arange(len(z)).roll(size))
                else:
                    loss = F.cross_entropy(net.head(net.features(_crops(x[part], g))), y[part])
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
    return net.eval().requires_grad_(False)
