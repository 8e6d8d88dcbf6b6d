"""Presets of WAE."""

from __future__ import annotations

import zoo

_SETTINGS = {
    "dataset": "mnist",
    "family": "wae-conv",
    "latent": 8,
    # 0.01 for pixels in [0, 1].
    "input_noise": 0.02,
    "drops": True,
    "penalty": 10.0,
    "batch": 100,
    "epochs": 100,
}
_SOURCE = "Tolstikhin et al., github.com/tolstikhin/wae, configs.py (config_mnist)"
_DEVIATIONS = {
    "pre-training": "none; the authors first fit the encoder's moments to the prior's, in at most 200 steps",
    "biases": "none before batch normalization, which subtracts them",
}
MMD = zoo.Preset(_SETTINGS, _SOURCE, _DEVIATIONS)
GAN = zoo.Preset(_SETTINGS, _SOURCE, _DEVIATIONS)
