"""The base class of all metrics, and the inputs that an evaluation supplies to them."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self

import attrs
import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.metrics.score_info import ScoreInfo
from zoo.metrics.torchmetrics_import import TorchMetric

if TYPE_CHECKING:
    from zoo.metrics.moments import ReferenceMoments

__all__ = ["INPUTS", "MAX_SAMPLES", "Metric", "MetricSet", "ReferenceData", "input_stage"]

MetricSet = Literal["quick", "full", "on request"]

MAX_SAMPLES = 10_000
"""Images per side in metrics that compare all pairs."""

INPUTS: Mapping[str, Mapping[str, str]] = {
    "samples": {
        "samples": "generated images, uint8 (B, C, H, W)",
        "features": "features of `samples`, float32 (B, d)",
        "second_features": "features of `samples` by the extractor of the second opinion, float32 (B, e)",
        "logits": "class logits of `samples`, (B, K); only if the extractor knows the data set's classes",
        "sample_labels": "classes that a conditional model was asked for, int64 (B,); only of conditional models",
    },
    "reconstructions": {
        "images": "test images, uint8 (B, C, H, W)",
        "reconstructions": "reconstructions of `images`, uint8 (B, C, H, W)",
        "reconstruction_features": "features of `reconstructions`, float32 (B, d)",
    },
    "real images": {
        "floor_moments": "`Moments` of as many training images as there are generated ones, drawn with seed 0",
        "second_floor_moments": "their `Moments` under the extractor of the second opinion",
    },
    "codes": {
        "codes": "posterior means of all test images, (N, d)",
        "labels": "class indices of all test images, (N,)",
        "train_codes": "posterior means of at most 10,000 training images, (M, d)",
        "train_labels": "class indices of the same training images, (M,)",
        "posterior_samples": "posterior samples of at most 5,000 test images, (P, d)",
        "prior_samples": "as many samples of the prior, (P, d)",
        "cycle_codes": "posterior means of the decoded `prior_samples`, (P, d)",
    },
    "density": {
        "density": "the model's `Density`",
        "observations": "64 test images as the density observes them, float32 (64, C, H, W) in [−1, 1]",
    },
}
"""Inputs that `Metric.needs` may name, by evaluation stage. Samples and reconstructions arrive in batches."""


def input_stage(needs: tuple[str, ...]) -> str | None:
    """The stage that supplies all of these inputs; None if there is no such stage."""
    return next((stage for stage, inputs in INPUTS.items() if needs and set(needs) <= set(inputs)), None)


class ReferenceData(Protocol):
    """Real images and their statistics, as an evaluation passes them to `Metric.from_reference`.

    Features are float32 (N, d) on `device`: of at most `MAX_SAMPLES` test images and of all training images.
    """

    name_fields: Mapping[str, str]
    """Values of the fields in `FIELDS`."""

    @property
    def device(self) -> torch.device:
        """Device of the features."""

    @property
    def test_images(self) -> Tensor:
        """All test images, uint8 (N, C, H, W)."""

    @property
    def train_images(self) -> Tensor:
        """All training images, uint8 (N, C, H, W)."""

    @property
    def test_moments(self) -> ReferenceMoments:
        """Moments of the features of all test images."""

    @property
    def train_moments(self) -> ReferenceMoments:
        """Moments of the features of all training images."""

    @property
    def test_features(self) -> Tensor:
        """Features of the test images."""

    @property
    def train_features(self) -> Tensor:
        """Features of the training images."""

    def test_radii(self, k: int) -> Tensor:
        """Squared distance of each row of `test_features` to its k-th nearest other row, float64 (N,)."""

    def test_to_train_distances(self) -> Tensor:
        """Distance of each row of `test_features` to the nearest row of `train_features`, float64 (N,)."""

    @property
    def second(self) -> ReferenceData | None:
        """Statistics under the extractor of the second opinion; None if there is no such extractor."""

    @property
    def perceptual_network(self) -> Callable[[Tensor], Sequence[Tensor]] | None:
        """From uint8 images (B, C, H, W) to the activations of a pretrained network's stages; None if not installed."""


