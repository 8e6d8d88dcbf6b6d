"""The few loss terms that nearly every model needs: scalars, summed over an image and averaged over images."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from zoo.interfaces import CriticOutput

__all__ = ["fake_loss", "half_sse", "l1_loss", "real_loss", "sse"]


def real_loss(verdict: CriticOutput) -> Tensor:
    """−log D: what it costs a critic to be unsure that this is real; the mean of softplus(−logit)."""
    return F.softplus(-verdict.logits.float()).mean()


def fake_loss(verdict: CriticOutput) -> Tensor:
    """−log(1 − D): what it costs a critic to be unsure that this is fake; the mean of softplus(logit)."""
    return F.softplus(verdict.logits.float()).mean()


def sse(a: Tensor, b: Tensor) -> Tensor:
    """‖a − b‖² per image, averaged over the batch. ``a`` and ``b`` are (B, …), of one shape."""
    _same_shape(a, b)
    return (a.float() - b.float()).square().sum() / len(a)


def half_sse(a: Tensor, b: Tensor) -> Tensor:
    """½‖a − b‖² per image, averaged over the batch: −log N(a; b, I) without its constant."""
    return 0.5 * sse(a, b)


def l1_loss(a: Tensor, b: Tensor) -> Tensor:
    """‖a − b‖₁ per image, averaged over the batch. ``a`` and ``b`` are (B, …), of one shape."""
    _same_shape(a, b)
    return (a.float() - b.float()).abs().sum() / len(a)


def _same_shape(a: Tensor, b: Tensor) -> None:
    # Broadcasting (B, 1, H, W) against (B, 3, H, W) would give a plausible number three times too large.
    if a.shape != b.shape:
        raise ValueError(f"shapes {tuple(a.shape)} and {tuple(b.shape)} differ; a loss compares tensors of one shape")
