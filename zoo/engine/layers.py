"""Layers of torch's that a processor with AVX-512 computes faster by other kernels: the same sums, in another order.

Three of torch's choices on such a processor are slow, each found by measuring (docs/speed.md has the figures):

- A product of matrices in float32 goes to MKL, which gives AMD's processors code for half the width of their vectors.
  oneDNN knows their full width.
- A transposed convolution to one or three channels, as every decoder ends in, fills vectors of sixteen channels.
  All pixels of a stride together are the channels of one ordinary convolution at the smaller size (Shi et al.,
  arXiv:1609.05158).
- oneDNN's gradient of a convolution's weights in bfloat16 is slower than its own in float32 where there are no matrix
  tiles (AMX). As a product of matrices over gathered patches it is twice as fast.
"""

from __future__ import annotations

import contextlib
import functools
import platform
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["AMD", "AVX512", "BF16", "plainly", "quicken"]

WORTH = 2**22
"""Multiplications in a product from which on it gains more than Python's share of it costs."""
LANES = 16
"""Channels that a vector of the processor holds in float32."""
PATCHES = 2**24
"""Elements of gathered patches that a cache still holds."""


def _amd() -> bool:
    with contextlib.suppress(OSError):
        return "AuthenticAMD" in Path("/proc/cpuinfo").read_text(errors="replace")[:4096]
    return "AuthenticAMD" in platform.processor()


AVX512 = torch._C._has_mkldnn and torch.backends.cpu.get_cpu_capability().startswith("AVX512")
AMD = AVX512 and torch._C.has_mkl and _amd()
BF16 = AVX512 and torch.cpu._is_avx512_bf16_supported() and not torch.cpu._is_amx_tile_supported()

_OPS: Any = torch.library.Library("latent_zoo", "DEF")  # type: ignore[no-untyped-call]
# Operations of our own, so that a trace keeps each as one: a compiler takes oneDNN's with constant weights only.
_OPS.define("product(Tensor x, Tensor w, Tensor? b) -> Tensor")
_OPS.define("upscale(Tensor x, Tensor w, Tensor? b, int stride, int padding) -> Tensor")
_OPS.define("weight_gradient(Tensor large, Tensor small, int kernel, int stride, int padding) -> Tensor")


def quicken(networks: nn.Module, *, bf16: bool = False) -> dict[str, int]:
    """Let layers that are torch's own compute through faster kernels of this CPU, where it has them.

    Parameters, their names and their values stay; results differ by rounding. :func:`plainly` takes it back.

    Arguments:
        networks: whose layers; subclasses of torch's and parametrised layers are left alone.
        bf16: whether they will run under bfloat16's autocast.

    Returns:
        How many layers of each of torch's classes were changed.
    """
    in_halves = bf16 and BF16
    changed: Counter[str] = Counter()
    for module in networks.modules():
        kind: type[nn.Module] = type(module)
        faster: type[nn.Module] | None = None
        if kind is nn.Linear and AMD and not bf16:
            faster = Linear
        elif kind is nn.Conv2d and in_halves and _regular(module):
            faster = Conv2d
        elif kind is nn.ConvTranspose2d and AVX512 and _regular(module) and (in_halves or _to_few(module)):
            faster = ConvTranspose2d
        if faster:
            module.__class__ = faster
            changed[kind.__name__] += 1
    return dict(changed)


def plainly(networks: nn.Module) -> None:
    """Make layers torch's own again."""
    for module in networks.modules():
        if type(module) in (Linear, Conv2d, ConvTranspose2d):
            module.__class__ = type(module).__bases__[0]


