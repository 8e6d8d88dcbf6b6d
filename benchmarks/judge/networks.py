"""Networks of the panel and of the candidates, by the names of their recipes."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.evaluation.classifier import DigitClassifier

__all__ = ["NETWORKS", "AutoencoderNet", "MultiLayer", "Residual", "SmallLeNet", "Untrained"]


class SmallLeNet(nn.Module):
    """Two convolutions and one hidden layer whose activations are the features."""

    def __init__(self, activation: nn.Module, features: int = 64, width: int = 16, classes: int = 10) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, width, 5, padding=2), activation, nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 5, padding=2), activation, nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(2 * width * 49, features), activation,
        )  # fmt: skip
        self.head = nn.Linear(features, classes)

    def features(self, x: Tensor) -> Tensor:
        """(B, 1, 28, 28) in [0, 1] → (B, features)."""
        out: Tensor = self.body((x - 0.1307) / 0.3081)
        return out


class Untrained(nn.Module):
    """Two convolutions with torch's initial weights, averaged over a 2×2 grid: 4 × 24 features."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 16, 5, 2, 2), nn.ReLU(), nn.Conv2d(16, 24, 5, 2, 2), nn.ReLU(),
            nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        )  # fmt: skip

    def features(self, x: Tensor) -> Tensor:
        """(B, 1, 28, 28) in [0, 1] → (B, 96)."""
        out: Tensor = self.body((x - 0.1307) / 0.3081)
        return out


class Residual(nn.Module):
    """A small pre-activation ResNet with batch normalization; features are its pooled last stage."""

    def __init__(self, width: int = 24, classes: int = 10) -> None:
        super().__init__()

        def block(a: int, b: int, stride: int) -> nn.ModuleList:
            main = nn.Sequential(
                nn.BatchNorm2d(a), nn.ReLU(), nn.Conv2d(a, b, 3, stride, 1, bias=False),
                nn.BatchNorm2d(b), nn.ReLU(), nn.Conv2d(b, b, 3, 1, 1, bias=False),
            )  # fmt: skip
            return nn.ModuleList([main, nn.Conv2d(a, b, 1, stride, bias=False)])

        self.stem = nn.Conv2d(1, width, 3, 2, 1)
        self.blocks = nn.ModuleList([block(width, 2 * width, 2), block(2 * width, 4 * width, 2)])
        self.head = nn.Linear(4 * width, classes)

    def features(self, x: Tensor) -> Tensor:
        """(B, 1, 28, 28) in [0, 1] → (B, 96)."""
        x = self.stem((x - 0.1307) / 0.3081)
        for main, skip in self.blocks:
            x = main(x) + skip(x)
        return F.relu(x).mean((2, 3))


class AutoencoderNet(nn.Module):
    """A convolutional autoencoder; features are its code."""

    def __init__(self, features: int = 48) -> None:
        super().__init__()
        self.encode = nn.Sequential(
            nn.Conv2d(1, 16, 4, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 4, 2, 1), nn.ReLU(),
            nn.Flatten(), nn.Linear(32 * 49, features),
        )  # fmt: skip
        self.decode = nn.Sequential(
            nn.Linear(features, 32 * 49), nn.ReLU(), nn.Unflatten(1, (32, 7, 7)),
            nn.ConvTranspose2d(32, 16, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(16, 1, 4, 2, 1),
        )  # fmt: skip

    def features(self, x: Tensor) -> Tensor:
        """(B, 1, 28, 28) in [0, 1] → (B, features)."""
        out: Tensor = self.encode(x)
        return out


class MultiLayer(DigitClassifier):
    """The digit classifier's network; its features also hold the channel means of two earlier stages."""

    def stages(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The features, and the penultimate layer among them."""
        x = (x - 0.1307) / 0.3081
        x = F.relu(F.max_pool2d(self.conv1(x), 2))
        b = F.relu(F.max_pool2d(self.conv2(x), 2))
        c = F.relu(self.conv3(b))
        x = F.relu(F.max_pool2d(self.conv4(c), 2))
        z = F.silu(self.hidden(x.flatten(1)))
        return torch.cat((b.mean((2, 3)), c.mean((2, 3)), z), 1), z

    def features(self, x: Tensor) -> Tensor:
        """(B, 1, 28, 28) in [0, 1] → (B, 176)."""
        return self.stages(x)[0]

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, 10)."""
        out: Tensor = self.head(self.stages(x)[1])
        return out


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "panel_a": lambda: SmallLeNet(nn.ReLU()),
    "panel_b": lambda: SmallLeNet(nn.SiLU()),
    "panel_c": Untrained,
    "panel_d": lambda: SmallLeNet(nn.GELU(), features=96, width=24),
    "panel_resnet": Residual,
    "panel_autoencoder": AutoencoderNet,
    "panel_masked": lambda: AutoencoderNet(64),
    "panel_simclr": lambda: SmallLeNet(nn.ReLU(), 64),
    "panel_photographs": lambda: SmallLeNet(nn.ReLU(), 64, width=24),
    "panel_strokes": lambda: SmallLeNet(nn.SiLU(), 64),
    "ablation_all": DigitClassifier,
    "ablation_views": DigitClassifier,
    "ablation_rest": DigitClassifier,
    "candidate_plain": DigitClassifier,
    "candidate_shift": DigitClassifier,
    "candidate_layers": MultiLayer,
    "candidate_lenet": lambda: SmallLeNet(nn.SiLU()),
    "candidate_lenet_relu": lambda: SmallLeNet(nn.ReLU()),
}
"""Panel (unlike extractors), ablations of classifier-v1, and candidates for its successor."""
