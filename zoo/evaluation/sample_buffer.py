"""The part of the generated pictures that is kept while they stream by, whatever their order and their batches."""

from __future__ import annotations

import hashlib
from collections import Counter

import torch
from torch import Tensor

__all__ = ["Kept", "drawn"]


def drawn(total: int, most: int, seed: int = 0) -> Tensor:
    """Indices of at most ``most`` of ``total``: all in their order, or some drawn with ``seed``."""
    if total <= most:
        return torch.arange(total)
    return torch.randperm(total, generator=torch.Generator().manual_seed(seed))[:most]


class Kept:
    """Features and pictures of at most ``cap`` pictures, in an order that their pixels decide.

    Each picture has a key, the digest of its pixels and of how often it came before; those with the smallest keys are
    kept, sorted. It is a random choice that repeats: the same set of pictures is kept in the same order however it
    came, so that subsets drawn from it by position are the same subsets.
    """

    def __init__(self, cap: int) -> None:
        self._cap = cap
        self._seen: Counter[bytes] = Counter()
        self._keys: list[bytes] = []
        self._features: list[Tensor] = []
        self._images: list[Tensor] = []

    def add(self, images: Tensor, features: Tensor) -> None:
        """Take in uint8 pictures (B, C, H, W) and their features (B, d)."""
        images = images.cpu().contiguous()
        for image in images:
            data = image.numpy().tobytes()
            digest = hashlib.blake2b(data, digest_size=16).digest()
            self._keys.append(hashlib.blake2b(digest + self._seen[digest].to_bytes(8), digest_size=16).digest())
            self._seen[digest] += 1
        self._features.append(features)
        self._images.append(images)
        if len(self._keys) > 2 * self._cap:
            self._sort()

    def _sort(self) -> None:
        order = sorted(range(len(self._keys)), key=self._keys.__getitem__)[: self._cap]
        index = torch.tensor(order, dtype=torch.int64)
        self._keys = [self._keys[i] for i in order]
        features, images = torch.cat(self._features), torch.cat(self._images)
        self._features, self._images = [features[index.to(features.device)]], [images[index]]

    def contents(self) -> tuple[Tensor, Tensor]:
        """The features (M, d) and the pictures (M, C, H, W) that are kept."""
        self._sort()
        return self._features[0], self._images[0]
