"""Evaluation that can be trusted: features, Fréchet distances and the protocol that every number carries."""

from zoo.evaluation.extractors import Classifier, Extractor, PinnedClassifier
from zoo.evaluation.frechet import Reference, frechet_distance
from zoo.evaluation.inception import Inception
from zoo.evaluation.moments import Moments
from zoo.evaluation.protocol import Protocol
from zoo.evaluation.reference import moments_of, reference_moments
from zoo.evaluation.scores import (
    Scores,
    default_n,
    evaluate,
    evaluate_images,
    reconstruction_mse,
    score_name,
)

__all__ = [
    "Classifier",
    "Extractor",
    "Inception",
    "Moments",
    "PinnedClassifier",
    "Protocol",
    "Reference",
    "Scores",
    "default_n",
    "evaluate",
    "evaluate_images",
    "frechet_distance",
    "moments_of",
    "reconstruction_mse",
    "reference_moments",
    "score_name",
]
