"""VAE, β-VAE, IWAE, AVB and WAE against the equations of their papers."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from by_hand import BATCH, LATENT, Rows, assert_rows, bce, draw, game, kl, prior
from torch import Tensor, distributions
from torch.nn import functional as F
from zoo_plugins.models.wae import mmd

import zoo
from zoo.registry import registry

# ------------------------------------------------------------------------------------------------ VAE, β-VAE, IWAE


def _bound(net: Any, x: Tensor, beta: float = 1.0) -> Tensor:
    q = net.encoder(x)
    p = net.decoder(draw(q))
    nll = F.binary_cross_entropy(p.logits.sigmoid(), (x + 1) / 2, reduction="sum") / len(x)
    return nll + beta * kl(q).mean()


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_the_vaes_bound_is_that_of_torch_distributions(likelihood: str) -> None:
    engine = game("vae", steps=3, likelihood=likelihood)
    net, x = engine.networks, engine.stream[0].sign()  # binary, so that a Bernoulli mass is one
    torch.manual_seed(1)
    terms = engine.objective.terms(net, x)
    torch.manual_seed(1)
    q = net.encoder(x)
    p = net.decoder(draw(q))
    if likelihood == "bernoulli":
        log_p = distributions.Bernoulli(logits=p.logits).log_prob((x + 1) / 2)
    else:
        log_p = distributions.Normal(p.mean, p.log_std.exp()).log_prob(x)
    torch.testing.assert_close(terms["nll"], -log_p.sum((1, 2, 3)).mean())
    torch.testing.assert_close(terms["kl"], kl(q).mean())


@pytest.mark.parametrize("beta", [0.5, 4.0])
def test_beta_vae_descends_nll_plus_beta_kl(beta: float) -> None:
    def by_hand(net: Any, x: Tensor) -> Rows:
        return dict.fromkeys(("encoder", "decoder"), _bound(net, x, beta))

    assert_rows(game("beta-vae", steps=2, beta=beta), 0, by_hand)


def test_beta_1_is_the_vae_to_the_bit() -> None:
    ours, vae = game("beta-vae", steps=3, beta=1.0).state(), game("vae", steps=3).state()
    assert ours.keys() == vae.keys()
    assert all(torch.equal(ours[k], vae[k]) for k in vae)


def _log_w(net: Any, x: Tensor, z: Tensor) -> Tensor:
    """log p(x | z) + log p(z) − log q(z | x), (B,)."""
    q, p = net.encoder(x), net.decoder(z)
    posterior = distributions.Normal(q.mean, (q.logvar / 2).exp())
    log_p = distributions.Bernoulli(logits=p.logits, validate_args=False).log_prob((x + 1) / 2).sum((1, 2, 3))
    return log_p + distributions.Normal(0.0, 1.0).log_prob(z).sum(1) - posterior.log_prob(z).sum(1)


def test_iwae_at_k_1_has_the_single_sample_bounds_value_and_gradient() -> None:
    def by_hand(net: Any, x: Tensor) -> Rows:
        return dict.fromkeys(("encoder", "decoder"), -_log_w(net, x, draw(net.encoder(x))).mean())

    engine = game("iwae", steps=2, k=1)
    torch.manual_seed(7)
    ours = engine.objective.terms(engine.networks, engine.stream[0])["bound"]
    torch.manual_seed(7)
    torch.testing.assert_close(ours, by_hand(engine.networks, engine.stream[0])["encoder"])
    assert_rows(engine, 0, by_hand)


def test_iwae_is_a_mean_of_weights_in_a_loop() -> None:
    engine = game("iwae", k=6, norm="none", family="mlp")
    net, x = engine.networks, engine.stream[0]
    torch.manual_seed(7)
    ours = engine.objective.terms(net, x)["bound"].detach()
    torch.manual_seed(7)
    with torch.no_grad():
        codes = [draw(net.encoder(x)) for _ in range(6)]
        total = 0.0
        for i in range(BATCH):
            weights = [math.exp(float(_log_w(net, x[i : i + 1], z[i : i + 1]))) for z in codes]
            total -= math.log(sum(weights) / 6)
    assert float(ours) == pytest.approx(total / BATCH, rel=1e-5)


def test_iwae_tightens_with_k_on_fixed_networks() -> None:
    means = {}
    for k in (1, 5, 25):
        engine = game("iwae", k=k, norm="none", family="mlp")
        with torch.no_grad():
            engine.networks.encoder.head.weight.mul_(3)  # a posterior that is wrong, so that there is a gap to close
            engine.networks.decoder.body[-1].weight.mul_(3)
            torch.manual_seed(3)
            draws = torch.stack(
                [engine.objective.terms(engine.networks, engine.stream[0])["bound"] for _ in range(200)]
            )
        means[k] = (float(draws.mean()), float(draws.std()) / 200**0.5)
    for low, high in ((1, 5), (5, 25)):
        gap = means[low][0] - means[high][0]
        assert gap > 5 * (means[low][1] + means[high][1]), means


# -------------------------------------------------------------------------------------------------------------- AVB


class _Toy(zoo.Posterior):
    """N(m, s²) whatever x is, with the moments that it claims to have."""

    def __init__(self, m: float, s: float, mean: float, std: float, n: int) -> None:
        self.m, self.s = m, s
        self.mean, self.std = torch.full((n, 1), mean), torch.full((n, 1), std)

    def rsample(self) -> Tensor:
        return self.m + self.s * torch.randn(self.mean.shape)


M, S = 0.8, 0.5
MEAN, STD = 0.6, 0.7  # claimed, and not quite right: the contrast need not be the posterior


def _toy(n: int, critic: Callable[[Tensor, Tensor], zoo.CriticOutput], contrast: str) -> tuple[Any, Any, Tensor]:
    model = registry().model("avb")(latent=1, contrast=contrast)
    decoder = lambda z: zoo.GaussianLikelihood(z.view(-1, 1, 1, 1), torch.tensor(0.0))  # noqa: E731
    net = SimpleNamespace(encoder=lambda x: _Toy(M, S, MEAN, STD, n), decoder=decoder, critic=critic)
    return model, net, torch.zeros(n, 1, 1, 1)


@pytest.mark.parametrize("contrast", ["prior", "adaptive"])
def test_avbs_critic_learns_the_log_ratio(contrast: str) -> None:
    n = 40_000
    weights = torch.zeros(3, requires_grad=True)

    def critic(x: Tensor, z: Tensor) -> zoo.CriticOutput:  # the log-ratio of two Gaussians is a parabola
        z = z[:, 0]
        return zoo.CriticOutput(weights[0] + weights[1] * z + weights[2] * z**2, z)

    model, net, x = _toy(n, critic, contrast)
    optimizer = torch.optim.LBFGS([weights], max_iter=60, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        torch.manual_seed(0)
        optimizer.zero_grad()
        value: Tensor = model.terms(net, x)["gan"]
        value.backward()
        return value

    optimizer.step(loss)
    z = torch.linspace(M - 2 * S, M + 2 * S, 9)
    other = distributions.Normal(0.0, 1.0) if contrast == "prior" else distributions.Normal(MEAN, STD)
    expected = distributions.Normal(M, S).log_prob(z) - other.log_prob(z)
    seen = z if contrast == "prior" else (z - MEAN) / STD
    found = critic(x, seen[:, None]).logits.detach()
    # The error of a logistic fit to 40,000 points, largest at two standard deviations; q/p with p and q exchanged,
    # or either label, would be off by more than 1.
    torch.testing.assert_close(found, expected, atol=0.1, rtol=0)
    assert expected.abs().max() > 0.5


def test_adaptive_contrast_with_the_exact_ratio_gives_the_true_kl() -> None:
    n = 200_000
    q, p, r = distributions.Normal(M, S), distributions.Normal(0.0, 1.0), distributions.Normal(MEAN, STD)

    def exact(x: Tensor, t: Tensor) -> zoo.CriticOutput:
        z = MEAN + STD * t[:, 0]
        return zoo.CriticOutput(q.log_prob(z) - r.log_prob(z), z)

    model, net, x = _toy(n, exact, "adaptive")
    torch.manual_seed(0)
    kl = model.terms(net, x)["kl"]
    torch.manual_seed(0)
    z = M + S * torch.randn(n, 1)
    torch.testing.assert_close(kl, (q.log_prob(z) - p.log_prob(z)).mean())
    error = float((q.log_prob(z) - p.log_prob(z)).std()) / n**0.5
    assert float(kl) == pytest.approx(float(distributions.kl_divergence(q, p)), abs=4 * error)


@pytest.mark.parametrize("contrast", ["prior", "adaptive"])
def test_avb_trains_t_to_call_the_posterior_1_and_the_prior_0(contrast: str) -> None:
    def by_hand(net: Any, x: Tensor) -> Rows:
        sampler = net.encoder
        out = sampler.head(sampler.features(x).mean.relu()).view(BATCH, 9, LATENT)
        b, a = out[:, 0], out[:, 1:]

        def vectors(noise: Tensor) -> Tensor:
            inward, outward = sampler.basis.inward, sampler.basis.outward
            each = [e + (e @ i).relu() @ o for e, i, o in zip(noise.unbind(1), inward, outward, strict=True)]
            return torch.stack(each, 1)

        v = vectors(torch.randn(256, 8, LATENT)).detach()
        mean = (b + (a * v.mean(0)).sum(1)).detach()
        std = ((a**2 * ((v - v.mean(0)) ** 2).sum(0).div(255)).sum(1).sqrt() + 1e-4).detach()
        z = b + (a * vectors(torch.randn(BATCH, 8, LATENT))).sum(1)
        eta = prior()
        nll = F.binary_cross_entropy_with_logits(net.decoder(z).logits, (x + 1) / 2, reduction="sum") / BATCH
        if contrast == "adaptive":
            t = (z - mean) / std
            density = distributions.Normal(mean, std).log_prob(z).sum(1)
            known = density - distributions.Normal(0.0, 1.0).log_prob(z).sum(1)
        else:
            t, known = z, 0.0
        ours, theirs = net.critic(x, t), net.critic(x, eta)
        kl = (ours.logits + known).mean()
        return {"encoder": nll + kl, "decoder": nll, "critic": bce(ours, 1) + bce(theirs, 0)}

    assert_rows(game("avb", steps=2, contrast=contrast), 0, by_hand)


def test_avbs_further_steps_of_the_critic_are_of_the_same_cost() -> None:
    engine = game("avb")
    main, judge = engine.objective.turns()
    assert judge.players == {"critic": {"gan": 1.0}}
    x = engine.first_batch(main)[0]
    costs = []
    for turn in (main, judge):
        torch.manual_seed(5)
        costs.append(engine.terms(turn, x)["gan"])
    torch.testing.assert_close(costs[0], costs[1])
    assert len(registry().model("avb")(extra=0).turns()) == 1


# -------------------------------------------------------------------------------------------------------------- WAE

SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


def test_mmd_is_the_unbiased_estimate_over_pairs() -> None:
    torch.manual_seed(0)
    a, b = torch.randn(5, 3, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64) + 1

    def k(u: Tensor, v: Tensor) -> float:
        distance = float(sum((p - q) ** 2 for p, q in zip(u, v, strict=True)))
        return sum(2 * 3 * s / (2 * 3 * s + distance) for s in SCALES)

    pairs = [(i, j) for i in range(5) for j in range(5)]
    within = sum(k(a[i], a[j]) + k(b[i], b[j]) for i, j in pairs if i != j) / 20
    across = sum(k(a[i], b[j]) for i, j in pairs) / 25
    assert float(mmd(a, b)) == pytest.approx(within - 2 * across, rel=1e-12)


def test_mmd_of_two_points_has_a_closed_form() -> None:
    a, b = torch.zeros(6, 2), torch.tensor([[3.0, 4.0]]).expand(6, 2)
    expected = 2 * 7 - 2 * sum(4 * s / (4 * s + 25) for s in SCALES)
    assert float(mmd(a, b)) == pytest.approx(expected, rel=1e-5)


def test_mmd_is_zero_in_expectation_for_equal_distributions_and_positive_for_others() -> None:
    torch.manual_seed(0)
    null = torch.stack([mmd(torch.randn(20, 2), torch.randn(20, 2)) for _ in range(500)])
    error = float(null.std()) / 500**0.5
    assert abs(float(null.mean())) < 4 * error
    assert float(null.min()) < 0  # unbiased, hence below zero at times
    for shift, scale in ((0.7, 1.0), (0.0, 2.0)):
        other = torch.stack([mmd(shift + scale * torch.randn(20, 2), torch.randn(20, 2)) for _ in range(200)])
        assert float(other.mean()) > 8 * error


def _wae_cost(net: Any, x: Tensor) -> Tensor:
    """0.05 · Σ (x − x̂)² with pixels in [0, 1]."""
    found = (net.decoder(net.encoder(x).mean) + 1) / 2
    return 0.05 * ((found - (x + 1) / 2) ** 2).sum((1, 2, 3)).mean()


def test_wae_mmd_weighs_its_cost_and_its_penalty() -> None:
    def by_hand(net: Any, x: Tensor) -> Rows:
        return dict.fromkeys(("encoder", "decoder"), _wae_cost(net, x) + 10 * mmd(net.encoder(x).mean, prior()))

    assert_rows(game("wae-mmd", steps=2), 0, by_hand)


def test_wae_gan_trains_the_autoencoder_first_and_then_the_critic() -> None:
    def autoencode(net: Any, x: Tensor) -> Rows:
        fool = bce(net.critic(net.encoder(x).mean), 1)
        return {"encoder": _wae_cost(net, x) + 3 * fool, "decoder": _wae_cost(net, x)}

    def judge(net: Any, x: Tensor) -> Rows:
        return {"critic": bce(net.critic(prior()), 1) + bce(net.critic(net.encoder(x).mean), 0)}

    engine = game("wae-gan", steps=2, penalty=3.0)
    assert_rows(engine, 0, autoencode)
    assert_rows(engine, 1, judge)
