"""Computes all scores of one model: generates images, feeds the metrics, and collects their values."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import attrs
from torch import Tensor

from zoo.errors import UsageError, ZooError
from zoo.evaluation.evaluation_settings import EvaluationSettings, ModelFunctions
from zoo.evaluation.extractors import Classifier, Extractor
from zoo.evaluation.metric_group import MetricGroup
from zoo.evaluation.metric_inputs import check_images, code_inputs, density_inputs, reconstruction_inputs, seeded
from zoo.evaluation.protocol import Protocol, versions
from zoo.evaluation.reference import EvaluationData, ReferenceStatistics, score_name
from zoo.evaluation.sample_buffer import SampleBuffer
from zoo.metrics.built_in import protocol_entries
from zoo.metrics.coverage import ClassCoverage
from zoo.metrics.memorization import Memorization
from zoo.metrics.score_info import ScoreInfo

__all__ = ["NearestTraining", "Scores", "default_n", "evaluate", "evaluate_images", "make_protocol"]

_MOST_GENERATED = 10_000
_NEIGHBORS_SHOWN = 50


@attrs.frozen(eq=False)
class NearestTraining:
    """The generated images nearest to training images, nearest first."""

    images: Tensor
    """uint8 (M, C, H, W)."""
    indices: Tensor
    """Index of the nearest training image of each, int64 (M,)."""
    distances: Tensor
    """Euclidean distances of the features, float64 (M,)."""


@attrs.frozen(eq=False)
class Scores:
    """Scores of one model and the protocol that they were measured under."""

    values: dict[str, float | None]
    """Values by display name; None if a score is not defined."""
    infos: dict[str, ScoreInfo]
    """Descriptions of ``values``."""
    protocol: Protocol
    class_shares: list[float] | None
    """Share of the generated images per class; None if the extractor does not know the data set's classes."""
    seconds: float
    """Duration of the evaluation, generation included."""
    neighbors: NearestTraining | None = None
    """The generated images nearest to training images; None for the ``quick`` metrics."""

    def to_dict(self) -> dict[str, Any]:
        """Entries that can be stored as JSON, including the protocol's fingerprint."""
        return {
            "values": dict(self.values),
            "score_info": {name: info.to_dict() for name, info in self.infos.items()},
            "protocol": self.protocol.to_dict(),
            "fingerprint": self.protocol.fingerprint,
            "class_shares": self.class_shares,
            "seconds": self.seconds,
        }


def default_n(dataset: EvaluationData) -> int:
    """Default number of generated images: the size of the training split, at most 10,000."""
    return min(_MOST_GENERATED, len(dataset.train.images))


