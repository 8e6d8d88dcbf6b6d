"""The built-in metrics, by the names under which the registry and the protocol know them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from zoo.metrics.annealed import AnnealedLogLikelihood
from zoo.metrics.codes import MMD, ActiveUnits, CycleError, LinearProbe, NearestNeighborProbe
from zoo.metrics.coverage import ClassCoverage, LabelAccuracy
from zoo.metrics.frechet import (
    FloorFrechetDistance,
    FrechetDistance,
    ReconstructionFrechetDistance,
    SecondFloorFrechetDistance,
    SecondFrechetDistance,
    TrainFrechetDistance,
)
from zoo.metrics.frechet_error import FrechetStandardError
from zoo.metrics.image_similarity import PSNR, SSIM
from zoo.metrics.kid import KernelDistance
from zoo.metrics.legacy import ClassifierScore, ParzenLikelihood
from zoo.metrics.likelihood import LogLikelihood
from zoo.metrics.memorization import Memorization
from zoo.metrics.metric import Metric
from zoo.metrics.perceptual import PerceptualDistance
from zoo.metrics.prdc import PRDC
from zoo.metrics.reconstruction import ReconstructionError
from zoo.metrics.score_info import ScoreInfo

__all__ = ["BUILT_IN_METRICS", "find_score", "protocol_entries"]

BUILT_IN_METRICS: Mapping[str, type[Metric]] = {
    "frechet": FrechetDistance,
    "frechet-train": TrainFrechetDistance,
    "floor": FloorFrechetDistance,
    "frechet-error": FrechetStandardError,
    "frechet-second": SecondFrechetDistance,
    "floor-second": SecondFloorFrechetDistance,
    "reconstruction": ReconstructionError,
    "psnr": PSNR,
    "ssim": SSIM,
    "perceptual": PerceptualDistance,
    "frechet-reconstruction": ReconstructionFrechetDistance,
    "classes": ClassCoverage,
    "label-accuracy": LabelAccuracy,
    "kid": KernelDistance,
    "prdc": PRDC,
    "memorization": Memorization,
    "parzen": ParzenLikelihood,
    "classifier-score": ClassifierScore,
    "probe": LinearProbe,
    "knn": NearestNeighborProbe,
    "mmd": MMD,
    "active-units": ActiveUnits,
    "cycle": CycleError,
    "likelihood": LogLikelihood,
    "ais": AnnealedLogLikelihood,
}
"""In the order in which results list their scores."""


def protocol_entries() -> dict[str, str]:
    """Constants of the built-in metrics, as they enter every protocol, whether or not a result has their scores.

    Those with ``compared_separately`` are not among them.
    """
    found = {n.replace("-", " "): m.protocol for n, m in BUILT_IN_METRICS.items() if not m.compared_separately}
    return {name: text for name, text in found.items() if text}


def find_score(name: str, metrics: Iterable[type[Metric]] | None = None) -> ScoreInfo | None:
    """The description of the score with this display name; None if no metric declares it.

    >>> find_score("KID-classifier").better
    'lower'
    """
    candidates = BUILT_IN_METRICS.values() if metrics is None else metrics
    return next((info for metric in candidates for info in metric.scores if info.matches(name)), None)
