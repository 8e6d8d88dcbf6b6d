"""Training runs: from settings to a run folder, and from a run folder to a trained model."""

from __future__ import annotations

from zoo.run.export import ExportReport, export
from zoo.run.settings import RunSettings
from zoo.run.train import train
from zoo.run.trained import TrainedAutoencoder, TrainedModel, load

__all__ = ["ExportReport", "RunSettings", "TrainedAutoencoder", "TrainedModel", "export", "load", "train"]
