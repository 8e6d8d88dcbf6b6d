"""Scores of codes and densities against scikit-learn, closed forms and hand-derived values."""

from __future__ import annotations

import math
import warnings

import attrs
import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KernelDensity, KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from zoo.distributions import GaussianLikelihood, GaussianPosterior
from zoo.errors import UsageError, ZooError
from zoo.metrics import (
    ClassifierScore,
    Density,
    active_units,
    cycle_error,
    fit_parzen,
    knn_accuracy,
    linear_probe,
    log_likelihood,
    mmd,
    observe,
    parzen_log_likelihood,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


# Codes


@pytest.fixture(scope="module")
def labelled() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    x, y = load_digits(return_X_y=True)
    x = x[:, 8:24]  # hard enough for mistakes
    return (
        torch.from_numpy(x[:1000]),
        torch.from_numpy(y[:1000]),
        torch.from_numpy(x[1000:]),
        torch.from_numpy(y[1000:]),
    )


def test_the_probes_are_scikit_learns(labelled: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
    x, y, u, v = (t.numpy() for t in labelled)
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000, tol=1e-8)).fit(x, y)
    assert linear_probe(*labelled) == pytest.approx(probe.score(u, v), abs=2 / len(v))
    assert 0.5 < linear_probe(*labelled) < 0.95
    # Pixels are integers, so neighbors tie: a touch of noise settles for both which comes first.
    a, b = x + 1e-3 * normal(*x.shape).numpy(), u
    found = knn_accuracy(torch.from_numpy(a), labelled[1], torch.from_numpy(b), labelled[3])
    for k, value in zip((1, 5), found, strict=True):
        assert value == KNeighborsClassifier(k).fit(a, y).score(b, v)


def test_the_linear_probe_does_not_see_the_scale_nor_a_dead_dimension(
    labelled: tuple[Tensor, Tensor, Tensor, Tensor],
) -> None:
    x, y, u, v = labelled
    wanted = linear_probe(x, y, u, v)
    dead = [torch.cat([t * 1e3 - 7, torch.full((len(t), 1), 0.1)], 1) for t in (x, u)]
    assert linear_probe(dead[0], y, dead[1], v) == pytest.approx(wanted, abs=2 / len(v))


def test_probes_at_their_edges() -> None:
    x, y = normal(9, 2), torch.zeros(9, dtype=torch.int64)
    mixed = torch.tensor([0, 1, 0, 1, 0, 1, 0, 0, 0])
    assert linear_probe(x, y, x, mixed) == pytest.approx(6 / 9)  # one class is known: it is the answer
    assert knn_accuracy(x[:2], y[:2], x, mixed) == (pytest.approx(6 / 9), pytest.approx(6 / 9))
    constant = torch.ones(9, 2)
    assert linear_probe(constant, mixed, constant, mixed) == pytest.approx(6 / 9)
    with pytest.raises(ZooError, match="contain NaN"):
        linear_probe(x * torch.nan, mixed, x, mixed)
    with pytest.raises(ZooError, match="contain NaN"):
        knn_accuracy(x, mixed, x * torch.nan, mixed)


def test_mmd_is_the_sum_over_pairs_and_unbiased() -> None:
    x, z = normal(30, 3), normal(40, 3, seed=1) * 1.5
    variance = float(z.var(0).sum())

    def mean(a: Tensor, b: Tensor, apart: bool) -> float:
        total = [
            sum(
                2 * variance * s / (2 * variance * s + float((u - v).square().sum()))
                for s in (0.1, 0.2, 0.5, 1, 2, 5, 10)
            )
            for i, u in enumerate(a)
            for j, v in enumerate(b)
            if not apart or i != j
        ]
        return float(np.mean(total))

    assert mmd(x, z) == pytest.approx(mean(x, x, True) + mean(z, z, True) - 2 * mean(x, z, False), rel=1e-9)
    draws = [mmd(normal(40, 4, seed=2 * i), normal(40, 4, seed=2 * i + 1)) for i in range(200)]
    assert abs(np.mean(draws)) < 3 * np.std(draws) / 200**0.5
    assert mmd(normal(500, 4) + 1, normal(500, 4, seed=1)) > 0.2
    with pytest.raises(ZooError, match="all samples are equal"):
        mmd(x, torch.ones(9, 3))
    with pytest.raises(ZooError, match="at least 2"):
        mmd(x[:1], z)


