from .autoencoder import AutoencoderFeatures
from .dinov2 import DINOv2
from .efficientnet import EfficientNet
from .evaluation_settings import Codes, EvaluationSettings, ModelFunctions, NamedMetric
from .extractors import Classifier, ClassifierV1, Extractor, PinnedClassifier
from .image_files import read_images
from .inception import Inception
from .pipeline import NearestTraining, Scores, default_n, evaluate, evaluate_images, make_protocol
from .protocol import Protocol
from .random_features import RandomFeatures
from .reference import (
    EvaluationData,
    ReferenceSamples,
    ReferenceStatistics,
    feature_moments,
    reference_moments,
    score_name,
)
from .sample_buffer import SampleBuffer

__all__ = [
    "AutoencoderFeatures",
    "Classifier",
    "ClassifierV1",
    "Codes",
    "DINOv2",
    "EfficientNet",
    "EvaluationData",
    "EvaluationSettings",
    "Extractor",
    "Inception",
    "ModelFunctions",
    "NamedMetric",
    "NearestTraining",
    "PinnedClassifier",
    "Protocol",
    "RandomFeatures",
    "ReferenceSamples",
    "ReferenceStatistics",
    "SampleBuffer",
    "Scores",
    "default_n",
    "evaluate",
    "evaluate_images",
    "feature_moments",
    "make_protocol",
    "read_images",
    "reference_moments",
    "score_name",
]
