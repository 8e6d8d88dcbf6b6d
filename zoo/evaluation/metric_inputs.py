"""Computes the inputs of metrics that a model's functions supply: codes, observations and reconstructions."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from zoo.data import chunks, take
from zoo.errors import ZooError
from zoo.evaluation.evaluation_settings import Codes
from zoo.evaluation.reference import EvaluationData, Split
from zoo.metrics.codes import MMD_CODES, PROBE_CODES
from zoo.metrics.likelihood import IMAGES, Density, observe
from zoo.metrics.subsets import random_indices, random_rows

__all__ = ["check_images", "code_inputs", "density_inputs", "reconstruction_inputs", "seeded"]


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Set torch's random state to ``seed`` and restore it on exit."""
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


def check_images(images: Tensor, like: Tensor, name: str, count: int | None = None) -> None:
    """Check that images are uint8 and of the same shape as ``like``.

    Args:
        images: The images (B, C, H, W).
        like: Images (N, C, H, W) of the data set.
        name: Name of the argument, for errors.
        count: Required number of images; any number if None.

    Raises:
        ZooError: If they are not.
    """
    wanted = (len(images) if count is None else count, *like.shape[1:])
    if images.dtype != torch.uint8 or tuple(images.shape) != wanted:
        raise ZooError(
            f"{name}: {images.dtype} with shape {tuple(images.shape)} is not allowed; "
            f"must be torch.uint8 with shape (B, {', '.join(map(str, wanted[1:]))})"
        )


def reconstruction_inputs(
    reconstruct: Callable[[Tensor, Tensor | None], Tensor],
    split: Split,
    extractor: Callable[[Tensor], Tensor] | None,
    batch: int,
) -> Iterator[dict[str, Any]]:
    """Yield batches of test images with their reconstructions.

    Args:
        reconstruct: From uint8 images and their labels to their reconstructions.
        split: Test images and their labels.
        extractor: Feature extractor; None if no metric needs ``reconstruction_features``.
        batch: Images per batch.
    """
    for part, labels in _labeled_chunks(split.images, split.labels, batch):
        made = reconstruct(part, labels)
        check_images(made, part, "reconstructed", len(part))
        inputs: dict[str, Any] = {"images": part, "reconstructions": made}
        if extractor is not None:
            inputs["reconstruction_features"] = extractor(made)
        yield inputs


def code_inputs(codes: Codes, data: EvaluationData, batch: int, seed: int) -> dict[str, Any]:
    """Codes of real images and of the prior; see `zoo.metrics.INPUTS`.

    All inputs are always computed, in the same order: a function that draws random numbers changes those drawn after
    it. Labels and training codes are missing if the data set has no labels.
    """
    test, train = data.test, data.train
    with seeded(seed):
        inputs: dict[str, Any] = {"codes": _encode("encode", codes.encode, test, batch)}
        if test.labels is not None and train.labels is not None:
            known = random_indices(len(train.images), PROBE_CODES)
            inputs["labels"] = test.labels
            inputs["train_codes"] = _encode("encode", codes.encode, train, batch, known)
            inputs["train_labels"] = random_rows(train.labels, PROBE_CODES)
        chosen = random_indices(len(test.images), MMD_CODES)
        prior = codes.prior(len(chosen)).detach().float()
        inputs["prior_samples"] = prior
        if codes.sample is None:
            inputs["posterior_samples"] = inputs["codes"][chosen.to(inputs["codes"].device)]
        else:
            inputs["posterior_samples"] = _encode("sample", codes.sample, test, batch, chosen)
        labels = None if test.labels is None else test.labels[chosen]  # of real images, for a conditional model
        decoded = zip(torch.split(prior, batch), _split(labels, len(prior), batch), strict=True)
        cycle = [_codes("encode", codes.encode, codes.decode(z, y), y) for z, y in decoded]
        inputs["cycle_codes"] = torch.cat(cycle).float()
    return inputs


def density_inputs(density: Density, data: EvaluationData) -> dict[str, Any]:
    """The density and the test images as it observes them."""
    return {"density": density, "observations": observe(random_rows(data.test.images, IMAGES), density.observation)}


_Encode = Callable[[Tensor, Tensor | None], Tensor]


def _encode(name: str, function: _Encode, split: Split, batch: int, indices: Tensor | None = None) -> Tensor:
    """Codes of the images of a split, or of those at ``indices``, which are read a batch at a time."""
    if indices is None:
        parts = _labeled_chunks(split.images, split.labels, batch)
    else:
        labels = None if split.labels is None else split.labels[indices]
        images = (take(split.images, rows) for rows in torch.split(indices, batch))
        parts = zip(images, _split(labels, len(indices), batch), strict=True)
    return torch.cat([_codes(name, function, x, y) for x, y in parts]).float()


@torch.no_grad()
def _codes(name: str, function: _Encode, x: Tensor, y: Tensor | None) -> Tensor:
    made = function(x, y)
    if made.dim() != 2 or len(made) != len(x):
        raise ZooError(f"{name}: codes with shape {tuple(made.shape)} are not allowed; must be ({len(x)}, d)")
    return made


def _labeled_chunks(x: Tensor, y: Tensor | None, batch: int) -> Iterator[tuple[Tensor, Tensor | None]]:
    return zip(chunks(x, batch), _split(y, len(x), batch), strict=True)


def _split(y: Tensor | None, n: int, batch: int) -> Sequence[Tensor | None]:
    return [None] * -(-n // batch) if y is None else torch.split(y, batch)
