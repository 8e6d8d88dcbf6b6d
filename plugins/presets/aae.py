"""Presets of AAE."""

from __future__ import annotations

import zoo

_COMMON = {
    "dataset": "mnist",
    "family": "aae-flat",
    "sgd": True,
    # The squared error of pixels in [0, 1] is a quarter of that in [−1, 1].
    "rec": 0.25,
    "noise": 0.0,
    "batch": 100,
}
PAPER = zoo.Preset(
    {
        **_COMMON,
        "latent": 8,
        "scale": 5.0,
        "lr": 0.01,
        "regularize_lr": 0.1,
        "lr_schedule": "multistep",
        "lr_milestones": "0.05",
        "epochs": 1000,
    },
    "Makhzani et al., appendix A.1 (likelihood of MNIST)",
    {
        "learning rates, momentum and length": "of appendix A.2.1, up to epoch 1000; A.1 states none",
    },
)
LABELS = zoo.Preset(
    {
        **_COMMON,
        "latent": 10,
        "labels": 100,
        # 0.3 for pixels in [0, 1].
        "input_noise": 0.6,
        "lr": 0.01,
        "regularize_lr": 0.1,
        "lr_schedule": "multistep",
        "lr_milestones": "0.01,0.2",
        "epochs": 5000,
    },
    "Makhzani et al., appendix A.2.1 (MNIST, 100 labels)",
    {
        "labeled batches": "of the labeled images alone, one per step; the paper does not say how they are mixed",
    },
)
