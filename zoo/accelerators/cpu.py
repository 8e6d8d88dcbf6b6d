"""Layers of torch's that a processor with AVX-512 computes faster by other kernels: the same sums, in another order.

Three of torch's choices on such a processor are slow, each found by measuring (docs/speed.md has the figures):

- A product of matrices in float32 goes to MKL, which gives AMD's processors code for half the width of their vectors.
  oneDNN knows their full width.
- A transposed convolution to one or three channels, as every decoder ends in, fills vectors of sixteen channels.
  The pixels of a stride are as many channels of one ordinary convolution (Shi et al., arXiv:1609.05158).
- oneDNN's gradient of a convolution's weights in bfloat16 is slower than its own in float32 where there are no matrix
  tiles (AMX). On small images a product of matrices over gathered patches takes half to two thirds of its time.
"""

from __future__ import annotations

import contextlib
import platform
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["AMD", "AVX512", "BF16", "accelerate", "restore"]

MIN_MULTIPLICATIONS = 2**22
"""Multiplications in a layer from which on it gains more than Python's share of it costs."""
NARROW = 64
"""Rows or columns below which MKL is no slower."""
LANES = 16
"""Channels that a vector of the processor holds in float32."""
PIXELS = 64
"""Of a strided convolution's smaller side, below which oneDNN's gradient of its weights in bfloat16 is the slower."""


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
_OPS.define("upscale(Tensor x, Tensor w, Tensor? b, int stride, int padding, int more) -> Tensor")
_OPS.define("weight_gradient(Tensor large, Tensor small, int kernel, int stride, int padding) -> Tensor")


def accelerate(networks: nn.Module, *, bf16: bool = False) -> dict[str, int]:
    """Let layers that are torch's own compute through faster kernels of this CPU, where it has them.

    Parameters, their names and their values stay; results differ by rounding. :func:`restore` takes it back.

    Arguments:
        networks: whose layers; subclasses of torch's and parametrized layers are left alone.
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


def restore(networks: nn.Module) -> None:
    """Make layers torch's own again."""
    for module in networks.modules():
        if type(module) in (Linear, Conv2d, ConvTranspose2d):
            module.__class__ = type(module).__bases__[0]


class Linear(nn.Linear):
    """Torch's, its products of matrices by oneDNN."""

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (…, in) to (…, out)."""
        narrow = x.dim() != 2 or min(*x.shape, self.out_features) < NARROW
        if narrow or x.dtype != torch.float32 or x.numel() * self.out_features < MIN_MULTIPLICATIONS:
            return super().forward(x)
        return _Product.apply(x, self.weight, self.bias)  # type: ignore[no-any-return]


class Conv2d(nn.Conv2d):
    """Torch's, the gradient of its weights as a product of matrices."""

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (N, in, H, W) to (N, out, H', W')."""
        (k, _), (s, _), p = self.kernel_size, self.stride, int(self.padding[0])
        small = ((side + 2 * p - k) // s + 1 for side in x.shape[2:])
        if x.dim() == 4 and _gathers(self, *small):
            return _convolution(self, x, transposed=False, few=False, gathers=True)
        return super().forward(x)


class ConvTranspose2d(nn.ConvTranspose2d):
    """Torch's, as an ordinary convolution where it has few outputs, and the gradient of its weights likewise."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """``x`` (N, in, H, W) to (N, out, H', W')."""
        few = _to_few(self) and x.numel() * self.weight[0].numel() >= MIN_MULTIPLICATIONS
        if output_size or x.dim() != 4 or not (few or _gathers(self, *x.shape[2:])):
            return super().forward(x, output_size)
        return _convolution(self, x, transposed=True, few=few, gathers=_gathers(self, *x.shape[2:]))


def _regular(layer: Any) -> bool:
    one = {layer.groups, *layer.dilation} == {1} and layer.padding_mode == "zeros"
    square = all(len({*_pair(v)}) == 1 for v in (layer.kernel_size, layer.stride, layer.padding, layer.output_padding))
    return one and square


def _pair(value: Any) -> Sequence[Any]:
    return value if isinstance(value, tuple) else (value, None)  # padding="same" is not square


def _to_few(layer: Any) -> bool:
    s, p, more = (v[0] for v in (layer.stride, layer.padding, layer.output_padding))
    return bool(s > 1 and more <= p and layer.out_channels * s * s <= LANES)


def _gathers(layer: Any, height: int, width: int) -> bool:
    halved = BF16 and torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    channels = min(layer.in_channels, layer.out_channels)
    return bool(halved and layer.stride[0] > 1 and channels >= LANES and height * width < PIXELS)


def _convolution(layer: Any, x: Tensor, *, transposed: bool, few: bool, gathers: bool) -> Tensor:
    w, b = layer.weight, layer.bias
    if torch.is_autocast_enabled("cpu"):
        kind = torch.get_autocast_dtype("cpu")
        x, w, b = x.to(kind), w.to(kind), None if b is None else b.to(kind)
    sizes = (layer.stride[0], layer.padding[0], layer.output_padding[0])
    return _Convolution.apply(x, w, b, sizes, transposed, few, gathers)  # type: ignore[no-any-return]


