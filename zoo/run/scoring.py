"""Scores of a trained model, with the extractors that suit its data set; and the lines of metrics.jsonl."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from zoo.data import Dataset, to_uint8, to_unit
from zoo.errors import ZooError
from zoo.evaluation import Extractor, Inception, PinnedClassifier, evaluate
from zoo.registry import registry
from zoo.run.trained import Trained, TrainedAutoencoder

__all__ = ["Scorer", "choose_extractor", "metrics_line"]


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
        "gradients": {
            name.removeprefix("grad/"): value if math.isfinite(value) else None for name, value in gradients.items()
        },
    }
    return json.dumps(line, allow_nan=False) + "\n"


def choose_extractor(name: str, channels: int, note: Callable[[str], None]) -> Extractor | None:
    """The extractor called ``name``; ``none`` is None.

    ``auto`` is the pinned classifier for grey images and Inception for colour. Where Inception's weights cannot
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
    """Scores trained models on one data set under one protocol.

    Arguments:
        extractor: as ``--extractor`` names it.
        data: the data set.
        note: who is told what is left out and why.
        n: how many images are generated; None is the protocol's default for the data set.
    """

    def __init__(self, extractor: str, data: Dataset, note: Callable[[str], None], n: int | None = None) -> None:
        self.data, self.n = data, n
        self.extractor = choose_extractor(extractor, data.shape[0], note)

    def score(self, trained: Trained) -> dict[str, Any]:
        """``scores``, ``protocol``, ``fingerprint`` and ``class_shares`` of a trained model, as JSON holds them."""
        if self.extractor is None:
            return {"scores": {}, "protocol": None, "fingerprint": None, "class_shares": None}

        def generate(n: int) -> Tensor:
            return to_uint8(trained.sample(n)).cpu()

        def reconstruct(x: Tensor) -> Tensor:
            assert isinstance(trained, TrainedAutoencoder)
            return to_uint8(trained.reconstruct(to_unit(x))).cpu()

        can_encode = isinstance(trained, TrainedAutoencoder)
        found = evaluate(
            generate,
            self.data,
            self.extractor.to(trained.device),
            n=self.n,
            reconstruct=reconstruct if can_encode else None,
        )
        return {
            "scores": found.values,
            "protocol": found.protocol.to_dict(),
            "fingerprint": found.protocol.fingerprint,
            "class_shares": found.class_shares,
            "evaluation_seconds": round(found.seconds, 3),
        }
