"""A random choice of generated images from a stream, independent of their order and batch size."""

from __future__ import annotations

import hashlib
from collections import Counter

import torch
from torch import Tensor

__all__ = ["SampleBuffer"]


class SampleBuffer:
    """Images and features of at most ``capacity`` samples, chosen and ordered by a hash of their pixels.

    The key of an image is the digest of its pixels and of the number of equal images before it; the samples with the
    smallest keys are stored, in the order of the keys. Equal sets of images therefore give equal contents in any order
    of arrival, and subsets drawn from them by position are equal too.

    Args:
        capacity: Most samples stored.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._counts: Counter[bytes] = Counter()
        self._keys: list[bytes] = []
        self._features: list[Tensor] = []
        self._images: list[Tensor] = []

    def add(self, images: Tensor, features: Tensor) -> None:
        """Add uint8 images (B, C, H, W) and their features (B, d)."""
        images = images.cpu().contiguous()
        for image in images:
            data = image.numpy().tobytes()
            digest = hashlib.blake2b(data, digest_size=16).digest()
            self._keys.append(hashlib.blake2b(digest + self._counts[digest].to_bytes(8), digest_size=16).digest())
            self._counts[digest] += 1
        self._features.append(features)
        self._images.append(images)
        if len(self._keys) > 2 * self._capacity:
            self._sort()

    def _sort(self) -> None:
        order = sorted(range(len(self._keys)), key=self._keys.__getitem__)[: self._capacity]
        index = torch.tensor(order, dtype=torch.int64)
        self._keys = [self._keys[i] for i in order]
        features, images = torch.cat(self._features), torch.cat(self._images)
        self._features, self._images = [features[index.to(features.device)]], [images[index]]

    def contents(self) -> tuple[Tensor, Tensor]:
        """Features (M, d) and images (M, C, H, W) of the stored samples."""
        self._sort()
        return self._features[0], self._images[0]