def test_active_units_and_cycle_error_by_hand() -> None:
    z = normal(2000, 3)
    codes = z * torch.tensor([1.0, 0.11, 0.09])  # variances 1, 0.0121, 0.0081
    assert active_units(codes) == 2
    assert active_units(torch.ones(5, 3)) == 0
    assert cycle_error(z, z) == 0
    assert cycle_error(z, z.mean(0).expand_as(z)) == pytest.approx(1)
    assert cycle_error(z, z + 0.5) == pytest.approx(0.25 * 3 / float(z.var(0, correction=0).sum()))
    with pytest.raises(ZooError, match="must be"):
        cycle_error(z, z[:, :2])
    with pytest.raises(ZooError, match="all samples are equal"):
        cycle_error(torch.ones(4, 2), torch.ones(4, 2))


# Likelihood


@attrs.frozen(eq=False)
class Linear:
    """Probabilistic PCA: z ~ N(0, I), x = Wz + b + σε; posterior and p(x) are known exactly."""

    weight: Tensor
    shift: Tensor
    sigma: float

    def exact(self, x: Tensor) -> Tensor:
        d = len(self.shift)
        cov = self.weight @ self.weight.T + self.sigma**2 * torch.eye(d)
        return torch.distributions.MultivariateNormal(self.shift, cov).log_prob(x.flatten(1))

    def posterior(self, x: Tensor, inflate: float = 1.0, off: float = 0.0) -> GaussianPosterior:
        """The diagonal of the exact one; exact for orthogonal columns."""
        precision = self.weight.square().sum(0) / self.sigma**2 + 1
        mean = ((x.flatten(1) - self.shift) @ self.weight) / self.sigma**2 / precision
        return GaussianPosterior(mean + off, (inflate / precision).log().expand_as(mean))

    def likelihood(self, z: Tensor) -> GaussianLikelihood:
        return GaussianLikelihood((z @ self.weight.T + self.shift).view(-1, 1, 2, 3), torch.tensor(self.sigma).log())


@pytest.fixture
def ppca() -> Linear:
    q, _ = torch.linalg.qr(normal(6, 2).float())
    return Linear(q * torch.tensor([1.5, 0.7]), torch.linspace(-1, 1, 6), 0.5)


def test_the_likelihood_is_exact_where_the_posterior_is(ppca: Linear) -> None:
    x = normal(7, 1, 2, 3, seed=1).float()
    found = log_likelihood(Density(ppca.posterior, ppca.likelihood, "Gaussian"), x, k=3)
    torch.testing.assert_close(found.values, ppca.exact(x).double(), rtol=1e-5, atol=1e-5)  # every weight is p(x)
    torch.testing.assert_close(found.effective, torch.full((7,), 3.0, dtype=torch.float64), rtol=1e-4, atol=0)


def test_the_likelihood_is_reached_from_below_with_a_wrong_posterior(ppca: Linear) -> None:
    x = normal(20, 1, 2, 3, seed=1).float()
    exact = float(ppca.exact(x).mean())
    density = Density(lambda x: ppca.posterior(x, 2.0, 0.5), ppca.likelihood, "Gaussian")
    gaps = []
    for k in (1, 10, 5000):
        torch.manual_seed(0)
        gaps.append(exact - log_likelihood(density, x, k=k).mean)
    assert gaps[0] > gaps[1] > gaps[2]
    assert gaps[2] == pytest.approx(0, abs=0.02)


def test_the_likelihood_does_not_hang_on_the_chunks(ppca: Linear) -> None:
    x = normal(20, 1, 2, 3, seed=1).float()
    density = Density(lambda x: ppca.posterior(x, 2.0), ppca.likelihood, "Gaussian")
    found = []
    for chunk in (100, 512, 100_000):
        torch.manual_seed(0)
        found.append(log_likelihood(density, x, k=50, chunk=chunk).mean)
    assert found == [pytest.approx(found[0], rel=1e-6)] * 3
    torch.manual_seed(0)
    assert log_likelihood(density, x, k=300, chunk=7).mean == pytest.approx(float(ppca.exact(x).mean()), abs=0.2)


def test_the_likelihood_survives_weights_far_below_float32(ppca: Linear) -> None:
    x = 100 * normal(3, 1, 2, 3).float()  # log p(x) of about −20,000
    density = Density(ppca.posterior, ppca.likelihood, "Gaussian")
    torch.testing.assert_close(log_likelihood(density, x, k=20).values, ppca.exact(x).double(), rtol=1e-4, atol=0)


