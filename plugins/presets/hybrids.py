"""Preset of α-GAN."""

from __future__ import annotations

import zoo

ALPHA_GAN = zoo.Preset(
    {
        "dataset": "cifar10",
        "family": "alpha-gan-conv",
        "latent": 128,
        "ratio": True,
        "alternate": True,
        "batch": 64,
        "epochs": 50,
    },
    "Rosca et al., algorithm 1 and section 6 (CIFAR-10)",
    {
        "λ, rates, batch and length": "the zoo's; the paper searches over them",
        "networks": "DCGAN's sizes in Radford et al., which the paper names without its own",
        "biases": "as in the preset of gan",
    },
)
