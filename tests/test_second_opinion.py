"""The second opinion: its extractor, its scores, and that it leaves the fingerprint alone."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import attrs
import pytest
import torch

from zoo.data import DataOptions, Dataset, Split, bundled_sources, load_dataset
from zoo.errors import ZooError
from zoo.evaluation import (
    AutoencoderFeatures,
    EfficientNet,
    EvaluationSettings,
    PinnedClassifier,
    Protocol,
    RandomFeatures,
    evaluate_images,
    feature_moments,
)
from zoo.metrics import frechet_distance
from zoo.run.scoring import Scorer, choose_second

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _own_cache(own_cache: None) -> None:
    """No test reads or fills the user's cache."""


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits", DataOptions(), {s.name: s for s in bundled_sources()})


def test_the_weights_are_the_recorded_ones_and_others_are_refused(tmp_path: Path) -> None:
    data = AutoencoderFeatures.WEIGHTS.read_bytes()
    record = json.loads((ROOT / "benchmarks/records/autoencoder.json").read_text())
    assert hashlib.sha256(data).hexdigest() == record["sha256"] == AutoencoderFeatures().digest
    changed = tmp_path / "changed.safetensors"
    changed.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(ZooError, match="SHA-256 is"):
        AutoencoderFeatures(changed)


def test_the_features_respond_to_damage_in_proportion(digits: Dataset) -> None:
    extractor = AutoencoderFeatures()
    real = feature_moments(extractor, digits.test.images)
    train = digits.train.images
    g = torch.Generator().manual_seed(0)
    found = []
    for sigma in (0, 15, 30, 60):
        noisy = (train.float() + sigma * torch.randn(train.shape, generator=g)).round().clamp(0, 255).to(torch.uint8)
        found.append(frechet_distance(real, feature_moments(extractor, noisy)))
    assert found == sorted(found)
    assert found[3] > 5 * found[0]
    half = frechet_distance(real, feature_moments(extractor, train[digits.train.labels < 5]))
    assert half > 10 * found[0]


def test_results_hold_the_second_distance_and_its_floor(digits: Dataset) -> None:
    images, second = digits.train.images[:400], AutoencoderFeatures()
    settings = EvaluationSettings(n=400)
    alone = evaluate_images([images], digits, PinnedClassifier(), settings)
    both = evaluate_images([images[:150], images[150:]], digits, PinnedClassifier(), settings, second=second)
    real = feature_moments(second, digits.test.images)
    expected = frechet_distance(real, feature_moments(second, images))
    assert both.values["FD-autoencoder (second opinion)"] == pytest.approx(expected, rel=1e-5)
    drawn = torch.randperm(len(digits.train.images), generator=torch.Generator().manual_seed(0))[:400]
    floor = frechet_distance(real, feature_moments(second, digits.train.images[drawn]))
    assert both.values["FD-autoencoder (second opinion) floor"] == pytest.approx(floor, rel=1e-5)
    assert both.values["FD-classifier"] == pytest.approx(alone.values["FD-classifier"], rel=1e-6)
    assert not any("autoencoder" in name for name in alone.values)  # no key for what was not asked for
    # A second opinion does not separate results; the weights behind it are recorded and compared.
    assert both.protocol.fingerprint == alone.protocol.fingerprint
    assert second.digest[:16] in both.protocol.separate_metrics["FD-autoencoder (second opinion)"]
    assert both.protocol.differs_from(alone.protocol) == []


def test_other_constants_of_a_separate_metric_are_a_difference_that_is_named() -> None:
    here = Protocol("classifier", "0" * 64, "r", "c", "digits", "1" * 64, 10, 10, separate_metrics={"SSIM": "11x11"})
    there = attrs.evolve(here, separate_metrics={"SSIM": "7x7", "PSNR": "mean"})
    assert here.fingerprint == there.fingerprint
    assert here.explain(there) == ["metric SSIM: 11x11 against 7x7"]
    assert "separate metrics, SSIM" in here.describe()
    assert Protocol.from_dict(there.to_dict()) == there
    old = {k: v for k, v in here.to_dict().items() if k != "separate_metrics"}  # as zoo wrote it before
    assert Protocol.from_dict(old).separate_metrics == {}


def test_the_second_extractor_is_never_the_first_and_never_a_digit_network_on_color() -> None:
    second = choose_second(PinnedClassifier(), 1)
    assert second is not None
    assert second.name == "autoencoder"
    other = choose_second(AutoencoderFeatures(), 1)
    assert other is not None
    assert other.name == "classifier"
    color = choose_second(EfficientNet(), 3)
    assert color is not None
    assert color.name == "random-features"
    again = choose_second(RandomFeatures(), 3)
    assert again is not None
    assert again.name == "efficientnet"


@pytest.mark.slow
def test_random_features_respond_to_damage_of_color_images_in_order() -> None:
    extractor, g = RandomFeatures(), torch.Generator().manual_seed(0)

    def smooth(n: int) -> torch.Tensor:
        coarse = torch.rand(n, 3, 5, 5, generator=g)
        detail = 40 * torch.randn(n, 3, 16, 16, generator=g)
        sides = (torch.nn.functional.interpolate(x, size=32, mode="bilinear") for x in (255 * coarse, detail))
        return sum(sides).round().clamp(0, 255).to(torch.uint8)  # type: ignore[union-attr]

    real, made = feature_moments(extractor, smooth(300)), smooth(300)
    noise, board = torch.randn(made.shape, generator=g), torch.ones(32, 32)
    board[::2, ::2], board[1::2, 1::2] = -1, -1
    damages = {
        "noise": [made + s * noise for s in (0, 15, 40)],
        "checkerboard": [made + s * board for s in (0, 12, 30)],
        "color cast": [made + torch.tensor([s, 0.0, -s]).view(1, 3, 1, 1) for s in (0, 20, 50)],
        "blur": [made, *(torch.nn.functional.avg_pool2d(made.float(), k, 1, k // 2) for k in (3, 7))],
    }
    for name, images in damages.items():
        found = [
            frechet_distance(real, feature_moments(extractor, x.round().clamp(0, 255).to(torch.uint8))) for x in images
        ]
        assert found == sorted(found), name
        assert found[2] > 2 * found[0], name


def test_random_features_are_pinned_and_do_not_depend_on_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    extractor = RandomFeatures()
    x = torch.randint(0, 256, (130, 3, 32, 32), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    found = extractor(x)
    assert found.shape == (130, extractor.features)
    torch.testing.assert_close(extractor(x[90:]), found[90:], rtol=1e-4, atol=1e-5)
    gray = x[:2, :1]
    torch.testing.assert_close(extractor(gray), extractor(gray.expand(-1, 3, -1, -1)))
    monkeypatch.setattr(RandomFeatures, "DIGEST", "0" * 64)
    with pytest.raises(ZooError, match="SHA-256"):
        RandomFeatures()


def test_images_from_anywhere_get_a_second_opinion_too(digits: Dataset) -> None:
    small = Dataset("toy", Split(digits.train.images[:300]), Split(digits.test.images[:200]))
    scores = Scorer("auto", small, print).evaluate_images(digits.train.images[300:500], torch.device("cpu"))
    assert scores.values["FD-autoencoder (second opinion)"] is not None
