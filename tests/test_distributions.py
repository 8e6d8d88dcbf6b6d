"""Densities and divergences against torch.distributions and hand-derived values."""

from __future__ import annotations

import math

import pytest
import torch
from torch import distributions as oracle

from zoo.distributions import BernoulliLikelihood, GaussianLikelihood, GaussianPosterior, PointPosterior


def _codes(b: int = 5, d: int = 3, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    mean, logvar = torch.randn(b, d, generator=g), 2 * torch.randn(b, d, generator=g)
    return mean.requires_grad_(), logvar.requires_grad_()


def _twin(mean: torch.Tensor, logvar: torch.Tensor) -> oracle.Independent:
    return oracle.Independent(oracle.Normal(mean, (0.5 * logvar).exp()), 1)


def test_gaussian_log_prob_is_the_oracles_with_its_gradients() -> None:
    mean, logvar = _codes()
    z = torch.randn(5, 3, requires_grad=True)
    ours, theirs = GaussianPosterior(mean, logvar).log_prob(z), _twin(mean, logvar).log_prob(z)
    assert ours.shape == (5,)
    torch.testing.assert_close(ours, theirs)
    for a, b in zip(
        torch.autograd.grad(ours.sum(), (mean, logvar, z)),
        torch.autograd.grad(theirs.sum(), (mean, logvar, z)),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_gaussian_log_prob_takes_many_codes_an_image() -> None:
    mean, logvar = _codes()
    z = torch.randn(7, 5, 3)
    ours = GaussianPosterior(mean, logvar).log_prob(z)
    assert ours.shape == (7, 5)
    torch.testing.assert_close(ours, _twin(mean, logvar).log_prob(z))


def test_gaussian_kl_is_the_oracles_with_its_gradients() -> None:
    mean, logvar = _codes()
    prior = oracle.Independent(oracle.Normal(torch.zeros(5, 3), torch.ones(5, 3)), 1)
    ours, theirs = GaussianPosterior(mean, logvar).kl(), oracle.kl_divergence(_twin(mean, logvar), prior)
    assert ours.shape == (5,)
    torch.testing.assert_close(ours, theirs)
    for a, b in zip(
        torch.autograd.grad(ours.sum(), (mean, logvar)), torch.autograd.grad(theirs.sum(), (mean, logvar)), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_gaussian_kl_by_hand() -> None:
    # KL(N(1, e) ‖ N(0, 1)) = ½(1 + e − 1 − 1) = (e − 1)/2, twice.
    q = GaussianPosterior(torch.ones(1, 2), torch.ones(1, 2))
    assert q.kl().item() == pytest.approx(math.e - 1)


def test_rsample_is_drawn_from_the_gaussian() -> None:
    mean, logvar = torch.tensor([[-2.0, 3.0]]), torch.tensor([[0.0, 2 * math.log(0.5)]])
    torch.manual_seed(0)
    n = 40_000
    z = GaussianPosterior(mean.expand(n, 2), logvar.expand(n, 2)).rsample()
    # Standard errors: 1/√n = 0.005 and 0.0025; six of them.
    assert (z.mean(0) - mean[0]).abs().max() < 0.03
    torch.testing.assert_close(z.std(0), torch.tensor([1.0, 0.5]), atol=0.02, rtol=0)
    assert torch.corrcoef(z.T)[0, 1].abs() < 0.03
    assert not torch.equal(z, GaussianPosterior(mean.expand(n, 2), logvar.expand(n, 2)).rsample())


def test_gradients_flow_through_rsample_to_mean_and_variance() -> None:
    # z = μ + σε: dz/dμ = 1, dz/d log σ² = ½σε = ½(z − μ).
    mean, logvar = _codes()
    z = GaussianPosterior(mean, logvar).rsample()
    weights = torch.arange(15.0).view(5, 3)
    by_mean, by_logvar = torch.autograd.grad((weights * z).sum(), (mean, logvar))
    torch.testing.assert_close(by_mean, weights)
    torch.testing.assert_close(by_logvar, weights * 0.5 * (z - mean).detach(), rtol=1e-4, atol=1e-5)


def test_the_gradient_of_an_expectation_through_rsample_is_the_analytic_one() -> None:
    # E[z²] = μ² + σ²: its gradient is 2μ with respect to μ and σ² with respect to log σ².
    mean, logvar = torch.tensor(0.7, requires_grad=True), torch.tensor(-0.4, requires_grad=True)
    torch.manual_seed(1)
    n = 100_000
    z = GaussianPosterior(mean.expand(n, 1), logvar.expand(n, 1)).rsample()
    by_mean, by_logvar = torch.autograd.grad(z.square().mean(), (mean, logvar))
    assert by_mean.item() == pytest.approx(1.4, abs=0.03)
    assert by_logvar.item() == pytest.approx(math.exp(-0.4), abs=0.03)


def test_a_point_is_its_own_mean_and_sample_and_claims_no_density() -> None:
    code = torch.randn(4, 2, requires_grad=True)
    q = PointPosterior(code)
    assert torch.equal(q.mean, code)
    assert torch.equal(q.rsample(), code)
    assert q.rsample().requires_grad
    for missing in ("kl", "log_prob"):
        assert not hasattr(q, missing), "a method that cannot be honored is absent, not one that raises"


def _images(binary: bool) -> torch.Tensor:
    g = torch.Generator().manual_seed(3)
    x = torch.rand(4, 1, 3, 5, generator=g)
    return 2 * (x.round() if binary else x) - 1


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "gray"])
def test_bernoulli_log_prob_is_the_oracles_on_pixels_read_as_probabilities(binary: bool) -> None:
    logits = (3 * torch.randn(4, 1, 3, 5)).requires_grad_()
    x = _images(binary)
    twin = oracle.Independent(oracle.Bernoulli(logits=logits, validate_args=False), 3)
    ours, theirs = BernoulliLikelihood(logits).log_prob(x), twin.log_prob((x + 1) / 2)
    assert ours.shape == (4,)
    torch.testing.assert_close(ours, theirs)
    # Its gradient is target − sigmoid(logit), pixel by pixel.
    (gradient,) = torch.autograd.grad(ours.sum(), logits)
    torch.testing.assert_close(gradient, (x + 1) / 2 - logits.detach().sigmoid(), atol=1e-6, rtol=1e-5)


def test_bernoulli_log_prob_by_hand() -> None:
    # One black pixel and one white, both with p(white) = 3/4; then a gray one of ½.
    logits = torch.full((1, 1, 1, 2), math.log(3))
    assert BernoulliLikelihood(logits).log_prob(torch.tensor([[[[-1.0, 1.0]]]])).item() == pytest.approx(
        math.log(0.25) + math.log(0.75)
    )
    gray = BernoulliLikelihood(logits[..., :1]).log_prob(torch.zeros(1, 1, 1, 1)).item()
    assert gray == pytest.approx(0.5 * math.log(0.25) + 0.5 * math.log(0.75))


def test_binary_masses_sum_to_one() -> None:
    logits = torch.tensor([[[[0.3, -2.0, 1.1]]]])
    every = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 3).view(8, 1, 1, 3)
    assert BernoulliLikelihood(logits.expand(8, 1, 1, 3)).log_prob(every).exp().sum().item() == pytest.approx(1)


