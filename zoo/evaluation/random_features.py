"""Extractor of the second opinion on color images: an untrained convolutional network with fixed random weights."""

from __future__ import annotations

import functools
import hashlib
from typing import Self, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from zoo.errors import ZooError
from zoo.evaluation.extractors import Extractor

__all__ = ["RandomFeatures"]

_LAYERS = ((3, 24, 5), (24, 48, 5), (48, 64, 3))
"""Channels in and out, and size of the filters; each layer has stride 2 and ReLU."""

_EDGES = 0.75
"""Share of the first layer's filters whose weights add up to zero: they see edges and not brightness."""


@functools.cache
def _weights() -> tuple[NDArray[np.float32], ...]:
    random = np.random.RandomState(0)  # unlike Generator's, its stream never changes between versions
    found = []
    for layer, (inputs, outputs, size) in enumerate(_LAYERS):
        w = random.standard_normal((outputs, inputs, size, size))
        if layer == 0:
            edges = round(_EDGES * outputs)
            w[:edges] -= w[:edges].mean((1, 2, 3), keepdims=True)
        w *= np.sqrt(2 / (inputs * size * size)) / w.std()
        found.append(w.astype(np.float32))
    return tuple(found)


@final
class RandomFeatures(Extractor):
    """Statistics of a random convolutional network's activations, for color images of any kind.

    The network was never trained, so that no data set, label or class plays a part: it compares local contrasts, colors
    and their layout. The weights come from a fixed seed and are pinned by digest; nothing is downloaded.

    The features are the means and standard deviations of the first layer's channels (2 × 24) and of the second's
    (2 × 48), and the third's averaged over a 2×2 grid (256). Each of the three parts is scaled to a third of a total
    variance of 100 on photographs, so a Fréchet distance is about in percent of their variance.

    Raises:
        ZooError: If the random numbers of this NumPy are not those of the pinned weights.
    """

    DIGEST = "4105effe29274b539a7f4938bdef4f0f077ed5aa42eba37bb7bd94f7dd49fc22"
    SIDE = 64
    SCALES = (9.885, 8.416, 3.900)
    """Chosen on 4,000 photographs of 32×32 pixels (CIFAR-10, JPEG)."""

    name = "random-features"
    features = 2 * 24 + 2 * 48 + 4 * 64
    resize = "any size to 64x64, bicubic antialias=True, clamped to [0, 255], (x - 127.5) / 127.5; float32"
    channels = "3 as is; 1 replicated to 3"
    libraries = ("torch", "numpy")
    batch = 100

    def __init__(self) -> None:
        super().__init__()
        digest = hashlib.sha256(b"".join(w.tobytes() for w in _weights())).hexdigest()
        if digest != self.DIGEST:
            raise ZooError(f"random-features: the weights' SHA-256 is {digest}, but the pinned one is {self.DIGEST}")
        self._layers = [torch.from_numpy(w) for w in _weights()]

    @property
    def digest(self) -> str:
        """SHA-256 of the weights."""
        return self.DIGEST

    def to(self, device: torch.device | str) -> Self:
        """Compute on this device from now on; returns itself."""
        self._layers = [w.to(device) for w in self._layers]
        return super().to(device)

    def extract(self, images: Tensor) -> Tensor:
        """Features (B, 400), see `Extractor.extract`."""
        x = images.float()
        if tuple(x.shape[-2:]) != (self.SIDE, self.SIDE):
            x = F.interpolate(x, size=(self.SIDE, self.SIDE), mode="bicubic", align_corners=False, antialias=True)
            x = x.clamp(0, 255)
        x = (x.expand(-1, 3, -1, -1) - 127.5) / 127.5
        maps = []
        for weights in self._layers:
            x = F.relu(F.conv2d(x, weights, stride=2, padding=weights.shape[-1] // 2))
            maps.append(x)
        parts = [torch.cat((m.mean((2, 3)), m.std((2, 3))), 1) for m in maps[:2]]
        parts.append(F.adaptive_avg_pool2d(maps[2], 2).flatten(1))
        return torch.cat([part * scale for part, scale in zip(parts, self.SCALES, strict=True)], 1)
