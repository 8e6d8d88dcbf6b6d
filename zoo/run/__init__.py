"""Runs: settings in, a run folder out; and trained models loaded back from it."""

from __future__ import annotations

from zoo.run.settings import RunSettings
from zoo.run.train import train
from zoo.run.trained import TrainedAutoencoder, TrainedModel, load

__all__ = ["RunSettings", "TrainedAutoencoder", "TrainedModel", "load", "train"]
