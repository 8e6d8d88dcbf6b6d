"""The network and the picture preparation of the pinned classifier, shared by its training and its use.

TrainedModel by ``benchmarks/train_classifier.py``; the weights ship with the package and are pinned by digest in
`zoo.evaluation.extractors`. The network has no normalization layer, hence no second mode to be in by mistake.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["CHANNELS_RULE", "FEATURES", "RESIZE_RULE", "DigitClassifier", "gray", "prepare"]

FEATURES = 64
RESIZE_RULE = "28x28 as is; 8x8 bilinear to 20x20 in a border of 4; others bilinear antialias=True to 28x28; float32"
CHANNELS_RULE = "1 as is; 3 to gray by ITU-R 601 luma, (19595 R + 38470 G + 7471 B + 32768) >> 16"


def gray(images: Tensor) -> Tensor:
    """One channel from one or three, by ITU-R 601 luma in 16-bit fixed point, as Pillow's mode L.

    Args:
        images: uint8, with shape (B, 1 or 3, H, W).

    Returns:
        uint8, with shape (B, 1, H, W).

    >>> gray(torch.tensor([255, 0, 0], dtype=torch.uint8).reshape(1, 3, 1, 1)).item()
    76
    """
    if images.shape[1] == 1:
        return images
    red, green, blue = images.int().unbind(1)
    luma = (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16
    return luma.to(torch.uint8).unsqueeze(1)


def prepare(images: Tensor) -> Tensor:
    """Pictures of any size and of one or three channels, as the network was trained to see them.

    Args:
        images: uint8, with shape (B, 1 or 3, H, W).

    Returns:
        float32 in [0, 1], with shape (B, 1, 28, 28).
    """
    x = gray(images).float() / 255
    size = tuple(x.shape[-2:])
    if size == (28, 28):
        return x
    if size == (8, 8):
        # scikit-learn's digits fill their frame; MNIST's fill the inner 20x20 of theirs.
        return F.pad(F.interpolate(x, size=(20, 20), mode="bilinear", align_corners=False), (4, 4, 4, 4))
    return F.interpolate(x, size=(28, 28), mode="bilinear", align_corners=False, antialias=True)


class DigitClassifier(nn.Module):
    """Four convolutions, 64 features, ten classes.

    The features are the SiLU of the penultimate layer: smooth, and not full of zeros as a ReLU's would be,
    since a Fréchet distance sees only their mean and covariance.
    """

    def __init__(self, width: int = 32, features: int = FEATURES, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, 3 * width // 2, 3, padding=1)
        self.conv3 = nn.Conv2d(3 * width // 2, 2 * width, 3, padding=1)
        self.conv4 = nn.Conv2d(2 * width, 2 * width, 3, padding=1)
        self.hidden = nn.Linear(2 * width * 3 * 3, features)
        self.head = nn.Linear(features, classes)

    def features(self, x: Tensor) -> Tensor:
        """Features with shape (B, 64) of pictures in [0, 1] with shape (B, 1, 28, 28)."""
        x = (x - 0.1307) / 0.3081
        x = F.relu(F.max_pool2d(self.conv1(x), 2))
        x = F.relu(F.max_pool2d(self.conv2(x), 2))
        x = F.relu(self.conv3(x))
        x = F.relu(F.max_pool2d(self.conv4(x), 2))
        return F.silu(self.hidden(x.flatten(1)))

    def forward(self, x: Tensor) -> Tensor:
        """Logits with shape (B, 10) of pictures in [0, 1] with shape (B, 1, 28, 28)."""
        logits: Tensor = self.head(self.features(x))
        return logits
