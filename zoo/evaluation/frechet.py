"""The Fréchet distance between two sets of features, each seen as a Gaussian."""

from __future__ import annotations

import attrs
import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.evaluation.moments import Moments

__all__ = ["Reference", "frechet_distance"]

# The root of an eigenvalue that is zero but for rounding is 1e-8 of the largest, and 2048 of them add up.
_ROUNDING = 1e-4


@attrs.frozen(eq=False)
class Reference:
    """The moments of real data, with the root S = Σ^½ that every distance to them needs."""

    moments: Moments
    root: Tensor

    @classmethod
    def of(cls, moments: Moments) -> Reference:
        """Compute the root, float64 (d, d): by `torch.linalg.eigh`, eigenvalues below zero taken for zero."""
        values, vectors = torch.linalg.eigh(moments.cov)
        return cls(moments, (vectors * values.clamp(min=0).sqrt()) @ vectors.T)


def frechet_distance(reference: Reference | Moments, moments: Moments) -> float:
    """|μ₁ − μ₂|² + tr Σ₁ + tr Σ₂ − 2 tr (Σ₁Σ₂)^½, at least 0.

    The last trace is that of (S Σ₂ S)^½ with S = Σ₁^½: symmetric, so its eigenvalues are real and found fast,
    also where there are fewer vectors than features. The same formula on Inception's features is FID.

    References:
        Dowson, Landau, *The Fréchet distance between multivariate normal distributions*, 1982, eq. 4.
        Heusel et al., arXiv:1706.08500, eq. 6.

    Args:
        reference: of real data; moments alone will do, at the price of the root.
        moments: of the data to judge, with as many features.

    Raises:
        ZooError: where the number of features differs, or rounding has eaten the result.
    """
    if isinstance(reference, Moments):
        reference = Reference.of(reference)
    real = reference.moments
    if len(real.mean) != len(moments.mean):
        raise ZooError(f"moments: {len(moments.mean)} features, but the reference has {len(real.mean)}")
    product = reference.root @ moments.cov @ reference.root
    if not bool(torch.isfinite(product).all()):
        raise ZooError("Fréchet distance: the covariances are not finite; the features are too large to be squared")
    eigenvalues = torch.linalg.eigvalsh((product + product.T) / 2)
    traces = float(real.cov.trace() + moments.cov.trace())
    shift = float((real.mean - moments.mean).square().sum())
    distance = shift + traces - 2 * float(eigenvalues.clamp(min=0).sqrt().sum())
    if not distance >= -_ROUNDING * abs(traces):
        raise ZooError(f"Fréchet distance: {distance:g} for a total variance of {traces:g}; the moments are not sound")
    return max(distance, 0.0)
