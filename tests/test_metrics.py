"""KID, precision, recall, density, coverage and memorization against oracles and hand-derived values."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import prdc as oracle
import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from zoo.errors import ZooError
from zoo.evaluation import SampleBuffer
from zoo.metrics import compare_with_training, compute_prdc, distances, kernel_distance
from zoo.metrics.distances import (
    kth_neighbor_distances,
    nearest,
    squared_distance_blocks,
    squared_pixel_distance_blocks,
)
from zoo.metrics.subsets import random_indices


def gaussian(n: int, d: int, seed: int = 0, shift: float = 3.0) -> Tensor:
    """Correlated features whose mean is large against their spread."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(d, d, generator=torch.Generator().manual_seed(9), dtype=torch.float64) / d**0.5
    return torch.randn(n, d, generator=generator, dtype=torch.float64) @ mix + shift


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many blocks also for few vectors."""
    monkeypatch.setattr(distances, "_BLOCK", 700)
    monkeypatch.setattr(distances, "_ROWS", 7)
    monkeypatch.setattr(distances, "_COLUMNS", 11)


# Distances


@pytest.mark.usefixtures("small_blocks")
def test_distances_are_those_of_all_pairs_whatever_the_blocks() -> None:
    x, y = gaussian(50, 8), gaussian(90, 8, seed=1)
    wanted = torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")
    found = torch.cat([block for _, block in squared_distance_blocks(x, y)])
    torch.testing.assert_close(found.sqrt(), wanted, rtol=1e-9, atol=0)
    distance, index = nearest(x, y)
    torch.testing.assert_close(distance, wanted.min(1).values, rtol=1e-12, atol=0)
    assert torch.equal(index, wanted.argmin(1))
    radii = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist").sort(1).values[:, 3]
    torch.testing.assert_close(kth_neighbor_distances(x, 3).sqrt(), radii, rtol=1e-9, atol=0)


def test_distances_far_from_zero_keep_their_digits_and_copies_are_at_zero() -> None:
    x = gaussian(60, 16, shift=1e4)
    distance, index = nearest(x[:20].float(), x.float())
    assert float(distance.max()) == 0
    assert torch.equal(index, torch.arange(20))
    near, far = (torch.cat([b for _, b in squared_distance_blocks(v, v)]) for v in (x - 1e4, x))
    torch.testing.assert_close(far, near, rtol=1e-6, atol=1e-9)
    assert float(far.diagonal().abs().max()) == 0


@pytest.mark.parametrize("d", [784, 1024, 3000])
@pytest.mark.usefixtures("small_blocks")
def test_distances_of_pixels_are_exact_whole_numbers(d: int) -> None:
    random = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (30, d), generator=random, dtype=torch.uint8)
    y = torch.randint(0, 256, (40, d), generator=random, dtype=torch.uint8)
    # The largest sums that there can be, and odd ones among them: beyond 2²⁴ float32 would round these.
    x[0], y[0], y[1] = 0, 0, 255
    x[1:9], y[2:9] = x[1:9] & 1, y[2:9] & 1
    seen: list[str] = []

    class Watch(TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if getattr(function, "__name__", "") in ("matmul", "__matmul__"):
                seen.append(torch.backends.mkldnn.matmul.fp32_precision)
            return function(*args, **(kwargs or {}))

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")  # bfloat16 where a processor has it: not whole, not exact
    try:
        with Watch():
            found = torch.cat([block for _, block in squared_pixel_distance_blocks(x, y)])
    finally:
        torch.set_float32_matmul_precision(before)
    assert set(seen) == {"ieee"}
    wanted = (x.long()[:, None] - y.long()).square().sum(2)
    assert torch.equal(found, wanted.double())
    with pytest.raises(ZooError, match="per image is not allowed"):
        next(squared_pixel_distance_blocks(x, y[:, 1:]))


# KID


@pytest.mark.parametrize(("n", "m", "d", "size"), [(300, 250, 16, 100), (90, 60, 200, 1000)])
def test_kid_is_that_of_torch_fidelity_on_the_same_subsets(n: int, m: int, d: int, size: int) -> None:
    from torch_fidelity.metric_kid import kid_features_to_metric

    x, y = gaussian(n, d), gaussian(m, d, seed=1, shift=3.2)
    found = kernel_distance(x, y, subsets=20, size=size)
    wanted = kid_features_to_metric(x, y, kid_subsets=20, kid_subset_size=min(size, n, m), rng_seed=2020, verbose=False)
    assert found[0] == pytest.approx(wanted["kernel_inception_distance_mean"], rel=1e-9)
    assert found[1] == pytest.approx(wanted["kernel_inception_distance_std"], rel=1e-6)


def test_kid_of_whole_sets_is_that_of_torchmetrics() -> None:
    from torchmetrics.image.kid import poly_mmd

    x, y = gaussian(120, 10), gaussian(120, 10, seed=1)
    assert kernel_distance(x, y, subsets=1)[0] == pytest.approx(
        float(poly_mmd(x, y, degree=3, gamma=None, coef=1.0)), rel=1e-9
    )


def test_kid_by_hand_and_unbiased() -> None:
    # d = 1: k(x, y) = (xy + 1)³. Pairs: within {0, 1}: 1; within {2, 3}: 343; between: 1, 1, 27, 64.
    found = kernel_distance(torch.tensor([[0.0], [1.0]]), torch.tensor([[2.0], [3.0]]), subsets=3)
    assert found == (pytest.approx(1 + 343 - 2 * (1 + 1 + 27 + 64) / 4), pytest.approx(0, abs=1e-9))
    draws = [
        kernel_distance(gaussian(40, 4, 2 * i, 0), gaussian(40, 4, 2 * i + 1, 0), subsets=1)[0] for i in range(300)
    ]
    assert abs(np.mean(draws)) < 3 * np.std(draws) / 300**0.5  # a biased one has a mean of its own


def test_kid_refuses_what_has_none() -> None:
    x = gaussian(20, 3)
    with pytest.raises(ZooError, match="generated: 1 vectors are too few; must be at least 2"):
        kernel_distance(x, x[:1])
    with pytest.raises(ZooError, match="1 of 20 vectors contain NaN"):
        kernel_distance(torch.cat([x[:-1], torch.full((1, 3), torch.nan)]), x)
    with pytest.raises(ZooError, match="2 features, but the real ones have 3"):
        kernel_distance(x, x[:, :2])
    with pytest.raises(ZooError, match="too large to be cubed"):
        kernel_distance(x * 1e120, x)
    assert kernel_distance(x, x[:1].expand(20, 3))[0] > 0  # a single repeated image has a right value
    assert kernel_distance(torch.ones(9, 3), torch.ones(8, 3)) == (pytest.approx(0), pytest.approx(0))


# Precision, recall, density, coverage


@pytest.mark.parametrize(("n", "m", "d", "k"), [(300, 200, 16, 5), (60, 90, 200, 3), (40, 40, 2, 1)])
@pytest.mark.usefixtures("small_blocks")
def test_prdc_is_that_of_its_authors(n: int, m: int, d: int, k: int) -> None:
    for shift in (3.0, 3.3):
        x, y = gaussian(n, d), gaussian(m, d, seed=1, shift=shift)
        with contextlib.redirect_stdout(io.StringIO()):
            wanted = oracle.compute_prdc(x.numpy(), y.numpy(), k)
        found = compute_prdc(x, y, k=k)
        for name, value in wanted.items():
            assert found[name] == pytest.approx(value, rel=1e-12), name
        assert compute_prdc(x, y, k=k, squared_radii=kth_neighbor_distances(x, k)) == found
        order = torch.randperm(m, generator=torch.Generator().manual_seed(0))
        assert compute_prdc(x, y[order], k=k) == found


def test_prdc_of_a_set_to_itself() -> None:
    # Each real ball of k = 5 holds itself and 4 more; the fifth neighbor lies on its rim, which is outside.
    found = compute_prdc(gaussian(200, 8), gaussian(200, 8))
    assert set(found.values()) == {1}


def test_prdc_at_its_edges() -> None:
    x = gaussian(100, 8)
    repeated = compute_prdc(x, x[:1].expand(50, 8))
    assert repeated["precision"] == 1  # it is a real image
    assert repeated["recall"] == 0  # whose balls have no extent
    assert 0 < repeated["coverage"] < 0.3
    far = compute_prdc(x, x + 1000)
    assert set(far.values()) == {0}
    with pytest.raises(ZooError, match="at distance 0"):
        compute_prdc(torch.ones(20, 3), x[:20, :3])
    with pytest.raises(ZooError, match="5 vectors are too few; must be at least 6"):
        compute_prdc(x, x[:5])
    with pytest.raises(ZooError, match="1 of 10 vectors contain NaN or infinity"):
        compute_prdc(x, torch.cat([x[:9], torch.full((1, 8), torch.inf)]))


# Memorization


def test_memorization_tells_copies_from_new_images_in_the_right_direction() -> None:
    train, test, new = gaussian(2000, 8), gaussian(1000, 8, seed=1), gaussian(1000, 8, seed=2)
    t = nearest(test, train)[0]
    fair = compare_with_training(new, train, t)
    assert fair.probability == pytest.approx(0.5, abs=0.03)
    assert fair.ratio == pytest.approx(1, abs=0.05)
    assert fair.near_copies == pytest.approx(0.01, abs=0.01)
    copies = compare_with_training(train[:500], train, t)
    assert (copies.probability, copies.ratio, copies.near_copies) == (1, 0, 1)
    assert torch.equal(copies.indices, torch.arange(500))
    # What MiFID's reversed arguments miss: two images copied again and again, most training images far from them.
    few = compare_with_training(train[:2].repeat(100, 1), train, t)
    assert (few.probability, few.near_copies) == (1, 1)
    some = compare_with_training(torch.cat([train[:50], new[50:]]), train, t)  # 5 % of copies
    assert some.near_copies == pytest.approx(fair.near_copies + 0.05, abs=0.01)
    noise = compare_with_training(new + 20, train, t)
    assert (noise.probability, noise.near_copies) == (0, 0)
    assert noise.ratio is not None
    assert noise.ratio > 5


def test_memorization_by_hand_with_ties() -> None:
    train = torch.tensor([[0.0], [10.0]])
    # g = 1, 2, 0; t = 1, 3: g < t in 1 + 1 + 2 pairs of 6, equal in 1.
    found = compare_with_training(torch.tensor([[1.0], [8.0], [0.0]]), train, torch.tensor([1.0, 3.0]))
    assert found.probability == pytest.approx((1 + 1 + 2 + 0.5) / 6)
    assert found.ratio == pytest.approx(1 / 2)
    assert found.near_copies == pytest.approx(2 / 3)
    assert found.indices.tolist() == [0, 1, 0]


def test_memorization_at_its_edges() -> None:
    x = gaussian(50, 4)
    same = compare_with_training(x, x, torch.zeros(9))  # the test images are training images: nothing to measure by
    assert (same.probability, same.ratio) == (0.5, None)
    assert compare_with_training(x[:1], x[:1], torch.tensor([1.0])).probability == 1
    constant = compare_with_training(torch.ones(5, 4), torch.ones(6, 4), torch.zeros(3))
    assert (constant.probability, constant.ratio, constant.near_copies) == (0.5, None, 1)
    with pytest.raises(ZooError, match="contain NaN"):
        compare_with_training(x * torch.nan, x, torch.ones(3))
    with pytest.raises(ZooError, match="test distances: 0 vectors"):
        compare_with_training(x, x, torch.ones(0))


# What is kept


@pytest.mark.parametrize("batch", [1, 7, 512])
def test_what_is_kept_does_not_hang_on_order_or_batches(batch: int) -> None:
    images = torch.randint(0, 4, (300, 1, 2, 2), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    features = images.flatten(1).float()
    order = torch.randperm(300, generator=torch.Generator().manual_seed(1))
    whole, other = SampleBuffer(100), SampleBuffer(100)
    whole.add(images, features)
    for part in order.split(batch):
        other.add(images[part], features[part])
    assert len(whole.contents()[1]) == 100
    for a, b in zip(whole.contents(), other.contents(), strict=True):
        assert torch.equal(a, b)


def test_what_is_kept_is_a_fair_choice_also_of_repeated_images() -> None:
    images = torch.zeros(4000, 1, 2, 2, dtype=torch.uint8)
    images[1000:].flatten(1)[:, :2] = torch.arange(3000).view(-1, 1).expand(-1, 2).div(torch.tensor([256, 1])).byte()
    kept = SampleBuffer(1000)
    kept.add(images, images.flatten(1).float())
    share = (kept.contents()[1].flatten(1).sum(1) == 0).double().mean()
    assert share == pytest.approx(0.25, abs=0.05)  # all or nothing if their keys were the same


def test_drawn_is_all_or_a_repeatable_choice() -> None:
    assert random_indices(5, 9).tolist() == [0, 1, 2, 3, 4]
    assert len(set(random_indices(90, 9).tolist())) == 9
    assert torch.equal(random_indices(90, 9), random_indices(90, 9))
