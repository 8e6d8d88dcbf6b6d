"""Distances between many feature vectors, computed in float64 and in blocks of bounded memory."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from zoo.data import chunks
from zoo.errors import ZooError
from zoo.metrics.full_precision import full_precision

__all__ = [
    "check_features",
    "kth_neighbor_distances",
    "nearest",
    "nearest_images",
    "rows_per_block",
    "squared_distance_blocks",
    "squared_pixel_distance_blocks",
]

_BLOCK = 1_000_000
"""Elements per block of distances: 8 MB in float64, which fits into a CPU cache; 1.4 times as fast as 32 MB."""

_EXACT = 1024
"""Columns per product: that many products of integers from −128 to 127 add up to at most 2²⁴, exact in float32."""

_NOISE = 1e-12
"""Squared distances below this share of the squared lengths are set to zero: float32 features have no more digits."""


def check_features(name: str, features: Tensor, minimum: int = 1, source: str = "extractor") -> Tensor:
    """Check that features are finite vectors (N, d), and return them detached.

    Args:
        name: Name of the argument, for errors.
        features: The features.
        minimum: Fewest vectors allowed.
        source: Origin of the features, for errors.

    Raises:
        ZooError: If the shape is wrong, there are too few vectors, or a value is not finite.
    """
    if features.dim() != 2:
        raise ZooError(f"{name}: shape {tuple(features.shape)} is not allowed; must be (N, d)")
    if len(features) < minimum:
        raise ZooError(f"{name}: {len(features)} vectors are too few; must be at least {minimum}")
    bad = int((~torch.isfinite(features)).any(dim=1).sum())
    if bad:
        raise ZooError(f"{name}: {bad} of {len(features)} vectors contain NaN or infinity; check the {source}")
    return features.detach()


def rows_per_block(columns: int) -> int:
    """Rows of a block with this many columns."""
    return max(1, _BLOCK // max(1, columns))


def squared_distance_blocks(x: Tensor, y: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Squared Euclidean distances |xᵢ − yⱼ|² of blocks of x's rows to all of y.

    The expansion |x|² + |y|² − 2x·y loses precision if the lengths are large compared to the distances. Both sides are
    therefore centered on y's mean, and distances that are zero up to rounding are set to zero.

    Shape:
        x: (N, d), any floating type.
        y: (M, d).

    Yields:
        A slice of rows and their distances, float64 (rows, M).
    """
    if x.shape[1] != y.shape[1]:
        raise ZooError(f"features: {x.shape[1]} per vector is not allowed; must be {y.shape[1]} as in the other set")
    center = y.double().mean(0)
    others = y.double() - center
    lengths = others.square().sum(1)
    step = rows_per_block(len(y))
    for start in range(0, len(x), step):
        rows = slice(start, min(start + step, len(x)))
        mine = x[rows].double() - center
        own = mine.square().sum(1, keepdim=True)
        scale = own + lengths
        block = torch.addmm(scale, mine, others.T, alpha=-2)
        yield rows, block.masked_fill_(block < scale.mul_(_NOISE), 0.0)


def squared_pixel_distance_blocks(x: Tensor, y: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Like `squared_distance_blocks` for uint8 pixels: exact, and twice as fast.

    Shape:
        x: (N, d), uint8.
        y: (M, d), uint8.

    Yields:
        A slice of rows and their squared distances in gray levels, integers in float64 (rows, M).
    """
    if x.shape[1] != y.shape[1]:
        raise ZooError(f"pixels: {x.shape[1]} per image is not allowed; must be {y.shape[1]} as in the other set")
    centered = y.float() - 128
    lengths = centered.double().square().sum(1)
    step = rows_per_block(len(y))
    for start in range(0, len(x), step):
        rows = slice(start, min(start + step, len(x)))
        mine = x[rows].float() - 128
        block = mine.double().square().sum(1, keepdim=True) + lengths
        with full_precision():
            for some in zip(torch.split(mine, _EXACT, 1), torch.split(centered, _EXACT, 1), strict=True):
                block.sub_(some[0] @ some[1].T, alpha=2)
        yield rows, block


def kth_neighbor_distances(x: Tensor, k: int) -> Tensor:
    """Squared distance of each row of x (N, d) to the k-th nearest other row, float64 (N,). N must exceed k."""
    check_features("features", x, k + 1)
    found = torch.empty(len(x), dtype=torch.float64, device=x.device)
    for rows, block in squared_distance_blocks(x, x):
        found[rows] = block.topk(k + 1, largest=False).values[:, k]  # the first is the row itself
    return found


def nearest(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Nearest row of y (M, d) for each row of x (N, d).

    Returns:
        Euclidean distances, float64 (N,), computed per pair and thus without cancellation; indices into y, int64 (N,).
    """
    check_features("features", x)
    check_features("features", y)
    if x.shape[1] != y.shape[1]:
        raise ZooError(f"features: {x.shape[1]} per vector is not allowed; must be {y.shape[1]} as in the other set")
    center = y.mean(0, dtype=torch.float64)
    best = torch.full((len(x),), torch.inf, dtype=torch.float64, device=x.device)
    index = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    for first in range(0, len(y), _COLUMNS):
        others = y[first : first + _COLUMNS].double() - center
        lengths = others.square().sum(1)
        for start in range(0, len(x), _ROWS):
            mine = x[start : start + _ROWS].double() - center
            value, place = torch.addmm(lengths, mine, others.T, alpha=-2).min(1)  # |x|² is the same for all
            closer = value < best[start : start + _ROWS]
            best[start : start + _ROWS][closer] = value[closer]
            index[start : start + _ROWS][closer] = place[closer] + first
    distance = torch.empty_like(best)
    for start in range(0, len(x), _ROWS):
        rows = slice(start, start + _ROWS)
        distance[rows] = (x[rows].double() - y[index[rows]].double()).square().sum(1).sqrt()
    return distance, index


def nearest_images(x: Tensor, y: Tensor) -> Tensor:
    """Index of the nearest image of y in pixel space for each image of x, the first of several; int64 (B,).

    Reads y in parts, so it may be mapped from a file.

    Shape:
        x: (B, C, H, W), uint8.
        y: (M, C, H, W), uint8.
    """
    mine, first = x.flatten(1), 0
    best = torch.full((len(x),), torch.inf, dtype=torch.float64)
    index = torch.zeros(len(x), dtype=torch.int64)
    for part in chunks(y, max(1, _PART_BYTES // max(1, y[:1].nbytes))):
        for rows, block in squared_pixel_distance_blocks(mine, part.cpu().flatten(1)):
            value, place = block.min(1)
            closer = value < best[rows]
            best[rows] = torch.where(closer, value, best[rows])
            index[rows] = torch.where(closer, place + first, index[rows])
        first += len(part)
    return index


_PART_BYTES = 2**22  # as float32 and float64, 20 times the memory
# Blocks that fit into a CPU cache: 1.4 times as fast as larger ones.
_ROWS, _COLUMNS = 256, 4096
