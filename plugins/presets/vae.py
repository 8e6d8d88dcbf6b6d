"""Presets of VAE, β-VAE and IWAE."""

from __future__ import annotations

import zoo

VAE = zoo.Preset(
    {
        "dataset": "mnist",
        "family": "vae-flat",
        "latent": 20,
        "adagrad": True,
        "lr": 0.01,
        "weight_decay": 1 / 60_000,
        "batch": 100,
        "images": 100_000_000,
    },
    "Kingma & Welling, section 5 and figure 2 (MNIST, 20 dimensions)",
    {
        "learning rate": "0.01, one of the three among which the paper chooses by the first iterations",
        "spread of the initial weights": "N(0, 0.01) is read as variance 0.01",
    },
)

_BURDA = {
    "dataset": "mnist",
    "family": "iwae-flat",
    "latent": 50,
    "binarize": True,
    "eps": 1e-4,
    "stages": True,
    "batch": 20,
    "epochs": 3280,
}
_SOURCE = "Burda et al., section 5; github.com/yburda/iwae, experiments.py"
_DEVIATIONS = {
    "Adam": "as in the text, β1 = 0.9; the authors' code has 0.99 and starts the second moment at one (optimizers.py)",
}
BURDA = zoo.Preset(_BURDA, _SOURCE, _DEVIATIONS)
IWAE = zoo.Preset({**_BURDA, "k": 50}, _SOURCE, _DEVIATIONS)

BETA_VAE = zoo.Preset(
    {
        "dataset": "celeba",
        "family": "beta-vae-conv",
        "latent": 32,
        "beta": 250.0,
        "lr": 1e-4,
        "likelihood": "unit-gaussian",
        "batch": 64,
        "epochs": 20,
    },
    "Higgins et al., table 1 and figure 1 (CelebA, β = 250)",
    {
        "length and batch": "the paper states neither",
        "range of the pixels": "[−1, 1]; the paper does not state the one of its unit variance",
    },
)
