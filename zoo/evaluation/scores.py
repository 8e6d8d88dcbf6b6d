"""The scores of one model: its distances to real data, the floor beside them, the classes it covers."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

import attrs
import torch
from torch import Tensor

from zoo.errors import UsageError, ZooError
from zoo.evaluation.balls import CAP, NEIGHBORS
from zoo.evaluation.codes import Codes
from zoo.evaluation.extractors import Classifier, Extractor
from zoo.evaluation.frechet import Reference, frechet_distance
from zoo.evaluation.full import Data, NearestTraining, code_scores, density_scores, sample_scores, seeded
from zoo.evaluation.inception import DIGEST as INCEPTION_DIGEST
from zoo.evaluation.inception import Inception
from zoo.evaluation.legacy import ClassifierScore
from zoo.evaluation.likelihood import IMAGES, Density
from zoo.evaluation.moments import Moments
from zoo.evaluation.protocol import Protocol, versions
from zoo.evaluation.reference import reference_moments
from zoo.evaluation.sample_buffer import Kept

__all__ = ["Scores", "default_n", "evaluate", "evaluate_images", "reconstruction_mse", "score_name"]

_MOST = 10_000
_FLOOR_SEED = 0


@attrs.frozen(eq=False)
class Scores:
    """Named values with the protocol that they were measured under; a value that is not defined is None."""

    values: dict[str, float | None]
    protocol: Protocol
    class_shares: list[float] | None
    """Share of the generated pictures read as each class; None where the extractor does not know them."""
    seconds: float
    """What the scoring took, generation included."""
    neighbors: NearestTraining | None = None
    """The generated pictures nearest to training pictures; None where ``metrics`` was ``quick``."""

    def to_dict(self) -> dict[str, Any]:
        """The scores as JSON takes them, with the protocol's fingerprint."""
        return {
            "values": dict(self.values),
            "protocol": self.protocol.to_dict(),
            "fingerprint": self.protocol.fingerprint,
            "class_shares": self.class_shares,
            "seconds": self.seconds,
        }


def score_name(extractor: Extractor) -> str:
    """``FID`` for Inception with the original weights, else ``FD-`` and the extractor's name."""
    if type(extractor) is Inception and extractor.digest == INCEPTION_DIGEST:
        return "FID"
    return f"FD-{extractor.name}"


def default_n(dataset: Data) -> int:
    """How many pictures are generated: as many as there are to train on, at most 10,000."""
    return min(_MOST, len(dataset.train.images))


def evaluate(
    generate: Callable[[int], Tensor],
    dataset: Data,
    extractor: Extractor,
    *,
    n: int | None = None,
    reconstruct: Callable[[Tensor], Tensor] | None = None,
    metrics: Literal["quick", "full"] = "quick",
    codes: Codes | None = None,
    density: Density | None = None,
    ais: int = 0,
    batch: int = 500,
    bn_mode: str = "running",
    seed: int = 0,
) -> Scores:
    """Generate and score.

    torch's random state is set to ``seed`` for the time of it and put back after, so that the scores repeat.

    Args:
        generate: from a number n to n uint8 pictures (n, C, H, W) of the data set's own size.
        dataset: the real pictures.
        extractor: what finds the features; moved to its device beforehand.
        n: how many to generate, by default `default_n`.
        reconstruct: from uint8 pictures to their uint8 reconstructions, where there is an encoder.
        metrics: ``quick`` or ``full``; see `evaluate_images`. What both have is the same in both.
        codes: encoder, decoder and prior, where there is an encoder; used by ``full`` alone.
        density: posterior and likelihood, where there are both; used by ``full`` alone.
        ais: how many test images, at most 64, get a likelihood by annealed importance sampling too; by ``full`` alone.
        batch: how many to generate, to encode and to reconstruct at a time.
        bn_mode: recorded in the protocol; see `Protocol`.
        seed: recorded in the protocol; see `Protocol`.
    """
    total = default_n(dataset) if n is None else n
    if batch < 1:
        raise UsageError(f"batch: {batch} is not allowed; must be at least 1")

    def generated() -> Iterator[Tensor]:
        for done in range(0, total, batch):
            yield generate(min(batch, total - done))

    with seeded(seed):
        return evaluate_images(
            generated(),
            dataset,
            extractor,
            total,
            reconstruct=reconstruct,
            metrics=metrics,
            codes=codes,
            density=density,
            ais=ais,
            batch=batch,
            bn_mode=bn_mode,
            seed=seed,
        )


