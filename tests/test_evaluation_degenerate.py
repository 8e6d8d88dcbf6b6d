"""Scores of degenerate inputs: the correct value or a one-line error, never NaN."""

from __future__ import annotations

import json
import math

import attrs
import pytest
import torch
from torch import Tensor

from zoo.data import DataOptions, Dataset, Split, bundled_sources, load_dataset
from zoo.distributions import GaussianLikelihood, GaussianPosterior
from zoo.errors import ZooError
from zoo.evaluation import (
    Codes,
    EvaluationSettings,
    Extractor,
    ModelFunctions,
    PinnedClassifier,
    Scores,
    evaluate_images,
)
from zoo.metrics import Density


@pytest.fixture(autouse=True)
def _own_cache(own_cache: None) -> None:
    """No test reads or fills the user's cache."""


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits", DataOptions(), {s.name: s for s in bundled_sources()})


class Fixed(Extractor):
    """As many features as it is told, all of them what ``of`` says."""

    resize, channels = "none", "as is"

    def __init__(self, name: str, features: int = 100) -> None:
        super().__init__()
        self.name, self.features = name, features

    @property
    def digest(self) -> str:
        return "3" * 64

    def extract(self, images: Tensor) -> Tensor:
        x = images.flatten(1).float() / 255
        found = x @ torch.randn(x.shape[1], self.features, generator=torch.Generator().manual_seed(0))
        if self.name == "constant":
            return torch.ones_like(found)
        if self.name == "nan":
            return found * torch.nan
        if self.name == "infinite":
            return found * torch.inf
        if self.name == "huge":
            return 1e38 * torch.ones_like(found) * torch.linspace(0.1, 1, self.features) * (1 + found.tanh())
        return found


def spoil_codes(how: str) -> Codes:
    def encode(x: Tensor, _: Tensor | None = None) -> Tensor:
        z = x.flatten(1)[:, 20:24].float() / 100
        return {"constant": z * 0 + 1, "nan": z * torch.nan, "none": z}[how]

    return Codes(
        encode=encode,
        decode=lambda z, y: torch.zeros(len(z), 1, 8, 8, dtype=torch.uint8),
        prior=lambda n: torch.randn(n, 4),
    )


def all_scores(images: Tensor, data: Dataset, extractor: Extractor, metrics: str = "full", **more: object) -> Scores:
    settings = EvaluationSettings(n=len(images), metric_set=metrics)
    return evaluate_images([images], data, extractor, settings, ModelFunctions(**more))


def sound(scores: Scores) -> dict[str, float | None]:
    """The values, found to be numbers or n/a, and to fit into JSON."""
    json.dumps(scores.to_dict(), allow_nan=False)
    assert all(value is None or math.isfinite(value) for value in scores.values.values())
    return scores.values


def small(data: Dataset, train: int, test: int) -> Dataset:
    def first(split: Split, n: int) -> Split:
        assert split.labels is not None
        return Split(split.images[:n], split.labels[:n])

    return Dataset(f"small-{train}-{test}", first(data.train, train), first(data.test, test), data.classes)


def test_fewer_images_than_features(digits: Dataset) -> None:
    values = sound(all_scores(digits.train.images[:30], small(digits, 60, 40), Fixed("wide")))
    assert values["FD-wide"] > 0
    data = small(digits, 40, 40)
    same = attrs.evolve(data, test=data.train)
    values = sound(all_scores(data.train.images, same, Fixed("wide"), reconstruct=lambda x, y: x))
    scale = 100 * 64  # of the total variance
    for name in ("FD-wide", "FD-wide (train)", "FD-wide floor", "reconstruction FD-wide"):
        assert 0 <= values[name] < 1e-6 * scale, name
    assert (values["precision"], values["recall"], values["coverage"]) == (1, 1, 1)
    assert values["reconstruction MSE"] == 0


@pytest.mark.slow
def test_one_image_again_and_again(digits: Dataset) -> None:
    images = digits.test.images[:1].expand(50, 1, 8, 8)
    extractor = PinnedClassifier()
    values = sound(all_scores(images, digits, extractor, codes=spoil_codes("none")))
    real = extractor(digits.test.images).double()
    point = extractor(images[:1]).double()[0]
    # A point against a Gaussian: the squared distance of the means, and the whole of the variance.
    wanted = float((real.mean(0) - point).square().sum() + torch.cov(real.T).trace())
    assert values["FD-classifier"] == pytest.approx(wanted, rel=1e-5)
    assert (values["recall"], values["classes covered"], values["class entropy"]) == (0, 1, 0)
    assert values["classifier score (legacy)"] == pytest.approx(1)
    assert values["KID-classifier"] > 1