def test_bernoulli_stays_finite_where_sigmoid_saturates() -> None:
    p = BernoulliLikelihood(torch.tensor([[[[200.0, -200.0]]]]))
    assert p.log_prob(torch.tensor([[[[-1.0, 1.0]]]])).item() == pytest.approx(-400)
    assert p.mean.flatten().tolist() == [1, -1]


def test_bernoulli_mean_is_the_expected_pixel() -> None:
    logits = torch.randn(2, 3, 4, 4) * 4
    torch.testing.assert_close(BernoulliLikelihood(logits).mean, 2 * oracle.Bernoulli(logits=logits).mean - 1)


def test_normal_log_prob_is_the_oracles_and_its_sigma_learns() -> None:
    mean = torch.randn(4, 3, 2, 2, requires_grad=True)
    log_std = torch.tensor(-0.7, requires_grad=True)
    x = _images(False)[:, :, :2, :2].expand(4, 3, 2, 2)
    twin = oracle.Independent(oracle.Normal(mean, log_std.exp()), 3)
    ours, theirs = GaussianLikelihood(mean, log_std).log_prob(x), twin.log_prob(x)
    assert ours.shape == (4,)
    torch.testing.assert_close(ours, theirs)
    for a, b in zip(
        torch.autograd.grad(ours.sum(), (mean, log_std)),
        torch.autograd.grad(theirs.sum(), (mean, log_std)),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_the_best_sigma_of_a_normal_is_the_root_mean_square_error() -> None:
    # The maximum-likelihood σ given the means: the gradient vanishes there, and only there.
    mean, x = torch.randn(8, 1, 4, 4), torch.randn(8, 1, 4, 4)
    log_std = (x - mean).square().mean().sqrt().log().requires_grad_()
    (at_best,) = torch.autograd.grad(GaussianLikelihood(mean, log_std).log_prob(x).sum(), log_std)
    assert abs(at_best.item()) < 1e-3
    wider = (log_std.detach() + 0.1).requires_grad_()
    (beyond,) = torch.autograd.grad(GaussianLikelihood(mean, wider).log_prob(x).sum(), wider)
    assert beyond.item() < -10


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_divergences_are_taken_in_float32_whatever_the_networks_compute_in(half: torch.dtype) -> None:
    # Under autocast the networks hand over half precision; 3,000 squares of 8 overflow or round there.
    mean, logvar = torch.full((1, 3000), 8.0).to(half), torch.zeros(1, 3000).to(half)
    q = GaussianPosterior(mean, logvar)
    assert q.kl().dtype == q.rsample().dtype == torch.float32
    assert q.kl().item() == 0.5 * 64 * 3000
    p = BernoulliLikelihood(torch.full((1, 1, 50, 60), 8.0).to(half))
    expected = -3000 * math.log1p(math.exp(8))
    assert p.log_prob(-torch.ones(1, 1, 50, 60)).item() == pytest.approx(expected, rel=1e-5)
    n = GaussianLikelihood(torch.full((1, 1, 50, 60), 8.0).to(half), torch.tensor(0.0).to(half))
    expected = -1500 * (81 + math.log(2 * math.pi))
    assert n.log_prob(-torch.ones(1, 1, 50, 60)).item() == pytest.approx(expected, rel=1e-5)
