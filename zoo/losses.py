"""Loss terms of most models: scalars, summed over the elements of an image and averaged over the batch."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from zoo.interfaces import CriticOutput

__all__ = ["fake_loss", "half_sse", "l1_loss", "real_loss", "sse"]


def real_loss(output: CriticOutput) -> Tensor:
    """Cross-entropy of a critic's output with label 1 (real): mean of −log D = softplus(−logit).

    Args:
        output: Output of the critic on a batch.
    """
    return F.softplus(-output.logits.float()).mean()


def fake_loss(output: CriticOutput) -> Tensor:
    """Cross-entropy of a critic's output with label 0 (fake): mean of −log(1 − D) = softplus(logit).

    Args:
        output: Output of the critic on a batch.
    """
    return F.softplus(output.logits.float()).mean()


def sse(a: Tensor, b: Tensor) -> Tensor:
    """Sum of squared errors ‖a − b‖² per image, averaged over the batch.

    Args:
        a: (B, …).
        b: Same shape as ``a``.
    """
    _same_shape(a, b)
    return (a.float() - b.float()).square().sum() / len(a)


def half_sse(a: Tensor, b: Tensor) -> Tensor:
    """Half of :func:`sse`: −log N(a; b, I) per image without its constant, averaged over the batch.

    Args:
        a: (B, …).
        b: Same shape as ``a``.
    """
    return 0.5 * sse(a, b)


def l1_loss(a: Tensor, b: Tensor) -> Tensor:
    """Sum of absolute errors ‖a − b‖₁ per image, averaged over the batch.

    Args:
        a: (B, …).
        b: Same shape as ``a``.
    """
    _same_shape(a, b)
    return (a.float() - b.float()).abs().sum() / len(a)


def _same_shape(a: Tensor, b: Tensor) -> None:
    # Broadcasting (B, 1, H, W) with (B, 3, H, W) would give a plausible number, three times too large.
    if a.shape != b.shape:
        raise ValueError(f"shapes {tuple(a.shape)} and {tuple(b.shape)} differ; a loss compares tensors of equal shape")