class Linear(nn.Linear):
    """Torch's, its products of matrices by oneDNN."""

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (…, in) to (…, out)."""
        if x.dim() != 2 or x.dtype != torch.float32 or x.numel() * self.out_features < WORTH:
            return super().forward(x)
        return _Product.apply(x, self.weight, self.bias)  # type: ignore[no-any-return]


class Conv2d(nn.Conv2d):
    """Torch's, the gradient of its weights as a product of matrices."""

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (N, in, H, W) to (N, out, H', W')."""
        return _convolution(self, x, transposed=False)


class ConvTranspose2d(nn.ConvTranspose2d):
    """Torch's, as an ordinary convolution where it has few outputs, and the gradient of its weights likewise."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """``x`` (N, in, H, W) to (N, out, H', W')."""
        return super().forward(x, output_size) if output_size else _convolution(self, x, transposed=True)


def _regular(layer: Any) -> bool:
    one = {layer.groups, *layer.dilation} == {1} and layer.padding_mode == "zeros"
    square = all(len({*_pair(v)}) == 1 for v in (layer.kernel_size, layer.stride, layer.padding, layer.output_padding))
    return one and square


def _pair(value: Any) -> Sequence[Any]:
    return value if isinstance(value, tuple) else (value, None)  # padding="same" is not square


def _to_few(layer: Any) -> bool:
    k, s, p, more = (v[0] for v in (layer.kernel_size, layer.stride, layer.padding, layer.output_padding))
    return bool(s > 1 and k + more == s + 2 * p and layer.out_channels * s * s <= LANES)


def _convolution(layer: nn.Conv2d | nn.ConvTranspose2d, x: Tensor, *, transposed: bool) -> Tensor:
    w, b = layer.weight, layer.bias
    if torch.is_autocast_enabled("cpu"):
        kind = torch.get_autocast_dtype("cpu")
        x, w, b = x.to(kind), w.to(kind), None if b is None else b.to(kind)
    few = transposed and _to_few(layer)
    sizes = (layer.stride[0], layer.padding[0], layer.output_padding[0])
    return _Convolution.apply(x, w, b, sizes, transposed, few)  # type: ignore[no-any-return]


def _asked_for(ctx: Any, place: int) -> bool:
    # `needs_input_grad` says whether a gradient could be asked for. A row's pass asks for its own players' alone, and
    # torch's own layers compute no other: a generator's pass goes through a critic without the critic's gradients.
    if not ctx.needs_input_grad[place]:
        return False
    node, _ = ctx.next_functions[place]
    try:
        return torch._C._will_engine_execute_node(node)
    except RuntimeError:  # a leaf that is asked for by name: it is collected, and nothing is executed
        return True


