"""Reproduction targets: what papers report, the runs that it takes, how it is measured, and what it is held against."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs
import torch
from bars import Bar
from torch import Tensor

import zoo
from zoo.data import Dataset, to_uint8
from zoo.metrics import fit_parzen, knn_accuracy, log_likelihood, observe
from zoo.run.evaluation_inputs import make_density

__all__ = ["TARGETS", "Job", "Scope", "Target"]

Runs = Mapping[str, zoo.TrainedModel]
Values = dict[str, float]


@attrs.frozen
class Scope:
    """How much of the test data is measured.

    Args:
        images: Number of test images for likelihoods.
        samples: Number of importance samples per image.
    """

    images: int = 10_000
    samples: int = 5000


@attrs.frozen
class Job:
    """One run of a target: a model, its preset, and settings that replace the preset's."""

    model: str
    preset: str = "paper"
    settings: Mapping[str, Any] = attrs.field(factory=dict)


@attrs.frozen
class Target:
    """What a paper reports, and how it is measured here.

    Args:
        paper: Authors and number of the paper, and the table.
        jobs: The runs by name.
        measure: From the runs to the values by measure. Also applied to untrained networks, the first control.
        bars: The published values.
        controls: Other controls by name, each from the data to values by measure.
    """

    paper: str
    jobs: Mapping[str, Job]
    measure: Callable[[Runs, Dataset, Scope], Values]
    bars: tuple[Bar, ...]
    controls: Mapping[str, Callable[[Dataset, Scope], Values]] = attrs.field(factory=dict)


def chosen(data: Dataset, scope: Scope) -> Tensor:
    """The test images of a scope, uint8."""
    order = torch.randperm(len(data.test), generator=torch.Generator().manual_seed(0))
    return data.test.images[order[: scope.images]]


def log_p(trained: zoo.TrainedModel, data: Dataset, scope: Scope) -> float:
    """Log p(x) of binarized test images by importance sampling, in nats."""
    density = make_density(trained)
    assert density is not None
    x = observe(chosen(data, scope), density.observation)
    torch.manual_seed(0)
    chunk = scope.samples if trained.device.type == "cuda" else min(100, scope.samples)
    return log_likelihood(density, x, k=scope.samples, chunk=chunk).mean


def likelihoods(runs: Runs, data: Dataset, scope: Scope) -> Values:
    """Of every run."""
    return {f"log p(x), {name}": log_p(run, data, scope) for name, run in runs.items()}


def constant_pixels(data: Dataset, scope: Scope) -> Values:
    """Independent Bernoulli pixels, whose means are those of the training images."""
    p = (data.train.images.double().mean(0) / 255).clamp(1e-3, 1 - 1e-3)
    x = (observe(chosen(data, scope), "Bernoulli, binarized").double() + 1) / 2
    value = float((x * p.log() + (1 - x) * (1 - p).log()).flatten(1).sum(1).mean())
    return {f"log p(x), k = {k}": value for k in (1, 50)}


@torch.no_grad()
def features(trained: zoo.TrainedModel, images: Tensor) -> Tensor:
    """BiGAN's: the layer before the encoder's output."""
    body = trained.networks["encoder"].encoder.body
    parts = [body(x.to(trained.device).float() / 127.5 - 1).flatten(1) for x in torch.split(images, 500)]
    return torch.cat(parts).cpu()


def neighbors(train: Tensor, test: Tensor, data: Dataset) -> Values:
    """1-NN accuracy on features."""
    assert data.train.labels is not None
    assert data.test.labels is not None
    (accuracy,) = knn_accuracy(train, data.train.labels, test, data.test.labels, ks=(1,))
    return {"1-NN accuracy, %": 100 * accuracy}


def reconstruction_ratio(x: Tensor, again: Tensor) -> Values:
    """Mean ‖x − x̂‖ over mean ‖x′ − x̂‖, x′ being the next image, as jeffdonahue/bigan, train_gan.py:724-743."""
    own = (x - again).flatten(1).norm(dim=1).mean()
    other = (x.roll(-1, 0) - again).flatten(1).norm(dim=1).mean()
    return {"‖x − x̂‖ / ‖x′ − x̂‖": float(own / other)}


def inversion(runs: Runs, data: Dataset, scope: Scope) -> Values:
    """What BiGAN's encoder has learned: 1-NN accuracy of its features, and reconstruction."""
    run = runs["BiGAN"]
    x = data.test.images.float() / 127.5 - 1
    found = neighbors(features(run, data.train.images), features(run, data.test.images), data)
    return found | reconstruction_ratio(x, run.reconstruct(x).cpu())  # type: ignore[attr-defined]


def raw_pixels(data: Dataset, scope: Scope) -> Values:
    """1-NN on the pixels themselves."""
    return neighbors(*(split.images.flatten(1).float() for split in (data.train, data.test)), data)


