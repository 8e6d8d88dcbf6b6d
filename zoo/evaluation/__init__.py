"""Evaluation that can be trusted: features, distances, likelihoods and the protocol that every number carries."""

from zoo.evaluation.balls import PRDC, prdc
from zoo.evaluation.codes import Codes, active_units, cycle_error, knn_accuracy, linear_probe, mmd
from zoo.evaluation.copies import Memorisation, memorisation
from zoo.evaluation.extractors import Classifier, Extractor, PinnedClassifier
from zoo.evaluation.frechet import Reference, frechet_distance
from zoo.evaluation.full import Neighbours
from zoo.evaluation.inception import Inception
from zoo.evaluation.kernel import kid
from zoo.evaluation.legacy import ClassifierScore, Parzen, parzen, parzen_log_likelihood
from zoo.evaluation.likelihood import Density, LogLikelihood, log_likelihood, observed
from zoo.evaluation.metrics import Metric, metric_of
from zoo.evaluation.moments import Moments
from zoo.evaluation.protocol import Protocol
from zoo.evaluation.reference import Gallery, moments_of, reference_moments
from zoo.evaluation.scores import (
    Scores,
    default_n,
    evaluate,
    evaluate_images,
    reconstruction_mse,
    score_name,
)

__all__ = [
    "PRDC",
    "Classifier",
    "ClassifierScore",
    "Codes",
    "Density",
    "Extractor",
    "Gallery",
    "Inception",
    "LogLikelihood",
    "Memorisation",
    "Metric",
    "Moments",
    "Neighbours",
    "Parzen",
    "PinnedClassifier",
    "Protocol",
    "Reference",
    "Scores",
    "active_units",
    "cycle_error",
    "default_n",
    "evaluate",
    "evaluate_images",
    "frechet_distance",
    "kid",
    "knn_accuracy",
    "linear_probe",
    "log_likelihood",
    "memorisation",
    "metric_of",
    "mmd",
    "moments_of",
    "observed",
    "parzen",
    "parzen_log_likelihood",
    "prdc",
    "reconstruction_mse",
    "reference_moments",
    "score_name",
]
