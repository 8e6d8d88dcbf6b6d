"""Preset of VAE-GAN."""

from __future__ import annotations

import zoo

PAPER = zoo.Preset(
    {
        "dataset": "celeba",
        "family": "vaegan-conv",
        "latent": 128,
        "tap": 4,
        "pre_norm": True,
        "gamma": 1e-6,
        "fakes": "prior",
        "saturating": True,
        "equilibrium": True,
        "rmsprop": True,
        # The authors' losses are sums over 64 images, with gradients 2·1e-5·w of the penalty.
        "lr": 0.025 / 64,
        "weight_decay": 2e-5 / 64,
        "anneal": True,
        "batch": 64,
        # 250 epochs of 250 batches.
        "images": 4_000_000,
    },
    "Larsen et al., github.com/andersbll/autoencoding_beyond_pixels, celeba_aegan.py",
    {
        "augmentation": "none; the authors train on 600,000 shifted, scaled and flipped copies",
        "batches of the decoder": "reconstructions and samples in one, the authors' in two",
        "batches of the critic": "real and fake images in two, the authors' in one",
        "log D": "not log(D + 0.001)",
        "weight decay": "also of biases and normalization; half as strong against the critic's loss, here a sum of two",
        "noise": "drawn anew for samples; the authors' reuse that of the posterior",
        "initialization": "torch's",
    },
)
