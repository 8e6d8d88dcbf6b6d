"""Faster CPU kernels for some torch layers: the same sums, in another order.

Three of torch's choices are slow on some processors (measurements: docs/speed.md):

- Linear layers in float32 use MKL, which on AMD processors uses half of the vector width of AVX-512. oneDNN uses all.
- A transposed convolution to one or three channels, the last layer of a decoder, leaves most of a vector empty. The
  equal sub-pixel convolution (Shi et al., arXiv:1609.05158) computes the pixels of a stride as channels.
- oneDNN's gradient of convolution weights in bfloat16 is slower than in float32 on processors without matrix tiles
  (AMX). On small images a matrix product of gathered patches takes half to two thirds of its time.
"""

from __future__ import annotations

import contextlib
import math
import platform
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.accelerators.kernel_names import KERNELS

__all__ = ["AMD", "AVX512", "BF16", "accelerate", "kernels_by_rule", "relevant_kernels", "restore"]

MIN_MULTIPLICATIONS = 2**22
"""Smallest number of multiplications for which a kernel gains more than its Python code costs."""
MIN_SIDE = 64
"""Smallest matrix side for which oneDNN is faster than MKL."""
LANES = 16
"""float32 values per vector."""
MAX_PIXELS = 64
"""Pixels of a strided convolution's smaller image below which gathered patches are faster."""


def _amd() -> bool:
    with contextlib.suppress(OSError):
        return "AuthenticAMD" in Path("/proc/cpuinfo").read_text(errors="replace")[:4096]
    return "AuthenticAMD" in platform.processor()


AVX512 = torch._C._has_mkldnn and torch.backends.cpu.get_cpu_capability().startswith("AVX512")
AMD = AVX512 and torch._C.has_mkl and _amd()
BF16 = AVX512 and torch.cpu._is_avx512_bf16_supported() and not torch.cpu._is_amx_tile_supported()

_OPS: Any = torch.library.Library("latent_zoo", "DEF")  # type: ignore[no-untyped-call]
# Custom operators, which a trace keeps whole: the compiler accepts oneDNN's with constant weights only.
_OPS.define("linear(Tensor x, Tensor w, Tensor? b) -> Tensor")
_OPS.define("upscale(Tensor x, Tensor w, Tensor? b, int stride, int padding, int output_padding) -> Tensor")
_OPS.define("weight_gradient(Tensor large, Tensor small, int kernel, int stride, int padding) -> Tensor")


def accelerate(networks: nn.Module, *, bf16: bool = False, kernels: Collection[str] | None = None) -> dict[str, int]:
    """Use faster kernels in torch's own layers; see :func:`zoo.accelerators.accelerate`.

    Subclasses of torch's layers and parametrized layers stay as they are.
    """
    if kernels is None:
        kernels = kernels_by_rule(bf16=bf16)
    weight_gradient = bf16 and "weight-gradient" in kernels
    changed: Counter[str] = Counter()
    for module in networks.modules():
        kind: type[nn.Module] = type(module)
        faster: type[nn.Module] | None = None
        if kind is nn.Linear and "linear" in kernels and not bf16:
            faster = Linear
        elif kind is nn.Conv2d and weight_gradient and _is_regular(module):
            faster = Conv2d
        elif kind is nn.ConvTranspose2d and _is_regular(module):
            narrow = "deconvolution" in kernels and _is_narrow(module)
            if narrow or weight_gradient:
                faster = ConvTranspose2d
        if faster:
            module.__class__ = faster
            module.zoo_kernels = frozenset(kernels)  # type: ignore[assignment]
            changed[kind.__name__] += 1
    return dict(changed)


def kernels_by_rule(*, bf16: bool = False) -> tuple[str, ...]:
    """Kernels that are faster by the vendor and the instructions of this processor."""
    rules = (AMD and not bf16, AVX512, BF16 and bf16)
    return tuple(name for name, holds in zip(KERNELS, rules, strict=True) if holds)


