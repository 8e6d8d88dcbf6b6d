"""Coverage of a data set's classes by generated images."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from torch import Tensor

from zoo.metrics.metric import Metric, MetricSet, concatenate, scalar
from zoo.metrics.running_mean import RunningMean
from zoo.metrics.score_info import ScoreInfo

__all__ = ["COVERED", "ClassCoverage", "LabelAccuracy"]

COVERED = 0.1
"""A class is covered if it has at least this part of an even share, so that a single misread image does not count."""


class ClassCoverage(Metric):
    """Shares of the generated images per class, as a classifier predicts them.

    >>> import torch
    >>> metric = ClassCoverage()
    >>> metric.update(torch.tensor([[2.0, 1.0], [3.0, 0.0]]))
    >>> {name: float(value) for name, value in metric.compute().items()}
    {'classes covered': 1.0, 'smallest class share': 0.0, 'class entropy': 0.0}
    """

    scores = (
        ScoreInfo(
            "classes covered",
            "classes with at least a tenth of an even share of the generated images",
            higher_is_better=True,
            column=False,
        ),
        ScoreInfo(
            "smallest class share",
            "smallest share of the generated images in a class; 1 / classes if even",
            higher_is_better=True,
        ),
        ScoreInfo(
            "class entropy",
            "entropy of the generated images' classes; log(classes) if even",
            higher_is_better=True,
            unit="nats",
            column=False,
        ),
    )
    needs = ("logits",)
    metric_set: ClassVar[MetricSet] = "quick"
    plot_lower_bound = 0.0
    counts: list[Tensor]

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        # One row per process after a synchronization; an update adds all rows to one.
        self.add_state("counts", [], dist_reduce_fx="cat")

    def update(self, logits: Tensor) -> None:
        """Add class logits of generated images (B, K)."""
        found = logits.argmax(1).bincount(minlength=logits.shape[1]).to(self.device)
        before = concatenate(self.counts).sum(0) if len(self.counts) else 0
        self.counts = [(found + before)[None]]

    def shares(self) -> list[float]:
        """Share of the generated images per class."""
        counts = concatenate(self.counts).sum(0).tolist()
        return [count / sum(counts) for count in counts]

    def compute(self) -> dict[str, Tensor]:
        """``classes covered``, ``smallest class share`` and ``class entropy``."""
        shares = self.shares()
        covered = sum(share >= COVERED / len(shares) for share in shares)
        entropy = sum(-share * math.log(share) for share in shares if share > 0)
        values = (covered, min(shares), entropy)
        return {info.name: scalar(value) for info, value in zip(self.scores, values, strict=True)}


class LabelAccuracy(RunningMean):
    """Share of a conditional model's images that a classifier reads as the class that the model was asked for.

    >>> import torch
    >>> metric = LabelAccuracy()
    >>> metric.update(torch.tensor([[2.0, 1.0], [3.0, 0.0]]), torch.tensor([0, 1]))
    >>> float(metric.compute())
    0.5
    """

    scores = (
        ScoreInfo(
            "label accuracy",
            "share of the generated images that the classifier reads as the class asked for; conditional models",
            higher_is_better=True,
            undefined_name="",
        ),
    )
    needs = ("logits", "sample_labels")
    metric_set: ClassVar[MetricSet] = "quick"
    plot_lower_bound = 0.0

    def update(self, logits: Tensor, sample_labels: Tensor) -> None:
        """Add class logits of generated images (B, K) and the classes asked for (B,)."""
        self.add(logits.argmax(1) == sample_labels.to(logits.device))