def evaluate_images(
    generated: Iterable[Tensor],
    dataset: Data,
    extractor: Extractor,
    n: int | None = None,
    *,
    reconstruct: Callable[[Tensor], Tensor] | None = None,
    metrics: Literal["quick", "full"] = "quick",
    codes: Codes | None = None,
    density: Density | None = None,
    ais: int = 0,
    batch: int = 500,
    bn_mode: str = "running",
    seed: int = 0,
) -> Scores:
    """Score pictures that come in batches of any size; exactly ``n`` of them are wanted.

    With *F* for what `score_name` says, the values of ``quick`` are

    - ``F``, ``F (train)``: distance of the generated pictures to all test and to all training pictures;
    - ``F floor``: distance of n real training pictures to the test pictures, the same ones for every seed;
      below it, a model has a bug or has memorized. None where there are fewer than n;
    - ``reconstruction MSE``: see `reconstruction_mse`. None without ``reconstruct``;
    - ``classes covered``: how many classes have at least a tenth of an even share (one misread picture covers
      none); ``smallest class share``; ``class entropy`` in nats, log K at most. None where the extractor does
      not name this data set's classes.

    ``full`` adds ``reconstruction F``, `kid`, `prdc`, `memorization`, the scores of `Codes` and of a `Density`, and
    the two legacy ones; `metric_of` says what each is. A score that this model or data set cannot have is None.

    Raises:
        ZooError: where there are not n pictures, or they are not uint8 of the data set's shape.
    """
    start = time.perf_counter()
    real, train = dataset.test.images, dataset.train.images
    n = default_n(dataset) if n is None else n
    least = 2 if metrics == "quick" else NEIGHBORS + 1
    if n < least:
        raise UsageError(f"n: {n} is not allowed; must be at least {least}")
    if metrics not in ("quick", "full"):
        raise UsageError(f"metrics: {metrics!r} is not allowed; must be 'quick' or 'full'")
    if not 0 <= ais <= IMAGES or (ais and metrics == "quick"):
        raise UsageError(f"ais: {ais} is not allowed; must be from 0 to {IMAGES}, and 0 where metrics is 'quick'")
    name = score_name(extractor)

    def reference(images: Tensor, split: str) -> Reference:
        return reference_moments(extractor, images, dataset_digest=dataset.digest, split=split)

    heads = extractor if isinstance(extractor, Classifier) and dataset.name in extractor.labels else None
    moments, counts, opinion = Moments(), None, ClassifierScore()
    kept = Kept(CAP) if metrics == "full" else None
    for images in generated:
        _check(images, real, "generated")
        features = extractor(images)
        moments.update(features)
        if heads is not None:
            logits = heads.logits(features)
            opinion.update(logits)
            found = logits.argmax(1).bincount(minlength=logits.shape[1]).cpu()
            counts = found if counts is None else counts + found
        if kept is not None:
            kept.add(images, features)
    if moments.n != n:
        raise ZooError(f"generated: {moments.n} pictures came, but {n} were to be scored")

    test = reference(real, "test")
    values: dict[str, float | None] = {
        name: frechet_distance(test, moments),
        f"{name} (train)": frechet_distance(reference(train, "train"), moments),
        f"{name} floor": None,
    }
    if n <= len(train):
        chosen = torch.randperm(len(train), generator=torch.Generator().manual_seed(_FLOOR_SEED))[:n]
        floor = reference(train[chosen.to(train.device)], f"train, {n} drawn with seed {_FLOOR_SEED}")
        values[f"{name} floor"] = frechet_distance(test, floor.moments)
    remade = Moments()
    watch = None if kept is None else lambda made: remade.update(extractor(made))
    values["reconstruction MSE"] = None if reconstruct is None else reconstruction_mse(reconstruct, real, batch, watch)
    shares = None if counts is None else [count / n for count in counts.tolist()]
    values.update(_coverage(shares))
    neighbors = None
    if kept is not None:
        values[f"reconstruction {name}"] = frechet_distance(test, remade) if remade.n else None
        kid_name = "KID" if name == "FID" else f"KID-{extractor.name}"
        found_values, neighbors = sample_scores(kept, dataset, extractor, kid_name)
        values.update(found_values)
        values["classifier score (legacy)"] = None if counts is None else opinion.value()
        values.update(code_scores(codes, dataset, batch, seed))
        chunk = 100 if extractor.device.type == "cpu" else 5000
        values.update(density_scores(density, dataset, seed, chunk, ais))
    protocol = Protocol(
        extractor=extractor.name,
        extractor_digest=extractor.digest,
        resize=extractor.resize,
        channels=extractor.channels,
        dataset=dataset.name,
        dataset_digest=dataset.digest,
        n_real=len(real),
        n_generated=n,
        bn_mode=bn_mode,
        seed=seed,
        libraries=versions(extractor.libraries),
    )
    return Scores(values, protocol, shares, time.perf_counter() - start, neighbors)


def reconstruction_mse(
    reconstruct: Callable[[Tensor], Tensor],
    images: Tensor,
    batch: int = 500,
    watch: Callable[[Tensor], None] | None = None,
) -> float:
    """Mean over pictures, channels and pixels of the squared error, with pixels in units of [0, 1].

    Both sides are uint8 pictures (N, C, H, W), divided by 255: what an image file would hold is judged. ``watch`` is
    shown each batch of reconstructions, so that one pass serves other scores too.
    """
    total = 0.0
    for part in torch.split(images, batch):
        made = reconstruct(part)
        _check(made, part, "reconstructed", len(part))
        total += float(((made.to(part.device).double() - part.double()) / 255).square().sum())
        if watch is not None:
            watch(made)
    return total / images.numel()


def _coverage(shares: list[float] | None) -> dict[str, float | None]:
    names = ("classes covered", "smallest class share", "class entropy")
    if shares is None:
        return dict.fromkeys(names)
    covered = sum(share >= 0.1 / len(shares) for share in shares)
    entropy = sum(-share * math.log(share) for share in shares if share > 0)
    return dict(zip(names, (float(covered), min(shares), entropy), strict=True))


def _check(images: Tensor, like: Tensor, what: str, count: int | None = None) -> None:
    wanted = (len(images) if count is None else count, *like.shape[1:])
    if images.dtype != torch.uint8 or tuple(images.shape) != wanted:
        raise ZooError(
            f"{what}: {images.dtype} with shape {tuple(images.shape)} is not allowed; "
            f"must be torch.uint8 with shape (B, {', '.join(map(str, wanted[1:]))})"
        )
