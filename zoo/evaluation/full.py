"""The scores that ``metrics="full"`` adds: of the samples one by one, of the encoder's codes, of the density."""

from __future__ import annotations

import contextlib
import typing
from collections.abc import Iterator

import attrs
import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.evaluation import codes as of_codes
from zoo.evaluation.annealed import CHAINS, STEPS, annealed_log_likelihood
from zoo.evaluation.balls import CAP, NEIGHBORS, prdc
from zoo.evaluation.codes import Codes
from zoo.evaluation.copies import memorization
from zoo.evaluation.extractors import Extractor
from zoo.evaluation.kernel import kid
from zoo.evaluation.legacy import parzen
from zoo.evaluation.likelihood import IMAGES, Density, log_likelihood, observed
from zoo.evaluation.reference import Gallery
from zoo.evaluation.sample_buffer import Kept, drawn

__all__ = ["VALIDATION", "Data", "NearestTraining", "code_scores", "density_scores", "sample_scores", "seeded"]

VALIDATION = 1000
"""Training images that choose the Parzen window's σ."""
_SHOWN = 50

Values = dict[str, float | None]


class Split(typing.Protocol):
    """Images, uint8 (N, C, H, W), and their labels (N,) where there are any."""

    @property
    def images(self) -> Tensor:
        """The images."""

    @property
    def labels(self) -> Tensor | None:
        """Class indices."""


class Data(typing.Protocol):
    """What is asked of a data set: images in two splits, a name and a digest of the content."""

    @property
    def name(self) -> str:
        """As users type it."""

    @property
    def digest(self) -> str:
        """Of its content."""

    @property
    def train(self) -> Split:
        """What models learn from."""

    @property
    def test(self) -> Split:
        """What they are judged by."""


@attrs.frozen(eq=False)
class NearestTraining:
    """The generated pictures that lie nearest to training pictures, nearest first: what a copy looks like."""

    images: Tensor
    """uint8, (M, C, H, W)."""
    indices: Tensor
    """The nearest training picture of each, int64 (M,)."""
    distances: Tensor
    """Euclidean, in features, float64 (M,)."""


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Inside, torch's random state is that of ``seed``; after, it is what it was."""
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


def sample_scores(kept: Kept, data: Data, extractor: Extractor, kid_name: str) -> tuple[Values, NearestTraining]:
    """KID, precision, recall, density, coverage, memorization and the Parzen likelihood of the pictures kept."""
    train, test = data.train.images, data.test.images
    gallery = Gallery(extractor, test, train, dataset_digest=data.digest, cap=CAP)
    features, images = kept.contents()
    mean, std = kid(gallery.test, features)
    balls = prdc(gallery.test, features, radii=gallery.radii(NEIGHBORS))
    copied = memorization(features, gallery.train, gallery.test_to_train())

    def pixels(x: Tensor, most: int) -> Tensor:
        return x[drawn(len(x), most).to(x.device)].flatten(1).to(extractor.device)

    # Two seeds that are the same would be no harm: these are pictures of another split.
    window = parzen(pixels(images, CAP), pixels(train, VALIDATION), pixels(test, CAP))
    values: Values = {
        kid_name: mean,
        f"{kid_name} std": std,
        **attrs.asdict(balls),
        "memorization": copied.probability,
        "memorization ratio": copied.ratio,
        "near copies": copied.near_copies,
        "Parzen log-likelihood (legacy)": window.log_likelihood,
    }
    order = copied.distances.argsort(stable=True)[:_SHOWN].cpu()
    return values, NearestTraining(images[order], copied.indices.cpu()[order], copied.distances.cpu()[order])


_CODE_SCORES = (
    "linear probe accuracy",
    "1-NN accuracy",
    "5-NN accuracy",
    "MMD to prior",
    "active units",
    "cycle error",
)


def code_scores(codes: Codes | None, data: Data, batch: int, seed: int) -> Values:
    """Scores of the encoder's codes; all None where there is no encoder."""
    values: Values = dict.fromkeys(_CODE_SCORES)
    if codes is None:
        return values
    test, train = data.test, data.train
    with seeded(seed):
        z = _many("encode", codes.encode, test.images, batch)
        if test.labels is not None and train.labels is not None:
            chosen = drawn(len(train.images), of_codes.PROBE_CAP)
            known = _many("encode", codes.encode, train.images[chosen.to(train.images.device)], batch)
            labels = train.labels[chosen.to(train.labels.device)]
            values["linear probe accuracy"] = of_codes.linear_probe(known, labels, z, test.labels)
            one, five = of_codes.knn_accuracy(known, labels, z, test.labels)
            values["1-NN accuracy"], values["5-NN accuracy"] = one, five
        some = drawn(len(test.images), of_codes.MMD_CAP)
        prior = codes.prior(len(some)).detach().float()
        if codes.draw is None:
            posterior = z[some.to(z.device)]
        else:
            posterior = _many("draw", codes.draw, test.images[some.to(test.images.device)], batch)
        values["MMD to prior"] = of_codes.mmd(posterior, prior.to(posterior.device))
        values["active units"] = float(of_codes.active_units(z))
        again = _many("encode", lambda part: codes.encode(codes.decode(part)), prior, batch)
        values["cycle error"] = of_codes.cycle_error(prior, again)
    return values


def density_scores(density: Density | None, data: Data, seed: int, chunk: int = 100, ais: int = 0) -> Values:
    """The importance-weighted bound and its standard error, under the observation model's name; n/a without one.

    With ``ais``, the likelihood by annealed importance sampling too, of that many of the same images. It is no part of
    the protocol, so its name says how it was measured.
    """
    if density is None:
        return dict.fromkeys(["log-likelihood", "log-likelihood (AIS)"] if ais else ["log-likelihood"])
    test = data.test.images
    x = observed(test[drawn(len(test), IMAGES).to(test.device)], density.observation)
    with seeded(seed):
        found = log_likelihood(density, x, chunk=chunk)
    name = f"log-likelihood ({density.observation})"
    values: Values = {name: found.mean, f"{name} standard error": found.standard_error}
    if ais:
        with seeded(seed):
            annealed = annealed_log_likelihood(density, x[:ais])
        how = f"AIS, {STEPS} steps, {CHAINS} chains, {min(ais, len(x))} images"
        name = f"log-likelihood ({density.observation}; {how})"
        values |= {name: annealed.mean, f"{name} standard error": annealed.standard_error}
    return values


@torch.no_grad()
def _many(what: str, function: typing.Callable[[Tensor], Tensor], x: Tensor, batch: int) -> Tensor:
    parts = [function(part) for part in torch.split(x, batch)]
    for part, made in zip(torch.split(x, batch), parts, strict=True):
        if made.dim() != 2 or len(made) != len(part):
            raise ZooError(f"{what}: codes with shape {tuple(made.shape)} for {len(part)} rows; must be (B, d)")
    return torch.cat(parts).float()
