"""Evaluation: extractors, Fréchet distance, protocol and refusals, against oracles and hand-derived values."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import attrs
import numpy as np
import pytest
import scipy.linalg
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from zoo.data import DataOptions, Dataset, Split, bundled_sources, load_dataset, to_uint8
from zoo.errors import UsageError, ZooError
from zoo.evaluation import (
    Classifier,
    ClassifierV1,
    EvaluationSettings,
    Extractor,
    Inception,
    ModelFunctions,
    PinnedClassifier,
    Protocol,
    Scores,
    default_n,
    evaluate,
    evaluate_images,
    reference_moments,
)
from zoo.evaluation.classifier import gray, prepare
from zoo.evaluation.reference import score_name
from zoo.metrics import Moments, ReconstructionError, ReferenceMoments, frechet_distance
from zoo.metrics.full_precision import full_precision

RECORD = Path(__file__).parent.parent / "benchmarks" / "records" / "classifier-v2.json"
MNIST = Path(os.environ.get("ZOO_DATA", "")) / "MNIST" / "raw"
needs_mnist = [
    pytest.mark.mnist,
    pytest.mark.skipif(
        not os.environ.get("ZOO_DATA") or not MNIST.is_dir(), reason="ZOO_DATA names no folder with MNIST/raw"
    ),
]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test reads or fills the user's caches, nor finds Inception's weights there."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv("ZOO_INCEPTION_WEIGHTS", raising=False)
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def classifier() -> PinnedClassifier:
    return PinnedClassifier()


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits", DataOptions(), {s.name: s for s in bundled_sources()})


class Projection(Extractor):
    """A fixed random projection that counts the pictures it was shown."""

    name = "projection"
    features = 6
    resize = "none"
    channels = "as is"

    def __init__(self, weights: str = "0" * 64) -> None:
        super().__init__()
        self.weights, self.seen = weights, 0

    @property
    def digest(self) -> str:
        return self.weights

    def extract(self, images: Tensor) -> Tensor:
        self.seen += len(images)
        x = images.flatten(1).double() / 255
        return (x @ torch.randn(x.shape[1], 6, generator=generator(3), dtype=torch.float64)).float()


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def features(n: int, d: int, seed: int = 0) -> Tensor:
    """Correlated float64 features whose mean is large against their spread."""
    mix = torch.randn(d, d, generator=generator(seed + 100), dtype=torch.float64) / d**0.5
    return torch.randn(n, d, generator=generator(seed), dtype=torch.float64) @ mix + 3


def moments(x: Tensor, batch: int = 10**9) -> Moments:
    found = Moments()
    for part in x.split(batch):
        found.update(part)
    return found


def pictures(n: int, channels: int = 1, side: int = 8, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (n, channels, side, side), generator=generator(seed), dtype=torch.uint8)


# Moments


@pytest.mark.parametrize("batch", [1, 7, 512])
def test_moments_do_not_depend_on_the_batches(batch: int) -> None:
    x = features(600, 24)
    order = torch.randperm(600, generator=generator())
    for found in (moments(x, batch), moments(x[order], batch)):
        torch.testing.assert_close(found.mean, x.mean(0), rtol=1e-12, atol=0)
        torch.testing.assert_close(found.cov, torch.cov(x.T), rtol=1e-9, atol=1e-12)
    other = moments(features(50, 24, seed=1))
    whole = frechet_distance(other, moments(x))
    assert frechet_distance(other, moments(x, batch)) == pytest.approx(whole, rel=1e-6)


def test_moments_merged_are_those_of_all_and_leave_the_merged_alone() -> None:
    x = features(300, 8)
    left, right = moments(x[:40]), moments(x[40:], 13)
    before = right.cov
    left.merge(right)
    left.merge(Moments())
    assert left.n == 300
    torch.testing.assert_close(left.cov, torch.cov(x.T), rtol=1e-9, atol=1e-12)
    left.update(x)
    torch.testing.assert_close(right.cov, before, rtol=0, atol=0)


def test_moments_keep_their_digits_far_from_zero() -> None:
    x = torch.randn(2000, 3, generator=generator(), dtype=torch.float64)
    torch.testing.assert_close(moments(x + 1e6, 10).cov, torch.cov(x.T), rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_moments_refuse_what_is_not_finite_and_stay_as_they_were(value: float) -> None:
    found, bad = moments(features(5, 3)), features(4, 3)
    bad[2, 1] = value
    with pytest.raises(ZooError, match="1 of 4 vectors"):
        found.update(bad)
    assert found.n == 5


def test_moments_refuse_what_has_no_covariance() -> None:
    with pytest.raises(ZooError, match="at least 2 feature vectors, not 1"):
        _ = moments(features(1, 3)).cov
    with pytest.raises(ZooError, match="no features"):
        _ = Moments().mean
    with pytest.raises(ZooError, match="4 per vector is not allowed; must be 3"):
        moments(features(5, 3)).update(features(5, 4))
    with pytest.raises(ZooError, match="must be"):
        Moments().update(torch.zeros(3))


# The Fréchet distance


@pytest.mark.parametrize("d", [2, 64, 128])
def test_frechet_is_that_of_torch_fidelity_and_torchmetrics(d: int) -> None:
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
    from torchmetrics.image.fid import _compute_fid

    x, y = features(3 * d + 20, d), features(2 * d + 50, d, seed=1)
    found = frechet_distance(ReferenceMoments.from_moments(moments(x)), moments(y))
    statistics = [fid_features_to_statistics(v) for v in (x, y)]
    oracle = fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    assert found == pytest.approx(oracle, rel=1e-6)
    a, b = moments(x), moments(y)
    assert found == pytest.approx(float(_compute_fid(a.mean, a.cov, b.mean, b.cov)), rel=1e-6)


def test_frechet_of_gaussians_known_in_closed_form() -> None:
    def gaussian(mean: list[float], cov: list[list[float]]) -> Moments:
        return Moments.from_statistics(
            100, torch.tensor(mean, dtype=torch.float64), torch.tensor(cov, dtype=torch.float64)
        )

    # One dimension: (μ₁ − μ₂)² + (σ₁ − σ₂)².
    assert frechet_distance(gaussian([1.0], [[4.0]]), gaussian([3.0], [[25.0]])) == pytest.approx(4 + 9)
    # Two, which do not commute: tr M^½ = (tr M + 2 (det M)^½)^½ with M = Σ₁Σ₂; here tr M = 4, det M = 3 · 1.
    one, two = gaussian([0.0, 0.0], [[2.0, 1.0], [1.0, 2.0]]), gaussian([0.0, 1.0], [[1.0, 0.0], [0.0, 1.0]])
    assert frechet_distance(one, two) == pytest.approx(1 + 6 - 2 * (4 + 2 * 3**0.5) ** 0.5)
    skew = gaussian([0.0, 1.0], [[5.0, 0.0], [0.0, 0.2]])  # tr M = 10.4, det M = 3
    assert frechet_distance(one, skew) == pytest.approx(1 + 9.2 - 2 * (10.4 + 2 * 3**0.5) ** 0.5)
    # A point against a Gaussian: the covariance is singular.
    assert frechet_distance(one, gaussian([3.0, 4.0], [[0.0, 0.0], [0.0, 0.0]])) == pytest.approx(25 + 4)


@pytest.mark.parametrize("d", [1, 2, 16, 128])
def test_frechet_of_gaussians_in_any_dimension(d: int) -> None:
    # Where y = Ax with A symmetric and positive, the best transport is A, and the last trace is tr AΣ: the two
    # covariances, Σ and AΣA, need not commute.
    draw = torch.randn(2, d, 2 * d, generator=generator(d), dtype=torch.float64)
    cov, a = (m @ m.T / d for m in draw)
    mean = torch.linspace(-1, 1, d, dtype=torch.float64)
    wanted = float(mean.square().sum() + cov.trace() + (a @ cov @ a).trace() - 2 * (a @ cov).trace())
    one, two = Moments.from_statistics(50, mean * 0, cov), Moments.from_statistics(9, mean, a @ cov @ a)
    assert frechet_distance(one, two) == pytest.approx(wanted, rel=1e-6)
    assert frechet_distance(two, one) == pytest.approx(wanted, rel=1e-6)
    # And of samples: the distance of large sets tends to that of what they are drawn from.
    if d == 2:
        x = torch.randn(200_000, 2, generator=generator(), dtype=torch.float64) @ torch.linalg.cholesky(cov).T
        assert frechet_distance(moments(x), moments(x @ a + mean)) == pytest.approx(wanted, rel=0.02)


@pytest.mark.parametrize(("n", "d"), [(500, 64), (20, 64), (100, 256)])
def test_frechet_of_a_set_to_itself_is_zero_also_with_fewer_vectors_than_features(n: int, d: int) -> None:
    found = moments(features(n, d))
    assert 0 <= frechet_distance(found, found) <= 1e-6 * float(found.cov.trace())


def test_frechet_with_fewer_vectors_than_features_equals_scipy() -> None:
    x, y = features(30, 64), features(40, 64, seed=1)
    a, b = moments(x), moments(y)
    # The product of singular matrices has no good root of its own; that of the symmetric form has.
    root = scipy.linalg.sqrtm(np.cov(x.numpy(), rowvar=False) + 1e-12 * np.eye(64)).real
    middle = root @ np.cov(y.numpy(), rowvar=False) @ root
    trace = np.trace(scipy.linalg.sqrtm(middle + 1e-14 * np.eye(64)).real)
    oracle = float((a.mean - b.mean).square().sum() + a.cov.trace() + b.cov.trace()) - 2 * trace
    assert frechet_distance(a, b) == pytest.approx(oracle, rel=1e-5)
    assert frechet_distance(b, a) == pytest.approx(frechet_distance(a, b), rel=1e-6)


def test_frechet_refuses_moments_that_are_not_sound() -> None:
    good = moments(features(50, 3))
    with pytest.raises(ZooError, match="4 features, but the reference has 3"):
        frechet_distance(good, moments(features(50, 4)))
    negative = Moments.from_statistics(50, good.mean, -2 * good.cov)
    with pytest.raises(ZooError, match="not valid"):
        frechet_distance(good, negative)
    huge = moments(1e160 * features(50, 3))  # finite, and their squares are not
    with pytest.raises(ZooError, match="too large to be squared"):
        frechet_distance(good, huge)


# Extractors


def test_the_shipped_weights_are_the_recorded_ones(classifier: PinnedClassifier, digits: Dataset) -> None:
    record = json.loads(RECORD.read_text())
    assert record["sha256"] == classifier.digest == PinnedClassifier.DIGEST
    assert PinnedClassifier.WEIGHTS.stat().st_size < 1_000_000
    # The classifier saw the training split only; another split would mix the two.
    assert record["dataset_digests"]["digits"] == digits.digest


def test_the_classifier_of_zoo_0_1_is_kept(digits: Dataset) -> None:
    old = ClassifierV1()
    assert json.loads((RECORD.parent / "classifier-v1.json").read_text())["sha256"] == old.digest
    assert score_name(old) == "FD-classifier-v1"
    assert (old.classify(digits.test.images).argmax(1) == digits.test.labels).double().mean() >= 0.98


@pytest.mark.parametrize("weights", ["classifier", "classifier-v1"])
def test_blur_and_a_missing_class(weights: str, digits: Dataset) -> None:
    """Visible blur costs more than a missing class, except with classifier-v1."""
    extractor = {"classifier": PinnedClassifier, "classifier-v1": ClassifierV1}[weights]()
    images = F.interpolate(digits.train.images.float(), size=(20, 20), mode="bilinear")
    images = F.pad(images, (4, 4, 4, 4)).round().to(torch.uint8)
    kernel = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
    blurred = F.conv2d(images.float(), (kernel[:, None] * kernel)[None, None], padding=2).round().to(torch.uint8)
    real, blur, missing = (moments(extractor(x)) for x in (images, blurred, images[digits.train.labels != 3]))
    ratio = frechet_distance(real, blur) / frechet_distance(real, missing)
    assert (ratio > 1) == (weights == "classifier"), ratio


def test_other_weights_are_refused(tmp_path: Path) -> None:
    data = bytearray(PinnedClassifier.WEIGHTS.read_bytes())
    data[-1] ^= 1
    (tmp_path / "w.safetensors").write_bytes(data)
    with pytest.raises(ZooError, match="SHA-256"):
        PinnedClassifier(tmp_path / "w.safetensors")
    with pytest.raises(ZooError, match="install latent-zoo again"):
        PinnedClassifier(tmp_path / "none.safetensors")


def test_the_classifier_reads_digits(classifier: PinnedClassifier, digits: Dataset) -> None:
    found = classifier.classify(digits.test.images).argmax(1)
    assert (found == digits.test.labels).double().mean() >= 0.98


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 28, 28), (1, 8, 8), (3, 64, 48), (1, 5, 9)])
def test_the_classifier_takes_any_picture(classifier: PinnedClassifier, shape: tuple[int, int, int]) -> None:
    images = torch.randint(0, 256, (3, *shape), generator=generator(), dtype=torch.uint8)
    found = classifier(images)
    assert found.shape == (3, classifier.features)
    assert found.dtype == torch.float32
    assert not found.requires_grad
    assert 0 <= prepare(images).min() <= prepare(images).max() <= 1
    assert classifier(images[:0]).shape == (0, classifier.features)


def test_grey_is_pillows(classifier: PinnedClassifier) -> None:
    images = pictures(4, 3, 16)
    for image, found in zip(images, gray(images), strict=True):
        pillow = np.asarray(Image.fromarray(image.permute(1, 2, 0).numpy()).convert("L"))
        assert np.array_equal(found[0].numpy(), pillow)
    alike = images[:, :1].expand(-1, 3, -1, -1)
    assert torch.equal(gray(alike), images[:, :1])


def test_features_do_not_depend_on_the_batch_or_the_training_precision(classifier: PinnedClassifier) -> None:
    images = pictures(600, side=28)
    whole = classifier(images)
    single = torch.cat([classifier(image[None]) for image in images[:20]])
    torch.testing.assert_close(single, whole[:20], rtol=1e-4, atol=1e-5)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", torch.bfloat16):
            torch.testing.assert_close(classifier(images), whole, rtol=0, atol=0)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


def test_full_precision_turns_tf32_off_and_back() -> None:
    cudnn = torch.backends.cudnn
    before = cudnn.conv.fp32_precision
    with full_precision():
        assert cudnn.conv.fp32_precision == "ieee"
        assert torch.backends.cuda.matmul.fp32_precision == "ieee"
    assert cudnn.conv.fp32_precision == before


@pytest.mark.parametrize("images", [torch.zeros(2, 1, 8, 8), pictures(2, 2), pictures(2)[0]])
def test_an_extractor_takes_uint8_pictures_only(classifier: PinnedClassifier, images: Tensor) -> None:
    with pytest.raises(UsageError, match=r"torch\.uint8 with shape"):
        classifier(images)


def test_an_extractor_must_keep_its_word() -> None:
    class Liar(Projection):
        features = 7

    with pytest.raises(ZooError, match=r"\(2, 6\), but \(2, 7\)"):
        Liar()(pictures(2))


@pytest.mark.parametrize(("name", "least"), [pytest.param("mnist", 0.99, marks=needs_mnist, id="mnist")])
def test_the_classifier_reads_mnist(classifier: PinnedClassifier, name: str, least: float) -> None:
    data = load_dataset(name, DataOptions(download=False), {s.name: s for s in bundled_sources()})
    assert json.loads(RECORD.read_text())["dataset_digests"][name] == data.digest
    assert (classifier.classify(data.test.images).argmax(1) == data.test.labels).double().mean() >= least


# The protocol

PROTOCOL = Protocol(
    extractor="classifier",
    extractor_digest="a" * 64,
    resize="none",
    channels="as is",
    dataset="digits",
    dataset_digest="b" * 64,
    n_real=500,
    n_generated=1297,
    libraries={"torch": "2.11.0"},
)


def test_every_entry_but_the_seed_and_the_name_keeps_rows_apart() -> None:
    for field in attrs.fields(Protocol):
        value = getattr(PROTOCOL, field.name)
        change = {"torch": "2.12.0"} if isinstance(value, dict) else value + 1 if isinstance(value, int) else "?"
        other = attrs.evolve(PROTOCOL, **{field.name: change})
        alike = field.name in ("seed", "dataset", "contributed_metrics", "separate_metrics")
        assert other.differs_from(PROTOCOL) == ([] if alike else [field.name])
        assert (other.fingerprint == PROTOCOL.fingerprint) == alike


def test_a_protocol_survives_json() -> None:
    again = Protocol.from_dict(json.loads(json.dumps(PROTOCOL.to_dict())))
    assert again == PROTOCOL
    assert again.fingerprint == PROTOCOL.fingerprint
    with pytest.raises(ZooError, match="seed is missing"):
        Protocol.from_dict({k: v for k, v in PROTOCOL.to_dict().items() if k != "seed"})
    with pytest.raises(ZooError, match="color is unknown"):
        Protocol.from_dict({**PROTOCOL.to_dict(), "color": "red"})


# Cached references


def test_a_reference_is_computed_once_for_each_key(own_cache: Path) -> None:
    extractor, images = Projection(), pictures(40)
    first = reference_moments(extractor, images, dataset_digest="d", split="test")
    assert extractor.seen == 40
    again = reference_moments(extractor, images, dataset_digest="d", split="test")
    assert extractor.seen == 40
    for a, b in zip((first.moments.cov, first.root), (again.moments.cov, again.root), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-15, atol=0)
    torch.testing.assert_close(first.root @ first.root, first.moments.cov)
    reference_moments(extractor, images, dataset_digest="d", split="train")
    reference_moments(extractor, images, dataset_digest="e", split="test")
    reference_moments(extractor, images[:30], dataset_digest="d", split="test")
    assert extractor.seen == 40 * 3 + 30
    other = Projection("1" * 64)
    reference_moments(other, images, dataset_digest="d", split="test")
    assert other.seen == 40
    assert len(list((own_cache / "reference").iterdir())) == 5


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "foreign"])
def test_a_damaged_reference_is_computed_again(own_cache: Path, damage: str) -> None:
    extractor, images = Projection(), pictures(40)
    first = reference_moments(extractor, images, dataset_digest="d", split="test")
    (path,) = (own_cache / "reference").iterdir()
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    if damage == "foreign":
        reference_moments(extractor, images, dataset_digest="e", split="test", folder=own_cache / "other")
        data = bytearray(next((own_cache / "other").iterdir()).read_bytes())
        extractor.seen -= 40
    path.write_bytes({"cut": data[:-9], "flip": data, "empty": b"", "foreign": data}[damage])
    again = reference_moments(extractor, images, dataset_digest="d", split="test")
    assert extractor.seen == 80
    torch.testing.assert_close(again.root, first.root, rtol=1e-12, atol=1e-12)
    reference_moments(extractor, images, dataset_digest="d", split="test")
    assert extractor.seen == 80


def test_a_cache_that_cannot_be_written_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.warns(UserWarning, match="not cached"):
        reference_moments(
            Projection(), pictures(9), dataset_digest="d", split="test", folder=tmp_path / "file" / "under"
        )


# Scores


def repeat(images: Tensor) -> object:
    """A generator of pictures that gives out these, in order."""
    left = iter(images)
    return lambda n: torch.stack([next(left) for _ in range(n)])


def test_scores_tell_real_pictures_from_noise_and_from_a_collapse(
    classifier: PinnedClassifier, digits: Dataset
) -> None:
    real = evaluate(repeat(digits.train.images), digits, classifier)
    n = default_n(digits)
    assert n == 1297
    floor = real.values["FD-classifier floor"]
    assert floor is not None
    assert real.values["FD-classifier (train)"] == pytest.approx(0, abs=1e-4 * floor)
    assert real.values["FD-classifier"] == pytest.approx(floor, rel=1e-6)  # n is the whole training split
    assert real.values["classes covered"] == 10
    assert real.values["class entropy"] == pytest.approx(np.log(10), abs=0.01)
    assert real.class_shares is not None
    shares = torch.bincount(digits.train.labels, minlength=10) / n
    assert real.class_shares == pytest.approx(shares.tolist(), abs=0.005)

    noise = evaluate(lambda k: torch.randint(0, 256, (k, 1, 8, 8), dtype=torch.uint8), digits, classifier)
    again = evaluate(lambda k: torch.randint(0, 256, (k, 1, 8, 8), dtype=torch.uint8), digits, classifier)
    assert noise.values == again.values  # the same seed, the same pictures
    ones = digits.train.images[digits.train.labels == 1]
    collapsed = evaluate(lambda k: ones[torch.arange(k) % len(ones)], digits, classifier)
    for scores in (noise, collapsed):
        assert scores.values["FD-classifier floor"] == floor
        assert scores.values["FD-classifier"] > 30 * floor
        assert real.protocol.fingerprint == scores.protocol.fingerprint
    assert collapsed.values["classes covered"] == 1
    assert collapsed.values["class entropy"] < 0.2
    assert noise.values["reconstruction MSE"] is None


def test_scores_are_those_of_the_pieces_and_survive_json(digits: Dataset) -> None:
    extractor = Projection()
    images = pictures(300)
    scores = evaluate_images(images.split(77), digits, extractor, EvaluationSettings(n=300, seed=3, bn_mode="batch"))
    wanted = frechet_distance(moments(extractor(digits.test.images)), moments(extractor(images)))
    assert scores.values["FD-projection"] == pytest.approx(wanted, rel=1e-6)
    assert scores.class_shares is None
    assert scores.values["classes covered"] is None  # not defined, and neither zero nor absent
    protocol = scores.protocol
    assert (protocol.n_real, protocol.n_generated, protocol.seed, protocol.bn_mode) == (500, 300, 3, "batch")
    assert protocol.dataset_digest == digits.digest
    assert protocol.libraries == {"torch": torch.__version__.split("+")[0]}
    stored = json.loads(json.dumps(scores.to_dict(), allow_nan=False))
    assert stored["fingerprint"] == protocol.fingerprint
    assert Protocol.from_dict(stored["protocol"]) == protocol


def test_there_is_no_floor_where_there_are_too_few_training_pictures(digits: Dataset) -> None:
    small = Dataset("small", Split(digits.train.images[:50]), Split(digits.test.images))
    scores = evaluate_images([pictures(60)], small, Projection(), EvaluationSettings(n=60))
    assert scores.values["FD-projection floor"] is None
    assert scores.values["FD-projection"] is not None


def test_evaluate_uses_the_cached_references_and_leaves_the_random_state(digits: Dataset) -> None:
    extractor = Projection()
    evaluate(pictures, digits, extractor, EvaluationSettings(n=100))
    seen = 100 + 500 + 1297 + 100 + 500  # generated; moments of test, train and floor; features of test
    assert extractor.seen == seen
    state = torch.get_rng_state()
    evaluate(
        lambda n: torch.randint(0, 9, (n, 1, 8, 8), dtype=torch.uint8), digits, extractor, EvaluationSettings(n=100)
    )
    assert extractor.seen == seen + 100
    assert torch.equal(torch.get_rng_state(), state)


def test_what_is_not_the_pictures_asked_for_is_refused(digits: Dataset) -> None:
    extractor = Projection()
    for generate, words in (
        (lambda n: torch.zeros(n, 1, 8, 8), "uint8"),
        (lambda n: pictures(n, 3), r"shape \(B, 1, 8, 8\)"),
        (lambda n: pictures(n - 1), "9 images are not allowed; must be 10"),
    ):
        with pytest.raises(ZooError, match=words):
            evaluate(generate, digits, extractor, EvaluationSettings(n=10))
    with pytest.raises(UsageError, match="at least 2"):
        evaluate(pictures, digits, extractor, EvaluationSettings(n=1))
    with pytest.raises(UsageError, match="batch"):
        evaluate(pictures, digits, extractor, EvaluationSettings(batch=0))


def test_reconstruction_mse_is_in_units_of_one(digits: Dataset) -> None:
    images = digits.test.images
    black = torch.zeros(10, 3, 4, 4, dtype=torch.uint8)
    for shift, batch, wanted in ((0, 10, 0), (255, 3, 1), (51, 7, 0.04)):
        metric = ReconstructionError()
        for part in black.split(batch):
            metric.update(part, part + shift)
        assert float(metric.compute()) == pytest.approx(wanted)

    def reconstructed(reconstruct: Callable[[Tensor], Tensor]) -> Scores:
        functions = ModelFunctions(lambda x, y: reconstruct(x))
        return evaluate(pictures, digits, Projection(), EvaluationSettings(n=20), functions)

    scores = reconstructed(lambda x: 255 - x)
    wanted = ((255 - 2 * images.double()) / 255).square().mean()
    assert scores.values["reconstruction MSE"] == pytest.approx(float(wanted))
    with pytest.raises(ZooError, match="reconstructed"):
        reconstructed(lambda x: x[:-1])


def test_generated_pictures_are_rounded_not_cut_and_do_not_wrap() -> None:
    unit = torch.tensor([1.02, 0.9999, 0.5, 0.0, -0.3], dtype=torch.float32)
    assert to_uint8(unit * 2 - 1).tolist() == [
        255,
        255,
        128,
        0,
        0,
    ]  # torchmetrics' normalize: 4, 254, 127, ...


# The room


def _imported(code: str, *modules: str) -> str:
    """Which of ``modules`` a fresh interpreter has imported after ``code``."""
    code = f"import sys\n{code}\nprint([m for m in {modules!r} if m in sys.modules])"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.slow
def test_the_room_is_imported_without_the_oracles() -> None:
    whole = "import zoo.evaluation\nfor name in zoo.evaluation.__all__: getattr(zoo.evaluation, name)"
    assert _imported(whole, "torch", "torchvision", "torch_fidelity", "scipy", "timm", "torch._dynamo") == "['torch']"


def test_protocols_and_stored_descriptions_are_read_without_torch() -> None:
    code = """
from zoo.evaluation import Protocol
from zoo.metrics.score_info import ScoreInfo
from zoo.metrics.score_lookup import stored_infos
assert stored_infos(["x"], {"x": ScoreInfo("x", "text", True).to_dict()})["x"].better == "higher"
"""
    assert _imported(code, "torch", "torchmetrics", "numpy", "scipy") == "[]"


def test_the_classifier_is_one() -> None:
    assert issubclass(PinnedClassifier, Classifier)
    assert not issubclass(Inception, Classifier)
    assert Inception().labels == ()
