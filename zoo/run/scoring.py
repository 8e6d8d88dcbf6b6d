"""Scores of a trained model, with the extractors that suit its data set; and the lines of metrics.jsonl."""

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
from zoo.errors import UsageError, ZooError
from zoo.evaluation import (
    EvaluationSettings,
    Extractor,
    Inception,
    ModelFunctions,
    NamedMetric,
    PinnedClassifier,
    Scores,
    evaluate,
    evaluate_images,
)
from zoo.metrics.full_precision import full_precision
from zoo.registry import registry
from zoo.run.evaluation_inputs import make_codes, make_density, make_reconstructions, make_samples
from zoo.run.trained import TrainedAutoencoder, TrainedModel

__all__ = ["Scorer", "as_json", "choose_extractor", "metrics_line"]


def metrics_line(
    step: int, images: int, seconds: float, terms: Mapping[str, float], gradients: Mapping[str, float]
) -> str:
    """One line of metrics.jsonl: steps and images so far, seconds of training, means of terms, gradient norms.

    A norm that is not finite is null: JSON has no word for it.
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
    """The extractor called ``name``; ``none`` is None.

    ``auto`` is the pinned classifier for gray images and Inception for color. Where Inception's weights cannot
    be had, ``auto`` says so and takes the classifier: its distance has another name and another protocol.
    """
    if name == "none":
        return None
    if name != "auto":
        return _ready(registry().extractor(name)())
    if channels == 1:
        return PinnedClassifier()
    try:
        return _ready(Inception())
    except ZooError as error:
        note(f"FID is left out: {error}. Scored by FD-classifier instead, which is made for digits.")
        return PinnedClassifier()


def _ready(extractor: Extractor) -> Extractor:
    # Weights are fetched before training, not after it: a download that fails should not cost hours.
    if extractor.available() is not None:
        extractor(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))
    return extractor


class Scorer:
    """Scores trained models on one data set under one protocol: for ``zoo run`` and for ``zoo eval`` alike.

    Arguments:
        extractor: as ``--extractor`` names it.
        data: the data set.
        note: who is told what is left out and why.
        settings: settings of the evaluation; its metrics are those of the registry.
    """

    def __init__(
        self,
        extractor: str,
        data: Dataset,
        note: Callable[[str], None],
        settings: EvaluationSettings | None = None,
    ) -> None:
        self.data = data
        self.settings = attrs.evolve(settings or EvaluationSettings(), metrics=registered_metrics())
        self.extractor = choose_extractor(extractor, data.shape[0], note)
        if self.extractor is not None and min(len(data.train), len(data.test)) < 2:
            raise UsageError(
                f"dataset: {data.name} has {len(data.train)} training and {len(data.test)} test images; scores need "
                "two of each, so add images or use --extractor none"
            )

    def evaluate(self, trained: TrainedModel) -> Scores:
        """The scores of a trained model, on the device that it is on.

        Raises:
            UsageError: where the extractor is ``none``.
        """
        full = self.settings.metric_set == "full"
        functions = ModelFunctions(
            reconstruct=partial(make_reconstructions, trained) if isinstance(trained, TrainedAutoencoder) else None,
            codes=make_codes(trained) if full else None,
            density=make_density(trained) if full else None,
        )
        with full_precision():  # the model too: TF32 would make other images on another device
            generate = partial(make_samples, trained)
            return evaluate(generate, self.data, self._features(trained.device), self.settings, functions)

    def evaluate_images(self, images: Tensor, device: torch.device) -> Scores:
        """The scores of anyone's images, uint8 (N, C, H, W): of ``n`` of them where they are more.

        Raises:
            UsageError: where they are fewer than ``n``, or the extractor is ``none``.
        """
        n = self.settings.n
        if n is not None and n > len(images):
            raise UsageError(f"n: {n} is not allowed; there are {len(images)} images")
        if n is not None:  # any n of them, not the first: folders are often sorted by class
            images = images[torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:n]]
        settings = attrs.evolve(self.settings, n=len(images))
        return evaluate_images(torch.split(images, 500), self.data, self._features(device), settings)

    def score(self, trained: TrainedModel) -> dict[str, Any]:
        """A model's `evaluate` as JSON holds it, see `as_json`; without an extractor, empty."""
        if self.extractor is None:
            return {"scores": {}, "score_info": {}, "protocol": None, "fingerprint": None, "class_shares": None}
        return as_json(self.evaluate(trained))

    def _features(self, device: torch.device) -> Extractor:
        if self.extractor is None:
            raise UsageError("extractor: 'none' is not allowed; there is nothing to score without features")
        return self.extractor.to(device)


def registered_metrics() -> tuple[NamedMetric, ...]:
    """The metrics of all installed plugins."""
    core = registry().plugins[0].package
    return tuple(
        NamedMetric(name, e.value, "" if e.plugin.package == core else f"{e.plugin.package} {e.plugin.version}")
        for name, e in registry().metrics.items()
    )


def as_json(found: Scores) -> dict[str, Any]:
    """``scores``, ``score_info``, ``protocol``, ``fingerprint``, ``class_shares`` and the seconds that they took."""
    return {
        "scores": found.values,
        "score_info": {name: info.to_dict() for name, info in found.infos.items()},
        "protocol": found.protocol.to_dict(),
        "fingerprint": found.protocol.fingerprint,
        "class_shares": found.class_shares,
        "evaluation_seconds": round(found.seconds, 3),
    }
