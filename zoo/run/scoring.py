"""Scores of trained models on a data set, the choice of the extractor, and the lines of ``metrics.jsonl``."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import attrs
import torch
from torch import Tensor

from zoo.data import Dataset
from zoo.errors import UsageError
from zoo.evaluation import (
    AutoencoderFeatures,
    EfficientNet,
    EvaluationSettings,
    Extractor,
    Inception,
    ModelFunctions,
    NamedMetric,
    PinnedClassifier,
    Protocol,
    RandomFeatures,
    Scores,
    evaluate,
    evaluate_images,
    make_protocol,
)
from zoo.metrics.full_precision import full_precision
from zoo.registry import registry
from zoo.run.evaluation_inputs import (
    Sampler,
    make_codes,
    make_density,
    make_reconstructions,
)
from zoo.run.trained import TrainedAutoencoder, TrainedModel

__all__ = ["Scorer", "choose_extractor", "choose_second", "metrics_line", "scores_to_dict"]


def metrics_line(
    step: int, images: int, seconds: float, terms: Mapping[str, float], gradients: Mapping[str, float]
) -> str:
    """Format one line of ``metrics.jsonl``.

    Args:
        step: Number of steps so far.
        images: Number of training images so far.
        seconds: Seconds of training so far.
        terms: Mean of each term since the last line.
        gradients: Norm of each player's last gradient; null in the line if not finite.
    """
    line = {
        "step": step,
        "images": images,
        "seconds": round(seconds, 3),
        "terms": dict(terms),
        "gradients": {name: value if math.isfinite(value) else None for name, value in gradients.items()},
    }
    return json.dumps(line, allow_nan=False) + "\n"


def choose_extractor(name: str, channels: int, note: Callable[[str], None]) -> Extractor | None:
    """Return the extractor called ``name``; None for ``none``.

    ``auto`` is the pinned classifier for gray images. For color images it is Inception, hence FID, if its weights are
    available, and EfficientNet-Lite0 otherwise: it works offline, and its distance has another name and protocol.

    Args:
        name: As ``--extractor`` takes it.
        channels: Number of channels of the images.
        note: Called with a message if ``auto`` is not Inception for color images.
    """
    if name == "none":
        return None
    if name != "auto":
        return _ready(registry().extractor(name)())
    if channels == 1:
        return PinnedClassifier()
    inception = Inception()
    if inception.available() is None:
        return _ready(inception)
    note("scores: FD-efficientnet, which works offline; --extractor inception downloads Inception's weights for FID")
    return _ready(EfficientNet())


def choose_second(extractor: Extractor, channels: int) -> Extractor | None:
    """Return the extractor of the second opinion, which differs from ``extractor`` in architecture and training.

    Args:
        extractor: The extractor that ranks.
        channels: Number of channels of the images.

    Returns:
        For gray images the autoencoder, or the pinned classifier if the autoencoder ranks. For color images the random
        features, or EfficientNet-Lite0 if the random features rank.
    """
    if channels != 1:
        return _ready(EfficientNet()) if extractor.name == RandomFeatures.name else RandomFeatures()
    return PinnedClassifier() if extractor.name == AutoencoderFeatures.name else AutoencoderFeatures()


def _ready(extractor: Extractor) -> Extractor:
    # Reads or downloads the weights, and checks their digest, before training: a wrong file should not cost hours.
    extractor(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))
    return extractor


class Scorer:
    """Scores models on one data set under one protocol, for ``zoo run`` and ``zoo eval``.

    Args:
        extractor: Name of the extractor, as ``--extractor`` takes it.
        data: The data set.
        note: Called with messages, such as an omitted score and the reason.
        settings: Settings of the evaluation; its metrics are replaced by those of the registry.
        progress: Called while generated images are scored, with their number so far and in total.

    Raises:
        UsageError: If a split has fewer than two images.
    """

    def __init__(
        self,
        extractor: str,
        data: Dataset,
        note: Callable[[str], None],
        settings: EvaluationSettings | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self.data, self.progress = data, progress
        self.settings = attrs.evolve(settings or EvaluationSettings(), metrics=registered_metrics())
        self.extractor = choose_extractor(extractor, data.shape[0], note)
        self.second = None if self.extractor is None else choose_second(self.extractor, data.shape[0])
        if self.extractor is not None and min(len(data.train), len(data.test)) < 2:
            raise UsageError(
                f"dataset: {data.name} has {len(data.train)} training and {len(data.test)} test images; scores need "
                "two of each, so add images or use --extractor none"
            )

    def evaluate(self, trained: TrainedModel) -> Scores:
        """Score a trained model on its device.

        Raises:
            UsageError: If the extractor is ``none``.
        """
        full = self.settings.metric_set == "full"
        sampler = Sampler(trained)
        functions = ModelFunctions(
            reconstruct=partial(make_reconstructions, trained) if isinstance(trained, TrainedAutoencoder) else None,
            sample_labels=sampler.labels if trained.objective.conditional else None,
            codes=make_codes(trained) if full else None,
            density=make_density(trained) if full else None,
        )
        with full_precision():  # also of the model: TF32 changes the images
            features, second = self._extractors(trained.device)
            return evaluate(sampler.sample, self.data, features, self.settings, functions, second, self.progress)

    def evaluate_images(self, images: Tensor, device: torch.device) -> Scores:
        """Score uint8 images (N, C, H, W) from any source: a random subset of ``settings.n`` images.

        Raises:
            UsageError: If N is less than ``settings.n``, or the extractor is ``none``.
        """
        n = self.settings.n
        if n is not None and n > len(images):
            raise UsageError(f"n: {n} is not allowed; there are {len(images)} images")
        if n is not None:  # not the first n: folders are often sorted by class
            images = images[torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:n]]
        settings = attrs.evolve(self.settings, n=len(images))
        features, second = self._extractors(device)
        batches, progress = torch.split(images, 500), self.progress
        return evaluate_images(batches, self.data, features, settings, second=second, progress=progress)

    def score(self, trained: TrainedModel) -> dict[str, Any]:
        """:meth:`evaluate` as entries of ``result.json``; empty without an extractor."""
        if self.extractor is None:
            return {"scores": {}, "score_info": {}, "protocol": None, "fingerprint": None, "class_shares": None}
        return scores_to_dict(self.evaluate(trained))

    def protocol(self) -> Protocol:
        """The protocol of the scores of a trained model.

        Raises:
            UsageError: If the extractor is ``none``.
        """
        if self.extractor is None:
            raise UsageError("extractor: 'none' is not allowed; scores need features")
        return make_protocol(self.data, self.extractor, self.settings, self.second)

    def _extractors(self, device: torch.device) -> tuple[Extractor, Extractor | None]:
        if self.extractor is None:
            raise UsageError("extractor: 'none' is not allowed; scores need features")
        return self.extractor.to(device), None if self.second is None else self.second.to(device)


def registered_metrics() -> tuple[NamedMetric, ...]:
    """The metrics of all installed plugins."""
    core = registry().plugins[0].package
    return tuple(
        NamedMetric(name, e.value, "" if e.plugin.package == core else f"{e.plugin.package} {e.plugin.version}")
        for name, e in registry().metrics.items()
    )


def scores_to_dict(found: Scores) -> dict[str, Any]:
    """Entries of ``result.json`` for scores: values, descriptions, protocol, fingerprint, class shares and seconds."""
    return {
        "scores": found.values,
        "score_info": {name: info.to_dict() for name, info in found.infos.items()},
        "protocol": found.protocol.to_dict(),
        "fingerprint": found.protocol.fingerprint,
        "class_shares": found.class_shares,
        "evaluation_seconds": round(found.seconds, 3),
    }
