from .annealed import annealed_log_likelihood
from .balls import PRDC, prdc
from .codes import Codes, active_units, cycle_error, knn_accuracy, linear_probe, mmd
from .copies import Memorization, memorization
from .dinov2 import DINOv2
from .extractors import Classifier, Extractor, PinnedClassifier
from .files import read_images
from .frechet import Reference, frechet_distance
from .full import NearestTraining
from .inception import Inception
from .kernel import kid
from .legacy import ClassifierScore, Parzen, parzen, parzen_log_likelihood
from .likelihood import Density, LogLikelihood, log_likelihood, observed
from .metrics import Metric, metric_of
from .moments import Moments
from .protocol import Protocol
from .reference import Gallery, moments_of, reference_moments
from .scores import Scores, default_n, evaluate, evaluate_images, reconstruction_mse, score_name

__all__ = [
    "PRDC",
    "Classifier",
    "ClassifierScore",
    "Codes",
    "DINOv2",
    "Density",
    "Extractor",
    "Gallery",
    "Inception",
    "LogLikelihood",
    "Memorization",
    "Metric",
    "Moments",
    "NearestTraining",
    "Parzen",
    "PinnedClassifier",
    "Protocol",
    "Reference",
    "Scores",
    "active_units",
    "annealed_log_likelihood",
    "cycle_error",
    "default_n",
    "evaluate",
    "evaluate_images",
    "frechet_distance",
    "kid",
    "knn_accuracy",
    "linear_probe",
    "log_likelihood",
    "memorization",
    "metric_of",
    "mmd",
    "moments_of",
    "observed",
    "parzen",
    "parzen_log_likelihood",
    "prdc",
    "read_images",
    "reconstruction_mse",
    "reference_moments",
    "score_name",
]
