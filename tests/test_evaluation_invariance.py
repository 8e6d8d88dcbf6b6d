"""Scores do not depend on batches, order, shards, processes, threads or device."""

from __future__ import annotations

import multiprocessing
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest
import torch
from conftest import Blind
from torch import Tensor, nn

import zoo
from zoo.data import DataOptions, Dataset, bundled_sources, load_dataset
from zoo.evaluation import EvaluationSettings, PinnedClassifier, SampleBuffer, evaluate_images
from zoo.metrics import Moments, ReferenceMoments, compute_prdc, frechet_distance, kernel_distance
from zoo.run.evaluation_inputs import make_codes, make_density
from zoo.run.scoring import Scorer
from zoo.run.trained import load, make_networks, wrap_trained


@pytest.fixture(autouse=True)
def _own_cache(own_cache: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or fills the user's cache; and a bound of a few samples serves as well here."""
    monkeypatch.setattr("zoo.evaluation.metric_inputs.IMAGES", 4)


def load_digits() -> Dataset:
    return load_dataset("digits", DataOptions(), {s.name: s for s in bundled_sources()})


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_digits()


FULL = EvaluationSettings(n=600, metric_set="full")


def spoilt(images: Tensor) -> Tensor:
    """Not quite the training images, so that no score is zero."""
    noise = 25 * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    return (images.float() + noise).round().clamp(0, 255).byte()


def close(values: Mapping[str, float | None], wanted: Mapping[str, float | None], rel: float = 1e-6) -> None:
    assert values.keys() == wanted.keys()
    for name, value in wanted.items():
        assert values[name] == (None if value is None else pytest.approx(value, rel=rel)), name


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 7, 512])
def test_the_pinned_classifiers_scores_hang_neither_on_batches_nor_on_order(digits: Dataset, batch: int) -> None:
    images, extractor = spoilt(digits.train.images[:600]), PinnedClassifier()
    order = torch.randperm(600, generator=torch.Generator().manual_seed(1))
    wanted = evaluate_images([images], digits, extractor, FULL).values
    close(evaluate_images(images[order].split(batch), digits, extractor, FULL).values, wanted)


def stream(shard: int, of: int, batch: int, threads: int) -> tuple[int, Any, Any, Any]:
    """What a process of its own finds in every ``of``-th image, beginning with ``shard``."""
    torch.set_num_threads(threads)
    moments, features, extractor = Moments(), [], PinnedClassifier()
    for part in spoilt(load_digits().train.images[:600])[shard::of].split(batch):
        features.append(extractor(part))
        moments.update(features[-1])
    return moments.n, moments.mean.numpy(), moments.cov.numpy(), torch.cat(features).numpy()


@pytest.mark.slow
def test_two_processes_find_what_one_does(digits: Dataset) -> None:
    images, extractor = spoilt(digits.train.images[:600]), PinnedClassifier()
    whole, real, features = Moments(), Moments(), extractor(images)
    real_features = extractor(digits.test.images)
    real.update(real_features)
    whole.update(features)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        # Not the same batches in both, nor the same number of threads.
        found = [job.result() for job in [pool.submit(stream, 0, 2, 7, 1), pool.submit(stream, 1, 2, 512, 2)]]
    merged, kept, alone = Moments(), SampleBuffer(600), SampleBuffer(600)
    for shard in (1, 0):  # nor in their order
        n, mean, cov, some = found[shard]
        merged.merge(Moments.from_statistics(n, torch.from_numpy(mean), torch.from_numpy(cov)))
        kept.add(images[shard::2], torch.from_numpy(some))
    alone.add(images, features)
    reference = ReferenceMoments.from_moments(real)
    assert merged.n == 600
    wanted = frechet_distance(reference, whole)
    assert wanted > 1
    assert frechet_distance(reference, merged) == pytest.approx(wanted, rel=1e-6)
    of_shards, of_all = kept.contents()[0], alone.contents()[0]
    assert kernel_distance(real_features, of_shards)[0] == pytest.approx(
        kernel_distance(real_features, of_all)[0], rel=1e-6
    )
    shares = compute_prdc(real_features, of_all)
    assert compute_prdc(real_features, of_shards) == pytest.approx(shares, rel=1e-6)


