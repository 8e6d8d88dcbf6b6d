"""Known damages to real color photographs, each at four increasing strengths."""

from __future__ import annotations

import io

import numpy as np
import torch
import torch.nn.functional as F
from damages import Damages, blur, drop_classes, erase, mix_noise, noise, pixelate, repeat
from PIL import Image
from torch import Tensor

__all__ = ["DAMAGES"]


def _uint8(x: Tensor) -> Tensor:
    return x.round().clamp(0, 255).to(torch.uint8)


def _gray(x: Tensor) -> Tensor:
    return (x.float() * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1, keepdim=True)


def contrast(x: Tensor, share: float) -> Tensor:
    """Pixels moved toward the mean of their image."""
    return _uint8(torch.lerp(x.float(), x.float().mean((1, 2, 3), keepdim=True), share))


def desaturate(x: Tensor, share: float) -> Tensor:
    """A mixture with the gray image."""
    return _uint8(torch.lerp(x.float(), _gray(x).expand(-1, 3, -1, -1), share))


def rotate_hue(x: Tensor, degrees: float) -> Tensor:
    """Chroma (U, V) rotated by this angle; luma is kept."""
    to_yuv = torch.tensor([[0.299, 0.587, 0.114], [-0.14713, -0.28886, 0.436], [0.615, -0.51499, -0.10001]])
    angle = torch.deg2rad(torch.tensor(degrees))
    cos, sin = angle.cos(), angle.sin()
    turn = torch.tensor([[1.0, 0.0, 0.0], [0.0, cos, -sin], [0.0, sin, cos]])
    return _uint8(torch.einsum("ij,njhw->nihw", torch.linalg.inv(to_yuv) @ turn @ to_yuv, x.float()))


def color_cast(x: Tensor, levels: float) -> Tensor:
    """Red raised and blue lowered by this many levels."""
    return _uint8(x.float() + levels * torch.tensor([1.0, 0.0, -1.0]).view(3, 1, 1))


def jpeg(x: Tensor, loss: float) -> Tensor:
    """JPEG at quality 100 − loss: ringing and blocks of 8 pixels.

    The blocks are moved by 4 pixels, because images that were JPEG files hardly change at their own quality.
    """
    out = []
    for image in F.pad(x.float(), (4, 4, 4, 4), mode="replicate").byte().permute(0, 2, 3, 1).contiguous().numpy():
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=int(100 - loss))
        out.append(np.asarray(Image.open(file))[4:-4, 4:-4])
    return torch.from_numpy(np.stack(out)).permute(0, 3, 1, 2).contiguous()


def checkerboard(x: Tensor, levels: float) -> Tensor:
    """A pattern of period 2 added, with another sign and size per image and channel: transposed convolutions."""
    h, w = x.shape[2:]
    board = 1 - 2 * ((torch.arange(h)[:, None] + torch.arange(w)) % 2)
    amplitude = levels * torch.randn(len(x), 3, 1, 1, generator=torch.Generator().manual_seed(1))
    return _uint8(x.float() + amplitude * board)


def grid(x: Tensor, levels: float) -> Tensor:
    """A pattern of period 4 in both directions, as the second-last transposed convolution of a decoder leaves it."""
    h, w = x.shape[2:]
    rows, columns = torch.arange(h)[:, None] % 4 < 2, torch.arange(w) % 4 < 2
    amplitude = levels * torch.randn(len(x), 3, 1, 1, generator=torch.Generator().manual_seed(2))
    return _uint8(x.float() + amplitude * torch.where(rows == columns, 1.0, -1.0))


def shuffle_blocks(x: Tensor, share: float) -> Tensor:
    """A share of the 4×4 grid of blocks exchanged at random: right textures, wrong objects."""
    n, c, h, w = x.shape
    g = torch.Generator().manual_seed(3)
    blocks = F.unfold(x.float(), (h // 4, w // 4), stride=(h // 4, w // 4))
    order = torch.arange(16).repeat(n, 1)
    many = round(16 * share)
    for row in order:
        chosen = torch.randperm(16, generator=g)[:many]
        row[chosen] = row[chosen].roll(1)
    moved = blocks.gather(2, order[:, None].expand(-1, blocks.shape[1], -1))
    return _uint8(F.fold(moved, (h, w), (h // 4, w // 4), stride=(h // 4, w // 4)).view(n, c, h, w))


DAMAGES: Damages = {
    "blur": (blur, (0.4, 0.6, 0.9, 1.4)),
    "noise": (noise, (8, 16, 32, 64)),
    "jpeg": (jpeg, (50, 70, 85, 95)),
    "pixelate": (pixelate, (0.2, 0.4, 0.7, 1.0)),
    "checkerboard": (checkerboard, (4, 8, 16, 32)),
    "grid": (grid, (4, 8, 16, 32)),
    "contrast": (contrast, (0.15, 0.3, 0.5, 0.7)),
    "saturation": (desaturate, (0.25, 0.5, 0.75, 1.0)),
    "hue": (rotate_hue, (15, 30, 60, 90)),
    "color cast": (color_cast, (10, 20, 40, 80)),
    "erase": (erase, (4, 8, 12, 16)),
    "shuffled blocks": (shuffle_blocks, (0.125, 0.25, 0.5, 1.0)),
    "dropped classes": (drop_classes, (1, 3, 5, 8)),
    "repeated images": (repeat, (300, 100, 30, 10)),
    "superposed": (mix_noise, (0.05, 0.1, 0.25, 0.5)),
}
