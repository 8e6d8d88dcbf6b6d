"""Streaming mean and covariance of features in float64."""

from __future__ import annotations

from typing import Self

import attrs
import torch
from torch import Tensor

from zoo.errors import ZooError

__all__ = ["Moments", "ReferenceMoments"]


class Moments:
    """Count, mean and unbiased covariance of feature vectors.

    Batches are merged by their own means and scatter matrices. The result therefore does not depend on the batch size,
    and keeps its precision if the mean is large compared to the spread.

    References:
        Chan, Golub, LeVeque, *Updating formulae and a pairwise algorithm for sample variances*, 1979.

    >>> moments = Moments()
    >>> moments.update(torch.tensor([[0.0], [2.0]]))
    >>> moments.update(torch.tensor([[4.0]]))
    >>> moments.n, moments.mean.tolist(), moments.cov.tolist()
    (3, [2.0], [[4.0]])
    """

    def __init__(self) -> None:
        self._n = 0
        self._mean: Tensor | None = None
        self._scatter: Tensor | None = None

    @classmethod
    def from_statistics(cls, n: int, mean: Tensor, cov: Tensor) -> Self:
        """Moments of ``n`` vectors with this mean (d,) and unbiased covariance (d, d)."""
        return cls.from_scatter(n, mean, cov.detach().to("cpu", torch.float64) * (n - 1))

    @classmethod
    def from_scatter(cls, n: int, mean: Tensor, scatter: Tensor) -> Self:
        """Moments of ``n`` vectors with this mean (d,) and scatter matrix Σ(x − mean)(x − mean)ᵀ (d, d)."""
        moments = cls()
        moments._n = n
        moments._mean = mean.detach().to("cpu", torch.float64)
        moments._scatter = scatter.detach().to("cpu", torch.float64)
        return moments

    def update(self, features: Tensor) -> None:
        """Add a batch.

        Args:
            features: Any floating type, on any device, with finite values.

        Shape:
            features: (B, d).

        Raises:
            ZooError: If the shape is wrong or a value is not finite; the moments are then unchanged.
        """
        if features.dim() != 2:
            raise ZooError(f"features: shape {tuple(features.shape)} is not allowed; must be (B, d)")
        x = features.detach().to("cpu", torch.float64)
        bad = int((~torch.isfinite(x)).any(dim=1).sum())
        if bad:
            raise ZooError(f"features: {bad} of {len(x)} vectors contain NaN or infinity; check the extractor")
        if not len(x):
            return
        mean = x.mean(0)
        centered = x - mean
        self._merge(len(x), mean, centered.T @ centered)

    def merge(self, other: Moments) -> None:
        """Add the vectors of ``other``, which is left unchanged."""
        if other._mean is not None and other._scatter is not None:
            self._merge(other._n, other._mean, other._scatter)

    def _merge(self, n: int, mean: Tensor, scatter: Tensor) -> None:
        if self._mean is None or self._scatter is None:
            self._n, self._mean, self._scatter = n, mean.clone(), scatter.clone()
            return
        if len(mean) != len(self._mean):
            raise ZooError(f"features: {len(mean)} per vector is not allowed; must be {len(self._mean)} as before")
        total = self._n + n
        gap = mean - self._mean
        self._mean = self._mean + gap * (n / total)
        self._scatter += scatter
        self._scatter.addr_(gap, gap, alpha=self._n * n / total)
        self._n = total

    @property
    def n(self) -> int:
        """Number of vectors."""
        return self._n

    @property
    def mean(self) -> Tensor:
        """Mean, float64 (d,)."""
        if self._mean is None:
            raise ZooError("moments: no features were added; call update first")
        return self._mean

    @property
    def scatter(self) -> Tensor:
        """Scatter matrix Σ(x − mean)(x − mean)ᵀ, float64 (d, d)."""
        if self._scatter is None:
            raise ZooError("moments: no features were added; call update first")
        return self._scatter

    @property
    def cov(self) -> Tensor:
        """Unbiased covariance (divided by n − 1), float64 (d, d)."""
        if self._scatter is None or self._n < 2:
            raise ZooError(f"moments: a covariance needs at least 2 feature vectors, not {self._n}")
        return self._scatter / (self._n - 1)

    def __repr__(self) -> str:
        return f"Moments(n={self._n}, features={0 if self._mean is None else len(self._mean)})"


@attrs.frozen(eq=False)
class ReferenceMoments:
    """Moments of real features with the root Σ^½ of their covariance, which every distance to them needs."""

    moments: Moments
    root: Tensor

    @classmethod
    def from_moments(cls, moments: Moments) -> ReferenceMoments:
        """Compute the root, float64 (d, d), by `torch.linalg.eigh`; negative eigenvalues are set to zero."""
        values, vectors = torch.linalg.eigh(moments.cov)
        return cls(moments, (vectors * values.clamp(min=0).sqrt()) @ vectors.T)
