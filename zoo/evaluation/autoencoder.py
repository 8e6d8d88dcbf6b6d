"""Extractor of the second opinion on gray images: the code of a denoising autoencoder."""

from __future__ import annotations

from pathlib import Path
from typing import final

import torch
from torch import Tensor, nn

from zoo.evaluation.classifier import prepare
from zoo.evaluation.extractors import PackagedExtractor

__all__ = ["AutoencoderFeatures", "CodeNet"]


class CodeNet(nn.Module):
    """Encoder of an autoencoder: two strided convolutions and a linear layer, without pooling or normalization.

    Attributes:
        scale: buffer; on MNIST's training images the total variance of the features is 100, so a Fréchet distance is in
            percent of the variance.
    """

    scale: Tensor

    def __init__(self, width: int = 16, features: int = 64) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, width, 4, 2, 1),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 4, 2, 1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(2 * width * 49, features),
        )
        self.register_buffer("scale", torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, 64) of images in [0, 1] with shape (B, 1, 28, 28)."""
        out: Tensor = self.body(x) * self.scale
        return out


@final
class AutoencoderFeatures(PackagedExtractor):
    """Code of an autoencoder that restores noisy and half-masked digits, `CodeNet`.

    It never saw a label, unlike the pinned classifier, and differs from it in architecture. It was trained on the
    training splits of MNIST and scikit-learn's digits by ``benchmarks/train_autoencoder.py``; ``docs/judge.md`` has
    the reasons.

    Args:
        weights: A file to read instead of the one in the package; its digest must be the pinned one all the same.

    Raises:
        ZooError: If the weights are missing or not the pinned ones.
    """

    WEIGHTS = Path(__file__).parent / "weights" / "autoencoder.safetensors"
    DIGEST = "1d7eebfa5288c7fbcc8a018aa21445d8f75ba2dabf37e54980b755402730beb7"

    name = "autoencoder"
    features = 64

    def build_network(self) -> nn.Module:
        """Build the encoder."""
        return CodeNet()

    def extract(self, images: Tensor) -> Tensor:
        """Features (B, 64), see `Extractor.extract`."""
        features: Tensor = self._network(prepare(images))
        return features
