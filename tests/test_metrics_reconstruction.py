"""PSNR, SSIM and perceptual distance of reconstructions, against torchmetrics, scipy and values by hand."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from zoo.data import Dataset, Split
from zoo.errors import UsageError
from zoo.evaluation import EvaluationSettings, ModelFunctions, PinnedClassifier, Scores, evaluate_images
from zoo.evaluation.efficientnet import PerceptualNetwork
from zoo.metrics import (
    PSNR,
    SSIM,
    PerceptualDistance,
    peak_signal_noise_ratio,
    perceptual_distance,
    structural_similarity,
)
from zoo.run.scoring import scores_to_dict

SCORES = ("PSNR", "SSIM", "perceptual distance (efficientnet)", "reconstruction FD-classifier")


def images(n: int, side: int = 28, channels: int = 1, seed: int = 0) -> Tensor:
    """Smooth random images, so that SSIM is not just noise."""
    g = torch.Generator().manual_seed(seed)
    coarse = torch.rand(n, channels, 5, 5, generator=g)
    return (torch.nn.functional.interpolate(coarse, size=side, mode="bilinear") * 255).round().to(torch.uint8)


def noisy(x: Tensor, sigma: float) -> Tensor:
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(1)) * sigma
    return (x.float() + noise).round().clamp(0, 255).to(torch.uint8)


@pytest.fixture(scope="module")
def network() -> PerceptualNetwork:
    return PerceptualNetwork()


@pytest.mark.parametrize(("side", "channels"), [(8, 1), (28, 1), (32, 3)])
def test_psnr_and_ssim_equal_those_of_torchmetrics(side: int, channels: int) -> None:
    from torchmetrics.functional.image import peak_signal_noise_ratio as psnr
    from torchmetrics.functional.image import structural_similarity_index_measure as ssim

    x = images(6, side, channels)
    y = noisy(x, 20)
    expected = psnr(y.double(), x.double(), data_range=255.0, reduction="none", dim=(1, 2, 3))
    torch.testing.assert_close(peak_signal_noise_ratio(x, y), expected)
    # The mean of the full image: that of torchmetrics before 1.9 leaves out the border.
    _, full = ssim(y.double(), x.double(), data_range=255.0, reduction="none", return_full_image=True)
    found = structural_similarity(x, y)
    torch.testing.assert_close(found.double(), full.flatten(1).mean(1), rtol=0, atol=1e-5)
    assert ((found > 0) & (found < 1)).all()


def test_ssim_equals_wangs_formula_under_scipys_filter() -> None:
    x, y = images(1, 20), noisy(images(1, 20), 30)

    def smooth(a: Any) -> Any:
        return gaussian_filter(a, 1.5, mode="mirror", truncate=3.5)

    a, b = (part[0, 0].numpy().astype(np.float64) for part in (x, y))
    ma, mb = smooth(a), smooth(b)
    va, vb, cov = smooth(a * a) - ma**2, smooth(b * b) - mb**2, smooth(a * b) - ma * mb
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    expected = ((2 * ma * mb + c1) * (2 * cov + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2))).mean()
    assert structural_similarity(x, y).item() == pytest.approx(expected, abs=1e-5)


def test_values_of_constant_images_by_hand() -> None:
    black = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    # 20 log10(255 / 51) = 20 log10 5; without variance SSIM is its luminance term c1 / (51² + c1).
    assert peak_signal_noise_ratio(black, black + 51).item() == pytest.approx(20 * math.log10(5))
    c1 = (0.01 * 255) ** 2
    assert structural_similarity(black, black + 51).item() == pytest.approx(c1 / (51**2 + c1), rel=1e-4)


def test_psnr_is_the_mean_over_images_and_not_that_of_the_mean_error() -> None:
    x = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
    y = torch.stack([x[0] + 51, x[1] + 255])
    metric = PSNR()
    metric.update(x, y)
    assert metric.compute().item() == pytest.approx((20 * math.log10(5) + 0) / 2)


def test_equal_images_have_the_best_values_and_these_are_finite(network: PerceptualNetwork) -> None:
    x = images(3, 28)
    assert peak_signal_noise_ratio(x, x).tolist() == pytest.approx([10 * math.log10(255**2 * 12)] * 3)
    assert structural_similarity(x, x).tolist() == pytest.approx([1.0] * 3, abs=1e-6)
    assert perceptual_distance(network(x), network(x)).tolist() == [0.0] * 3


def test_perceptual_distance_is_lpips_without_weights(network: PerceptualNetwork) -> None:
    x, y = images(2, 32, 3), noisy(images(2, 32, 3), 40)
    a, b = network(x), network(y)
    assert [t.shape[1] for t in a] == [16, 24, 40, 80, 112]
    assert [t.shape[2] for t in a] == [32, 16, 8, 4, 4]  # of 64 pixels, to which the images are enlarged
    expected = np.mean([
        [(2 - 2 * torch.nn.functional.cosine_similarity(s, t, dim=0)).mean().item() for s, t in zip(p, q, strict=True)]
        for p, q in zip(a, b, strict=True)
    ], axis=0)  # fmt: skip
    assert perceptual_distance(a, b).tolist() == pytest.approx(expected.tolist(), rel=1e-3)


def test_perceptual_distance_rises_with_blur_and_noise(network: PerceptualNetwork) -> None:
    x = images(20, 32, 3)
    found = [perceptual_distance(network(x), network(noisy(x, sigma))).mean().item() for sigma in (5, 15, 45)]
    assert 0 < found[0] < found[1] < found[2]


def test_the_perceptual_network_repeats_gray_and_keeps_large_images(network: PerceptualNetwork) -> None:
    gray = images(2, 28)
    for a, b in zip(network(gray), network(gray.expand(-1, 3, -1, -1)), strict=True):
        torch.testing.assert_close(a, b)
    assert network(images(1, 96, 3))[0].shape[2:] == (48, 48)
    assert network(images(1, 96, 3)[..., :48])[0].shape[2:] == (64, 32)  # the shorter side becomes 64


@pytest.mark.parametrize("metric", [PSNR(), SSIM()])
def test_batches_of_any_size_give_the_same_value(metric: Any) -> None:
    x, y = images(9), noisy(images(9), 10)
    metric.reset()
    metric.update(x, y)
    whole = metric.compute().item()
    metric.reset()
    for part in (slice(0, 2), slice(2, 9)):
        metric.update(x[part], y[part])
    assert metric.compute().item() == pytest.approx(whole, rel=1e-6)


def test_wrong_images_are_refused() -> None:
    x = images(2)
    with pytest.raises(UsageError, match="must be uint8"):
        structural_similarity(x.float(), x)
    with pytest.raises(UsageError, match="others"):
        peak_signal_noise_ratio(x, x[:1])
    with pytest.raises(UsageError, match="at least 6 per side"):
        structural_similarity(x[..., :5], x[..., :5])


def dataset(name: str, x: Tensor) -> Dataset:
    return Dataset(name, Split(x), Split(x))


def score(x: Tensor, reconstruct: Any) -> Scores:
    functions = ModelFunctions(reconstruct=None if reconstruct is None else lambda x, y: reconstruct(x))
    settings = EvaluationSettings(n=len(x), batch=64)
    return evaluate_images(torch.split(x, 100), dataset("toy", x), PinnedClassifier(), settings, functions)


@pytest.mark.slow
@pytest.mark.usefixtures("own_cache")
def test_quick_scores_contain_them_and_a_perfect_autoencoder_can_be_stored() -> None:
    found = score(images(600), lambda x: x)
    stored = json.loads(json.dumps(scores_to_dict(found), allow_nan=False))
    assert stored["scores"]["PSNR"] == pytest.approx(58.92, abs=0.01)
    assert stored["scores"]["SSIM"] == pytest.approx(1, abs=1e-6)
    assert stored["scores"]["perceptual distance (efficientnet)"] == 0
    assert stored["scores"]["reconstruction FD-classifier"] == pytest.approx(0, abs=1e-6)
    assert set(stored["protocol"]["separate_metrics"]) >= {"PSNR", "SSIM", "perceptual distance (efficientnet)"}


@pytest.mark.usefixtures("own_cache")
def test_the_perceptual_distance_takes_500_of_the_test_images_whatever_the_batches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[Tensor] = []

    def update(self: PerceptualDistance, x: Tensor, y: Tensor) -> None:
        seen.append(x)
        self.total += 1
        self.count += len(x)

    monkeypatch.setattr(PerceptualDistance, "update", update)
    x = images(600)
    score(x, lambda part: part)
    order = torch.randperm(600, generator=torch.Generator().manual_seed(0))[:500].sort().values
    assert torch.equal(torch.cat(seen), x[order])


@pytest.mark.usefixtures("own_cache")
def test_scores_that_are_not_defined_are_none() -> None:
    small = score(images(200, 8), lambda x: x)
    assert small.values["perceptual distance (efficientnet)"] is None  # 8×8 pixels say nothing to an ImageNet network
    assert small.values["SSIM"] == pytest.approx(1, abs=1e-6)
    generator = score(images(200), None)
    assert [generator.values[name] for name in SCORES] == [None] * 4
