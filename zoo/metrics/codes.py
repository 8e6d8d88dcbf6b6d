"""Scores of an encoder's codes: information about the labels, and agreement with the prior."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.metrics.distances import check_features, squared_distance_blocks
from zoo.metrics.metric import Metric, concatenate, scalar
from zoo.metrics.score_info import ScoreInfo

__all__ = [
    "ACTIVE_VARIANCE",
    "MMD",
    "MMD_CODES",
    "MMD_SCALES",
    "PROBE_CODES",
    "ActiveUnits",
    "CycleError",
    "LinearProbe",
    "NearestNeighborProbe",
    "active_units",
    "cycle_error",
    "knn_accuracy",
    "linear_probe",
    "mmd",
]

PROBE_CODES = 10_000
"""Most training codes that the probes are fitted to."""
MMD_CODES = 5000
"""Most codes on either side of the MMD, and of the cycle error."""
MMD_SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
ACTIVE_VARIANCE = 1e-2
"""Variance of the posterior mean above which a dimension is active."""


def linear_probe(train: Tensor, train_labels: Tensor, test: Tensor, test_labels: Tensor) -> float:
    """Test accuracy of a multinomial logistic regression on codes, standardized by the training codes.

    Uses scikit-learn's classifier with its L2 penalty C = 1. The problem is convex, so the solver does not matter.

    Shape:
        train: (N, d).
        train_labels: (N,), class indices.
        test: (M, d).
        test_labels: (M,), class indices.

    Raises:
        ZooError: If a code is not finite, or the regression does not converge.
    """
    import numpy as np
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    x, y = (check_features("codes", codes, source="model").double().cpu().numpy() for codes in (train, test))
    labels, wanted = train_labels.cpu().numpy(), test_labels.cpu().numpy()
    if len(np.unique(labels)) == 1:
        return float((wanted == labels[0]).mean())
    spread = x.std(0)
    spread[spread <= 1e-12 * np.abs(x).max(0, initial=1e-300)] = 1.0  # a constant dimension
    mean = x.mean(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            probe = LogisticRegression(max_iter=5000).fit((x - mean) / spread, labels)
        except ConvergenceWarning:
            raise ZooError("linear probe: no convergence in 5000 steps; check the scale of the codes") from None
    return float((probe.predict((y - mean) / spread) == wanted).mean())


def knn_accuracy(
    train: Tensor, train_labels: Tensor, test: Tensor, test_labels: Tensor, ks: tuple[int, ...] = (1, 5)
) -> tuple[float, ...]:
    """Test accuracy of a majority vote among the k nearest training codes (Euclidean), for each k.

    The class with the smallest index wins a tie, as in scikit-learn. All training codes vote if there are fewer than k.

    Shape:
        train: (N, d).
        train_labels: (N,), class indices.
        test: (M, d).
        test_labels: (M,), class indices.
    """
    check_features("codes", train, source="model")
    check_features("codes", test, source="model")
    train_labels, test_labels = (labels.to(train.device) for labels in (train_labels, test_labels))
    classes = int(train_labels.max()) + 1
    hits = [0] * len(ks)
    for rows, block in squared_distance_blocks(test, train):
        near = block.topk(min(max(ks), len(train)), largest=False).indices
        votes = torch.nn.functional.one_hot(train_labels[near], classes)
        for i, k in enumerate(ks):
            hits[i] += int((votes[:, :k].sum(1).argmax(1) == test_labels[rows]).sum())
    return tuple(hit / len(test) for hit in hits)


def mmd(codes: Tensor, prior: Tensor) -> float:
    """Unbiased MMD² between codes (the aggregate posterior) and samples of the prior; about 0 if they agree.

    Sum of inverse multiquadric kernels Σ_s C/(C + |x − y|²) with C = 2·v·s, where v is the total variance of the prior
    samples: d for N(0, I), as in Tolstikhin et al., arXiv:1711.01558, section 4.

    Shape:
        codes: (N, d) with N ≥ 2.
        prior: (M, d) with M ≥ 2.
    """
    check_features("codes", codes, 2, "model")
    check_features("prior", prior, 2, "model")
    variance = float(prior.double().var(0).sum())
    if not variance > 0:
        raise ZooError("prior: all samples are equal")

    def kernels(x: Tensor, y: Tensor) -> float:
        total = 0.0
        for _, block in squared_distance_blocks(x, y):
            for s in MMD_SCALES:
                c = 2 * variance * s
                total += float((block + c).reciprocal_().sum()) * c
        return total

    def off_diagonal_mean(x: Tensor) -> float:
        n = len(x)
        return (kernels(x, x) - n * len(MMD_SCALES)) / (n * (n - 1))

    cross = kernels(codes, prior) / (len(codes) * len(prior))
    return off_diagonal_mean(codes) + off_diagonal_mean(prior) - 2 * cross


def active_units(codes: Tensor, threshold: float = ACTIVE_VARIANCE) -> int:
    """Number of dimensions whose posterior mean varies over the data: Var_x E[z|x] above ``threshold``.

    References:
        Burda, Grosse & Salakhutdinov, arXiv:1509.00519, section 5.2.

    Shape:
        codes: (N, d) with N ≥ 2, posterior means.
    """
    check_features("codes", codes, 2, "model")
    return int((codes.double().var(0) > threshold).sum())


def cycle_error(codes: Tensor, again: Tensor) -> float:
    """E|z − ẑ|² over E|z − E z|², where ẑ is the code of the image decoded from z.

    0 if the encoder inverts the decoder; 1 if it does no better than a constant.

    Shape:
        codes: (N, d) with N ≥ 2, samples z of the prior.
        again: (N, d), their codes ẑ after decoding and encoding.
    """
    check_features("codes", codes, 2, "model")
    check_features("cycle codes", again, source="model")
    if codes.shape != again.shape:
        raise ZooError(f"cycle codes: shape {tuple(again.shape)} is not allowed; must be {tuple(codes.shape)}")
    z, back = codes.double(), again.double().to(codes.device)
    spread = float((z - z.mean(0)).square().sum())
    if not spread > 0:
        raise ZooError("prior: all samples are equal")
    return float((z - back).square().sum()) / spread


class _Probe(Metric):
    """Base class of metrics that predict labels of test codes from training codes."""

    needs = ("train_codes", "train_labels", "codes", "labels")
    train_codes: list[Tensor]
    train_labels: list[Tensor]
    codes: list[Tensor]
    labels: list[Tensor]

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for name in self.needs:
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(self, train_codes: Tensor, train_labels: Tensor, codes: Tensor, labels: Tensor) -> None:
        """Add training codes (N, d) and labels (N,), test codes (M, d) and labels (M,)."""
        for name, value in zip(self.needs, (train_codes, train_labels, codes, labels), strict=True):
            getattr(self, name).append(value)

    def _inputs(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return (
            concatenate(self.train_codes),
            concatenate(self.train_labels),
            concatenate(self.codes),
            concatenate(self.labels),
        )


class LinearProbe(_Probe):
    """Test accuracy of logistic regression on codes.

    >>> import torch
    >>> codes, labels = torch.tensor([[-1.0], [-2.0], [1.0], [2.0]]), torch.tensor([0, 0, 1, 1])
    >>> metric = LinearProbe()
    >>> metric.update(codes, labels, codes, labels)
    >>> metric.compute()
    tensor(1., dtype=torch.float64)
    """

    scores = (
        ScoreInfo(
            "linear probe accuracy", "accuracy of logistic regression from codes to labels", higher_is_better=True
        ),
    )
    protocol = f"logistic regression, C = 1, standardized codes; at most {PROBE_CODES} training codes drawn with seed 0"
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0

    def compute(self) -> Tensor:
        """The accuracy, float64 ()."""
        return scalar(linear_probe(*self._inputs()))


class NearestNeighborProbe(_Probe):
    """Test accuracy of the nearest and of the 5 nearest training codes.

    >>> import torch
    >>> codes, labels = torch.tensor([[-1.0], [-2.0], [1.0]]), torch.tensor([0, 0, 1])
    >>> metric = NearestNeighborProbe()
    >>> metric.update(codes, labels, torch.tensor([[-1.5], [1.5]]), torch.tensor([0, 1]))
    >>> {name: float(value) for name, value in metric.compute().items()}
    {'1-NN accuracy': 1.0, '5-NN accuracy': 0.5}
    """

    K: ClassVar[tuple[int, ...]] = (1, 5)
    scores = (
        ScoreInfo("1-NN accuracy", "accuracy of the nearest training code's label", higher_is_better=True),
        ScoreInfo("5-NN accuracy", "accuracy of a vote among the 5 nearest training codes", higher_is_better=True),
    )
    protocol = "k = 1 and 5, Euclidean; the probe's codes"
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0

    def compute(self) -> dict[str, Tensor]:
        """``1-NN accuracy`` and ``5-NN accuracy``."""
        found = knn_accuracy(*self._inputs(), self.K)
        return {info.name: scalar(value) for info, value in zip(self.scores, found, strict=True)}


class MMD(Metric):
    """Maximum mean discrepancy between the aggregate posterior and the prior."""

    scores = (
        ScoreInfo(
            "MMD to prior",
            "MMD² between codes of test images and the prior; about 0 if they agree",
            higher_is_better=False,
        ),
    )
    needs = ("posterior_samples", "prior_samples")
    paper = "Tolstikhin et al., arXiv:1711.01558"
    protocol = (
        f"IMQ, C = 2·var(prior)·s, s = {MMD_SCALES[0]:g} to {MMD_SCALES[-1]:g}, unbiased; at most {MMD_CODES} a side"
    )
    posterior_samples: list[Tensor]
    prior_samples: list[Tensor]

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for name in self.needs:
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(self, posterior_samples: Tensor, prior_samples: Tensor) -> None:
        """Add samples of the aggregate posterior (N, d) and of the prior (M, d)."""
        self.posterior_samples.append(posterior_samples)
        self.prior_samples.append(prior_samples.to(posterior_samples.device))

    def compute(self) -> Tensor:
        """The discrepancy, float64 ()."""
        return scalar(mmd(concatenate(self.posterior_samples), concatenate(self.prior_samples)))


class ActiveUnits(Metric):
    """Number of code dimensions that vary with the image.

    >>> import torch
    >>> metric = ActiveUnits()
    >>> metric.update(torch.tensor([[-1.0, 0.0], [1.0, 0.01]]))
    >>> metric.compute()
    tensor(1., dtype=torch.float64)
    """

    scores = (
        ScoreInfo(
            "active units", f"code dimensions whose mean varies over test images by more than {ACTIVE_VARIANCE:g}"
        ),
    )
    needs = ("codes",)
    paper = "Burda et al., arXiv:1509.00519"
    protocol = f"Var E[z|x] > {ACTIVE_VARIANCE:g} over the test images"
    plot_lower_bound = 0.0
    codes: list[Tensor]

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.add_state("codes", [], dist_reduce_fx="cat")

    def update(self, codes: Tensor) -> None:
        """Add posterior means (B, d)."""
        self.codes.append(codes)

    def compute(self) -> Tensor:
        """The number of active dimensions, float64 ()."""
        return scalar(float(active_units(concatenate(self.codes))))


class CycleError(Metric):
    """Squared error of codes after decoding and encoding, relative to their variance."""

    scores = (
        ScoreInfo(
            "cycle error",
            "squared error from code to image to code, over the variance of the codes",
            higher_is_better=False,
        ),
    )
    needs = ("prior_samples", "cycle_codes")
    protocol = f"at most {MMD_CODES} codes"
    plot_lower_bound = 0.0
    prior_samples: list[Tensor]
    cycle_codes: list[Tensor]

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for name in self.needs:
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(self, prior_samples: Tensor, cycle_codes: Tensor) -> None:
        """Add samples z of the prior (B, d) and their codes ẑ after decoding and encoding (B, d)."""
        if prior_samples.shape != cycle_codes.shape:
            shapes = f"{tuple(cycle_codes.shape)} is not allowed; must be {tuple(prior_samples.shape)}"
            raise ZooError(f"cycle codes: shape {shapes}")
        self.prior_samples.append(prior_samples)
        self.cycle_codes.append(cycle_codes)

    def compute(self) -> Tensor:
        """The relative error, float64 ()."""
        return scalar(cycle_error(concatenate(self.prior_samples), concatenate(self.cycle_codes)))
