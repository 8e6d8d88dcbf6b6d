"""Scores of an encoder by its codes: what they tell of the labels, and whether they fill the prior."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import attrs
import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.evaluation.distances import checked, squared_blocks

__all__ = [
    "ACTIVE",
    "MMD_CAP",
    "PROBE_CAP",
    "SCALES",
    "Codes",
    "active_units",
    "cycle_error",
    "knn_accuracy",
    "linear_probe",
    "mmd",
]

PROBE_CAP = 10_000
"""Training codes that the probes learn from, at most."""
MMD_CAP = 5000
"""Codes on either side of the MMD, at most; also those of the cycle error."""
ACTIVE = 1e-2
SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


@attrs.frozen
class Codes:
    """What a model with an encoder can do, as callables that take any number of rows."""

    encode: Callable[[Tensor], Tensor]
    """From uint8 pictures (B, C, H, W) to their codes, the posterior means, (B, d)."""
    decode: Callable[[Tensor], Tensor]
    """From codes (B, d) to uint8 pictures (B, C, H, W)."""
    prior: Callable[[int], Tensor]
    """From a number n to n codes drawn from the prior, (n, d)."""
    draw: Callable[[Tensor], Tensor] | None = None
    """Like ``encode``, but a draw from each posterior; None where the encoder is deterministic."""


def linear_probe(train: Tensor, train_labels: Tensor, test: Tensor, test_labels: Tensor) -> float:
    """Test accuracy of a multinomial logistic regression on codes, standardized by the training codes.

    scikit-learn's, with its L2 penalty of C = 1. The problem is convex: the solver does not matter.

    Args:
        train: codes, with shape (N, d).
        train_labels: class indices, (N,).
        test: codes, with shape (M, d).
        test_labels: class indices, (M,).
    """
    import numpy as np
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    x, y = (checked("codes", codes, source="model").double().cpu().numpy() for codes in (train, test))
    labels, wanted = train_labels.cpu().numpy(), test_labels.cpu().numpy()
    if len(np.unique(labels)) == 1:
        return float((wanted == labels[0]).mean())
    spread = x.std(0)
    spread[spread <= 1e-12 * np.abs(x).max(0, initial=1e-300)] = 1.0  # a dimension that says nothing
    mean = x.mean(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            probe = LogisticRegression(max_iter=5000).fit((x - mean) / spread, labels)
        except ConvergenceWarning:
            raise ZooError("linear probe: no convergence in 5000 steps; look at the codes' scale") from None
    return float((probe.predict((y - mean) / spread) == wanted).mean())


def knn_accuracy(
    train: Tensor, train_labels: Tensor, test: Tensor, test_labels: Tensor, ks: tuple[int, ...] = (1, 5)
) -> tuple[float, ...]:
    """Test accuracy of the majority of the k nearest training codes (Euclidean), for each k.

    Where classes have equal votes the one with the smallest index wins, as in scikit-learn. With fewer than k
    training codes all of them vote.
    """
    checked("codes", train, source="model")
    checked("codes", test, source="model")
    train_labels, test_labels = (labels.to(train.device) for labels in (train_labels, test_labels))
    classes = int(train_labels.max()) + 1
    hits = [0] * len(ks)
    for rows, block in squared_blocks(test, train):
        near = block.topk(min(max(ks), len(train)), largest=False).indices
        votes = torch.nn.functional.one_hot(train_labels[near], classes)
        for i, k in enumerate(ks):
            hits[i] += int((votes[:, :k].sum(1).argmax(1) == test_labels[rows]).sum())
    return tuple(hit / len(test) for hit in hits)


def mmd(codes: Tensor, prior: Tensor) -> float:
    """Unbiased MMD² between codes (the aggregate posterior) and draws from the prior; about 0 where they agree.

    Inverse multiquadrics, summed over scales: Σ_s C/(C + |x − y|²) with C = 2·v·s, where v is the total variance of
    the draws from the prior: d for N(0, I), as in Tolstikhin et al., arXiv:1711.01558, section 4.

    Args:
        codes: with shape (N, d), N at least 2.
        prior: with shape (M, d), M at least 2.
    """
    checked("codes", codes, 2, "model")
    checked("prior", prior, 2, "model")
    variance = float(prior.double().var(0).sum())
    if not variance > 0:
        raise ZooError("prior: its draws are all the same code")

    def kernels(x: Tensor, y: Tensor) -> float:
        total = 0.0
        for _, block in squared_blocks(x, y):
            for s in SCALES:
                c = 2 * variance * s
                total += float((block + c).reciprocal_().sum()) * c
        return total

    def others(x: Tensor) -> float:
        n = len(x)
        return (kernels(x, x) - n * len(SCALES)) / (n * (n - 1))

    return others(codes) + others(prior) - 2 * kernels(codes, prior) / (len(codes) * len(prior))


def active_units(codes: Tensor, threshold: float = ACTIVE) -> int:
    """Dimensions whose posterior mean varies over the data: Var_x E[z|x] above ``threshold``.

    References:
        Burda, Grosse & Salakhutdinov, arXiv:1509.00519, section 5.2.

    Args:
        codes: posterior means of the data, with shape (N, d), N at least 2.
    """
    checked("codes", codes, 2, "model")
    return int((codes.double().var(0) > threshold).sum())


def cycle_error(codes: Tensor, again: Tensor) -> float:
    """E|z − ẑ|² over E|z − E z|², where ẑ is what the encoder makes of the picture that z decodes to.

    0 where the encoder undoes the decoder; 1 where a constant would do as well.

    Args:
        codes: z, drawn from the prior, with shape (N, d).
        again: ẑ, with shape (N, d).
    """
    checked("codes", codes, 2, "model")
    checked("codes encoded again", again, source="model")
    if codes.shape != again.shape:
        raise ZooError(f"codes: {tuple(again.shape)} came back for {tuple(codes.shape)}")
    z, back = codes.double(), again.double().to(codes.device)
    spread = float((z - z.mean(0)).square().sum())
    if not spread > 0:
        raise ZooError("prior: its draws are all the same code")
    return float((z - back).square().sum()) / spread