def _asked_for(ctx: Any) -> tuple[bool, bool, bool]:
    # `needs_input_grad` says whose gradient could be asked for. A row's pass asks for its own players' alone, and
    # torch's own layers compute no other: a generator's pass goes through a critic without the critic's gradients.
    def asked(place: int) -> bool:
        if not ctx.needs_input_grad[place]:
            return False
        node, _ = ctx.next_functions[place]
        try:
            return torch._C._will_engine_execute_node(node)
        except RuntimeError:  # a leaf that is asked for by name: it is collected, and nothing is executed
            return True

    weight = asked(1)
    # A bias beside a weight is all but always asked for with it, costs little, and the question costs as much.
    return asked(0), weight, (weight and ctx.needs_input_grad[2]) or asked(2)


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
        for_x, for_w, for_b = _asked_for(ctx)
        return (
            _Product.apply(g, w.t(), None) if for_x else None,
            _Product.apply(g.t(), x.t(), None) if for_w else None,
            g.sum(0) if for_b else None,
        )


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        w: Tensor,
        b: Tensor | None,
        sizes: tuple[int, int, int],
        transposed: bool,
        few: bool,
        gathers: bool,
    ) -> Tensor:
        ctx.save_for_backward(x, w)
        ctx.sizes, ctx.transposed, ctx.gathers = sizes, transposed, gathers
        stride, padding, more = sizes
        if few:
            return torch.ops.latent_zoo.upscale(x, w, b, stride, padding, more)  # type: ignore[no-any-return]
        return torch.convolution(x, w, b, [stride] * 2, [padding] * 2, [1, 1], transposed, [more] * 2, 1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (g,) = gradients
        x, w = ctx.saved_tensors
        for_x, for_w, for_b = _asked_for(ctx)
        stride, padding, more = ctx.sizes
        large, small = (g, x) if ctx.transposed else (x, g)
        # Where the gradient will be differentiated again, torch's knows how.
        ours = for_w and ctx.gathers and not torch.is_grad_enabled()
        wanted = [for_x, for_w and not ours, for_b]
        of_x, of_w, of_b = None, None, None
        if any(wanted):
            of_x, of_w, of_b = torch.ops.aten.convolution_backward(
                g, x, w, [g.shape[1]], [stride] * 2, [padding] * 2, [1, 1], ctx.transposed, [more] * 2, 1, wanted
            )
        if ours:
            of_w = torch.ops.latent_zoo.weight_gradient(large, small, w.shape[2], stride, padding)
        return of_x, of_w, of_b, None, None, None, None


def _product(x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
    bias = None if b is None else b.contiguous()  # its strides are not looked at
    return torch.ops.mkldnn._linear_pointwise(x, w, bias, "none", [], "")  # type: ignore[no-any-return]


def _product_like(x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
    return x.new_empty(len(x), len(w))


def _upscale(x: Tensor, w: Tensor, b: Tensor | None, stride: int, padding: int, more: int) -> Tensor:
    # Tap s·j + r of input d reaches output s·(d + j) + r − p. So an ordinary convolution has, at U = d + j, the sum
    # over j for each r as channels of its own, and these are set side by side, p of them cut off.
    (inputs, outputs, kernel, _), s = w.shape, stride
    m = -(-kernel // s)
    taps = F.pad(w, [0, m * s - kernel] * 2).view(inputs, outputs, m, s, m, s).flip(2, 4)
    taps = taps.permute(3, 5, 1, 0, 2, 4).reshape(-1, inputs, m, m).contiguous(memory_format=torch.channels_last)
    sums = F.conv2d(x, taps, None if b is None else b.repeat(s * s), padding=m - 1).permute(0, 2, 3, 1)
    sums = sums.reshape(*sums.shape[:3], s, s, outputs)
    n, height, width = (len(x), *_upscaled(x, kernel, stride, padding, more))
    y = x.new_empty(n, height, width, outputs)
    for r in range(s * s):
        (u, top), (v, left) = ((skip := max(0, -((i - padding) // s)), s * skip + i - padding) for i in divmod(r, s))
        part = y[:, top::s, left::s]
        part.copy_(sums[:, u : u + part.shape[1], v : v + part.shape[2], r // s, r % s])
    return y.permute(0, 3, 1, 2).contiguous(memory_format=_format(x))


def _upscaled(x: Tensor, kernel: int, stride: int, padding: int, more: int) -> tuple[int, int]:
    height, width = (stride * (side - 1) - 2 * padding + kernel + more for side in x.shape[2:])
    return height, width


def _upscale_like(x: Tensor, w: Tensor, b: Tensor | None, stride: int, padding: int, more: int) -> Tensor:
    empty = x.new_empty(len(x), w.shape[1], *_upscaled(x, w.shape[2], stride, padding, more))
    return empty.contiguous(memory_format=_format(x))


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
