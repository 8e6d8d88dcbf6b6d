"""What each score is, in a line, and which way is better: for tables, leaderboards and docs."""

from __future__ import annotations

import re
from typing import Literal

import attrs

__all__ = ["Metric", "metric_of"]

Better = Literal["lower", "higher", "neither"]


@attrs.frozen
class Metric:
    """A score's meaning."""

    help: str
    better: Better
    """``neither``: there is a right value, or it is a reference to read others by."""


# The first pattern that matches the whole name counts.
_METRICS: tuple[tuple[str, str, Better], ...] = (
    (r".* floor", "real training images in place of generated ones: no model should be below", "neither"),
    (r"reconstruction (FID|FD-.*)", "Fréchet distance of reconstructed test images to the test images", "lower"),
    (r".* \(train\)", "the same against the training images", "lower"),
    (r"FID|FD-.*", "Fréchet distance of generated to test images", "lower"),
    (r"KID.* std", "its standard deviation over the subsets", "neither"),
    (r"KID.*", "unbiased squared kernel distance of generated to test images", "lower"),
    ("precision", "generated images within reach of some test image", "higher"),
    ("recall", "test images within reach of some generated image", "higher"),
    ("density", "how many test images a generated one is within reach of; 1 as for real ones", "higher"),
    ("coverage", "test images with a generated one within their reach", "higher"),
    ("memorization", "chance to lie nearer to training data than a test image does: 0.5 as they, 1 copies", "neither"),
    ("memorization ratio", "median distance to training data over the test images': 1 as they, 0 copies", "neither"),
    ("near copies", "nearer to training data than all but 1 % of the test images; 0.01 as they", "neither"),
    ("classes covered", "classes with at least a tenth of an even share", "higher"),
    ("smallest class share", "of the generated images; one over the classes if even", "higher"),
    ("class entropy", "of the generated images, in nats; log of the classes if even", "higher"),
    ("reconstruction MSE", "test images, pixels in [0, 1]", "lower"),
    ("linear probe accuracy", "labels of test images from their codes, by logistic regression", "higher"),
    (r"\d+-NN accuracy", "labels of test images from the nearest training codes", "higher"),
    ("MMD to prior", "between codes of test images and the prior; about 0 where they agree", "lower"),
    ("active units", "dimensions of the code that vary with the image by more than 0.01", "neither"),
    ("cycle error", "code to image to code, over the code's variance", "lower"),
    (r"log-likelihood.* standard error", "its standard error over images", "neither"),
    (r"log-likelihood.*AIS.*", "by annealed importance sampling, nats an image", "higher"),
    (r"log-likelihood.*", "importance-weighted bound, nats an image", "higher"),
    (r"Parzen.*", "nats an image under windows on the generated ones; legacy, do not rank by it", "neither"),
    (r"classifier score.*", "the inception score with this classifier; legacy, do not rank by it", "neither"),
)


def metric_of(name: str) -> Metric:
    """The meaning of a score by its name; an empty one for a name that no score has.

    >>> metric_of("KID-classifier").better
    'lower'
    """
    for pattern, text, better in _METRICS:
        if re.fullmatch(pattern, name):
            return Metric(text, better)
    return Metric("", "neither")
