from .annealed import AnnealedLogLikelihood, annealed_log_likelihood
from .built_in import BUILT_IN_METRICS, find_score, protocol_entries
from .codes import (
    MMD,
    ActiveUnits,
    CycleError,
    LinearProbe,
    NearestNeighborProbe,
    active_units,
    cycle_error,
    knn_accuracy,
    linear_probe,
    mmd,
)
from .coverage import ClassCoverage, LabelAccuracy
from .frechet import (
    FloorFrechetDistance,
    FrechetDistance,
    ReconstructionFrechetDistance,
    SecondFloorFrechetDistance,
    SecondFrechetDistance,
    TrainFrechetDistance,
    frechet_distance,
)
from .frechet_error import FrechetStandardError, frechet_standard_errors
from .image_similarity import PSNR, SSIM, peak_signal_noise_ratio, structural_similarity
from .kid import KernelDistance, kernel_distance
from .legacy import ClassifierScore, ParzenLikelihood, ParzenResult, fit_parzen, parzen_log_likelihood
from .likelihood import Density, Estimate, LogLikelihood, log_likelihood, observe
from .memorization import Memorization, MemorizationResult, compare_with_training
from .metric import INPUTS, Metric, ReferenceData
from .moments import Moments, ReferenceMoments
from .perceptual import PerceptualDistance, perceptual_distance
from .prdc import PRDC, compute_prdc
from .reconstruction import ReconstructionError
from .score_info import ScoreInfo

__all__ = [
    "BUILT_IN_METRICS",
    "INPUTS",
    "MMD",
    "PRDC",
    "PSNR",
    "SSIM",
    "ActiveUnits",
    "AnnealedLogLikelihood",
    "ClassCoverage",
    "ClassifierScore",
    "CycleError",
    "Density",
    "Estimate",
    "FloorFrechetDistance",
    "FrechetDistance",
    "FrechetStandardError",
    "KernelDistance",
    "LabelAccuracy",
    "LinearProbe",
    "LogLikelihood",
    "Memorization",
    "MemorizationResult",
    "Metric",
    "Moments",
    "NearestNeighborProbe",
    "ParzenLikelihood",
    "ParzenResult",
    "PerceptualDistance",
    "ReconstructionError",
    "ReconstructionFrechetDistance",
    "ReferenceData",
    "ReferenceMoments",
    "ScoreInfo",
    "SecondFloorFrechetDistance",
    "SecondFrechetDistance",
    "TrainFrechetDistance",
    "active_units",
    "annealed_log_likelihood",
    "compare_with_training",
    "compute_prdc",
    "cycle_error",
    "find_score",
    "fit_parzen",
    "frechet_distance",
    "frechet_standard_errors",
    "kernel_distance",
    "knn_accuracy",
    "linear_probe",
    "log_likelihood",
    "mmd",
    "observe",
    "parzen_log_likelihood",
    "peak_signal_noise_ratio",
    "perceptual_distance",
    "protocol_entries",
    "structural_similarity",
]
