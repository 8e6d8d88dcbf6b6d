"""The metric objects of one evaluation: feeds inputs to them and collects their values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch

from zoo.errors import ZooError
from zoo.evaluation.evaluation_settings import EvaluationSettings, NamedMetric
from zoo.evaluation.extractors import Classifier
from zoo.evaluation.metric_inputs import seeded
from zoo.evaluation.reference import ReferenceStatistics
from zoo.evaluation.sample_buffer import SampleBuffer
from zoo.metrics.metric import Metric, input_stage
from zoo.metrics.score_info import ScoreInfo
from zoo.metrics.subsets import random_indices

__all__ = ["MetricGroup"]

T = TypeVar("T")


class MetricGroup:
    """The metric objects of one evaluation."""

    def __init__(self, settings: EvaluationSettings, reference: ReferenceStatistics) -> None:
        self._entries = list(settings.selected)
        self._reconstructed = 0
        self._metrics: list[Metric | None] = [
            _guard(entry, entry.metric.from_reference, reference) for entry in settings.selected
        ]
        for metric in settings.on_request:
            fresh = metric.clone()
            fresh.reset()
            self._entries.append(NamedMetric(type(metric).__name__, type(metric)))
            self._metrics.append(fresh)  # type: ignore[arg-type]

    def _defined(self) -> Iterator[tuple[NamedMetric, Metric]]:
        for entry, metric in zip(self._entries, self._metrics, strict=True):
            if metric is not None:
                yield entry, metric

    @property
    def buffer_size(self) -> int:
        """Most samples that a metric with ``max_samples`` takes; 0 if there is no such metric."""
        return max((metric.max_samples or 0 for _, metric in self._defined()), default=0)

    def need(self, name: str) -> bool:
        """Whether a metric needs the input ``name``."""
        return any(name in metric.needs for _, metric in self._defined())

    def need_stage(self, stage: str) -> bool:
        """Whether a metric needs inputs of this stage."""
        return any(input_stage(metric.needs) == stage for _, metric in self._defined())

    def feed(self, inputs: dict[str, Any], seed: int | None = None) -> None:
        """Update every metric whose inputs are all available, except those that take a part of the images.

        With a seed, torch's random state is set to it before each update.
        """
        for entry, metric in self._defined():
            if metric.max_samples is None and metric.max_images is None and set(metric.needs) <= set(inputs):
                self._update(entry, metric, inputs, seed)

    def feed_subsets(self, inputs: dict[str, Any], total: int) -> None:
        """Update the metrics with ``max_images`` with their share of a batch of reconstructions.

        Args:
            inputs: The batch; batches arrive in the order of the test images.
            total: Number of test images.
        """
        size = len(inputs["images"])
        for entry, metric in self._defined():
            if metric.max_images is None or not set(metric.needs) <= set(inputs):
                continue
            chosen = random_indices(total, metric.max_images).sort().values - self._reconstructed
            rows = chosen[(chosen >= 0) & (chosen < size)]
            if len(rows):
                subset = {name: inputs[name][rows.to(inputs[name].device)] for name in metric.needs}
                self._update(entry, metric, subset, None)
        self._reconstructed += size

    def feed_buffered(self, buffer: SampleBuffer, classifier: Classifier | None) -> None:
        """Update the metrics with ``max_samples`` once, with as many samples as they take."""
        features = buffer.features()
        for entry, metric in self._defined():
            if metric.max_samples is None:
                continue
            inputs: dict[str, Any] = {"features": features[: metric.max_samples]}
            if "samples" in metric.needs:
                inputs["samples"] = buffer.images(torch.arange(len(inputs["features"])))
            if classifier is not None and "logits" in metric.needs:
                inputs["logits"] = classifier.logits(inputs["features"])
            if set(metric.needs) <= set(inputs):
                self._update(entry, metric, inputs, None)

    def _update(self, entry: NamedMetric, metric: Metric, inputs: dict[str, Any], seed: int | None) -> None:
        arguments = [inputs[name] for name in metric.needs]
        if seed is None:
            _guard(entry, metric.update, *arguments)
        else:
            with seeded(seed):
                _guard(entry, metric.update, *arguments)

    def collect(self, reference: ReferenceStatistics) -> tuple[dict[str, float | None], dict[str, ScoreInfo]]:
        """Values and descriptions by display name."""
        values: dict[str, float | None] = {}
        infos: dict[str, ScoreInfo] = {}
        for entry, metric in zip(self._entries, self._metrics, strict=True):
            if metric is not None and metric.update_called:
                found = _guard(entry, metric.values)
                fields = {**reference.name_fields, **metric.name_fields}
                names = {info: info.format(fields) for info in metric.scores}
            else:
                found = {}
                names = {i: _undefined_name(i, reference) for i in entry.metric.scores if i.undefined_name != ""}
            for info, name in names.items():
                values[name], infos[name] = found.get(info.name), info
        return values, infos

    def find(self, kind: type[T]) -> T | None:
        """The metric of this class that was updated; None if there is none."""
        return next((m for _, m in self._defined() if isinstance(m, kind) and m.update_called), None)


def _undefined_name(info: ScoreInfo, reference: ReferenceStatistics) -> str:
    return info.format(reference.name_fields) if info.undefined_name is None else info.undefined_name


def _guard(entry: NamedMetric, function: Callable[..., T], *arguments: Any) -> T:
    """Call a method of a metric; an error of a contributed metric names the metric and its package."""
    try:
        return function(*arguments)
    except Exception as error:
        if not entry.package:
            raise
        reason = f"{type(error).__name__}: {error}"
        raise ZooError(f"metric {entry.name!r} ({entry.package}): {reason}; report it to that package") from error
