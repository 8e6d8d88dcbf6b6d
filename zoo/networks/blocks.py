"""Building blocks for any image size: normalization by name, convolutional trunks, fully connected layers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["MLP", "ConvStack", "ConvTrunk", "DeconvTrunk", "UpsampledConv2d", "halvings", "init_", "normalization"]

Shape = tuple[int, int, int]


def normalization(kind: str, channels: int, *, flat: bool = False) -> nn.Module:
    """Return a normalization layer for (B, channels, H, W), or (B, channels) if ``flat``.

    Args:
        kind: ``"batch"``, ``"group"`` (at most 8 groups) or ``"none"``.
        channels: Number of channels.
        flat: Whether the inputs are vectors.
    """
    if kind == "batch":
        return nn.BatchNorm1d(channels) if flat else nn.BatchNorm2d(channels)
    if kind == "group":
        return nn.GroupNorm(math.gcd(8, channels), channels)
    return nn.Identity()


def halvings(height: int, width: int) -> list[tuple[int, int]]:
    """Return sizes from the image down to 3 to 6 pixels, each half of the previous (rounded down), at least three.

    A side of fewer than 4 pixels is not halved, so that narrow images keep their short side. Images of 28 pixels
    need their third stage: without it models on MNIST lose one or two classes (docs/defaults.md).

    >>> halvings(28, 28), halvings(8, 8), halvings(64, 48)
    ([(28, 28), (14, 14), (7, 7), (3, 3)], [(8, 8), (4, 4), (2, 2)], [(64, 48), (32, 24), (16, 12), (8, 6), (4, 3)])
    """
    sizes = [(height, width)]
    while max(sizes[-1]) >= 7 or len(sizes) < 3:
        h, w = sizes[-1]
        step = (h // 2 if h >= 4 else h, w // 2 if w >= 4 else w)
        if step == (h, w):
            break
        sizes.append(step)
    return sizes


def _stride(big: tuple[int, int], small: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    # Kernel, stride and padding: (4, 2, 1) for a side that is halved, (3, 1, 1) for a side that is kept.
    sides = [(4, 2) if b != s else (3, 1) for b, s in zip(big, small, strict=True)]
    return (sides[0][0], sides[1][0]), (sides[0][1], sides[1][1]), (1, 1)


def _lost(big: tuple[int, int], small: tuple[int, int], stride: tuple[int, int]) -> tuple[int, int]:
    lost = [b - s * t if t == 2 else 0 for b, s, t in zip(big, small, stride, strict=True)]
    return lost[0], lost[1]


class ConvStack(nn.Module):
    """Stages of convolution, normalization and activation, with features taken from one of them.

    Args:
        stages: One pair (convolution, normalization) per stage; ``nn.Identity()`` for no normalization.
        activation: Activation of all stages.
        tap: Stage of the features, from 1. The last stage by default and if there are fewer.
        pre_norm: Take the features before the normalization of their stage instead of after it.

    Returns:
        Activations of the last stage (B, c, h, w) and the features, which are not yet activated.
    """

    def __init__(
        self,
        stages: Sequence[tuple[nn.Module, nn.Module]],
        activation: nn.Module,
        tap: int | None = None,
        pre_norm: bool = False,
    ) -> None:
        super().__init__()
        self.stages = len(stages)
        self.tap = self.stages if tap is None else min(tap, self.stages)
        self.pre_norm = pre_norm
        self.activation = activation
        self.convolutions = nn.ModuleList(c for c, _ in stages)
        self.norms = nn.ModuleList(n for _, n in stages)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the activations of the last stage and the features of images x (B, C, H, W)."""
        tapped = x
        for i, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True), start=1):
            convolved = convolution(x)
            normed = norm(convolved)
            if i == self.tap:
                tapped = convolved if self.pre_norm else normed
            x = self.activation(normed)
        return x, tapped


class ConvTrunk(ConvStack):
    """Strided convolutions; each stage halves the sides and doubles the channels (Radford et al., arXiv:1511.06434).

    Args:
        shape: Image size (C, H, W).
        width: Channels of the first stage.
        norm: ``batch``, ``group`` or ``none``.
        activation: Creates an activation layer.
        tap: Stage whose activations are the features, from 1; None for the last.
        pre_norm: Take the features before the normalization of the stage.
    """

    def __init__(
        self,
        shape: Shape,
        width: int,
        norm: str,
        activation: Callable[[], nn.Module],
        tap: int | None = None,
        pre_norm: bool = False,
    ) -> None:
        channels, height, breadth = shape
        sizes = halvings(height, breadth)
        stages: list[tuple[nn.Module, nn.Module]] = []
        for i, (big, small) in enumerate(itertools.pairwise(sizes)):
            wide = width * 2**i
            kernel, stride, padding = _stride(big, small)
            # DCGAN: no normalization in the first layer. Batch normalization makes a bias redundant.
            kind = "none" if i == 0 else norm
            convolution = nn.Conv2d(channels, wide, kernel, stride, padding, bias=kind != "batch")
            stages.append((convolution, normalization(kind, wide)))
            channels = wide
        super().__init__(stages, activation(), tap, pre_norm)
        self.out_shape: Shape = (channels, *sizes[-1])


