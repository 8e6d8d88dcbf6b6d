"""Mean and covariance of features, streamed in float64: no list of all features is ever held."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor

from zoo.errors import ZooError

__all__ = ["Moments"]


class Moments:
    """Number, mean and unbiased covariance of the feature vectors seen so far.

    Batches are joined by their own means and scatters, so the result does not depend on how the features were
    cut into batches, nor loses digits when the mean is large against the spread.

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
    def of(cls, n: int, mean: Tensor, cov: Tensor) -> Self:
        """The moments with these values: ``n`` vectors, mean (d,), unbiased covariance (d, d)."""
        moments = cls()
        moments._n = n
        moments._mean = mean.detach().to("cpu", torch.float64)
        moments._scatter = cov.detach().to("cpu", torch.float64) * (n - 1)
        return moments

    def update(self, features: Tensor) -> None:
        """Take in a batch.

        Args:
            features: with shape (B, d), of any floating type, on any device; every value finite.

        Raises:
            ZooError: where the shape does not fit or a value is not finite; nothing is then taken in.
        """
        if features.dim() != 2:
            raise ZooError(f"features: shape {tuple(features.shape)} is not allowed; must be (B, d)")
        x = features.detach().to("cpu", torch.float64)
        bad = int((~torch.isfinite(x)).any(dim=1).sum())
        if bad:
            raise ZooError(f"features: {bad} of {len(x)} vectors hold NaN or infinity; look at the extractor")
        if not len(x):
            return
        mean = x.mean(0)
        centered = x - mean
        self._join(len(x), mean, centered.T @ centered)

    def merge(self, other: Moments) -> None:
        """Take in what ``other`` has seen; ``other`` stays as it is."""
        if other._mean is not None and other._scatter is not None:
            self._join(other._n, other._mean, other._scatter)

    def _join(self, n: int, mean: Tensor, scatter: Tensor) -> None:
        if self._mean is None or self._scatter is None:
            self._n, self._mean, self._scatter = n, mean.clone(), scatter.clone()
            return
        if len(mean) != len(self._mean):
            raise ZooError(f"features: {len(mean)} a vector, but {len(self._mean)} in those before")
        total = self._n + n
        gap = mean - self._mean
        self._mean = self._mean + gap * (n / total)
        self._scatter += scatter
        self._scatter.addr_(gap, gap, alpha=self._n * n / total)
        self._n = total

    @property
    def n(self) -> int:
        """How many vectors were seen."""
        return self._n

    @property
    def mean(self) -> Tensor:
        """The mean, float64 (d,)."""
        if self._mean is None:
            raise ZooError("moments: no features were seen")
        return self._mean

    @property
    def cov(self) -> Tensor:
        """The unbiased covariance (divided by n − 1), float64 (d, d)."""
        if self._scatter is None or self._n < 2:
            raise ZooError(f"moments: a covariance needs at least 2 feature vectors, not {self._n}")
        return self._scatter / (self._n - 1)

    def __repr__(self) -> str:
        return f"Moments(n={self._n}, features={0 if self._mean is None else len(self._mean)})"
