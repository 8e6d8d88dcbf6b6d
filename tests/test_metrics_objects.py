"""Metrics as torchmetrics objects: declarations, accumulation, synchronization, plots, and use outside zoo."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchmetrics
from torch import Tensor

import zoo
from zoo.data import DataOptions, Dataset, bundled_sources, load_dataset
from zoo.distributions import GaussianLikelihood, GaussianPosterior
from zoo.errors import ZooError
from zoo.evaluation import EvaluationSettings, NamedMetric, PinnedClassifier, evaluate_images
from zoo.metrics import (
    BUILT_IN_METRICS,
    INPUTS,
    MMD,
    PRDC,
    PSNR,
    SSIM,
    ActiveUnits,
    AnnealedLogLikelihood,
    ClassCoverage,
    ClassifierScore,
    CycleError,
    Density,
    FrechetDistance,
    FrechetStandardError,
    KernelDistance,
    LabelAccuracy,
    LinearProbe,
    LogLikelihood,
    Memorization,
    Moments,
    NearestNeighborProbe,
    ParzenLikelihood,
    PerceptualDistance,
    ReconstructionError,
    ScoreInfo,
    find_score,
)
from zoo.registry import Plugin, Registry


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def pixels(n: int, seed: int = 0, side: int = 4) -> Tensor:
    return torch.randint(0, 256, (n, 1, side, side), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def stages(images: Tensor) -> list[Tensor]:
    return [images.float().unfold(3, 4, 4).movedim(-1, 1).flatten(2, 3) + 1]


REAL, LABELS = normal(60, 4), torch.arange(60) % 3
MOMENTS = Moments()
MOMENTS.update(REAL)
DENSITY = Density(
    posterior=lambda x: GaussianPosterior(x.flatten(1)[:, :2], torch.zeros(len(x), 2)),
    likelihood=lambda z: GaussianLikelihood(z.repeat(1, 8).view(-1, 1, 4, 4), torch.tensor(0.0)),
    observation="Gaussian",
)

# Constructor, and the inputs of two updates.
Case = tuple[Callable[..., zoo.Metric], tuple[Any, ...], tuple[Any, ...]]
CASES: dict[str, Case] = {
    "frechet": (lambda **o: FrechetDistance(MOMENTS, **o), (normal(40, 4, seed=1),), (normal(30, 4, seed=2),)),
    "frechet-error": (
        lambda **o: FrechetStandardError(REAL, **o),
        (normal(40, 4, seed=1),),
        (normal(30, 4, seed=2),),
    ),
    "kid": (lambda **o: KernelDistance(REAL, subsets=3, **o), (normal(40, 4, seed=1),), (normal(30, 4, seed=2),)),
    "prdc": (lambda **o: PRDC(REAL, **o), (normal(40, 4, seed=1),), (normal(30, 4, seed=2),)),
    "memorization": (
        lambda **o: Memorization(REAL, normal(20, seed=3).abs(), **o),
        (normal(40, 4, seed=1),),
        (normal(30, 4, seed=2),),
    ),
    "reconstruction": (ReconstructionError, (pixels(5), pixels(5, 1)), (pixels(7, 2), pixels(7, 3))),
    "psnr": (PSNR, (pixels(5), pixels(5, 1)), (pixels(7, 2), pixels(7, 3))),
    "ssim": (SSIM, (pixels(5, side=8), pixels(5, 1, 8)), (pixels(7, 2, 8), pixels(7, 3, 8))),
    "perceptual": (
        lambda **o: PerceptualDistance(stages, **o),
        (pixels(5, side=8), pixels(5, 1, 8)),
        (pixels(7, 2, 8), pixels(7, 3, 8)),
    ),
    "label-accuracy": (LabelAccuracy, (normal(60, 3), LABELS), (normal(60, 3, seed=1), LABELS)),
    "classes": (ClassCoverage, (normal(40, 3),), (normal(30, 3, seed=1),)),
    "classifier-score": (ClassifierScore, (normal(40, 3),), (normal(30, 3, seed=1),)),
    "parzen": (lambda **o: ParzenLikelihood(pixels(9, 4), pixels(8, 5), **o), (pixels(20),), (pixels(10, 1),)),
    "probe": (LinearProbe, (REAL, LABELS, REAL[:9], LABELS[:9]), (-REAL, LABELS, REAL[9:], LABELS[9:])),
    "knn": (NearestNeighborProbe, (REAL, LABELS, REAL[:9], LABELS[:9]), (-REAL, LABELS, REAL[9:], LABELS[9:])),
    "mmd": (MMD, (normal(30, 2), normal(30, 2, seed=1)), (normal(20, 2, seed=2), normal(20, 2, seed=3))),
    "active-units": (ActiveUnits, (normal(30, 4),), (normal(20, 4, seed=1),)),
    "cycle": (CycleError, (REAL, REAL + 0.1), (-REAL, -REAL)),
    "likelihood": (
        lambda **o: LogLikelihood(samples=5, **o),
        (DENSITY, normal(3, 1, 4, 4)),
        (DENSITY, normal(4, 1, 4, 4, seed=1)),
    ),
    "ais": (
        lambda **o: AnnealedLogLikelihood(steps=3, chains=2, leapfrog=2, **o),
        (DENSITY, normal(3, 1, 4, 4)),
        (DENSITY, normal(4, 1, 4, 4, seed=1)),
    ),
}


def updated(make: Callable[..., zoo.Metric], *updates: tuple[Any, ...], seed: int = 0, **options: Any) -> zoo.Metric:
    torch.manual_seed(seed)
    metric = make(**options)
    for inputs in updates:
        metric.update(*inputs)
    return metric


def same(found: zoo.Metric, wanted: zoo.Metric) -> bool:
    return found.values() == pytest.approx(wanted.values(), rel=1e-12, nan_ok=True)


def test_every_built_in_metric_is_tested_here() -> None:
    # Subclasses of FrechetDistance.
    variants = {"frechet-train", "floor", "frechet-reconstruction", "frechet-second", "floor-second"}
    assert set(CASES) | variants == set(BUILT_IN_METRICS)


@pytest.mark.parametrize("name", list(BUILT_IN_METRICS))
def test_every_metric_declares_itself(name: str) -> None:
    metric = BUILT_IN_METRICS[name]
    assert issubclass(metric, torchmetrics.Metric)
    assert metric.problem() is None
    assert metric.full_state_update is False
    assert (metric.__doc__ or "").strip()
    for info in metric.scores:
        assert info.description
        fields = {"FD": "FD-x", "KID": "KID", "second_FD": "FD-y", "observation": "Gaussian"}
        name = info.format({**fields, **AIS})
        assert find_score(name) is info, name  # and no other score has that name
    if len(metric.scores) == 1:
        assert metric.higher_is_better == metric.scores[0].higher_is_better


AIS = {"steps": "1000", "chains": "16", "images": "64"}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_states_merge_across_copies_and_processes(case: Case) -> None:
    make, first, second = case
    whole, one, two = updated(make, first, second), updated(make, first), updated(make, second)
    if "log_p" in whole.metric_state:  # the random numbers of an update depend on those drawn before it
        two.log_p = [whole.log_p[1]]
    others = iter([torch.cat(list(s)) if isinstance(s, list) else s for s in two.metric_state.values()])

    def gather(state: Tensor, group: object = None) -> list[Tensor]:
        return [state, next(others)]

    synced = updated(make, first, dist_sync_fn=gather, distributed_available_fn=lambda: True)
    assert same(synced, whole)
    assert next(others, None) is None
    assert same(copy.deepcopy(one), one)
    two.merge_state(one)
    assert same(two, whole)
    two.reset()
    assert not two.update_called
    assert not any(len(state) for state in two.metric_state.values() if isinstance(state, list))


@pytest.mark.parametrize("name", ["frechet", "classes", "reconstruction", "classifier-score"])
def test_forward_returns_the_value_of_the_batch_and_accumulates(name: str) -> None:
    make, first, second = CASES[name]
    metric = make()
    metric(*first)
    torch.testing.assert_close(metric(*second), updated(make, second).compute(), rtol=0, atol=0)
    assert same(metric, updated(make, first, second))


@pytest.mark.parametrize("name", ["frechet", "prdc"])
def test_metrics_plot_themselves(name: str) -> None:
    import matplotlib as mpl

    mpl.use("agg")
    make, first, second = CASES[name]
    figure, axes = updated(make, first, second).plot()
    assert figure is not None
    assert axes is not None


def test_metrics_work_in_a_collection() -> None:
    collection = torchmetrics.MetricCollection({"fd": FrechetDistance(MOMENTS), "kid": KernelDistance(REAL, subsets=2)})
    collection.update(normal(40, 4, seed=1))
    assert set(collection.compute()) == {"fd", "KID", "std"}


@pytest.mark.slow
def test_torchmetrics_is_executed_only_when_something_else_of_it_is_used() -> None:
    code = """