def relevant_kernels(networks: nn.Module, batch: int, pixels: int, *, bf16: bool = False) -> tuple[str, ...]:
    """Kernels that steps on these networks can use on this processor.

    Args:
        networks: the networks.
        batch: batch size.
        pixels: height times width of the images.
        bf16: whether the networks will run under bfloat16 autocast.
    """
    found = set()
    for module in networks.modules():
        if type(module) is nn.Linear and not bf16:
            sides = (batch, module.in_features, module.out_features)
            if min(sides) >= MIN_SIDE and math.prod(sides) >= MIN_MULTIPLICATIONS:
                found.add("linear")
        elif type(module) is nn.ConvTranspose2d and _is_regular(module) and _is_narrow(module):
            inputs = batch * module.in_channels * (pixels // module.stride[0] ** 2)
            if inputs * module.weight[0].numel() >= MIN_MULTIPLICATIONS:
                found.add("deconvolution")
        if bf16 and BF16 and type(module) in (nn.Conv2d, nn.ConvTranspose2d) and _is_regular(module):
            found.add("weight-gradient")
    has = torch._C._has_mkldnn
    return tuple(name for name in KERNELS if name in found and has and (name != "linear" or torch._C.has_mkl))


def restore(networks: nn.Module) -> None:
    """Undo :func:`accelerate`."""
    for module in networks.modules():
        if type(module) in (Linear, Conv2d, ConvTranspose2d):
            module.__class__ = type(module).__bases__[0]
            del module.zoo_kernels


class Linear(nn.Linear):
    """Linear layer whose matrix products are oneDNN's."""

    def forward(self, x: Tensor) -> Tensor:
        """Map x (…, in) to (…, out)."""
        narrow = x.dim() != 2 or min(*x.shape, self.out_features) < MIN_SIDE
        if narrow or x.dtype != torch.float32 or x.numel() * self.out_features < MIN_MULTIPLICATIONS:
            return super().forward(x)
        return _LinearFunction.apply(x, self.weight, self.bias)  # type: ignore[no-any-return]


class Conv2d(nn.Conv2d):
    """Convolution whose weight gradient is a matrix product."""

    zoo_kernels: frozenset[str] = frozenset(KERNELS)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (N, in, H, W) to (N, out, H', W')."""
        (k, _), (s, _), p = self.kernel_size, self.stride, int(self.padding[0])
        small = ((side + 2 * p - k) // s + 1 for side in x.shape[2:])
        if x.dim() == 4 and _uses_patches(self, *small):
            return _convolution(self, x, transposed=False, narrow=False, patches=True)
        return super().forward(x)


class ConvTranspose2d(nn.ConvTranspose2d):
    """Transposed convolution, computed as a convolution for few outputs; its weight gradient is a matrix product."""

    zoo_kernels: frozenset[str] = frozenset(KERNELS)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Map x (N, in, H, W) to (N, out, H', W')."""
        narrow = (
            "deconvolution" in self.zoo_kernels
            and _is_narrow(self)
            and x.numel() * self.weight[0].numel() >= MIN_MULTIPLICATIONS
        )
        if output_size or x.dim() != 4 or not (narrow or _uses_patches(self, *x.shape[2:])):
            return super().forward(x, output_size)
        return _convolution(self, x, transposed=True, narrow=narrow, patches=_uses_patches(self, *x.shape[2:]))


def _is_regular(layer: Any) -> bool:
    one = {layer.groups, *layer.dilation} == {1} and layer.padding_mode == "zeros"
    square = all(len({*_pair(v)}) == 1 for v in (layer.kernel_size, layer.stride, layer.padding, layer.output_padding))
    return one and square


def _pair(value: Any) -> Sequence[Any]:
    return value if isinstance(value, tuple) else (value, None)  # padding="same" is not square


def _is_narrow(layer: Any) -> bool:
    s, p, output_padding = (v[0] for v in (layer.stride, layer.padding, layer.output_padding))
    return bool(s > 1 and output_padding <= p and layer.out_channels * s * s <= LANES)


def _uses_patches(layer: Any, height: int, width: int) -> bool:
    bf16 = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    bf16 = bf16 and "weight-gradient" in layer.zoo_kernels
    channels = min(layer.in_channels, layer.out_channels)
    return bool(bf16 and layer.stride[0] > 1 and channels >= LANES and height * width < MAX_PIXELS)


def _convolution(layer: Any, x: Tensor, *, transposed: bool, narrow: bool, patches: bool) -> Tensor:
    w, b = layer.weight, layer.bias
    if torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype("cpu")
        x, w, b = x.to(dtype), w.to(dtype), None if b is None else b.to(dtype)
    sizes = (layer.stride[0], layer.padding[0], layer.output_padding[0])
    return _ConvolutionFunction.apply(x, w, b, sizes, transposed, narrow, patches)  # type: ignore[no-any-return]


def _required_gradients(ctx: Any) -> tuple[bool, bool, bool]:
    # `needs_input_grad` is True for every input that requires grad. A player's backward pass differentiates with
    # respect to its own parameters only: a generator's pass through the critic needs no gradients of its weights.
    def required(index: int) -> bool:
        if not ctx.needs_input_grad[index]:
            return False
        node, _ = ctx.next_functions[index]
        try:
            return torch._C._will_engine_execute_node(node)
        except RuntimeError:  # a leaf among the inputs of `torch.autograd.grad`
            return True

    weight = required(1)
    # A bias is nearly always differentiated together with its weight, and its gradient is as cheap as the check.
    return required(0), weight, (weight and ctx.needs_input_grad[2]) or required(2)


class _LinearFunction(torch.autograd.Function):
    # x wᵀ + b. Its gradients are calls of itself, so it can be differentiated any number of times.
    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, w)
        return torch.ops.latent_zoo.linear(x, w, b)  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (g,) = gradients
        x, w = ctx.saved_tensors
        for_x, for_w, for_b = _required_gradients(ctx)
        return (
            _LinearFunction.apply(g, w.t(), None) if for_x else None,
            _LinearFunction.apply(g.t(), x.t(), None) if for_w else None,
            g.sum(0) if for_b else None,
        )


