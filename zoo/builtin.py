"""Hooks of the core itself: built-in data sets, feature extractors, metrics and families of networks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from zoo.data import DataSource, bundled_sources
from zoo.evaluation import (
    AutoencoderFeatures,
    ClassifierV1,
    DINOv2,
    EfficientNet,
    Extractor,
    Inception,
    PinnedClassifier,
    RandomFeatures,
)
from zoo.hooks import hookimpl
from zoo.interfaces import Family
from zoo.networks.default_families import Conv, FullyConnected, TransposedConv

if TYPE_CHECKING:
    from zoo.metrics import Metric

__all__: list[str] = []


@hookimpl
def zoo_datasets() -> Iterable[DataSource]:
    """The data sets of torchvision, the digits of scikit-learn, and CelebA."""
    return bundled_sources()


@hookimpl
def zoo_extractors() -> Mapping[str, type[Extractor]]:
    """The pinned classifiers, the autoencoder, random features, EfficientNet-Lite0, Inception and DINOv2."""
    return {
        "classifier": PinnedClassifier,
        "classifier-v1": ClassifierV1,
        "autoencoder": AutoencoderFeatures,
        "random-features": RandomFeatures,
        "efficientnet": EfficientNet,
        "inception": Inception,
        "dinov2": DINOv2,
    }


@hookimpl
def zoo_metrics() -> Mapping[str, type[Metric]]:
    """The metrics of `zoo.metrics`."""
    from zoo.metrics import BUILT_IN_METRICS

    return BUILT_IN_METRICS


@hookimpl
def zoo_families() -> Mapping[str, type[Family]]:
    """Strided convolutions and fully connected layers, for any image size."""
    return {"conv": Conv, "conv-transposed": TransposedConv, "mlp": FullyConnected}
