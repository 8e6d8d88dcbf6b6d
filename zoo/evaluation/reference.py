"""Statistics of real images, computed once and cached: moments, features, and distances between features."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from zoo.data import chunks, take
from zoo.evaluation.efficientnet import EfficientNet, PerceptualNetwork
from zoo.evaluation.extractors import Extractor
from zoo.evaluation.inception import DIGEST as INCEPTION_DIGEST
from zoo.evaluation.inception import Inception
from zoo.evaluation.statistics_cache import cache_key, cached
from zoo.metrics.distances import kth_neighbor_distances, nearest
from zoo.metrics.metric import MAX_SAMPLES
from zoo.metrics.moments import Moments, ReferenceMoments
from zoo.metrics.subsets import random_indices

__all__ = [
    "EvaluationData",
    "ReferenceSamples",
    "ReferenceStatistics",
    "feature_moments",
    "reference_moments",
    "score_name",
]

_FLOOR_SEED = 0


class Split(Protocol):
    """Images of a data set and their labels."""

    @property
    def images(self) -> Tensor:
        """Images, uint8 (N, C, H, W)."""

    @property
    def labels(self) -> Tensor | None:
        """Class indices (N,), or None."""


class EvaluationData(Protocol):
    """A data set as an evaluation uses it; `zoo.Dataset` is one."""

    @property
    def name(self) -> str:
        """Name of the data set."""

    @property
    def digest(self) -> str:
        """Digest of its content."""

    @property
    def evaluation_split(self) -> str:
        """Name of the split in ``test``."""

    @property
    def train(self) -> Split:
        """Training split."""

    @property
    def test(self) -> Split:
        """Test split."""


def score_name(extractor: Extractor) -> str:
    """Name of the Fréchet distance: ``FID`` for Inception with the original weights, else ``FD-`` and the extractor."""
    if type(extractor) is Inception and extractor.digest == INCEPTION_DIGEST:
        return "FID"
    return f"FD-{extractor.name}"


def feature_moments(extractor: Extractor, images: Tensor, batch: int = 500, indices: Tensor | None = None) -> Moments:
    """Moments of the features of uint8 images (N, C, H, W): of those at ``indices``, if they are given."""
    moments = Moments()
    for part in _batches(images, indices, batch):
        moments.update(extractor(part))
    return moments


def _batches(images: Tensor, indices: Tensor | None, size: int) -> Iterator[Tensor]:
    if indices is None:
        return chunks(images, size)
    return (take(images, part) for part in torch.split(indices, size))


def reference_moments(
    extractor: Extractor,
    images: Tensor,
    *,
    dataset_digest: str,
    split: str,
    folder: Path | None = None,
    indices: Tensor | None = None,
) -> ReferenceMoments:
    """Moments of the features of real images, read from the cache if possible.

    Args:
        extractor: The feature extractor.
        images: uint8 (N, C, H, W); all images of the part of the data set that ``split`` names.
        dataset_digest: Digest of the data set's content.
        split: Part of the data set, such as ``test``.
        folder: Cache folder; by default ``reference`` in zoo's cache folder.
        indices: The images to use, in this order; all by default.
    """
    d, n = extractor.features, len(images) if indices is None else len(indices)

    def compute() -> dict[str, Tensor]:
        made = ReferenceMoments.from_moments(feature_moments(extractor, images, indices=indices))
        return {"mean": made.moments.mean, "cov": made.moments.cov, "root": made.root}

    kinds = {"mean": ((d,), torch.float64), "cov": ((d, d), torch.float64), "root": ((d, d), torch.float64)}
    found = cached(cache_key(extractor, dataset_digest, split, n), kinds, compute, folder)
    return ReferenceMoments(Moments.from_statistics(n, found["mean"], found["cov"]), found["root"])


class ReferenceSamples:
    """Features of real images, float32, cached on disk.

    Features of at most ``cap`` test images, drawn with seed 0, and of all training images, since any of them may be
    copied: 4·d bytes each, 15 MB for MNIST with 64 features, 400 MB for CIFAR-10 with Inception.

    Args:
        extractor: The feature extractor; features are moved to its device.
        test: Test images, uint8 (N, C, H, W).
        train: Training images, uint8 (M, C, H, W).
        dataset_digest: Digest of the data set's content.
        cap: Most test images used.
        folder: Cache folder, as for `reference_moments`.
    """

    def __init__(
        self,
        extractor: Extractor,
        test: Tensor,
        train: Tensor,
        *,
        dataset_digest: str,
        cap: int = MAX_SAMPLES,
        folder: Path | None = None,
    ) -> None:
        self._extractor, self._digest, self._folder = extractor, dataset_digest, folder
        self._split = f"test, {cap} drawn with seed 0" if len(test) > cap else "test"
        self._test_images, self._train_images, self._cap = test, train, cap

    @functools.cached_property
    def test(self) -> Tensor:
        """Features of the test images, float32 (N, d)."""
        return self._features(self._test_images, self._split, random_indices(len(self._test_images), self._cap))

    @functools.cached_property
    def train(self) -> Tensor:
        """Features of the training images, float32 (M, d)."""
        return self._features(self._train_images, "train")

    def _features(self, images: Tensor, split: str, indices: Tensor | None = None) -> Tensor:
        n = len(images) if indices is None else len(indices)
        extractor, shape = self._extractor, (n, self._extractor.features)
        key = cache_key(extractor, self._digest, split, n, kind="features")

        def compute() -> dict[str, Tensor]:
            made, done = torch.empty(shape), 0  # a list of parts and their concatenation would take twice the memory
            for part in _batches(images, indices, 500):
                made[done : done + len(part)] = extractor(part)
                done += len(part)
            return {"features": made}

        found = cached(key, {"features": (shape, torch.float32)}, compute, self._folder)
        return found["features"].to(extractor.device)

    def radii(self, k: int) -> Tensor:
        """Squared distance of each test vector to its k-th nearest other test vector, float64 (N,)."""
        key = cache_key(self._extractor, self._digest, self._split, len(self.test), kind="radii", k=str(k))
        kinds = {"radii": ((len(self.test),), torch.float64)}
        found = cached(key, kinds, lambda: {"radii": kth_neighbor_distances(self.test, k)}, self._folder)
        return found["radii"].to(self.test.device)

    def test_to_train_distances(self) -> Tensor:
        """Distance of each test vector to its nearest training vector, float64 (N,)."""
        key = cache_key(self._extractor, self._digest, self._split, len(self.test), kind="nearest of train")
        kinds = {"distances": ((len(self.test),), torch.float64)}
        found = cached(key, kinds, lambda: {"distances": nearest(self.test, self.train)[0]}, self._folder)
        return found["distances"].to(self.test.device)


class ReferenceStatistics:
    """All statistics of a data set under an extractor, each computed on first use.

    Implements `zoo.metrics.ReferenceData`.

    Args:
        extractor: The feature extractor.
        data: The data set.
        second: The extractor of the second opinion; None for no second opinion.
    """

    def __init__(self, extractor: Extractor, data: EvaluationData, second: Extractor | None = None) -> None:
        self._extractor, self._data = extractor, data
        self.second = None if second is None else ReferenceStatistics(second, data)
        name = score_name(extractor)
        self.name_fields: Mapping[str, str] = {
            "FD": name,
            "KID": "KID" if name == "FID" else f"KID-{extractor.name}",
            "extractor": extractor.name,
            **({} if second is None else {"second_FD": score_name(second)}),
        }

    @property
    def device(self) -> torch.device:
        """Device of the features."""
        return self._extractor.device

    @property
    def test_images(self) -> Tensor:
        """All test images, uint8 (N, C, H, W)."""
        return self._data.test.images

    @property
    def train_images(self) -> Tensor:
        """All training images, uint8 (N, C, H, W)."""
        return self._data.train.images

    def _moments(self, images: Tensor, split: str, indices: Tensor | None = None) -> ReferenceMoments:
        digest = self._data.digest
        return reference_moments(self._extractor, images, dataset_digest=digest, split=split, indices=indices)

    @functools.cached_property
    def test_moments(self) -> ReferenceMoments:
        """Moments of the features of all test images."""
        return self._moments(self.test_images, "test")

    @functools.cached_property
    def train_moments(self) -> ReferenceMoments:
        """Moments of the features of all training images."""
        return self._moments(self.train_images, "train")

    def floor_moments(self, n: int) -> Moments | None:
        """Moments of ``n`` training images drawn with seed 0; None if there are fewer."""
        train = self.train_images
        if n > len(train):
            return None
        # Shuffled even if n is the whole split: the seed names the images and their order.
        order = torch.randperm(len(train), generator=torch.Generator().manual_seed(_FLOOR_SEED))[:n]
        return self._moments(train, f"train, {n} drawn with seed {_FLOOR_SEED}", order).moments

    @functools.cached_property
    def _samples(self) -> ReferenceSamples:
        return ReferenceSamples(self._extractor, self.test_images, self.train_images, dataset_digest=self._data.digest)

    @property
    def test_features(self) -> Tensor:
        """Features of at most `MAX_SAMPLES` test images, float32 (N, d)."""
        return self._samples.test

    @property
    def train_features(self) -> Tensor:
        """Features of all training images, float32 (M, d)."""
        return self._samples.train

    def test_radii(self, k: int) -> Tensor:
        """Squared distance of each row of `test_features` to its k-th nearest other row, float64 (N,)."""
        return self._samples.radii(k)

    def test_to_train_distances(self) -> Tensor:
        """Distance of each row of `test_features` to the nearest row of `train_features`, float64 (N,)."""
        return self._samples.test_to_train_distances()

    @functools.cached_property
    def perceptual_network(self) -> PerceptualNetwork | None:
        """Stages of EfficientNet-Lite0; None, with a warning, if its weights are not installed."""
        if (problem := EfficientNet().available()) is not None:
            warnings.warn(f"perceptual distance is left out: {problem}", stacklevel=2)
            return None
        return PerceptualNetwork(self.device)
