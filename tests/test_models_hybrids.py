"""AAE, VAE-GAN, its hybrids and the games without a critic against the equations of their papers."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from by_hand import BATCH, LATENT, SHAPE, Rows, assert_rows, bce, draw, game, kl, play, prior
from torch import Tensor, distributions, nn
from torch.nn import functional as F
from zoo_plugins.models.introspective import batch_kl

import zoo
from zoo.registry import registry
from zoo.run.trained import make_networks

# -------------------------------------------------------------------------------------------------------------- AAE


@pytest.mark.parametrize("posterior", ["point", "gaussian"])
def test_aaes_three_turns_in_which_the_encoder_is_the_generator_over_codes(posterior: str) -> None:
    def code(net: Any, x: Tensor) -> Tensor:
        q = net.encoder(x)
        return q.mean if posterior == "point" else draw(q)

    def blur(z: Tensor) -> Tensor:
        return z + 0.3 * torch.randn(BATCH, LATENT)

    def reconstruct(net: Any, x: Tensor) -> Rows:
        error = ((net.decoder(code(net, x)) - x) ** 2).sum((1, 2, 3)).mean() / 2
        return {"encoder": error, "decoder": error}

    def judge(net: Any, x: Tensor) -> Rows:  # prior 1, code 0
        drawn, z = prior(), code(net, x)
        return {"critic": bce(net.critic(blur(drawn)), 1) + bce(net.critic(blur(z)), 0)}

    def regularize(net: Any, x: Tensor) -> Rows:  # −log D(code), not log(1 − D(code)); the decoder stays still
        return {"encoder": -net.critic(blur(code(net, x))).logits.sigmoid().log().mean()}

    engine = game("aae", steps=2, posterior=posterior)
    q = engine.networks.encoder(engine.stream[0])
    assert torch.equal(q.rsample(), q.rsample()) == (posterior == "point")
    for turn, by_hand in enumerate((reconstruct, judge, regularize)):
        decoder = copy.deepcopy(engine.networks.decoder.state_dict())
        assert_rows(engine, turn, by_hand)
        still = all(torch.equal(v, decoder[k]) for k, v in engine.networks.decoder.state_dict().items())
        assert still == (turn > 0)


def test_aaes_critic_sees_codes_and_nothing_of_the_image() -> None:
    engine = game("aae")
    shapes: list[torch.Size] = []
    engine.networks.critic.register_forward_pre_hook(lambda _, seen: shapes.extend(v.shape for v in seen))
    assert engine.networks.critic.inputs == "z"
    codes = torch.randn(BATCH, LATENT)
    blind = SimpleNamespace(encoder=lambda x: zoo.PointPosterior(codes), critic=engine.networks.critic)
    found = []
    for x in (engine.stream[0], engine.stream[1]):
        torch.manual_seed(3)
        found.append(engine.objective.turns()[1].terms(blind, x)["gan"])
    assert torch.equal(*found)
    assert set(shapes) == {torch.Size((BATCH, LATENT))}
    assert not any(isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d) for m in engine.networks.critic.modules())


def test_aaes_encoder_has_an_optimizer_for_each_phase() -> None:
    engine = game("aae")
    lr = [engine.objective.optimizer("encoder", name) for name in ("reconstruct", "regularize")]
    assert (lr[0].lr, lr[1].lr) == (engine.objective.lr, engine.objective.regularize_lr)

    def steps() -> list[set[float]]:
        state = engine.state()
        phases = ("update/0/", "update/2/")
        return [
            {float(v) for k, v in state.items() if k.startswith(p) and "encoder." in k and k.endswith("/step")}
            for p in phases
        ]

    for _ in range(3):
        engine.step_turn(0, engine.stream[0])
    assert steps() == [{3.0}, set()]
    engine.step_turn(2, engine.stream[0])
    assert steps() == [{3.0}, {1.0}]


def test_the_semi_supervised_aae_plays_a_second_game_over_classes() -> None:
    torch.manual_seed(0)
    engine = game("aae", steps=1, labels=32, classes=3)
    drawn = engine.objective.prior(torch.zeros(0), 9000)
    y, z = drawn[:, :3], drawn[:, 3:]
    assert set(y.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(y.sum(1), torch.ones(9000))
    torch.testing.assert_close(y.mean(0), torch.full((3,), 1 / 3), atol=0.03, rtol=0)
    assert float(z.std()) == pytest.approx(1, abs=0.03)

    def noise(width: int) -> Tensor:
        return 0.3 * torch.randn(BATCH, width)

    def judge(net: Any, x: Tensor) -> Rows:
        drawn, code = engine.objective.prior(x), net.encoder(x).mean
        losses = {}
        for name, part, width in (("critic", slice(3, None), LATENT), ("class_critic", slice(3), 3)):
            critic = net[name]
            real = bce(critic(drawn[:, part] + noise(width)), 1)
            losses[name] = real + bce(critic(code[:, part] + noise(width)), 0)
        return losses

    def regularize(net: Any, x: Tensor) -> Rows:
        code = net.encoder(x).mean
        fool = bce(net.critic(code[:, 3:] + noise(LATENT)), 1)
        return {"encoder": fool + bce(net.class_critic(code[:, :3] + noise(3)), 1)}

    assert_rows(engine, 1, judge)
    assert_rows(engine, 2, regularize)


def test_the_semi_supervised_aae_learns_classes_by_cross_entropy() -> None:
    model = registry().model("aae")(latent=LATENT, labels=32, classes=3)
    logits, labels = torch.randn(BATCH, 3), torch.arange(BATCH) % 3
    codes = torch.cat([logits.softmax(1), torch.randn(BATCH, LATENT)], 1)
    net = SimpleNamespace(encoder=lambda x: zoo.PointPosterior(codes))
    terms = model.turns()[3].terms(net, torch.zeros(BATCH, *SHAPE), labels)
    torch.testing.assert_close(terms["cross entropy"], F.cross_entropy(logits, labels))
    assert dict(model.turns()[3].players) == {"encoder": {"cross entropy": 1.0}}
    assert model.turns()[3].labeled_images == 32


# ---------------------------------------------------------------------------------- VAE-GAN and its hybrids


def _deaf(model: str, network: str, part: Callable[[nn.Module], nn.Module], **options: Any) -> dict[str, bool]:
    """Whose gradients stay the same, to the bit, when some weights of ``network`` are others."""
    engines = [game(model, **options) for _ in range(2)]
    torch.manual_seed(9)
    with torch.no_grad():
        for p in part(engines[1].networks[network]).parameters():
            p.add_(torch.randn_like(p))
    before, after = (play(engine) for engine in engines)

    def same(name: str) -> bool:
        pairs = zip(before[name], after[name], strict=True)
        return all(torch.equal(a, b) for a, b in pairs if a is not None and b is not None)

    return {name: same(name) for name in before}


def test_vaegans_encoder_gets_no_gradient_from_the_game() -> None:
    # The head lies behind the features that measure similarity: it is of the game alone.
    for saturating in (False, True):
        deaf = _deaf("vaegan", "critic", lambda critic: critic.head, saturating=saturating, tap=1)
        assert deaf == {"encoder": True, "decoder": False, "critic": False}


def test_vaegan_holds_whoever_is_ahead_and_nobody_when_both_are() -> None:
    model = registry().model("vaegan")(equilibrium=True)
    rows = {
        # cost of real, cost of fake: may the critic move, may the decoder
        (0.34, 0.34): (True, True),
        (0.32, 0.68): (False, True),  # the critic is below 0.33 with one of its costs
        (0.68, 0.32): (False, True),
        (0.10, 0.10): (False, True),
        (1.02, 1.02): (True, True),
        (1.04, 0.68): (True, False),  # the decoder is ahead: one cost is above 1.03
        (0.68, 1.04): (True, False),
        (2.00, 2.00): (True, False),
        (1.04, 0.32): (True, True),  # both would be held
        (0.32, 1.04): (True, True),
    }
    for (real, fake), (critic, decoder) in rows.items():
        gate = model.gate({"cost of real": torch.tensor(real), "cost of fake": torch.tensor(fake)})
        assert {k: bool(v) for k, v in gate.items()} == {"critic": critic, "decoder": decoder}, (real, fake)
    assert [t.gate for t in registry().model("vaegan")(equilibrium=False).turns()] == [None]


@pytest.mark.parametrize("fakes", ["both", "prior", "reconstruction"])
def test_the_costs_that_the_gate_reads_are_the_critics(fakes: str) -> None:
    engine = game("vaegan", steps=2, fakes=fakes, norm="none")  # whichever images share a batch
    net, x = engine.networks, engine.stream[0]
    torch.manual_seed(7)
    terms = engine.objective.terms(net, x)
    torch.manual_seed(7)
    q = net.encoder(x)
    rec, new = net.critic(net.decoder(draw(q))), net.critic(net.decoder(prior()))
    judged = {"both": (rec, new), "prior": (new,), "reconstruction": (rec,)}[fakes]
    torch.testing.assert_close(terms["cost of real"], bce(net.critic(x), 1))
    torch.testing.assert_close(terms["cost of fake"], torch.stack([bce(v, 0) for v in judged]).mean())


@pytest.mark.parametrize("codes", ["both", "posterior"])
def test_the_twins_share_codes_and_a_critic_and_no_gradient(codes: str) -> None:
    def by_hand(net: Any, x: Tensor) -> Rows:
        q = net.encoder(x)
        z = draw(q)
        logits = net.decoder(z).logits
        bound = F.binary_cross_entropy_with_logits(logits, (x + 1) / 2, reduction="sum") / BATCH + kl(q).mean()
        made = [net.critic(net.generator(s)) for s in ((z, prior()) if codes == "both" else (z,))]
        fakes = [net.critic(2 * logits.sigmoid() - 1), *made]  # both the decoder's image and the generator's
        return {
            "encoder": bound,
            "decoder": bound,
            "generator": sum(bce(v, 1) for v in made) / len(made),
            "critic": bce(net.critic(x), 1) + sum(bce(v, 0) for v in fakes) / len(fakes),
        }

    assert_rows(game("vaegan-twin", steps=2, codes=codes), 0, by_hand)


def test_the_twins_bound_hears_neither_critic_nor_generator() -> None:
    for network in ("critic", "generator"):
        deaf = _deaf("vaegan-twin", network, lambda whole: whole)
        assert deaf == {"encoder": True, "decoder": True, "generator": False, "critic": False}
    # And the generator does not hear the decoder, whose images only the critic sees.
    assert _deaf("vaegan-twin", "decoder", lambda whole: whole)["generator"]


def test_alpha_gans_rows() -> None:
    def by_hand(net: Any, x: Tensor) -> Rows:
        z, z_x = prior(), net.encoder(x).mean
        x_rec = net.decoder(z_x)
        rec, new = net.critic(x_rec), net.critic(net.decoder(z))
        error = 5 * (x - x_rec).abs().mean()
        return {
            "encoder": error + bce(net.code_critic(z_x), 1),
            "decoder": error + (bce(rec, 1) + bce(new, 1)) / 2,  # fools the critic on both kinds
            "critic": bce(net.critic(x), 1) + (bce(rec, 0) + bce(new, 0)) / 2,
            "code_critic": bce(net.code_critic(z), 1) + bce(net.code_critic(z_x), 0),
        }

    assert_rows(game("alpha-gan", steps=2, cycle=5.0), 0, by_hand)


def test_alpha_gans_encoder_hears_the_critic_of_codes_only() -> None:
    deaf = _deaf("alpha-gan", "critic", lambda whole: whole)
    assert deaf == {"encoder": True, "decoder": False, "critic": False, "code_critic": True}
    deaf = _deaf("alpha-gan", "code_critic", lambda whole: whole)
    assert deaf == {"encoder": False, "decoder": True, "critic": True, "code_critic": False}


# ------------------------------------------------------------------------------------------------ games without critic


def _moments_kl(z: Tensor) -> Tensor:
    q = distributions.Normal(z.mean(0), (z.var(0, unbiased=False) + 1e-6).sqrt())
    return distributions.kl_divergence(q, distributions.Normal(0.0, 1.0)).mean()


def test_batch_kl_has_a_closed_form() -> None:
    z = torch.tensor([[2.0, 1.5], [-2.0, 0.5]])  # moments (0, 4) and (1, 1/4)
    expected = ((4 - 1 - math.log(4)) / 2 + (1 + 0.25 - 1 - math.log(0.25)) / 2) / 2
    assert float(batch_kl(z)) == pytest.approx(expected, rel=1e-5)
    assert float(batch_kl(torch.tensor([[1.0], [-1.0]]))) == pytest.approx(0, abs=1e-6)
    torch.manual_seed(0)
    z = 1 + 2 * torch.randn(100_000, 3)
    assert float(batch_kl(z)) == pytest.approx(0.5 * (1 + 4 - 1 - math.log(4)), abs=0.03)


def test_ages_codes_lie_on_the_sphere_of_radius_root_d() -> None:
    engine = game("age", latent=9)
    torch.manual_seed(0)
    z = engine.objective.prior(torch.zeros(0), 20_000)
    torch.testing.assert_close(z.norm(dim=1), torch.full((20_000,), 3.0))
    torch.testing.assert_close(z.mean(0), torch.zeros(9), atol=0.04, rtol=0)
    torch.testing.assert_close(z.T @ z / 20_000, torch.eye(9), atol=0.05, rtol=0)
    codes = engine.networks.encoder(engine.stream[0]).mean
    torch.testing.assert_close(codes.norm(dim=1), torch.full((BATCH,), 3.0))


def test_ages_rows() -> None:
    def codes() -> Tensor:
        z = prior()
        return 2 * z / z.norm(dim=1, keepdim=True)  # √4

    def tell(net: Any, x: Tensor) -> Rows:
        z_x = net.encoder(x).mean
        z_new = net.encoder(net.decoder(codes())).mean
        rec = (x - net.decoder(z_x)).abs().mean()
        return {"encoder": _moments_kl(z_x) - _moments_kl(z_new) + 10 * rec}

    def make(net: Any, x: Tensor) -> Rows:
        z = codes()
        z_new = net.encoder(net.decoder(z)).mean
        cosine = (z * z_new).sum(1) / (z.norm(dim=1) * z_new.norm(dim=1))
        return {"decoder": _moments_kl(z_new) + 10 * (1 - cosine).mean()}

    engine = game("age", steps=2)
    assert_rows(engine, 0, tell)
    assert_rows(engine, 1, make)
    assert [turn.repeat for turn in engine.objective.turns()] == [1, 2]


def _l(a: Tensor, b: Tensor) -> Tensor:
    return ((a - b) ** 2).sum((1, 2, 3)) / 2


def _tell(net: Any, x: Tensor, *, detach: bool) -> Rows:
    s = 1 / 64
    q = net.encoder(x)
    x_rec, x_new = net.decoder(draw(q)), net.decoder(prior())
    elbo = s * (2 * _l(x_rec, x) + 0.5 * kl(q)).mean()
    soft = 0.0
    for made in (x_rec, x_new):
        v = made.detach() if detach else made
        q_v = net.encoder(v)
        soft = soft + torch.exp(-2 * s * (2 * _l(net.decoder(draw(q_v)), v) + 8 * kl(q_v))).mean()
    return {"encoder": elbo + soft / 4}


def test_soft_introvaes_two_steps_each_leave_the_other_network_still() -> None:
    def make(net: Any, x: Tensor) -> Rows:
        s = 1 / 64
        x_rec, x_new = net.decoder(draw(net.encoder(x))), net.decoder(prior())
        loss = 2 * _l(x_rec, x).mean()
        q_rec, q_new = net.encoder(x_rec), net.encoder(x_new)
        loss = loss + 0.5 * 0.5 * (kl(q_rec) + kl(q_new)).mean()
        for q, v in ((q_rec, x_rec), (q_new, x_new)):
            loss = loss + 0.3 * 0.5 * 2 * _l(net.decoder(draw(q).detach()), v.detach()).mean()
        return {"decoder": s * loss}

    engine = game("soft-introvae", steps=2, beta_rec=2.0, beta_kl=0.5, beta_neg=8.0, gamma=0.3)
    for turn, other, by_hand in (
        (0, "decoder", lambda net, x: _tell(net, x, detach=True)),
        (1, "encoder", make),
    ):
        before = [p.clone() for p in engine.networks[other].parameters()]
        assert_rows(engine, turn, by_hand)
        assert all(torch.equal(a, b) for a, b in zip(before, engine.networks[other].parameters(), strict=True))


def test_soft_introvaes_encoder_cannot_improve_by_what_it_makes() -> None:
    engine = game("soft-introvae", steps=2, beta_rec=2.0, beta_kl=0.5, beta_neg=8.0)
    with pytest.raises(AssertionError, match="off by"):  # the images are constants: with them it is another gradient
        assert_rows(engine, 0, lambda net, x: _tell(net, x, detach=False))


def test_the_exponential_of_soft_introvae_by_hand() -> None:
    """Two made images per image, both with L = 0 and KL = ln 4: Σ exp(−2s·β_neg·ln 4) = 2·4^(−2s·β_neg)."""
    model = registry().model("soft-introvae")(latent=1, beta_neg=16.0)
    mean = torch.full((BATCH, 1), math.sqrt(2 * math.log(4)))
    net = SimpleNamespace(
        encoder=lambda x: zoo.GaussianPosterior(mean, torch.zeros(BATCH, 1)),
        decoder=lambda z: torch.zeros(BATCH, *SHAPE),
    )
    terms = model.turns()[0].terms(net, torch.zeros(BATCH, *SHAPE))
    assert float(terms["exp elbo"]) == pytest.approx(2 * 4 ** (-2 / 64 * 16))
    assert float(terms["elbo"]) == pytest.approx(math.log(4) / 64)


def test_soft_introvaes_default_weight_is_the_papers_at_32_pixels_in_color_and_in_proportion_elsewhere() -> None:
    def soft(beta_neg: float | None, x: torch.Tensor) -> torch.Tensor:
        engine = game("soft-introvae", beta_neg=beta_neg)
        torch.manual_seed(1)
        found: torch.Tensor = engine.objective.turns()[0].terms(engine.networks, x)["exp elbo"]
        return found

    x = torch.zeros(BATCH, *SHAPE)
    pixels = x[0].numel()
    torch.testing.assert_close(soft(None, x), soft(256 * pixels / 3072, x))
    assert not torch.isclose(soft(None, x), soft(256.0, x), rtol=1e-3)


@pytest.mark.parametrize("joint", [False, True])
def test_vaegans_critic_sees_contrast_where_real_and_generated_images_are_one_batch(joint: bool) -> None:
    objective = registry().model("vaegan")(width=4, joint=joint)  # type: ignore[call-arg]
    torch.manual_seed(0)
    critic = make_networks(objective, zoo.DataSpec("images", (3, 32, 32)))["critic"].train()
    g = torch.Generator().manual_seed(0)
    real = F.interpolate(torch.rand(32, 3, 8, 8, generator=g) * 2 - 1, size=(32, 32), mode="bicubic")
    faded = 0.5 * real

    def like(a: Tensor, b: Tensor) -> float:
        x, y = objective.criticize(SimpleNamespace(critic=critic), a, b)  # type: ignore[attr-defined]
        return float(zoo.half_sse(y.features, x.features).detach())

    def alone(v: Tensor) -> Tensor:
        features: Tensor = critic(v).features.detach()
        return features

    separate = float(zoo.half_sse(alone(faded), alone(real)))
    together = float(zoo.half_sse(*alone(torch.cat([faded, real])).chunk(2)))
    assert like(real, faded) == pytest.approx(together if joint else separate, rel=1e-4)
    assert together > 2 * separate, "statistics of its own hide the contrast of a batch from the features"
