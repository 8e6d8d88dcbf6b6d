"""Presets of GAN and WGAN-GP."""

from __future__ import annotations

import zoo

GAN = zoo.Preset(
    {
        "dataset": "celeba",
        "family": "dcgan",
        "latent": 100,
        "uniform": True,
        "weight_decay": 1e-5,
        "batch": 128,
        # 25 epochs of 350,000 faces, every other batch for the critic.
        "images": 4_375_000,
    },
    "Radford et al., github.com/Newmu/dcgan_code, faces/train_uncond_dcgan.py",
    {
        "CelebA": "in place of 350,000 faces that were not published",
        "biases": "of the critic's first and last layers and of the generator's last, which the authors' have not",
        "ε of batch normalization": "1e-5 instead of 1e-8, with running averages in evaluation",
    },
)

WGAN_GP = zoo.Preset(
    {
        "dataset": "mnist",
        "family": "wgan-gp-conv",
        "latent": 128,
        "lr": 1e-4,
        "beta1": 0.5,
        "n_critic": 5,
        # On [0, 1] slopes are twice those on [−1, 1]: 10 (2s − 1)² = 40 (s − 1/2)².
        "slope": 0.5,
        "penalty": 40.0,
        "batch": 50,
        # 200,000 steps of five batches.
        "images": 50_000_000,
    },
    "Gulrajani et al., github.com/igul222/improved_wgan_training, gan_mnist.py",
    {
        "initialization": "torch's; the authors' is He's for convolutions and Glorot's for linear layers",
        "60,000 training images": "the authors' code trains on the first 50,000",
    },
)