class UpsampledConv2d(nn.ConvTranspose2d):
    """Nearest-neighbor upsampling by ``stride`` 1 or 2, then a convolution of stride 1: no checkerboards.

    A transposed convolution of stride 2 has separate weights for even and odd rows and columns of its output. The
    difference between them is a pattern of period 2, also where the input is constant. Upsampling first gives them the
    same weights. Both steps are one transposed convolution, whose kernel is that of the convolution convolved with
    ``stride`` ones.

    For each side with stride 2 the kernel is scaled by 2/3, so that its 2 · 3 taps amplify the mean as the 4 taps of a
    transposed convolution do: learning rates stay as they are.

    References:
        Odena, Dumoulin, Olah, *Deconvolution and Checkerboard Artifacts*, Distill 2016, doi:10.23915/distill.00003.

    Args:
        in_channels: Number of input channels.
        out_channels: Number of output channels.
        kernel_size: Height and width of the transposed convolution, ``stride - 1`` more than those of the convolution.
        stride: Factors of upsampling, 1 or 2.
        padding: Rows and columns cut off at each side, as in ``nn.ConvTranspose2d``.
        output_padding: Rows and columns added at the bottom and at the right.
        bias: Whether to add a bias.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: tuple[int, int],
        stride: tuple[int, int],
        padding: tuple[int, int],
        output_padding: tuple[int, int],
        bias: bool = True,
    ) -> None:
        kernel = (kernel_size[0] - stride[0] + 1, kernel_size[1] - stride[1] + 1)
        super().__init__(in_channels, out_channels, kernel, stride, padding, bias=bias)
        self.output_padding = output_padding

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Initialize so that a constant input has outputs as large as those of torch's transposed convolution."""
        taps = [k + s - 1 for k, s in zip(self.kernel_size, self.stride, strict=True)]
        bound = 1 / math.sqrt(self.out_channels * math.prod(taps))
        self.weight.uniform_(-1, 1).mul_(bound * 1.5 ** (self.stride.count(2) / 2))
        if self.bias is not None:
            self.bias.uniform_(-bound, bound)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Map x (B, in, H, W) to (B, out, H', W')."""
        kernel = self.weight
        if self.stride[0] == 2:
            kernel = 2 / 3 * (F.pad(kernel, (0, 0, 1, 0)) + F.pad(kernel, (0, 0, 0, 1)))
        if self.stride[1] == 2:
            kernel = 2 / 3 * (F.pad(kernel, (1, 0)) + F.pad(kernel, (0, 1)))
        assert isinstance(self.padding, tuple)  # transposed convolutions have no named padding
        return F.conv_transpose2d(x, kernel, self.bias, self.stride, self.padding, self.output_padding)


class DeconvTrunk(nn.Module):
    """Mirror image of :class:`ConvTrunk`, from (c, h, w) to exactly (C, H, W), without a last activation.

    Args:
        shape: Shape (C, H, W) of the images.
        width: Channels of the last stage but the images.
        norm: Normalization between the stages.
        activation: Activation between the stages.
        upsample: Upsample and convolve (:class:`UpsampledConv2d`) instead of transposed convolutions.
    """

    def __init__(
        self, shape: Shape, width: int, norm: str, activation: Callable[[], nn.Module], *, upsample: bool = False
    ) -> None:
        super().__init__()
        out, height, breadth = shape
        sizes = halvings(height, breadth)[::-1]
        stages = len(sizes) - 1
        channels = width * 2 ** (stages - 1)
        self.in_shape: Shape = (channels, *sizes[0])
        make = UpsampledConv2d if upsample else nn.ConvTranspose2d
        layers: list[nn.Module] = []
        for i, (small, big) in enumerate(itertools.pairwise(sizes)):
            last = i == stages - 1
            wide = out if last else width * 2 ** (stages - 2 - i)
            kernel, stride, padding = _stride(big, small)
            # The trunk rounds odd sides down; output_padding restores the lost pixel.
            lost = _lost(big, small, stride)
            bias = last or norm != "batch"
            layers.append(make(channels, wide, kernel, stride, padding, output_padding=lost, bias=bias))
            if not last:
                layers += [normalization(norm, wide), activation()]
            channels = wide
        self.layers = nn.Sequential(*layers)

    def forward(self, h: Tensor) -> Tensor:
        """Return images (B, C, H, W), before any activation, of features h (B, c, h, w)."""
        out: Tensor = self.layers(h)
        return out


class MLP(nn.Sequential):
    """Fully connected layers (B, sizes[0]) → (B, sizes[-1]), with normalization and activation except after the last.

    Args:
        sizes: Numbers of units, input and output included.
        activation: Creates an activation layer.
        norm: ``batch``, ``group`` or ``none``.
        norm_first: Whether the first layer is normalized.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        activation: Callable[[], nn.Module] = nn.ReLU,
        norm: str = "none",
        *,
        norm_first: bool = True,
    ) -> None:
        layers: list[nn.Module] = []
        for i, (a, b) in enumerate(itertools.pairwise(sizes)):
            last = i == len(sizes) - 2
            kind = "none" if last or (i == 0 and not norm_first) else norm
            layers.append(nn.Linear(a, b, bias=kind != "batch"))
            if not last:
                layers += [normalization(kind, b, flat=True), activation()]
        super().__init__(*[layer for layer in layers if not isinstance(layer, nn.Identity)])


@torch.no_grad()
def init_(network: nn.Module, std: float | None = 0.02) -> None:
    """Initialize as in DCGAN: weights ~ N(0, std²), biases 0, norm scales ~ N(1, std²).

    Args:
        network: Network to initialize in place.
        std: Standard deviation; None keeps torch's defaults.
    """
    if std is None:
        return
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            module.weight.normal_(0, std)
            if module.bias is not None:
                module.bias.zero_()
        elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.GroupNorm) and module.weight is not None:
            module.weight.normal_(1, std)
            module.bias.zero_()
