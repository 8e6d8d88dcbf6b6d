"""Presets of BiGAN, ALI and ALICE."""

from __future__ import annotations

import zoo

BIGAN = zoo.Preset(
    {
        "dataset": "mnist",
        "family": "bigan-flat",
        "latent": 50,
        "weight_decay": 2.5e-5,
        "decay": True,
        "batch": 128,
        "epochs": 400,
    },
    "Donahue et al., section 4.1; github.com/jeffdonahue/bigan, train_mnist.sh",
    {
        "60,000 training images": "the authors' script trains on 50,000",
        "statistics of batch normalization": "running averages; the authors re-estimate them after training",
    },
)

ALI = zoo.Preset(
    {
        "dataset": "cifar10",
        "family": "ali-conv",
        "latent": 64,
        "lr": 1e-4,
        "joint": True,
        "batch": 100,
        "epochs": 6475,
    },
    "Dumoulin et al., appendix A; github.com/IshmaelBelghazi/ALI, experiments/ali_cifar10.py",
    {
        "50,000 training images": "the authors' script trains on 45,000",
        "dropout": "before every convolution of the critic, as the paper says; the script leaves out two",
        "biases of the critic's convolutions": "one per channel, the script's one per pixel",
    },
)

ALICE = zoo.Preset(
    {
        "dataset": "mnist",
        "cycle": 1.0,
        "lr": 1e-4,
        "alternate": True,
        "batch": 64,
        "epochs": 101,
    },
    "Li et al., section 5.1 (MNIST, λ = 1); github.com/ChunyuanLI/ALICE, cifar/cifar_R.py",
    {
        "networks": "the zoo's, batch-normalized: the authors' for MNIST were not published",
        "rate, batch and length": "of the authors' code for CIFAR-10, the nearest that was published",
        "adversarial losses": "ALI's; that code's encoder and decoder minimize differences of D itself",
        "prior": "N(0, I); that code's is uniform",
    },
)
