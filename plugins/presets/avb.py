"""Preset of AVB."""

from __future__ import annotations

import zoo

PAPER = zoo.Preset(
    {
        "dataset": "mnist",
        "family": "avb-conv",
        "latent": 8,
        "noise": 16,
        "noise_dim": 32,
        "basis": "elu",
        "binarize": True,
        "extra": 0,
        "lr": 5e-5,
        "critic_lr": 1e-4,
        "batch": 128,
        # 2.5 million steps.
        "images": 320_000_000,
    },
    "Mescheder et al., github.com/LMescheder/AdversarialVariationalBayes, experiments/avb_mnist_8_ac/run.py",
    {
        "moments of the posterior": "from 256 draws of their own, the authors' from the batch's 128",
        "initialization": "of the weights that the authors start at 1e-5: Glorot's, as the others",
    },
)