def test_scores_of_a_model_hang_neither_on_threads_nor_on_batches(runs: Any, digits: Dataset) -> None:
    scorer = Scorer("classifier", digits, print, EvaluationSettings(n=300))
    trained, before = load(runs / "vae"), torch.get_num_threads()
    wanted = scorer.evaluate(trained).values
    try:
        torch.set_num_threads(2 if before == 1 else 1)
        close(scorer.evaluate(trained).values, wanted, 1e-5)  # the stated tolerance: a pixel may round the other way
    finally:
        torch.set_num_threads(before)


@pytest.mark.slow
def test_another_devices_rounding_stays_within_the_stated_tolerance(runs: Any, digits: Dataset) -> None:
    # A stand-in for a GPU: weights off by a few times float32's rounding, so that some pixel rounds the other way.
    scorer = Scorer("classifier", digits, print, EvaluationSettings(n=1000, metric_set="full"))
    trained, other = load(runs / "vae"), load(runs / "vae")
    noise = torch.Generator().manual_seed(0)
    for p in other.networks.parameters():
        p.data.mul_(1 + 3e-6 * torch.randn(p.shape, generator=noise))
    wanted, found = (scorer.evaluate(model).values for model in (trained, other))
    kid, std = (wanted[f"KID-classifier{end}"] for end in ("", " std"))
    # Its subsets are drawn from pictures in the order of their pixels' digests: one pixel deals them anew.
    assert found["KID-classifier"] == pytest.approx(kid, abs=std / 3)
    apart = {"KID-classifier", "KID-classifier std"}
    assert found != wanted
    close({k: v for k, v in found.items() if k not in apart}, {k: v for k, v in wanted.items() if k not in apart}, 1e-4)


# Noise is drawn where it is the same everywhere


@zoo.frozen
class Asked(Blind):
    """Remembers on which device its prior was asked for codes."""

    def prior(self, like: Tensor, n: int | None = None) -> Tensor:
        DEVICES.append(like.device.type)
        return super().prior(like, n)


DEVICES: list[str] = []


def test_codes_are_drawn_on_the_cpu_wherever_the_networks_are(digits: Dataset) -> None:
    objective = Asked()
    trained = wrap_trained(objective, make_networks(objective, digits.spec), digits.spec).to("meta")
    DEVICES.clear()
    assert trained.sample(5, seed=0).device.type == "meta"
    assert DEVICES == ["cpu"]


def test_draws_of_posterior_and_prior_are_the_cpus(runs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = load(runs / "vae")
    codes, density = make_codes(trained), make_density(trained)
    assert codes is not None
    assert codes.sample is not None
    assert density is not None
    moved: list[str] = []
    real = Tensor.cpu
    monkeypatch.setattr(Tensor, "cpu", lambda self: moved.append("cpu") or real(self))
    x = torch.zeros(2, 1, 8, 8)
    density.posterior(x)
    assert moved == ["cpu", "cpu"]  # mean and variance come to the CPU before anything is drawn
    assert codes.prior(3).device.type == "cpu"


def test_the_model_too_computes_in_full_precision_while_it_is_scored(digits: Dataset) -> None:
    seen: list[str] = []

    @zoo.frozen
    class Watched(Blind):
        def decode(self, net: zoo.Networks, z: Tensor) -> Tensor:
            seen.append(torch.backends.cudnn.conv.fp32_precision)
            return super().decode(net, z)

    networks: dict[str, nn.Module] = Watched().networks(digits.spec)
    before = torch.backends.cudnn.conv.fp32_precision
    torch.backends.cudnn.conv.fp32_precision = "tf32"
    try:
        Scorer("classifier", digits, print, EvaluationSettings(n=10)).evaluate(
            wrap_trained(Watched(), zoo.Networks(networks), digits.spec)
        )
        assert torch.backends.cudnn.conv.fp32_precision == "tf32"
    finally:
        torch.backends.cudnn.conv.fp32_precision = before
    assert set(seen) == {"ieee"}
