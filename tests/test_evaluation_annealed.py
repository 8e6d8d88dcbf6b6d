"""Annealed importance sampling against known densities: closed forms and quadrature."""

from __future__ import annotations

import math

import attrs
import pytest
import torch
from torch import Tensor, nn

from zoo.distributions import BernoulliLikelihood, GaussianLikelihood, GaussianPosterior, Likelihood
from zoo.errors import UsageError, ZooError
from zoo.metrics import Density, annealed_log_likelihood, log_likelihood
from zoo.metrics.annealed import _anneal, _PilotSizes, temperatures


@attrs.frozen(eq=False)
class Linear:
    """x = Wz + b + σε with columns that are not orthogonal: log p(x) is a Gaussian's."""

    weight: Tensor
    shift: Tensor
    sigma: float = 0.5

    def exact(self, x: Tensor) -> Tensor:
        cov = self.weight @ self.weight.T + self.sigma**2 * torch.eye(len(self.shift))
        return torch.distributions.MultivariateNormal(self.shift, cov).log_prob(x.flatten(1)).double()

    def likelihood(self, z: Tensor) -> Likelihood:
        return GaussianLikelihood((z @ self.weight.T + self.shift).view(-1, 1, 2, 3), torch.tensor(self.sigma).log())


def lost(x: Tensor) -> GaussianPosterior:
    """An encoder that knows nothing, and is sure of it."""
    return GaussianPosterior(torch.full((len(x), 2), 3.0), torch.full((len(x), 2), -3.0))


@pytest.fixture
def linear() -> tuple[Linear, Tensor]:
    random = torch.Generator().manual_seed(1)
    model = Linear(torch.randn(6, 2, generator=random), torch.linspace(-1, 1, 6))
    z, noise = torch.randn(24, 2, generator=random), torch.randn(24, 6, generator=random)
    return model, (z @ model.weight.T + model.shift + 0.5 * noise).view(-1, 1, 2, 3)


def test_ais_finds_a_known_density_however_wrong_the_encoder(linear: tuple[Linear, Tensor]) -> None:
    model, x = linear
    density = Density(lost, model.likelihood, "Gaussian")
    torch.manual_seed(0)
    found = annealed_log_likelihood(density, x, steps=150, leapfrog=5)
    gap = found.values - model.exact(x)
    assert abs(float(gap.mean())) < 0.08
    assert float(gap.std()) < 0.3
    assert float(found.effective.mean()) > 8  # of 16 chains
    bound = log_likelihood(density, x, k=5000)
    assert found.mean > bound.mean + 5  # which a wrong encoder ruins


def test_a_weight_is_right_in_the_mean_also_with_few_steps(linear: tuple[Linear, Tensor]) -> None:
    # E w = p(x) for each chain: what keeps the log of the mean a bound. Many chains, for a mean that is one.
    model, x = linear
    torch.manual_seed(0)
    found = annealed_log_likelihood(Density(lost, model.likelihood, "Gaussian"), x[:6], chains=4000, steps=5)
    ratio = (found.values - model.exact(x[:6])).exp()
    assert ratio.tolist() == pytest.approx([1] * 6, abs=0.1)
    one = annealed_log_likelihood(
        Density(lost, model.likelihood, "Gaussian"), x[:6].repeat(50, 1, 1, 1), chains=1, steps=5, leapfrog=3
    )
    assert one.mean < float(model.exact(x[:6]).mean())  # from below


class Curved(nn.Module):
    """A decoder with one code and a bend, whose integral quadrature does."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.net = nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 9))
        for p in self.net.parameters():
            p.data.mul_(3)

    def forward(self, z: Tensor) -> BernoulliLikelihood:
        return BernoulliLikelihood(self.net(z).view(-1, 1, 3, 3))


@pytest.mark.slow
def test_ais_is_quadrature_on_a_curved_bernoulli_decoder() -> None:
    decoder = Curved()
    x = (torch.rand(10, 1, 3, 3, generator=torch.Generator().manual_seed(0)) > 0.5).float() * 2 - 1
    grid = torch.linspace(-8, 8, 4001)[:, None]
    with torch.no_grad():
        log_x = torch.stack([decoder(grid).log_prob(one.expand(4001, 1, 3, 3)) for one in x], 1).double()
    prior = -0.5 * (grid.double().square() + math.log(2 * math.pi))
    exact = (log_x + prior).logsumexp(0) + math.log(16 / 4000)
    density = Density(
        lambda x: GaussianPosterior(torch.zeros(len(x), 1), torch.zeros(len(x), 1)), decoder, "Bernoulli, binarized"
    )
    torch.manual_seed(0)
    found = annealed_log_likelihood(density, x, steps=150, leapfrog=5)
    assert (found.values - exact).abs().max() < 0.25
    assert found.mean == pytest.approx(float(exact.mean()), abs=0.08)
    iwae = log_likelihood(density, x, k=20_000)
    assert found.mean == pytest.approx(iwae.mean, abs=0.08)


@pytest.mark.slow
def test_another_prior_than_the_standard_one_counts(linear: tuple[Linear, Tensor]) -> None:
    model, x = linear
    wide = Density(
        lost, model.likelihood, "Gaussian", lambda z: torch.distributions.Normal(0.0, 2.0).log_prob(z).sum(-1)
    )
    exact = Linear(2 * model.weight, model.shift).exact(x)  # z = 2u with u standard
    torch.manual_seed(0)
    assert annealed_log_likelihood(wide, x, steps=60, leapfrog=5).mean == pytest.approx(float(exact.mean()), abs=0.1)


@pytest.mark.slow
def test_the_step_sizes_of_a_run_are_settled_before_it(linear: tuple[Linear, Tensor]) -> None:
    model, x = linear
    density, sizes = Density(lost, model.likelihood, "Gaussian"), _PilotSizes(len(x))
    torch.manual_seed(0)
    assert len(list(_anneal(density, x, 2, 4, temperatures(40), 5, sizes))) == 40
    assert len(sizes.history) == 41
    assert float(sizes.history[-1].mean()) < float(sizes.history[8].mean())  # a posterior is narrower than the prior


@pytest.mark.slow
def test_ais_repeats_by_the_seed_and_leaves_parameters_without_gradients(linear: tuple[Linear, Tensor]) -> None:
    model, x = linear
    model.weight.requires_grad_()
    density = Density(lost, model.likelihood, "Gaussian")
    found = []
    for _ in range(2):
        torch.manual_seed(5)
        found.append(annealed_log_likelihood(density, x[:2], chains=2, steps=4).values)
    assert torch.equal(*found)
    assert not found[0].requires_grad
    assert model.weight.grad is None


def test_ais_refuses_what_has_no_density(linear: tuple[Linear, Tensor]) -> None:
    model, x = linear
    sick = Density(lost, lambda z: model.likelihood(z * torch.nan), "Gaussian")
    with pytest.raises(ZooError, match=r"\(AIS\): not finite for 24 of 24 images"):
        annealed_log_likelihood(sick, x, chains=2, steps=2)
    with pytest.raises(UsageError, match="steps 0"):
        annealed_log_likelihood(sick, x, steps=0)