def test_a_likelihood_that_is_none_is_refused(ppca: Linear) -> None:
    x = normal(3, 1, 2, 3).float()
    bad = Density(lambda x: ppca.posterior(x, torch.nan), ppca.likelihood, "Gaussian")
    with pytest.raises(ZooError, match="not finite"):
        log_likelihood(bad, x, k=5)
    nowhere = Density(ppca.posterior, ppca.likelihood, "Gaussian", lambda z: z[..., 0] * 0 - torch.inf)
    with pytest.raises(ZooError, match="3 of 3 images"):
        log_likelihood(nowhere, x, k=5)
    with pytest.raises(UsageError, match="at least 1"):
        log_likelihood(nowhere, x, k=0)


def test_what_is_observed_is_what_its_name_says() -> None:
    gray = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 1, 1, 3).expand(4000, 1, 1, 3)
    drawn = observe(gray, "Bernoulli, binarized")
    assert set(drawn.unique().tolist()) == {-1.0, 1.0}
    assert (drawn == 1).double().mean(0).flatten().tolist() == [0, pytest.approx(0.2, abs=0.02), 1]
    assert torch.equal(drawn, observe(gray, "Bernoulli, binarized"))
    assert not torch.equal(drawn, observe(gray, "Bernoulli, binarized", seed=1))
    for name in ("Bernoulli, gray", "Gaussian"):
        assert observe(gray, name)[0].flatten().tolist() == pytest.approx([-1, -0.6, 1])
    with pytest.raises(UsageError, match="must be one of Bernoulli, binarized"):
        observe(gray, "poisson")  # type: ignore[arg-type]


# Legacy


def test_the_parzen_window_is_scikit_learns() -> None:
    centers, x, valid = normal(200, 5) * 0.3, normal(80, 5, seed=1) * 0.3, normal(60, 5, seed=2) * 0.3
    grid = (0.05, 0.1, 0.2, 0.4)
    # One leaf: with more, scikit-learn 1.9's tree is off by 8 nats in 30 where the density is low.
    wanted = {s: KernelDensity(bandwidth=s, leaf_size=1000).fit(centers.numpy()) for s in grid}
    for s, density in wanted.items():
        np.testing.assert_allclose(parzen_log_likelihood(x, centers, s), density.score_samples(x.numpy()), rtol=1e-9)
    found = fit_parzen(centers, valid, x, grid)
    best = max(grid, key=lambda s: wanted[s].score(valid.numpy()))
    assert found.bandwidth == best
    assert found.log_likelihood == pytest.approx(wanted[best].score(x.numpy()) / 80, rel=1e-9)


def test_the_parzen_window_of_pixels_is_that_of_the_unit_interval() -> None:
    images = [torch.randint(0, 256, (n, 30), generator=generator(n), dtype=torch.uint8) for n in (50, 20, 40)]
    found, wanted = fit_parzen(*images), fit_parzen(*(x.double() / 255 for x in images))
    assert found.bandwidth == wanted.bandwidth
    assert found.log_likelihood == pytest.approx(wanted.log_likelihood, rel=1e-12)


def test_the_parzen_window_at_its_edges() -> None:
    one = fit_parzen(torch.zeros(1, 2), torch.zeros(1, 2), torch.zeros(1, 2), (0.5,))
    assert (one.log_likelihood, one.standard_error) == (pytest.approx(-math.log(2 * math.pi * 0.25)), 0)
    far = parzen_log_likelihood(torch.full((1, 3), 1e4), torch.zeros(2, 3), 0.1)  # exp of it is 0, its log is not
    assert float(far) == pytest.approx(-0.5 * 3e8 / 0.01 - 1.5 * math.log(2 * math.pi * 0.01), rel=1e-9)
    with pytest.raises(ZooError, match="contain NaN"):
        fit_parzen(torch.full((3, 2), torch.nan), torch.zeros(1, 2), torch.zeros(1, 2))


def test_the_classifier_score_is_that_of_torchmetrics_and_streams() -> None:
    from torchmetrics.image.inception import InceptionScore

    logits = 3 * normal(500, 10).float()
    score = ClassifierScore()
    for part in logits.split(7):
        score.update(part)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        oracle = InceptionScore(feature=torch.nn.Identity(), splits=1)
        oracle.features = [logits]
        wanted = float(oracle.compute()[0])
    assert float(score.compute()) == pytest.approx(wanted, rel=1e-5)
    one, none = ClassifierScore(), ClassifierScore()
    one.update(logits[:1].expand(9, 10))
    assert float(one.compute()) == pytest.approx(1)
    with pytest.warns(UserWarning, match="before"), pytest.raises(ZooError, match="nothing was added"):
        none.compute()
    with pytest.raises(ZooError, match="contain NaN"):
        one.update(logits * torch.nan)
