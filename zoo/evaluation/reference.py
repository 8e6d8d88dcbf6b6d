"""What is computed from real data once and cached: moments, features, and distances among them."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from zoo.evaluation.distances import kth_neighbor, nearest
from zoo.evaluation.extractors import Extractor
from zoo.evaluation.frechet import Reference
from zoo.evaluation.moments import Moments
from zoo.evaluation.sample_buffer import drawn
from zoo.evaluation.statistics_cache import cached, key_of

__all__ = ["Gallery", "moments_of", "reference_moments"]


def moments_of(extractor: Extractor, images: Tensor, batch: int = 500) -> Moments:
    """Moments of the features of uint8 pictures (N, C, H, W), whatever N."""
    moments = Moments()
    for part in torch.split(images, batch):
        moments.update(extractor(part))
    return moments


def reference_moments(
    extractor: Extractor, images: Tensor, *, dataset_digest: str, split: str, folder: Path | None = None
) -> Reference:
    """The moments of real pictures and the root of their covariance, from the cache where they are in it.

    Args:
        extractor: what finds the features.
        images: uint8 (N, C, H, W); all of the part of the data set that ``split`` names.
        dataset_digest: of the data set's content.
        split: what part of the data set ``images`` is, such as ``test``.
        folder: where the cache is; by default ``reference`` in zoo's cache folder.
    """
    d = extractor.features

    def compute() -> dict[str, Tensor]:
        made = Reference.of(moments_of(extractor, images))
        return {"mean": made.moments.mean, "cov": made.moments.cov, "root": made.root}

    kinds = {"mean": ((d,), torch.float64), "cov": ((d, d), torch.float64), "root": ((d, d), torch.float64)}
    found = cached(key_of(extractor, dataset_digest, split, len(images)), kinds, compute, folder)
    return Reference(Moments.of(len(images), found["mean"], found["cov"]), found["root"])


class Gallery:
    """The real features that generated ones are compared with one by one, float32, cached on disk.

    Of the test pictures at most ``cap``, drawn with seed 0; of the training pictures all, for any may be copied:
    4·d bytes each, 15 MB for MNIST's 64 features and 400 MB for CIFAR-10 under Inception.

    Args:
        extractor: what finds the features; they come to its device.
        test: uint8 test pictures.
        train: uint8 training pictures.
        dataset_digest: of the data set's content.
        cap: how many test pictures.
        folder: where the cache is, as for `reference_moments`.
    """

    def __init__(
        self,
        extractor: Extractor,
        test: Tensor,
        train: Tensor,
        *,
        dataset_digest: str,
        cap: int,
        folder: Path | None = None,
    ) -> None:
        self._extractor, self._digest, self._folder = extractor, dataset_digest, folder
        some = len(test) > cap
        self._split = f"test, {cap} drawn with seed 0" if some else "test"
        self.test = self._features(test[drawn(len(test), cap).to(test.device)] if some else test, self._split)
        self.train = self._features(train, "train")

    def _features(self, images: Tensor, split: str) -> Tensor:
        extractor, shape = self._extractor, (len(images), self._extractor.features)
        key = key_of(extractor, self._digest, split, len(images), kind="features")

        def compute() -> dict[str, Tensor]:
            return {"features": torch.cat([extractor(part).cpu() for part in torch.split(images, 500)])}

        found = cached(key, {"features": (shape, torch.float32)}, compute, self._folder)
        return found["features"].to(extractor.device)

    def radii(self, k: int) -> Tensor:
        """Squared distance of each test vector to its k-th nearest other, float64 (N,)."""
        key = key_of(self._extractor, self._digest, self._split, len(self.test), kind="radii", k=str(k))
        kinds = {"radii": ((len(self.test),), torch.float64)}
        found = cached(key, kinds, lambda: {"radii": kth_neighbor(self.test, k)}, self._folder)
        return found["radii"].to(self.test.device)

    def test_to_train(self) -> Tensor:
        """Distance of each test vector to its nearest training vector, float64 (N,)."""
        key = key_of(self._extractor, self._digest, self._split, len(self.test), kind="nearest of train")
        kinds = {"distances": ((len(self.test),), torch.float64)}
        found = cached(key, kinds, lambda: {"distances": nearest(self.test, self.train)[0]}, self._folder)
        return found["distances"].to(self.test.device)