def test_all_real_images_are_the_same(digits: Dataset) -> None:
    one = Split(digits.train.images[:1].repeat(50, 1, 1, 1))
    same = Dataset("same", one, one)
    values = sound(all_scores(digits.train.images[:50], same, PinnedClassifier(), "quick"))
    assert values["FD-classifier"] > 0
    assert values["FD-classifier floor"] == pytest.approx(0, abs=1e-6)
    with pytest.raises(ZooError, match="precision and recall are not defined"):
        all_scores(digits.train.images[:50], same, PinnedClassifier())


def test_two_images_turn_by_turn(digits: Dataset) -> None:
    images = digits.test.images[:2].repeat(25, 1, 1, 1)
    values = sound(all_scores(images, digits, PinnedClassifier()))
    assert values["recall"] == 0
    assert values["precision"] == 1
    assert values["classes covered"] == 2


def test_features_that_are_constant(digits: Dataset) -> None:
    values = sound(all_scores(digits.train.images[:50], digits, Fixed("constant"), "quick"))
    assert (values["FD-constant"], values["FD-constant floor"]) == (0, 0)
    with pytest.raises(ZooError, match="at distance 0; precision and recall are not defined"):
        all_scores(digits.train.images[:50], digits, Fixed("constant"))


@pytest.mark.parametrize("metrics", ["quick", "full"])
@pytest.mark.parametrize("name", ["nan", "infinite"])
def test_features_that_are_not_finite(digits: Dataset, name: str, metrics: str) -> None:
    with pytest.raises(ZooError, match="contain NaN or infinity; check the extractor") as caught:
        all_scores(digits.train.images[:50], digits, Fixed(name), metrics)
    assert "\n" not in str(caught.value)


def test_features_near_the_end_of_float32(digits: Dataset) -> None:
    values = sound(all_scores(digits.train.images[:50], digits, Fixed("huge"), "quick"))
    assert values["FD-huge"] > 1e60
    with pytest.raises(ZooError, match="too large to be cubed"):
        all_scores(digits.train.images[:50], digits, Fixed("huge"))


@pytest.mark.parametrize(("n", "metrics"), [(0, "quick"), (1, "quick"), (5, "full")])
def test_too_few_generated_images(digits: Dataset, n: int, metrics: str) -> None:
    with pytest.raises(ZooError, match=f"n: {n} is not allowed; must be at least"):
        all_scores(digits.test.images[:n], digits, PinnedClassifier(), metrics)


@pytest.mark.parametrize("metrics", ["quick", "full"])
def test_too_few_real_images(digits: Dataset, metrics: str) -> None:
    images = digits.train.images[:20]
    for data in (small(digits, 30, 1), small(digits, 1, 30)):
        with pytest.raises(ZooError, match="at least 2 feature vectors, not 1"):
            all_scores(images, data, PinnedClassifier(), metrics)
    sound(all_scores(images, small(digits, 2, 6), PinnedClassifier(), metrics))
    few = small(digits, 30, 5)
    if metrics == "quick":
        sound(all_scores(images, few, PinnedClassifier(), metrics))
    else:
        with pytest.raises(ZooError, match="5 vectors are too few; must be at least 6"):
            all_scores(images, few, PinnedClassifier(), metrics)


@pytest.mark.slow
def test_codes_that_say_nothing(digits: Dataset) -> None:
    values = sound(all_scores(digits.train.images[:50], digits, PinnedClassifier(), codes=spoil_codes("constant")))
    assert values["active units"] == 0
    assert values["linear probe accuracy"] < 0.2
    assert values["cycle error"] >= 1
    with pytest.raises(ZooError, match="codes: 1297 of 1297 vectors contain NaN or infinity; check the model"):
        all_scores(digits.train.images[:50], digits, PinnedClassifier(), codes=spoil_codes("nan"))


@pytest.mark.slow
def test_a_density_that_is_none(digits: Dataset) -> None:
    def density(log_std: float) -> Density:
        return Density(
            posterior=lambda x: GaussianPosterior(torch.zeros(len(x), 3), torch.zeros(len(x), 3)),
            likelihood=lambda z: GaussianLikelihood(torch.zeros(len(z), 1, 8, 8), torch.tensor(log_std)),
            observation="Gaussian",
        )

    images = digits.train.images[:50]
    values = sound(all_scores(images, small(digits, 30, 20), PinnedClassifier(), density=density(0.0)))
    wanted = -0.5 * ((small(digits, 30, 20).test.images.double() / 127.5 - 1).square() + math.log(2 * math.pi))
    # A decoder that ignores z has one density for all codes.
    assert values["log-likelihood (Gaussian)"] == pytest.approx(float(wanted.flatten(1).sum(1).mean()), rel=1e-5)
    with pytest.raises(ZooError, match=r"not finite for .* check the model's variances"):
        all_scores(images, small(digits, 30, 20), PinnedClassifier(), density=density(-500.0))
