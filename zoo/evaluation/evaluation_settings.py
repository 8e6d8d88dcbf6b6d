"""Settings of an evaluation, and the functions of a model that it calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import attrs
from torch import Tensor

from zoo.errors import UsageError
from zoo.metrics.built_in import BUILT_IN_METRICS
from zoo.metrics.likelihood import Density
from zoo.metrics.metric import Metric

__all__ = ["Codes", "EvaluationSettings", "ModelFunctions", "NamedMetric"]


@attrs.frozen
class NamedMetric:
    """A metric and its registered name.

    Args:
        name: Registered name.
        metric: The class.
        package: Name and version of the package that contributed it; empty for a built-in metric.
    """

    name: str
    metric: type[Metric]
    package: str = ""


def _built_in() -> tuple[NamedMetric, ...]:
    return tuple(NamedMetric(name, metric) for name, metric in BUILT_IN_METRICS.items())


@attrs.frozen
class EvaluationSettings:
    """Settings of an evaluation.

    Args:
        n: Number of generated images; None for the data set's default, see `default_n`.
        metric_set: ``quick`` or ``full``; ``full`` includes ``quick``.
        metrics: The metrics to choose from; the built-in ones by default.
        on_request: Further metrics to compute, such as `zoo.metrics.AnnealedLogLikelihood`; ``full`` only.
        batch: Images per call when generating, encoding and reconstructing.
        bn_mode: Batch normalization statistics used while generating; recorded in the protocol.
        seed: Seed of everything drawn; recorded in the protocol.
    """

    n: int | None = None
    metric_set: Literal["quick", "full"] = "quick"
    metrics: tuple[NamedMetric, ...] = attrs.field(factory=_built_in)
    on_request: tuple[Metric, ...] = ()
    batch: int = 500
    bn_mode: str = "running"
    seed: int = 0

    def __attrs_post_init__(self) -> None:
        if self.metric_set not in ("quick", "full"):
            raise UsageError(f"metric_set: {self.metric_set!r} is not allowed; must be 'quick' or 'full'")
        if self.batch < 1:
            raise UsageError(f"batch: {self.batch} is not allowed; must be at least 1")
        if self.on_request and self.metric_set == "quick":
            names = ", ".join(type(metric).__name__ for metric in self.on_request)
            raise UsageError(f"on_request: {names} is not allowed with metric_set 'quick'; use 'full'")

    @property
    def selected(self) -> tuple[NamedMetric, ...]:
        """The metrics of the chosen set, in order."""
        sets = ("quick",) if self.metric_set == "quick" else ("quick", "full")
        return tuple(entry for entry in self.metrics if entry.metric.metric_set in sets)


@attrs.frozen
class Codes:
    """Encoder, decoder and prior of a model, as functions of any number of rows.

    Those of a conditional model use the labels (B,), which are None if the data set has none.

    Args:
        encode: From uint8 images (B, C, H, W) and their labels to their codes, the posterior means (B, d).
        decode: From codes (B, d) and labels to uint8 images (B, C, H, W).
        prior: From a number n to n samples of the prior (n, d).
        sample: Like ``encode``, but returns posterior samples; None for a deterministic encoder.
    """

    encode: Callable[[Tensor, Tensor | None], Tensor]
    decode: Callable[[Tensor, Tensor | None], Tensor]
    prior: Callable[[int], Tensor]
    sample: Callable[[Tensor, Tensor | None], Tensor] | None = None


@attrs.frozen
class ModelFunctions:
    """Abilities of a model beyond generating images; None for those it lacks.

    Args:
        reconstruct: From uint8 images (B, C, H, W) and their labels, None if there are none, to uint8 reconstructions.
        codes: Encoder, decoder and prior; used by the ``full`` metrics only.
        density: Posterior and likelihood; used by the ``full`` metrics only.
        sample_labels: From a number n to the labels (n,) of the last n images generated; None if the model is not
            conditional.
    """

    reconstruct: Callable[[Tensor, Tensor | None], Tensor] | None = None
    codes: Codes | None = None
    density: Density | None = None
    sample_labels: Callable[[int], Tensor] | None = None