def mean_image(data: Dataset, scope: Scope) -> Values:
    """The mean training image, whatever the image."""
    x = data.test.images.float() / 127.5 - 1
    mean = data.spec.mean
    assert mean is not None
    found = reconstruction_ratio(x, mean.expand_as(x))
    return found | {f"MSE, λ = {n}": float((x - mean).square().mean()) for n in (0, 1)}


def cycle_errors(runs: Runs, data: Dataset, scope: Scope) -> Values:
    """Reconstruction MSE of test images, on [−1, 1]."""
    x = data.test.images.float() / 127.5 - 1
    return {f"MSE, {n}": float((run.reconstruct(x).cpu() - x).square().mean()) for n, run in runs.items()}  # type: ignore[attr-defined]


def parzen(made: Tensor, data: Dataset, scope: Scope) -> Values:
    """Parzen log-likelihood of the test images under 10,000 samples, σ chosen on 1,000 training images."""
    validation = data.train.images[-1000:].flatten(1)
    found = fit_parzen(made.flatten(1), validation, chosen(data, scope).flatten(1))
    return {"Parzen log-likelihood": found.log_likelihood, "σ": found.bandwidth}


def windows(runs: Runs, data: Dataset, scope: Scope) -> Values:
    """Of the model's samples."""
    return parzen(to_uint8(runs["AAE"].sample(10_000, seed=0)).cpu(), data, scope)


def training_images(data: Dataset, scope: Scope) -> Values:
    """Of 10,000 training images in place of samples."""
    return parzen(data.train.images[:10_000], data, scope)


@torch.no_grad()
def mistakes(runs: Runs, data: Dataset, scope: Scope) -> Values:
    """Test error of the code's one-hot part."""
    found = {}
    for name, run in runs.items():
        guess = run.encode(data.test.images)[:, :10].argmax(1).cpu()  # type: ignore[attr-defined]
        found[f"error, {name}, %"] = 100 * float((guess != data.test.labels).double().mean())
    return found


def labeled_neighbors(data: Dataset, scope: Scope) -> Values:
    """1-NN on the pixels of a class-balanced set of labeled training images."""
    assert data.train.labels is not None
    found = {}
    for n in (100, 1000):
        order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))
        keep = torch.cat([order[data.train.labels[order] == k][: n // 10] for k in range(10)])
        train = data.train.images[keep].flatten(1).float()
        test = data.test.images.flatten(1).float()
        (accuracy,) = knn_accuracy(train, data.train.labels[keep], test, data.test.labels, ks=(1,))
        found[f"error, {n} labels, %"] = 100 * (1 - accuracy)
    return found


BURDA = "Burda, Grosse & Salakhutdinov, arXiv:1509.00519, table 1 (dynamic binarization, one layer)"
MAKHZANI = "Makhzani, Shlens, Jaitly, Goodfellow & Frey, arXiv:1511.05644"
K1, K50 = Bar("log p(x), k = 1", -86.76, 1.0), Bar("log p(x), k = 50", -84.78, 1.0)
TARGETS = {
    "vae": Target(BURDA, {"k = 1": Job("vae", "burda")}, likelihoods, (K1,), {"constant image": constant_pixels}),
    "iwae": Target(
        BURDA,
        {"k = 1": Job("iwae", settings={"k": 1}), "k = 50": Job("iwae", settings={"k": 50})},
        likelihoods,
        (K1, K50),
        {"constant image": constant_pixels},
    ),
    "bigan": Target(
        "Donahue, Krähenbühl & Darrell, arXiv:1605.09782, table 1 and figure 2",
        {"BiGAN": Job("bigan")},
        inversion,
        (
            Bar("1-NN accuracy, %", 97.39, 0.2, controls={"untrained network": 96.84}),
            Bar("‖x − x̂‖ / ‖x′ − x̂‖", 5.95 / 9.60, 0.02, "lower"),
        ),
        {"raw pixels": raw_pixels, "constant image": mean_image},
    ),
    "alice": Target(
        "Li, Liu, Chen et al., arXiv:1709.01215, section 5.1 (MNIST)",
        {"λ = 1": Job("alice"), "λ = 0": Job("alice", settings={"cycle": 0.0})},
        cycle_errors,
        (Bar("MSE, λ = 1", 0.0803, 0.007, "lower"),),
        {"constant image": mean_image},
    ),
    "aae-parzen": Target(
        f"{MAKHZANI}, table 1 (10,000 samples)",
        {"AAE": Job("aae")},
        windows,
        (Bar("Parzen log-likelihood", 340.0, 2.0),),
        {"training images": training_images},
    ),
    "aae-labels": Target(
        f"{MAKHZANI}, table 2",
        {
            "100 labels": Job("aae", "labels"),
            "1000 labels": Job("aae", "labels", {"labels": 1000}),
        },
        mistakes,
        (
            Bar("error, 100 labels, %", 1.90, 0.10, "lower"),
            Bar("error, 1000 labels, %", 1.60, 0.08, "lower"),
        ),
        {"1-NN on labeled pixels": labeled_neighbors},
    ),
}