import sys, zoo
assert issubclass(zoo.Metric, object) and "torchvision" not in sys.modules and "torch._dynamo" not in sys.modules
import torchmetrics
assert "torchvision" not in sys.modules
from torchmetrics import MeanMetric, Metric
from torchmetrics.image.fid import FrechetInceptionDistance
assert issubclass(zoo.Metric, Metric) and issubclass(MeanMetric, torchmetrics.metric.Metric)
assert issubclass(FrechetInceptionDistance, Metric)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


# Contributed metrics


class Brightness(zoo.Metric):
    """Mean gray level of generated images."""

    scores = (ScoreInfo("brightness", "mean gray level of generated images"),)
    needs = ("samples",)
    metric_set = "quick"

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, samples: Tensor) -> None:
        self.total += samples.double().sum() / 255
        self.count += samples.numel()

    def compute(self) -> Tensor:
        return self.total / self.count


class Broken(Brightness):
    scores = (ScoreInfo("broken", "an error"),)

    def compute(self) -> Tensor:
        raise KeyError("weights")


class Undefined(Brightness):
    scores = (ScoreInfo("undefined", "never defined"),)

    def compute(self) -> Tensor:
        return torch.tensor(torch.nan)


class Infinite(Brightness):
    scores = (ScoreInfo("infinite", "beyond all numbers"),)

    def compute(self) -> Tensor:
        return torch.tensor(torch.inf)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits", DataOptions(), {s.name: s for s in bundled_sources()})