class _Product(torch.autograd.Function):
    # x wᵀ + b; its gradients are such products again, so it can be differentiated as often as one likes.
    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, w)
        return torch.ops.latent_zoo.product(x, w, b)  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (g,) = gradients
        x, w = ctx.saved_tensors
        for_x, for_w, for_b = (_asked_for(ctx, i) for i in range(3))
        return (
            _Product.apply(g, w.t(), None) if for_x else None,
            _Product.apply(g.t(), x.t(), None) if for_w else None,
            g.sum(0) if for_b else None,
        )


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, w: Tensor, b: Tensor | None, sizes: tuple[int, int, int], transposed: bool, few: bool
    ) -> Tensor:
        ctx.save_for_backward(x, w)
        ctx.sizes, ctx.transposed = sizes, transposed
        stride, padding, more = sizes
        if few:
            return torch.ops.latent_zoo.upscale(x, w, b, stride, padding)  # type: ignore[no-any-return]
        return torch.convolution(x, w, b, [stride] * 2, [padding] * 2, [1, 1], transposed, [more] * 2, 1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (g,) = gradients
        x, w = ctx.saved_tensors
        for_x, for_w, for_b = (_asked_for(ctx, i) for i in range(3))
        stride, padding, more = ctx.sizes
        large, small = (g, x) if ctx.transposed else (x, g)
        patches = small.numel() // small.shape[1] * w.numel() // w.shape[0]
        # Where the gradient will be differentiated again, torch's knows how.
        ours = for_w and BF16 and w.dtype == torch.bfloat16 and min(w.shape[:2]) >= LANES and patches <= PATCHES
        ours = ours and not torch.is_grad_enabled()
        wanted = [for_x, for_w and not ours, for_b]
        found: Sequence[Tensor | None] = torch.ops.aten.convolution_backward(
            g, x, w, [g.shape[1]], [stride] * 2, [padding] * 2, [1, 1], ctx.transposed, [more] * 2, 1, wanted
        )
        of_x, of_w, of_b = found
        if ours:
            of_w = torch.ops.latent_zoo.weight_gradient(large, small, w.shape[2], stride, padding)
        return of_x, of_w, of_b, None, None, None


def _product(x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
    bias = None if b is None else b.contiguous()  # its strides are not looked at
    return torch.ops.mkldnn._linear_pointwise(x, w, bias, "none", [], "")  # type: ignore[no-any-return]


def _product_like(x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
    return x.new_empty(len(x), len(w))


def _upscale(x: Tensor, w: Tensor, b: Tensor | None, stride: int, padding: int) -> Tensor:
    taps, reach = _taps(w.shape[2], stride, padding)
    padded = F.pad(w, (0, 1, 0, 1))  # the last tap is 0, for pixels that a tap does not reach
    small = padded[:, :, taps[:, None, :, None], taps[None, :, None, :]]  # (in, out, s, s, m, m)
    small = small.permute(1, 2, 3, 0, 4, 5).flatten(0, 2).contiguous(memory_format=torch.channels_last)
    bias = None if b is None else b.repeat_interleave(stride * stride)
    return F.pixel_shuffle(F.conv2d(x, small, bias, padding=reach), stride).contiguous(memory_format=_format(x))


@functools.cache
def _taps(kernel: int, stride: int, padding: int) -> tuple[Tensor, int]:
    # Output s·i + a is the sum over d of input i + d times tap a + p − s·d: which tap, by a and d; `kernel` for none.
    def tap(a: int, d: int) -> int:
        t = a + padding - stride * d
        return t if 0 <= t < kernel else kernel

    reach = max(abs(d) for d in range(-kernel, kernel + 1) for a in range(stride) if tap(a, d) < kernel)
    return torch.tensor([[tap(a, d) for d in range(-reach, reach + 1)] for a in range(stride)]), reach


def _upscale_like(x: Tensor, w: Tensor, b: Tensor | None, stride: int, padding: int) -> Tensor:
    n, _, height, width = x.shape
    return x.new_empty(n, w.shape[1], stride * height, stride * width).contiguous(memory_format=_format(x))


def _weight_gradient(large: Tensor, small: Tensor, kernel: int, stride: int, padding: int) -> Tensor:
    channels, (height, width) = large.shape[1], small.shape[2:]
    laid = F.pad(large, [padding] * 4).contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1)
    n, down, right, _ = laid.stride()
    # A row of a patch lies in one piece: `kernel` pixels with all their channels.
    patches = laid.as_strided(
        (len(large), height, width, kernel, kernel * channels), (n, stride * down, stride * right, down, 1)
    ).reshape(-1, kernel * kernel * channels)
    gradient = patches.t() @ small.permute(0, 2, 3, 1).reshape(-1, small.shape[1])
    return gradient.view(kernel, kernel, channels, -1).permute(3, 2, 0, 1).contiguous(memory_format=_format(large))


def _weight_gradient_like(large: Tensor, small: Tensor, kernel: int, stride: int, padding: int) -> Tensor:
    empty = large.new_empty(small.shape[1], large.shape[1], kernel, kernel)
    return empty.contiguous(memory_format=_format(large))


def _format(x: Tensor) -> torch.memory_format:
    beside = x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if beside else torch.contiguous_format


_OPS.impl("product", _product, "CPU")
_OPS.impl("product", _product_like, "Meta")
_OPS.impl("upscale", _upscale, "CPU")
_OPS.impl("upscale", _upscale_like, "Meta")
_OPS.impl("weight_gradient", _weight_gradient, "CPU")
_OPS.impl("weight_gradient", _weight_gradient_like, "Meta")