class _ConvolutionFunction(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        w: Tensor,
        b: Tensor | None,
        sizes: tuple[int, int, int],
        transposed: bool,
        narrow: bool,
        patches: bool,
    ) -> Tensor:
        ctx.save_for_backward(x, w)
        ctx.sizes, ctx.transposed, ctx.patches = sizes, transposed, patches
        stride, padding, output_padding = sizes
        if narrow:
            return torch.ops.latent_zoo.upscale(x, w, b, stride, padding, output_padding)  # type: ignore[no-any-return]
        return torch.convolution(x, w, b, [stride] * 2, [padding] * 2, [1, 1], transposed, [output_padding] * 2, 1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (g,) = gradients
        x, w = ctx.saved_tensors
        for_x, for_w, for_b = _required_gradients(ctx)
        stride, padding, output_padding = ctx.sizes
        large, small = (g, x) if ctx.transposed else (x, g)
        # The patches' product has no second derivative; torch's kernel has.
        by_patches = for_w and ctx.patches and not torch.is_grad_enabled()
        output_mask = [for_x, for_w and not by_patches, for_b]
        grad_x, grad_w, grad_b = None, None, None
        if any(output_mask):
            grad_x, grad_w, grad_b = torch.ops.aten.convolution_backward(
                g,
                x,
                w,
                [g.shape[1]],
                [stride] * 2,
                [padding] * 2,
                [1, 1],
                ctx.transposed,
                [output_padding] * 2,
                1,
                output_mask,
            )
        if by_patches:
            grad_w = torch.ops.latent_zoo.weight_gradient(large, small, w.shape[2], stride, padding)
        return grad_x, grad_w, grad_b, None, None, None, None


def _linear(x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
    bias = None if b is None else b.contiguous()  # the operator ignores its strides
    return torch.ops.mkldnn._linear_pointwise(x, w, bias, "none", [], "")  # type: ignore[no-any-return]


def _linear_meta(x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
    return x.new_empty(len(x), len(w))


def _upscale(x: Tensor, w: Tensor, b: Tensor | None, stride: int, padding: int, output_padding: int) -> Tensor:
    # Tap s·j + r of input d contributes to output s·(d + j) + r − p. A convolution therefore computes, at u = d + j,
    # the sum over j for each r as separate channels; these are interleaved, and the padding p is cut off.
    (inputs, outputs, kernel, _), s = w.shape, stride
    m = -(-kernel // s)
    taps = F.pad(w, [0, m * s - kernel] * 2).view(inputs, outputs, m, s, m, s).flip(2, 4)
    taps = taps.permute(3, 5, 1, 0, 2, 4).reshape(-1, inputs, m, m).contiguous(memory_format=torch.channels_last)
    sums = F.conv2d(x, taps, None if b is None else b.repeat(s * s), padding=m - 1).permute(0, 2, 3, 1)
    sums = sums.reshape(*sums.shape[:3], s, s, outputs)
    n, height, width = (len(x), *_upscaled_size(x, kernel, stride, padding, output_padding))
    y = x.new_empty(n, height, width, outputs)
    for r in range(s * s):
        (u, top), (v, left) = ((skip := max(0, -((i - padding) // s)), s * skip + i - padding) for i in divmod(r, s))
        part = y[:, top::s, left::s]
        part.copy_(sums[:, u : u + part.shape[1], v : v + part.shape[2], r // s, r % s])
    return y.permute(0, 3, 1, 2).contiguous(memory_format=_memory_format(x))


def _upscaled_size(x: Tensor, kernel: int, stride: int, padding: int, output_padding: int) -> tuple[int, int]:
    height, width = (stride * (side - 1) - 2 * padding + kernel + output_padding for side in x.shape[2:])
    return height, width


def _upscale_meta(x: Tensor, w: Tensor, b: Tensor | None, stride: int, padding: int, output_padding: int) -> Tensor:
    empty = x.new_empty(len(x), w.shape[1], *_upscaled_size(x, w.shape[2], stride, padding, output_padding))
    return empty.contiguous(memory_format=_memory_format(x))


def _weight_gradient(large: Tensor, small: Tensor, kernel: int, stride: int, padding: int) -> Tensor:
    channels, (height, width) = large.shape[1], small.shape[2:]
    padded = F.pad(large, [padding] * 4).contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1)
    n, down, right, _ = padded.stride()
    # A row of a patch, `kernel` pixels with all their channels, is contiguous.
    patches = padded.as_strided(
        (len(large), height, width, kernel, kernel * channels), (n, stride * down, stride * right, down, 1)
    ).reshape(-1, kernel * kernel * channels)
    gradient = patches.t() @ small.permute(0, 2, 3, 1).reshape(-1, small.shape[1])
    return (
        gradient.view(kernel, kernel, channels, -1).permute(3, 2, 0, 1).contiguous(memory_format=_memory_format(large))
    )


def _weight_gradient_meta(large: Tensor, small: Tensor, kernel: int, stride: int, padding: int) -> Tensor:
    empty = large.new_empty(small.shape[1], large.shape[1], kernel, kernel)
    return empty.contiguous(memory_format=_memory_format(large))


def _memory_format(x: Tensor) -> torch.memory_format:
    channels_last = x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if channels_last else torch.contiguous_format


_OPS.impl("linear", _linear, "CPU")
_OPS.impl("linear", _linear_meta, "Meta")
_OPS.impl("upscale", _upscale, "CPU")
_OPS.impl("upscale", _upscale_meta, "Meta")
_OPS.impl("weight_gradient", _weight_gradient, "CPU")
_OPS.impl("weight_gradient", _weight_gradient_meta, "Meta")
