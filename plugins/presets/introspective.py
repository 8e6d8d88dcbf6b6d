"""Presets of AGE and Soft-IntroVAE."""

from __future__ import annotations

import zoo

AGE = zoo.Preset(
    {
        "dataset": "celeba",
        "family": "age-conv",
        "latent": 64,
        "lr": 2e-4,
        "rec": 10.0,
        # The authors' 1000 weighs the mean over 64 products of coordinates, not their sum.
        "cycle": 1000 / 64,
        "n_decoder": 3,
        "lr_schedule": "multistep",
        "lr_milestones": "0.8",
        "lr_gamma": 0.5,
        "batch": 64,
        # Five epochs; a step draws three batches and trains the encoder on one.
        "epochs": 15,
    },
    "Ulyanov et al., github.com/DmitryUlyanov/AGE, README.md (Celeba)",
    {
        "divergence": "equation 6; the authors' code has variances for standard deviations, which doubles its slope",
        "sphere": "of radius √d for 1; the normalized first layer of the generator makes them one",
        "crop": "the middle 148×148 pixels; the authors' the full width of 178",
        "fine-tuning": "none; the authors add an epoch in batches of 256",
    },
)

SOFT_INTROVAE = zoo.Preset(
    {
        "dataset": "mnist",
        "family": "soft-introvae-conv",
        "latent": 32,
        # The authors' 1 is of ‖x − x̂‖² with pixels in [0, 1], half of ½‖x − x̂‖² in [−1, 1].
        "beta_rec": 0.5,
        "beta_kl": 1.0,
        "beta_neg": 256.0,
        "gamma": 1e-8,
        "lr": 2e-4,
        "beta1": 0.9,
        "batch": 128,
        "epochs": 200,
    },
    "Daniel & Tamar, github.com/taldatech/soft-intro-vae-pytorch, soft_intro_vae/README.md (MNIST)",
    {
        "codes of the decoder's step": "drawn anew; the authors' reuse those of the encoder's",
        "reconstructions as targets": "constant; in the authors' encoder loss their gradient reaches the encoder",
    },
)