@pytest.fixture(autouse=True)
def _own_cache(own_cache: None) -> None:
    """No test reads or fills the user's cache."""


def score(digits: Dataset, *metrics: type[zoo.Metric], n: int = 50) -> Any:
    entries = tuple(NamedMetric(m.scores[0].name, m, "someones 1.0") for m in metrics)
    settings = EvaluationSettings(n=n, metrics=(*EvaluationSettings().metrics, *entries))
    return evaluate_images(digits.test.images[:n].split(20), digits, PinnedClassifier(), settings)


def test_a_contributed_metric_leaves_the_fingerprint_and_the_other_scores_alone(digits: Dataset) -> None:
    plain, more = score(digits), score(digits, Brightness, Undefined)
    wanted = float(digits.test.images[:50].double().mean() / 255)
    assert more.values == {**plain.values, "brightness": pytest.approx(wanted), "undefined": None}
    assert more.protocol.fingerprint == plain.protocol.fingerprint
    assert more.protocol.contributed_metrics == {"brightness": "(someones 1.0)", "undefined": "(someones 1.0)"}
    assert more.protocol.explain(plain.protocol) == []
    other = zoo.evaluation.Protocol.from_dict(
        {**more.protocol.to_dict(), "contributed_metrics": {"brightness": "(someones 2.0)"}}
    )
    assert more.protocol.explain(other) == ["metric brightness: (someones 1.0) against (someones 2.0)"]
    assert "contributed_metrics" not in plain.protocol.to_dict()
    assert more.protocol.describe().count("someones 1.0") == 2


def test_an_error_of_a_contributed_metric_names_its_package(digits: Dataset) -> None:
    with pytest.raises(ZooError, match=r"metric 'broken' \(someones 1.0\): KeyError: 'weights'"):
        score(digits, Broken)
    with pytest.raises(ZooError, match="the value is infinite"):
        score(digits, Infinite)


class _Module:
    def __init__(self, metrics: dict[str, Any]) -> None:
        self.metrics = metrics

    @zoo.hookimpl
    def zoo_metrics(self) -> dict[str, Any]:
        return self.metrics


class Unfed(Brightness):
    needs = ("samples", "codes")


class Misfit(Brightness):
    needs = ("samples", "features")


class Precision(Brightness):
    scores = (ScoreInfo("precision", "of somebody else"),)


class Nameless(Brightness):
    scores = ()


@pytest.mark.parametrize(
    ("name", "metric", "reason"),
    [
        ("brightness", Brightness, None),
        ("brightness", torchmetrics.MeanMetric, "not a subclass of zoo.Metric"),
        ("light", Brightness, "score 'brightness': must be 'light', or begin with it and a space"),
        ("kid", Brightness, "the name is taken by plugin 'core' (latent-zoo)"),
        ("precision", Precision, "score 'precision': the name is taken"),
        ("brightness", Nameless, "scores: () is not allowed"),
        ("brightness", Unfed, "must be inputs of one stage"),
        ("brightness", Misfit, "update does not take the inputs samples, features"),
        ("brightness", zoo.Metric, "does not define compute, update"),
    ],
)
def test_the_registry_checks_contributed_metrics(name: str, metric: Any, reason: str | None) -> None:
    registry = Registry(entry_points=[])
    registry.add(_Module({name: metric}), Plugin("someones", "someones-package", "1.0"))
    assert not registry.failures  # collected on first use
    found = registry.metrics
    assert list(found)[: len(BUILT_IN_METRICS)] == list(BUILT_IN_METRICS)
    if reason is None:
        assert found[name].value is metric
        assert not registry.failures
    else:
        (failure,) = registry.failures
        assert reason in failure.reason


def test_inputs_have_one_stage_each() -> None:
    names = [name for stage in INPUTS.values() for name in stage]
    assert len(names) == len(set(names))