class Metric(TorchMetric):
    """Base class of all metrics: a `torchmetrics.Metric` that declares its scores.

    A subclass declares the class attributes below and implements ``update`` and ``compute``. ``compute`` returns a
    scalar tensor, or a dictionary of scalar tensors, one per score and in the order of ``scores``. NaN stands for an
    undefined value; infinity is an error. Registered by the hook ``zoo_metrics``, a metric appears in ``result.json``,
    in the tables of ``zoo eval`` and on the leaderboard.

    >>> import torch, zoo
    >>> class Brightness(zoo.Metric):
    ...     scores = (zoo.ScoreInfo("brightness", "mean gray level of generated images", unit="[0, 1]"),)
    ...     needs = ("samples",)
    ...
    ...     def __init__(self, **options):
    ...         super().__init__(**options)
    ...         self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
    ...         self.add_state("count", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
    ...
    ...     def update(self, samples):
    ...         self.total += samples.double().sum() / 255
    ...         self.count += samples.numel()
    ...
    ...     def compute(self):
    ...         return self.total / self.count
    >>> metric = Brightness()
    >>> metric.update(torch.full((4, 1, 8, 8), 51, dtype=torch.uint8))
    >>> metric.compute()
    tensor(0.2000, dtype=torch.float64)
    """

    full_state_update = False
    is_differentiable = False

    scores: ClassVar[tuple[ScoreInfo, ...]] = ()
    """Descriptions of the values that ``compute`` returns, in their order."""
    needs: ClassVar[tuple[str, ...]] = ()
    """Inputs passed to ``update``, in the order of its parameters: names of one stage of `INPUTS`."""
    paper: ClassVar[str] = ""
    """Paper that defines the metric."""
    metric_set: ClassVar[MetricSet] = "full"
    """``quick``: computed by every run; ``full``: by ``zoo eval``; ``on request``: by a flag of its own."""
    protocol: ClassVar[str] = ""
    """Constants that the value depends on; stored in the protocol under the metric's registered name."""
    min_samples: ClassVar[int] = 1
    """Fewest generated images that the metric is defined for."""
    max_samples: ClassVar[int | None] = None
    """If not None, ``update`` is called once, with at most this many generated images. They are chosen and ordered by
    a hash of their pixels, so that neither the order nor the size of the batches changes the value."""
    max_images: ClassVar[int | None] = None
    """If not None, the metric takes reconstructions of at most this many test images, drawn with seed 0."""
    compared_separately: ClassVar[bool] = False
    """Whether ``protocol`` is compared for this metric's scores only. Other built-in metrics enter the fingerprint of
    every result, and a change of their constants separates new results from old ones."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if all(isinstance(info, ScoreInfo) for info in cls.scores):  # else `problem` reports it
            cls.scores = tuple(attrs.evolve(info, group=input_stage(cls.needs) or "") for info in cls.scores)
        directions = {info.higher_is_better for info in cls.scores}
        cls.higher_is_better = directions.pop() if len(directions) == 1 else None

    @property
    def name_fields(self) -> Mapping[str, str]:
        """Values of the fields in the names of ``scores`` beyond those of `FIELDS`."""
        return {}

    @classmethod
    def from_reference(cls, reference: ReferenceData) -> Self | None:
        """Build the metric for one data set; None if it is not defined there.

        Override it in a metric whose constructor takes statistics of real images.
        """
        return cls()

    @classmethod
    def problem(cls) -> str | None:
        """Reason why the class cannot be registered; None if it can."""
        if missing := sorted(getattr(cls, "__abstractmethods__", ())):
            return f"{cls.__name__} does not define {', '.join(missing)}"
        if not cls.scores or not all(isinstance(info, ScoreInfo) for info in cls.scores):
            return f"{cls.__name__}.scores: {cls.scores!r} is not allowed; must be a tuple of zoo.ScoreInfo"
        if input_stage(cls.needs) is None:
            stages = "; ".join(", ".join(inputs) for inputs in INPUTS.values())
            return f"{cls.__name__}.needs: {cls.needs!r} is not allowed; must be inputs of one stage: {stages}"
        try:
            inspect.signature(cls.update).bind(None, *cls.needs)
        except TypeError as error:
            return f"{cls.__name__}.update does not take the inputs {', '.join(cls.needs)}: {error}"
        return None

    def values(self) -> dict[str, float | None]:
        """The computed values by the names in ``scores``, without filling in their fields; None if undefined.

        Raises:
            ZooError: If a value is infinite, or there are not as many values as ``scores``.
        """
        computed = self.compute()
        numbers = [float(v) for v in (computed.values() if isinstance(computed, Mapping) else [computed])]
        if len(numbers) != len(self.scores):
            raise ZooError(f"{type(self).__name__}.compute: {len(numbers)} values for {len(self.scores)} scores")
        found: dict[str, float | None] = {}
        for info, value in zip(self.scores, numbers, strict=True):
            if math.isinf(value):
                raise ZooError(f"{info.name}: the value is infinite; check the images and the extractor's features")
            found[info.name] = None if math.isnan(value) else value
        return found

    def plot(self, val: Any = None, ax: Any = None) -> Any:
        """Plot a value, or several values over time; see `torchmetrics.Metric.plot`.

        Args:
            val: Result of ``compute``, or a list of such results; ``compute()`` by default.
            ax: Axes to draw into; new ones by default.

        Returns:
            The figure and the axes.
        """
        return self._plot(val, ax)


def concatenate(state: list[Tensor] | Tensor) -> Tensor:
    """Concatenate a list state; after a synchronization it is a single tensor already."""
    if isinstance(state, Tensor):
        return state
    if not state:
        raise ZooError("metric: nothing was added; call update before compute")
    return torch.cat(state)


def scalar(value: float) -> Tensor:
    """A float64 scalar tensor."""
    return torch.tensor(value, dtype=torch.float64)
