"""Networks and image preparation of the pinned digit classifiers, shared by training and evaluation.

The weights are part of the package and pinned by digest in `zoo.evaluation.extractors`. No network has a normalization
layer: training and evaluation mode are the same.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["CHANNELS_RULE", "RESIZE_RULE", "DigitClassifier", "LeNet", "gray", "prepare"]

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
    """Images of any size and of one or three channels, as the networks' input.

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


class LeNet(nn.Module):
    """Network of ``classifier``: two 5x5 convolutions and a hidden layer (after LeCun et al. 1998), with SiLU.

    The features are the 64 units of the hidden layer and the 32 channels of the second convolution, averaged over a
    2x2 grid. The hidden layer encodes classes and shapes; the convolution also strokes, edges and blur of any class.

    Attributes:
        scale: buffer with one factor per part of the features. On MNIST's training images the total variance of the
            hidden layer is then 80 and that of the convolution 20, so a Fréchet distance is in percent of the variance.
    """

    scale: Tensor

    def __init__(self, width: int = 16, hidden: int = 64, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, width, 5, padding=2)
        self.conv2 = nn.Conv2d(width, 2 * width, 5, padding=2)
        self.hidden = nn.Linear(2 * width * 7 * 7, hidden)
        self.head = nn.Linear(hidden, classes)
        self.register_buffer("scale", torch.ones(2))

    def stages(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden layer (B, 64) and second convolution (B, 32, 7, 7) of images in [0, 1] with shape (B, 1, 28, 28)."""
        x = (x - 0.1307) / 0.3081
        x = F.max_pool2d(F.silu(self.conv1(x)), 2)
        x = F.max_pool2d(F.silu(self.conv2(x)), 2)
        return F.silu(self.hidden(x.flatten(1))), x

    def features(self, x: Tensor) -> Tensor:
        """Features with shape (B, 192) of images in [0, 1] with shape (B, 1, 28, 28)."""
        hidden, conv = self.stages(x)
        pooled = F.adaptive_avg_pool2d(conv, 2).flatten(1)
        return torch.cat((hidden * self.scale[0], pooled * self.scale[1]), 1)

    def logits(self, features: Tensor) -> Tensor:
        """Logits (B, 10) from features (B, 192)."""
        logits: Tensor = self.head(features[:, : self.hidden.out_features] / self.scale[0])
        return logits

    def forward(self, x: Tensor) -> Tensor:
        """Logits with shape (B, 10) of images in [0, 1] with shape (B, 1, 28, 28)."""
        logits: Tensor = self.head(self.stages(x)[0])
        return logits


class DigitClassifier(nn.Module):
    """Network of ``classifier-v1``: four convolutions, and 64 features after SiLU in the penultimate layer."""

    def __init__(self, width: int = 32, features: int = 64, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, 3 * width // 2, 3, padding=1)
        self.conv3 = nn.Conv2d(3 * width // 2, 2 * width, 3, padding=1)
        self.conv4 = nn.Conv2d(2 * width, 2 * width, 3, padding=1)
        self.hidden = nn.Linear(2 * width * 3 * 3, features)
        self.head = nn.Linear(features, classes)

    def features(self, x: Tensor) -> Tensor:
        """Features with shape (B, 64) of images in [0, 1] with shape (B, 1, 28, 28)."""
        x = (x - 0.1307) / 0.3081
        x = F.relu(F.max_pool2d(self.conv1(x), 2))
        x = F.relu(F.max_pool2d(self.conv2(x), 2))
        x = F.relu(self.conv3(x))
        x = F.relu(F.max_pool2d(self.conv4(x), 2))
        return F.silu(self.hidden(x.flatten(1)))

    def forward(self, x: Tensor) -> Tensor:
        """Logits with shape (B, 10) of images in [0, 1] with shape (B, 1, 28, 28)."""
        logits: Tensor = self.head(self.features(x))
        return logits

    def logits(self, features: Tensor) -> Tensor:
        """Logits (B, 10) from features (B, 64)."""
        logits: Tensor = self.head(features)
        return logits