def evaluate(
    generate: Callable[[int], Tensor],
    dataset: EvaluationData,
    extractor: Extractor,
    settings: EvaluationSettings | None = None,
    functions: ModelFunctions | None = None,
    second: Extractor | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Scores:
    """Generate images and score them.

    Sets torch's random state to ``settings.seed`` and restores it afterwards, so that the scores are reproducible.

    Args:
        generate: From a number n to n uint8 images (n, C, H, W) of the data set's size.
        dataset: The real images.
        extractor: The feature extractor, on its device.
        settings: Settings of the evaluation; the defaults if None.
        functions: Further abilities of the model; none if None.
        second: The extractor of the second opinion, on its device; None for no second opinion.
        progress: Called after every batch of generated images, with their number so far and in total.

    Raises:
        ZooError: If the model returns images of another number, type or shape than required.
    """
    settings = settings or EvaluationSettings()
    total = default_n(dataset) if settings.n is None else settings.n

    def generated() -> Iterator[Tensor]:
        for done in range(0, total, settings.batch):
            yield generate(min(settings.batch, total - done))

    with seeded(settings.seed):
        return evaluate_images(generated(), dataset, extractor, settings, functions, second, progress)


def evaluate_images(
    generated: Iterable[Tensor],
    dataset: EvaluationData,
    extractor: Extractor,
    settings: EvaluationSettings | None = None,
    functions: ModelFunctions | None = None,
    second: Extractor | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Scores:
    """Score images that arrive in batches of any size.

    Args:
        generated: Batches of uint8 images (B, C, H, W), ``settings.n`` in total.
        dataset: The real images.
        extractor: The feature extractor, on its device.
        settings: Settings of the evaluation; the defaults if None.
        functions: Further abilities of the model; none if None.
        second: The extractor of the second opinion, on its device; None for no second opinion.
        progress: Called after every batch, with the number of images so far and in total.

    Returns:
        The values of the selected metrics. A score that is not defined for this model or data set is None.

    Raises:
        ZooError: If there are more or fewer images than ``settings.n``, or they are not uint8 of the data set's shape.
    """
    start = time.perf_counter()
    settings, functions = settings or EvaluationSettings(), functions or ModelFunctions()
    n = default_n(dataset) if settings.n is None else settings.n
    least = max((entry.metric.min_samples for entry in settings.selected), default=1)
    if n < least:
        raise UsageError(f"n: {n} is not allowed; must be at least {least}")
    reference = ReferenceStatistics(extractor, dataset, second)
    metrics = MetricGroup(settings, reference)
    buffer = _feed_samples(metrics, generated, dataset, extractor, second, n, functions.sample_labels, progress)
    for name, statistics in (("floor_moments", reference), ("second_floor_moments", reference.second)):
        floor = None if statistics is None or not metrics.need(name) else statistics.floor_moments(n)
        if floor is not None:
            metrics.feed({name: floor})
    if functions.reconstruct is not None:
        features = extractor if metrics.need("reconstruction_features") else None
        test = dataset.test
        for inputs in reconstruction_inputs(functions.reconstruct, test, features, settings.batch):
            metrics.feed(inputs)
            metrics.feed_subsets(inputs, len(test.images))
    if functions.codes is not None and metrics.need_stage("codes"):
        metrics.feed(code_inputs(functions.codes, dataset, settings.batch, settings.seed))
    if functions.density is not None and metrics.need_stage("density"):
        metrics.feed(density_inputs(functions.density, dataset), settings.seed)
    values, infos = metrics.collect(reference)
    protocol = make_protocol(dataset, extractor, settings, second)
    coverage, memorization = metrics.find(ClassCoverage), metrics.find(Memorization)
    shares = coverage.shares() if coverage is not None else None
    neighbors = None
    if memorization is not None and memorization.result is not None and buffer is not None:
        found = memorization.result
        order = found.distances.argsort(stable=True)[:_NEIGHBORS_SHOWN].cpu()
        indices, distances = found.indices.cpu()[order], found.distances.cpu()[order]
        neighbors = NearestTraining(buffer.images(order), indices, distances)
    return Scores(values, infos, protocol, shares, time.perf_counter() - start, neighbors)


def _feed_samples(
    metrics: MetricGroup,
    generated: Iterable[Tensor],
    dataset: EvaluationData,
    extractor: Extractor,
    second: Extractor | None,
    n: int,
    labels: Callable[[int], Tensor] | None,
    progress: Callable[[int, int], None] | None,
) -> SampleBuffer | None:
    """Feed generated images; returns the buffer, or None if no metric needs one."""
    classifier = extractor if isinstance(extractor, Classifier) and dataset.name in extractor.labels else None
    buffer = SampleBuffer(min(n, metrics.buffer_size)) if metrics.buffer_size else None
    count = 0
    for images in generated:
        check_images(images, dataset.test.images, "generated")
        features = extractor(images)
        inputs: dict[str, Any] = {"samples": images, "features": features}
        if classifier is not None:
            inputs["logits"] = classifier.logits(features)
        if labels is not None:
            inputs["sample_labels"] = labels(len(images))
        if second is not None and metrics.need("second_features"):
            inputs["second_features"] = second(images)
        metrics.feed(inputs)
        if buffer is not None:
            buffer.add(images, features)
        count += len(images)
        if progress is not None:
            progress(count, n)
    if count != n:
        raise ZooError(f"generated: {count} images are not allowed; must be {n}")
    if buffer is not None:
        metrics.feed_buffered(buffer, classifier)
    return buffer


def make_protocol(
    dataset: EvaluationData, extractor: Extractor, settings: EvaluationSettings, second: Extractor | None = None
) -> Protocol:
    """The protocol of scores under these settings.

    Args:
        dataset: The real images.
        extractor: The feature extractor.
        settings: Settings of the evaluation.
        second: The extractor of the second opinion; None for no second opinion.
    """
    contributed = {e.name: f"{e.metric.protocol} ({e.package})".strip() for e in settings.selected if e.package}
    built_in = [e.metric for e in settings.selected if e.metric.compared_separately and not e.package]
    fields = ReferenceStatistics(extractor, dataset).name_fields
    separate = {metric.scores[0].format(fields): metric.protocol for metric in built_in}
    if second is not None:
        separate[f"{score_name(second)} (second opinion)"] = (
            f"weights {second.digest[:16]}; {second.resize}; {second.channels}"
        )
    return Protocol(
        extractor=extractor.name,
        extractor_digest=extractor.digest,
        resize=extractor.resize,
        channels=extractor.channels,
        dataset=dataset.name,
        dataset_digest=dataset.digest,
        n_real=len(dataset.test.images),
        n_generated=default_n(dataset) if settings.n is None else settings.n,
        bn_mode=settings.bn_mode,
        seed=settings.seed,
        reference_split=dataset.evaluation_split,
        libraries=versions(extractor.libraries),
        metrics=protocol_entries(),
        contributed_metrics=contributed,
        separate_metrics=separate,
    )
