"""Known damages to real images, each at four increasing strengths: what an extractor must answer to."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor


def _uint8(x: Tensor) -> Tensor:
    return x.round().clamp(0, 255).to(torch.uint8)


def _rand(x: Tensor, seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(1000 * seed + len(x))


def blur(x: Tensor, sigma: float) -> Tensor:
    """Gaussian blur, σ in pixels."""
    r = torch.arange(-8, 9, dtype=torch.float32)
    w = torch.exp(-0.5 * (r / sigma) ** 2)
    w /= w.sum()
    c = x.shape[1]
    y = F.pad(x.float(), (8, 8, 8, 8), mode="replicate")
    y = F.conv2d(y, w.view(1, 1, 1, -1).expand(c, 1, 1, -1), groups=c)
    return _uint8(F.conv2d(y, w.view(1, 1, -1, 1).expand(c, 1, -1, 1), groups=c))


def dilate(x: Tensor, share: float) -> Tensor:
    """A mixture with the maximum over 3×3 pixels: thicker strokes."""
    return _uint8(torch.lerp(x.float(), F.max_pool2d(x.float(), 3, 1, 1), share))


def erode(x: Tensor, share: float) -> Tensor:
    """A mixture with the minimum over 3×3 pixels: thinner strokes."""
    return _uint8(torch.lerp(x.float(), -F.max_pool2d(-x.float(), 3, 1, 1), share))


def noise(x: Tensor, sigma: float) -> Tensor:
    """Gaussian noise, σ in gray levels."""
    return _uint8(x.float() + sigma * torch.randn(x.shape, generator=_rand(x)))


def jagged(x: Tensor, share: float) -> Tensor:
    """Each pixel replaced by a neighbor with this probability: jagged edges."""
    out = x.clone()
    for i, (dy, dx) in enumerate(((0, 1), (0, -1), (1, 0), (-1, 0))):
        take = torch.rand(len(x), 1, *x.shape[2:], generator=_rand(x, i)) < share / 4
        out = torch.where(take, torch.roll(x, (dy, dx), (2, 3)), out)
    return out


def dots(x: Tensor, share: float) -> Tensor:
    """Pixels darkened in a checkerboard, as transposed convolutions leave them."""
    h, w = x.shape[2:]
    board = (torch.arange(h)[:, None] + torch.arange(w)) % 2
    return _uint8(x.float() * (1 - share * board))


def pixelate(x: Tensor, share: float) -> Tensor:
    """A mixture with the image at half the resolution, by nearest neighbors."""
    low = F.interpolate(F.avg_pool2d(x.float(), 2), size=x.shape[2:], mode="nearest")
    return _uint8(torch.lerp(x.float(), low, share))


def contrast(x: Tensor, factor: float) -> Tensor:
    """Lower contrast."""
    return _uint8(x.float() * (1 - factor))


def erase(x: Tensor, side: float) -> Tensor:
    """A black square of so many pixels at a random place."""
    out = x.clone()
    g = _rand(x)
    k = int(side)
    rows = torch.arange(x.shape[2]).view(1, 1, -1, 1)
    columns = torch.arange(x.shape[3]).view(1, 1, 1, -1)
    top = torch.randint(4, x.shape[2] - k - 3, (len(x), 1, 1, 1), generator=g)
    left = torch.randint(4, x.shape[3] - k - 3, (len(x), 1, 1, 1), generator=g)
    inside = (rows >= top) & (rows < top + k) & (columns >= left) & (columns < left + k)
    return out.masked_fill(inside, 0)


def elastic(x: Tensor, pixels: float) -> Tensor:
    """A smooth random displacement, its deviation in pixels, sampled at the nearest pixel."""
    n, _, h, w = x.shape
    flow = torch.randn(n, 2, 5, 5, generator=_rand(x)) * pixels
    flow = F.interpolate(flow, size=(h, w), mode="bicubic", align_corners=True)
    grid = F.affine_grid(torch.eye(2, 3).expand(n, 2, 3), [n, 1, h, w], align_corners=False)
    grid = grid + flow.permute(0, 2, 3, 1) * torch.tensor([2 / w, 2 / h])
    return _uint8(F.grid_sample(x.float(), grid, mode="nearest", align_corners=False))


def drop_classes(x: Tensor, count: float, y: Tensor) -> Tensor:
    """The first ``count`` classes replaced by copies of the others."""
    kept = (y >= count).nonzero().flatten()
    return x[kept[torch.randint(len(kept), (len(x),), generator=_rand(x))]]


def repeat(x: Tensor, distinct: float) -> Tensor:
    """So many distinct images, each repeated: lost diversity."""
    return x[torch.arange(len(x)) % int(distinct)]


def mix_noise(x: Tensor, share: float) -> Tensor:
    """A share of the images replaced by mixtures of two."""
    many = int(share * len(x))
    out = x.clone()
    out[:many] = _uint8((x[:many].float() + x[-many:].float().flip(0)) / 2)
    return out


Damages: TypeAlias = dict[str, tuple[Callable[..., Tensor], tuple[float, ...]]]

DAMAGES: Damages = {
    "blur": (blur, (0.4, 0.6, 0.9, 1.4)),
    "dilation": (dilate, (0.15, 0.3, 0.6, 1.0)),
    "erosion": (erode, (0.15, 0.3, 0.6, 1.0)),
    "noise": (noise, (8, 16, 32, 64)),
    "jagged": (jagged, (0.05, 0.1, 0.25, 0.5)),
    "dots": (dots, (0.05, 0.1, 0.2, 0.4)),
    "pixelate": (pixelate, (0.2, 0.4, 0.7, 1.0)),
    "contrast": (contrast, (0.1, 0.2, 0.35, 0.5)),
    "erase": (erase, (3, 5, 7, 10)),
    "elastic": (elastic, (0.4, 0.7, 1.1, 1.6)),
    "dropped classes": (drop_classes, (1, 2, 4, 6)),
    "repeated images": (repeat, (1000, 300, 100, 30)),
    "superposed": (mix_noise, (0.05, 0.1, 0.25, 0.5)),
}


def damaged(x: Tensor, y: Tensor, damages: Damages = DAMAGES) -> dict[str, Tensor]:
    """Every damage at every strength, of real images uint8 (N, C, H, W) with labels (N,)."""
    sets = {"clean": x}
    for name, (function, strengths) in damages.items():
        for strength in strengths:
            given = (y,) if function is drop_classes else ()
            sets[f"{name} {strength:g}"] = function(x, strength, *given)
    return sets
