"""GAN, WGAN-GP, BiGAN, ALI and ALICE against the equations of their papers."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from by_hand import BATCH, LATENT, SHAPE, Rows, assert_rows, bce, draw, game, kl, play, prior
from torch import Tensor, nn
from zoo_plugins.models.gan import gradient_penalty

import zoo
from zoo.engine import Engine
from zoo.registry import registry

# -------------------------------------------------------------------------------------------------------------- GAN


@pytest.mark.parametrize("minimax", [False, True])
def test_a_gans_critic_moves_first_and_then_its_generator(minimax: bool) -> None:
    def critic(net: Any, x: Tensor) -> Rows:
        return {"critic": bce(net.critic(x), 1) + bce(net.critic(net.decoder(prior())), 0)}

    def generator(net: Any, x: Tensor) -> Rows:
        d = net.critic(net.decoder(prior())).logits.sigmoid()
        return {"decoder": (1 - d).log().mean() if minimax else -d.log().mean()}

    engine = game("gan", steps=2, minimax=minimax)
    assert_rows(engine, 0, critic)
    assert_rows(engine, 1, generator)


@pytest.mark.parametrize("logit", [-6.0, 0.0, 3.0])
def test_both_generator_losses_raise_the_logit_and_differ_in_how_hard(logit: float) -> None:
    """d/dl of log(1 − σ(l)) is −σ(l), of −log σ(l) is −σ(−l): one direction, one fixed point, other strengths."""
    for minimax in (False, True):
        model = registry().model("gan")(latent=LATENT, minimax=minimax)
        image = torch.tensor([logit], requires_grad=True)
        net = SimpleNamespace(decoder=lambda z: image, critic=lambda v: zoo.CriticOutput(v, v))  # noqa: B023
        turn = model.turns()[1]
        terms = turn.terms(net, torch.zeros(1, *SHAPE))
        loss = sum(weight * terms[name] for name, weight in turn.players["decoder"].items())
        (slope,) = torch.autograd.grad(loss, image)
        d = 1 / (1 + math.exp(-logit))
        assert float(slope) == pytest.approx(-d if minimax else d - 1, rel=1e-4)
        assert float(slope) < 0


# ---------------------------------------------------------------------------------------------------------- WGAN-GP


@pytest.mark.parametrize("name", sorted(registry().models))
@pytest.mark.parametrize(("option", "value"), [("lr", 0.012345), ("beta1", 0.4321)])
def test_options_of_the_optimizer_reach_it(name: str, option: str, value: float) -> None:
    """A flag that nothing reads is worse than none."""
    model = registry().model(name)(**{option: value})
    networks = model.networks(zoo.DataSpec("test", SHAPE, tuple("0123456789"), torch.zeros(SHAPE)))
    chosen = [model.optimizer(network, turn.name) for turn in model.turns() for network in turn.players]
    assert set(networks) >= {network for turn in model.turns() for network in turn.players}
    assert value in [getattr(optimizer, option, None) for optimizer in chosen]


def _by_differences(critic: nn.Module, points: Tensor) -> Tensor:
    """‖∇D‖ at points (B, C, H, W), pixel by pixel, by central differences in double precision."""
    h = 1e-5
    sides = []
    for i in range(points[0].numel()):
        step = torch.zeros(points[0].numel(), dtype=points.dtype)
        step[i] = h
        step = step.view(points.shape[1:])
        sides.append((critic(points + step).logits - critic(points - step).logits) / (2 * h))
    return torch.stack(sides).norm(dim=0)


class _Smooth(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 1))

    def forward(self, x: Tensor) -> zoo.CriticOutput:
        return zoo.CriticOutput(self.body(x).squeeze(1), x)


def test_the_gradient_penalty_is_that_of_finite_differences() -> None:
    torch.manual_seed(0)
    critic, x, x_new = _Smooth(), torch.randn(5, 1, 4, 4), torch.randn(5, 1, 4, 4)
    torch.manual_seed(3)
    ours = gradient_penalty(critic, x, x_new).detach()
    torch.manual_seed(3)
    t = torch.rand(5, 1, 1, 1)
    between = (x + t * (x_new - x)).double()
    critic.double()
    with torch.no_grad():
        norms = _by_differences(critic, between)
    torch.testing.assert_close(ours, ((norms - 1) ** 2).mean().float())
    # Along its own direction the slope is the norm itself.
    between.requires_grad_()
    (gradient,) = torch.autograd.grad(critic(between).logits.sum(), between)
    ahead = 1e-5 * gradient / gradient.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    slope = (critic(between + ahead).logits - critic(between - ahead).logits) / 2e-5
    torch.testing.assert_close(slope.detach(), norms, rtol=1e-6, atol=0)


def test_the_gradient_penalty_of_a_linear_critic_has_a_closed_form() -> None:
    w = torch.full((16,), 0.75, requires_grad=True)  # of length 3
    penalty = gradient_penalty(
        lambda x: zoo.CriticOutput(x.flatten(1) @ w, x), torch.randn(5, 1, 4, 4), torch.randn(5, 1, 4, 4)
    )
    assert float(penalty.detach()) == pytest.approx((3 - 1) ** 2)
    (gradient,) = torch.autograd.grad(penalty, w)
    torch.testing.assert_close(gradient, 2 * (3 - 1) * w.detach() / 3)  # the critic learns from it


def _penalty(net: Any, x: Tensor, x_new: Tensor) -> Tensor:
    t = torch.rand(BATCH, 1, 1, 1)
    between = ((1 - t) * x + t * x_new).detach().requires_grad_()
    (g,) = torch.autograd.grad(net.critic(between).logits.sum(), between, create_graph=True)
    return ((g.square().sum((1, 2, 3)).sqrt() - 1) ** 2).mean()


def _wasserstein(net: Any, x: Tensor) -> Rows:
    x_new = net.decoder(prior())
    distance = net.critic(x).logits.mean() - net.critic(x_new).logits.mean()
    return {"critic": 10 * _penalty(net, x, x_new) - distance}


def test_wgan_gps_rows() -> None:
    engine = game("wgan-gp", steps=1)
    assert_rows(engine, 0, _wasserstein)
    assert_rows(engine, 1, lambda net, x: {"decoder": -net.critic(net.decoder(prior())).logits.mean()})


def test_vae_wgan_gps_rows() -> None:
    def autoencode(net: Any, x: Tensor) -> Rows:
        q = net.encoder(x)
        x_rec, x_new = net.decoder(torch.cat([draw(q), prior()])).chunk(2)
        rec = 0.5 * ((x_rec - x) ** 2).sum((1, 2, 3)).mean()
        fool = -net.critic(x_new).logits.mean()
        return {"encoder": kl(q).mean() + rec, "decoder": 0.3 * rec + fool}

    engine = game("vae-wgan-gp", steps=1, gamma=0.3)
    assert_rows(engine, 0, _wasserstein)
    assert_rows(engine, 1, autoencode)


@pytest.mark.parametrize("model", ["wgan-gp", "vae-wgan-gp"])
def test_wasserstein_critics_have_the_papers_betas_and_no_batch_statistics(model: str) -> None:
    engine = game(model)
    for turn in engine.objective.turns():
        for network in turn.players:
            settings = engine.objective.optimizer(network, turn.name)
            assert (settings.beta1, settings.beta2) == (0.0, 0.9)
    # The penalty is per image: what the critic says of one must not depend on the others.
    x = torch.randn(4, *SHAPE)
    torch.testing.assert_close(engine.networks.critic(x).logits[:2], engine.networks.critic(x[:2]).logits)


@pytest.mark.parametrize("model", ["gan", "wgan-gp", "vae-wgan-gp"])
def test_each_update_of_the_critic_sees_a_fresh_batch_and_fresh_codes(model: str) -> None:
    engine = game(model, n_critic=3)
    seen: list[Tensor] = []
    engine.networks.critic.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0].detach().clone()))
    codes: list[Tensor] = []
    engine.networks.decoder.register_forward_pre_hook(lambda _, arguments: codes.append(arguments[0].detach().clone()))
    for step in range(2):
        seen.clear()
        engine.step()
        batches = [engine.stream[3 * step + i] for i in range(3)]
        real = [i for v in seen for i, x in enumerate(batches) if torch.equal(v, x)]
        assert real == [0, 1, 2]
    for i, a in enumerate(codes):
        assert not any(torch.equal(a, b) for b in codes[:i])
    assert engine.images_seen == 2 * 3 * BATCH


# ------------------------------------------------------------------------------------------------- BiGAN, ALI, ALICE


def _uniform() -> Tensor:
    return 2 * torch.rand(BATCH, LATENT) - 1


def _pairs(
    net: Any, x: Tensor, z: Tensor, z_x: Tensor, *, joint: bool = False
) -> tuple[zoo.CriticOutput, zoo.CriticOutput]:
    x_z = net.decoder(z)
    if not joint:
        return net.critic(x, z_x), net.critic(x_z, z)
    logits = net.critic(torch.cat([x, x_z]), torch.cat([z_x, z])).logits
    return zoo.CriticOutput(logits[:BATCH], x), zoo.CriticOutput(logits[BATCH:], x)


def test_bigans_encoder_and_decoder_play_with_both_labels_swapped() -> None:
    def by_hand(net: Any, x: Tensor) -> Rows:
        q, p = _pairs(net, x, _uniform(), net.encoder(x).mean)
        swapped = (bce(q, 0) + bce(p, 1)) / 2
        return {"encoder": swapped, "decoder": swapped, "critic": (bce(q, 1) + bce(p, 0)) / 2}

    assert_rows(game("bigan", steps=2), 0, by_hand)


@pytest.mark.parametrize("joint", [False, True])
def test_alis_encoder_and_decoder_play_with_both_labels_swapped(joint: bool) -> None:
    def by_hand(net: Any, x: Tensor) -> Rows:
        z = prior()
        q, p = _pairs(net, x, z, draw(net.encoder(x)), joint=joint)
        swapped = bce(q, 0) + bce(p, 1)
        return {"encoder": swapped, "decoder": swapped, "critic": bce(q, 1) + bce(p, 0)}

    assert_rows(game("ali", steps=2, joint=joint), 0, by_hand)


def test_bigans_encoder_is_deterministic_and_alis_is_not() -> None:
    for model, stochastic in (("bigan", False), ("ali", True), ("alice", True)):
        engine = game(model)
        q = engine.networks.encoder(engine.stream[0])
        assert torch.equal(q.rsample(), q.rsample()) != stochastic
        assert torch.equal(q.rsample(), q.mean) != stochastic


def test_bigans_codes_and_prior_share_a_range_and_alis_are_normal() -> None:
    torch.manual_seed(0)
    like = torch.zeros(0)
    z = game("bigan").objective.prior(like, 50_000)
    assert -1 <= float(z.min()) < -0.999
    assert 0.999 < float(z.max()) <= 1
    assert float(z.var()) == pytest.approx(1 / 3, abs=0.01)
    engine = game("bigan")
    with torch.no_grad():
        engine.networks.encoder.encoder.head.weight.mul_(1e4)
    codes = engine.networks.encoder(engine.stream[0]).mean.detach()
    assert float(codes.abs().max()) <= 1
    assert float(codes.abs().max()) > 0.99
    z = game("ali").objective.prior(like, 50_000)
    assert float(z.mean()) == pytest.approx(0, abs=0.01)
    assert float(z.var()) == pytest.approx(1, abs=0.02)
    assert float(z.abs().max()) > 3


def _critic_inputs(joint: bool) -> tuple[Engine, list[Tensor], nn.BatchNorm2d, Tensor]:
    """What the critic's first batch normalization is given in a turn, and the critic's cost."""
    engine = game("ali", joint=joint)
    norm = next(m for m in engine.networks.critic.trunk.norms if isinstance(m, nn.BatchNorm2d))
    inputs: list[Tensor] = []

    def keep(_: nn.Module, arguments: tuple[Tensor]) -> None:
        inputs.append(arguments[0].detach())

    norm.register_forward_pre_hook(keep)
    torch.manual_seed(7)
    cost = engine.objective.terms(engine.networks, engine.stream[0])["gan"].detach()
    return engine, inputs, norm, cost


def test_joint_ali_shares_the_critics_batch_statistics() -> None:
    _, separate, _, cost_separate = _critic_inputs(False)
    _, (both,), norm, cost_joint = _critic_inputs(True)
    assert [len(v) for v in separate] == [BATCH, BATCH]
    torch.testing.assert_close(both, torch.cat(separate))  # the same pairs went in, encoder's first
    # One pass, momentum 0.1, from zero: a tenth of the mean over both kinds of pairs.
    torch.testing.assert_close(norm.running_mean, 0.1 * both.mean((0, 2, 3)))
    hand = (both - both.mean((0, 2, 3), keepdim=True)) / (
        both.var((0, 2, 3), keepdim=True, unbiased=False) + norm.eps
    ).sqrt()
    hand = hand * norm.weight.view(1, -1, 1, 1) + norm.bias.view(1, -1, 1, 1)
    torch.testing.assert_close(norm(both), hand, atol=1e-5, rtol=1e-5)
    assert abs(float(cost_joint - cost_separate)) > 1e-6


def test_joint_ali_without_statistics_is_separate_ali() -> None:
    costs = []
    for joint in (False, True):
        engine = game("ali", joint=joint, norm="none")
        torch.manual_seed(7)
        costs.append(engine.objective.terms(engine.networks, engine.stream[0])["gan"])
    torch.testing.assert_close(*costs)


def test_alice_adds_both_cycles_to_encoder_and_decoder() -> None:
    def by_hand(net: Any, x: Tensor) -> Rows:
        z, q = prior(), net.encoder(x)
        z_x = draw(q)
        x_z = net.decoder(z)
        encoded, generated = net.critic(x, z_x), net.critic(x_z, z)
        cycle_x = (x - net.decoder(z_x)).abs().mean()
        cycle_z = (z - draw(net.encoder(x_z))).abs().mean()
        row = bce(encoded, 0) + bce(generated, 1) + 3 * (cycle_x + cycle_z)
        return {"encoder": row, "decoder": row, "critic": bce(encoded, 1) + bce(generated, 0)}

    assert_rows(game("alice", steps=2, cycle=3.0), 0, by_hand)


def test_alice_without_its_cycles_is_ali_to_the_bit() -> None:
    alice, ali = game("alice", cycle=0.0), game("ali")
    for ours, theirs in zip(play(alice).values(), play(ali).values(), strict=True):
        assert all(a is not None and b is not None and torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(alice.networks.parameters(), ali.networks.parameters(), strict=True))
