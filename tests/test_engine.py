"""The engine: each player gets exactly the gradient of its own row of the game table, and nothing else is updated."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs
import pytest
import safetensors.torch
import torch
from torch import Tensor, distributions, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

import zoo
from zoo import Turn, UsageError, ZooError
from zoo.engine import BatchStream, Engine
from zoo.game import player_groups, term_names
from zoo.interfaces import Networks
from zoo.registry import registry

CPU = torch.device("cpu")
SHAPE = (3, 16, 12)  # three stages: the tapped second one is not the last
BATCH = 8


def _images(n: int = 40, shape: tuple[int, int, int] = SHAPE) -> Tensor:
    return torch.randint(0, 256, (n, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(5))


def _engine(model: str, seed: int = 0, **options: Any) -> Engine:
    objective = registry().model(model)(**{"latent": 5, "width": 4, **options})
    torch.manual_seed(seed)
    networks = Networks(objective.networks(zoo.DataSpec("noise", SHAPE)))
    return Engine(objective, networks, BatchStream(_images(), BATCH, 0, CPU))


def _parameters(networks: Networks) -> dict[str, Tensor]:
    return {k: p.detach().clone() for k, p in networks.named_parameters()}


def _gradients(networks: Networks) -> dict[str, Tensor]:
    found = {k: p.grad for k, p in networks.named_parameters()}
    return {k: torch.zeros_like(networks.get_parameter(k)) if g is None else g.clone() for k, g in found.items()}


# --------------------------------------------------------------------------- gradients against the papers, by hand


def _alone(networks: Networks, player: str) -> Networks:
    """A copy in which nobody but one player can learn: a loss that leaks elsewhere finds nothing there."""
    twin = copy.deepcopy(networks)
    for name in twin.names():
        twin[name].requires_grad_(name == player)
    return twin


def _noise() -> tuple[Tensor, Tensor]:
    """What the model draws in a step, in its order: ε of the posterior, then z of the prior."""
    torch.manual_seed(77)
    return torch.randn(BATCH, 5), torch.randn(BATCH, 5)


def _kl(mean: Tensor, logvar: Tensor) -> Tensor:
    q = distributions.Normal(mean, (0.5 * logvar).exp())
    return distributions.kl_divergence(q, distributions.Normal(0.0, 1.0)).sum() / BATCH


def _decoded(net: Networks, z: Tensor, z_new: Tensor) -> tuple[Tensor, Tensor]:
    """Both kinds of codes pass the decoder in one batch, whose statistics they share."""
    images = net.decoder(torch.cat([z, z_new]))
    return images[:BATCH], images[BATCH:]


def _vaegan_by_hand(
    before: Networks, x: Tensor, gamma: float, fakes: str, saturating: bool
) -> Iterator[tuple[str, nn.Module]]:
    """Larsen et al., Algorithm 1, with one network copy, one loss and one ``.backward()`` for each player."""
    eps, z_new = _noise()

    # Encoder: L_prior + L_like. No gradient from the GAN.
    net = _alone(before, "encoder")
    q = net.encoder(x)
    x_rec, _ = _decoded(net, q.mean + (0.5 * q.logvar).exp() * eps, z_new)
    difference = net.critic(x_rec).features - net.critic(x).features.detach()
    (_kl(q.mean, q.logvar) + 0.5 * (difference**2).sum() / BATCH).backward()
    yield "encoder", net.encoder

    # Decoder: γ L_like and the game: fool the critic, or, saturating, descend −L_GAN.
    net = _alone(before, "decoder")
    with torch.no_grad():
        q = net.encoder(x)
        z = q.mean + (0.5 * q.logvar).exp() * eps
    x_rec, x_new = _decoded(net, z, z_new)
    difference = net.critic(x_rec).features - net.critic(x).features.detach()
    judged = {"both": (x_rec, x_new), "prior": (x_new,), "reconstruction": (x_rec,)}[fakes]
    scores = [net.critic(v).logits.sigmoid() for v in judged]
    game = sum((1 - d).log().mean() for d in scores) if saturating else -sum(d.log().mean() for d in scores)
    (gamma * 0.5 * (difference**2).sum() / BATCH + game).backward()
    yield "decoder", net.decoder

    # Critic: −log D(x) − Σ log(1 − D(fake)), on images that are constants. No gradient from L_like.
    net = _alone(before, "critic")
    with torch.no_grad():
        q = net.encoder(x)
        x_rec, x_new = _decoded(net, q.mean + (0.5 * q.logvar).exp() * eps, z_new)
    judged = {"both": (x_rec, x_new), "prior": (x_new,), "reconstruction": (x_rec,)}[fakes]
    real = -net.critic(x).logits.sigmoid().log().mean()
    fake = -sum((1 - net.critic(v).logits.sigmoid()).log().mean() for v in judged)
    (real + fake).backward()
    yield "critic", net.critic


def _vae_by_hand(before: Networks, x: Tensor, likelihood: str) -> Iterator[tuple[str, nn.Module]]:
    """Kingma & Welling, equation 10, once for each network."""
    eps, _ = _noise()
    for player in ("encoder", "decoder"):
        net = _alone(before, player)
        q = net.encoder(x)
        p = net.decoder(q.mean + (0.5 * q.logvar).exp() * eps)
        if likelihood == "bernoulli":
            nll = F.binary_cross_entropy(p.logits.sigmoid(), (x + 1) / 2, reduction="sum") / BATCH
        else:
            nll = -distributions.Normal(p.mean, p.log_std.exp()).log_prob(x).sum() / BATCH
        (nll + _kl(q.mean, q.logvar)).backward()
        yield player, net[player]


def _assert_gradients(engine: Engine, by_hand: Iterator[tuple[str, nn.Module]]) -> None:
    seen = set()
    for name, twin in by_hand:
        # A bias before a normalization has only rounding noise for a gradient: errors are measured by the largest.
        largest = max(float(p.grad.abs().max()) for p in twin.parameters() if p.grad is not None)
        assert largest > 1e-4, f"{name}: a gradient of nothing would prove nothing"
        for key, ours in engine.networks[name].named_parameters():
            theirs = twin.get_parameter(key).grad
            assert ours.grad is not None, f"{name}.{key} got no gradient"
            assert theirs is not None
            error = float((ours.grad - theirs).abs().max()) / largest
            assert error < 5e-6, f"{name}.{key}: off by {error:.1e}"  # float32, summed in another order
        seen.add(name)
    assert seen == set(engine.networks.names())


@pytest.mark.parametrize("saturating", [False, True], ids=["non-saturating", "saturating"])
@pytest.mark.parametrize("fakes", ["both", "prior", "reconstruction"])
def test_vaegan_gradients_are_those_of_algorithm_1(fakes: str, saturating: bool) -> None:
    engine = _engine("vaegan", fakes=fakes, saturating=saturating, gamma=0.3)
    # A few steps first: at initialization much is nearly zero, and stale gradients and moments could not show.
    for _ in range(3):
        engine.step()
    before = copy.deepcopy(engine.networks)
    x = engine.stream[3]
    torch.manual_seed(77)
    engine.step()
    _assert_gradients(engine, _vaegan_by_hand(before, x, 0.3, fakes, saturating))


@pytest.mark.parametrize(
    "options", [{"norm": "group"}, {"norm": "none"}, {"tap": 1, "pre_norm": True}, {"family": "mlp"}]
)
def test_vaegan_gradients_are_routed_alike_in_other_networks(options: dict[str, Any]) -> None:
    engine = _engine("vaegan", gamma=1e-2, **options)
    engine.step()
    before = copy.deepcopy(engine.networks)
    torch.manual_seed(77)
    engine.step()
    _assert_gradients(engine, _vaegan_by_hand(before, engine.stream[1], 1e-2, "both", False))


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_vae_gradients_are_those_of_the_bound(likelihood: str) -> None:
    engine = _engine("vae", likelihood=likelihood)
    for _ in range(3):
        engine.step()
    before = copy.deepcopy(engine.networks)
    x = engine.stream[3]
    torch.manual_seed(77)
    engine.step()
    _assert_gradients(engine, _vae_by_hand(before, x, likelihood))


@pytest.mark.parametrize(("model", "lr", "beta1"), [("vae", 1e-3, 0.9), ("vaegan", 2e-4, 0.5), ("vaegan", 0.01, 0.8)])
def test_parameters_move_by_adams_formula_on_that_gradient_and_by_nothing_else(
    model: str, lr: float, beta1: float
) -> None:
    engine = _engine(model, lr=lr, beta1=beta1)
    at = {k: v.double() for k, v in _parameters(engine.networks).items()}
    m = {k: torch.zeros_like(v) for k, v in at.items()}
    v2 = {k: torch.zeros_like(v) for k, v in at.items()}
    for t in (1, 2, 3):
        engine.step()
        now, gradients = _parameters(engine.networks), _gradients(engine.networks)
        for k, g in gradients.items():
            # Kingma & Ba, Algorithm 1, in double precision.
            g = g.double()
            m[k] = beta1 * m[k] + (1 - beta1) * g
            v2[k] = 0.999 * v2[k] + 0.001 * g * g
            move = lr * (m[k] / (1 - beta1**t)) / ((v2[k] / (1 - 0.999**t)).sqrt() + 1e-8)
            torch.testing.assert_close(now[k].double(), at[k] - move, rtol=1e-6, atol=1e-6 * lr + 1e-7, msg=k)
            at[k] = now[k].double()


def test_a_network_that_only_passes_gradients_on_collects_none() -> None:
    """The commonest mistake in public VAE-GAN code: the decoder's and the encoder's losses reach the critic."""
    engine = _engine("vaegan")
    seen: list[tuple[Tensor, ...]] = []
    original = torch.autograd.grad

    def spy(loss: Tensor, parameters: Any, **more: Any) -> tuple[Tensor, ...]:
        seen.append(tuple(parameters))
        assert all(p.grad is None for p in engine.networks.parameters()), "nothing may be accumulated meanwhile"
        return original(loss, parameters, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.autograd, "grad", spy)
        patch.setattr(Tensor, "backward", None)
        engine.step()
    networks = [set(map(id, engine.networks[n].parameters())) for n in ("encoder", "decoder", "critic")]
    assert [set(map(id, parameters)) for parameters in seen] == networks


# ------------------------------------------------------------------------------------------------------- toy games


class One(nn.Module):
    """A network of one weight."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(value))


@zoo.frozen
class Toy(zoo.Objective):
    """Whatever game a test needs."""

    game: tuple[Turn, ...] = ()
    rule: zoo.Optimizer = zoo.SGD(lr=0.1, momentum=0.0)
    rules: Mapping[str, zoo.Optimizer] = attrs.field(factory=dict, kw_only=True, hash=False)

    def networks(self, data: zoo.DataSpec) -> Mapping[str, nn.Module]:
        return {}

    def turns(self) -> tuple[Turn, ...]:
        return self.game

    def optimizer(self, network: str, turn: str) -> zoo.Optimizer:
        return self.rules.get(f"{turn}/{network}", self.rule)


def _toy(
    *turns: Turn, networks: Mapping[str, nn.Module] | None = None, batch: int = 2, n: int = 12, **more: Any
) -> Engine:
    # Image i is all i, so that a batch tells which images it holds.
    images = torch.arange(n, dtype=torch.uint8).view(n, 1, 1, 1).expand(n, 1, 2, 2).contiguous()
    made = Networks(networks or {"a": One(2.0), "b": One(3.0), "c": One(5.0)})
    return Engine(Toy(game=turns, **more), made, BatchStream(images, batch, 0, CPU))


def _which(x: Tensor) -> list[int]:
    return ((x[:, 0, 0, 0] + 1) * 127.5).round().int().tolist()


def _weights(engine: Engine) -> list[float]:
    return [round(float(p.detach()), 6) for p in engine.networks.parameters()]


def test_a_turn_is_simultaneous_every_gradient_is_from_before_any_update() -> None:
    # a descends ab, b ascends it. Together: (2 − 0.1·3, 3 + 0.1·2). One after the other, b would reach 3.17.
    engine = _toy(Turn({"a": {"ab": 1}, "b": {"ab": -1}}, lambda net, x: {"ab": net.a.w * net.b.w}))
    engine.step()
    assert _weights(engine) == [1.7, 3.2, 5.0]


def test_a_later_turn_sees_what_an_earlier_one_did() -> None:
    def ab(net: Networks, x: Tensor) -> Mapping[str, Tensor]:
        return {"ab": net.a.w * net.b.w}

    engine = _toy(Turn({"a": {"ab": 1}}, ab, name="first"), Turn({"b": {"ab": -1}}, ab, name="second"))
    engine.step()
    assert _weights(engine) == [1.7, 3.17, 5.0]
    engine.step()  # 1.7 − 0.317 = 1.383; 3.17 + 0.1383
    assert _weights(engine) == [1.383, 3.3083, 5.0]


def test_turns_of_one_step_see_the_same_batch() -> None:
    seen: list[list[int]] = []

    def terms(net: Networks, x: Tensor) -> Mapping[str, Tensor]:
        seen.append(_which(x))
        return {"t": net.a.w * x.mean()}

    engine = _toy(Turn({"a": {"t": 1}}, terms, name="one"), Turn({"a": {"t": 1}}, terms, name="two"))
    engine.step()
    engine.step()
    assert seen[0] == seen[1] != seen[2] == seen[3]


def test_weights_multiply_terms_and_a_row_sums_them() -> None:
    # a minimizes 2·a² − 3·a·b: its gradient is 4a − 3b = −1; b minimizes ½·a·b: its is ½a = 1.
    engine = _toy(
        Turn(
            {"a": {"square": 2.0, "ab": -3.0}, "b": {"ab": 0.5, "square": 0.0}},
            lambda net, x: {"square": net.a.w**2, "ab": net.a.w * net.b.w},
        )
    )
    engine.step()
    assert _weights(engine) == [2.1, 2.9, 5.0]


def test_who_is_not_in_a_turn_does_not_move_nor_does_its_optimizers_state() -> None:
    between: list[dict[str, Tensor]] = []

    def terms(net: Networks, x: Tensor) -> Mapping[str, Tensor]:
        between.append(engine.state())
        return {"all": net.a.w * net.b.w * net.c.w}

    engine = _toy(
        Turn({"a": {"all": 1}}, terms, name="one"),
        Turn({"b": {"all": 1}}, terms, name="two"),
        rule=zoo.Adam(lr=0.1),
    )
    for _ in range(2):
        engine.step()
    after = engine.state()
    assert float(after["net/c.w"]) == 5.0, "c passes gradients on and plays nowhere"
    assert not [k for k in after if k.startswith("update/") and "c.w" in k]
    for i, held, moved in ((0, "b", "a"), (1, "a", "b")):
        then, next_ = between[2:][i], [*between[2:], after][i + 1]
        changed = {
            k for k in next_ if not k.startswith(("sum/", "rng/", "position")) and not torch.equal(then[k], next_[k])
        }
        assert f"net/{moved}.w" in changed
        assert any(k.startswith(f"update/{i}/{moved}/") for k in changed)
        assert not [k for k in changed if f"{held}.w" in k]


def test_a_network_that_plays_in_two_turns_has_an_optimizer_in_each() -> None:
    engine = _toy(
        Turn({"a": {"t": 1}}, lambda net, x: {"t": net.a.w}, name="one"),
        Turn({"a": {"t": 1}}, lambda net, x: {"t": -net.a.w}, name="two"),
        rules={"one/a": zoo.SGD(lr=0.1, momentum=0.0), "two/a": zoo.SGD(lr=0.5, momentum=0.0)},
    )
    engine.step()
    assert _weights(engine)[0] == 2.4
    adam = _toy(
        Turn({"a": {"t": 1}}, lambda net, x: {"t": net.a.w}, name="one"),
        Turn({"a": {"t": 1}}, lambda net, x: {"t": -net.a.w}, name="two", repeat=2),
        rule=zoo.Adam(),
    )
    adam.step()
    state = adam.state()
    assert [float(state[f"update/{i}/a/a.w/step"]) for i in (0, 1)] == [1, 2]
    assert [math.copysign(1, state[f"update/{i}/a/a.w/exp_avg"]) for i in (0, 1)] == [1, -1]


def test_a_repeated_turn_draws_fresh_batches_and_updates_each_time() -> None:
    seen: dict[str, list[list[int]]] = {"critic": [], "generator": []}

    def of(turn: str, network: str) -> Callable[[Networks, Tensor], Mapping[str, Tensor]]:
        def terms(net: Networks, x: Tensor) -> Mapping[str, Tensor]:
            seen[turn].append(_which(x))
            return {"w": net[network].w + 0 * x.mean()}

        return terms

    engine = _toy(
        Turn({"b": {"w": 1}}, of("critic", "b"), name="critic", repeat=3),
        Turn({"a": {"w": 1}}, of("generator", "a"), name="generator"),
    )
    assert (engine.batches_per_step, engine.images_per_step) == (3, 6)
    engine.step()
    assert _weights(engine) == [1.9, 2.7, 5.0], "gradient 1, three times for the critic, once for the generator"
    engine.step()
    assert engine.images_seen == 12
    assert [len(v) for v in seen.values()] == [6, 2]
    drawn = sorted(i for batch in seen["critic"] for i in batch)
    assert drawn == list(range(12)), "two steps of three batches of two are one epoch of twelve, each image once"
    assert engine.read_terms()["critic/w"] == pytest.approx((3 + 2.9 + 2.8 + 2.7 + 2.6 + 2.5) / 6)


def test_read_gives_the_mean_of_each_term_since_the_last_reading() -> None:
    engine = _toy(Turn({"a": {"w": 1}}, lambda net, x: {"w": net.a.w, "seen": (x.mean() + 1) * 127.5}))
    for _ in range(3):
        engine.step()
    batches = [sum(_which(engine.stream[i])) / 2 for i in range(5)]
    first = engine.read_terms()
    assert first == pytest.approx({"w": (2 + 1.9 + 1.8) / 3, "seen": sum(batches[:3]) / 3}, rel=1e-5)
    for _ in range(2):
        engine.step()
    assert engine.read_terms() == pytest.approx({"w": (1.7 + 1.6) / 2, "seen": sum(batches[3:]) / 2}, rel=1e-5)
    assert engine.read_terms() == {}, "nothing was played since"


def test_terms_that_nobody_minimizes_are_still_reported() -> None:
    turn = Turn({"a": {"w": 1}}, lambda net, x: {"w": net.a.w, "watched": 2 * net.b.w})
    engine = _toy(turn)
    engine.step()
    assert engine.read_terms()["watched"] == 6
    assert term_names(turn) == ("w",)


def test_gradient_norms_are_those_of_each_rows_networks() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.u, self.v = nn.Parameter(torch.tensor([1.0, 2.0])), nn.Parameter(torch.tensor(4.0))
            self.idle = nn.Parameter(torch.tensor(9.0))

    # Of u·(3, 0) + 4·a: (3, 0) for u and 4 for a, together 5. Of ½v²: 4.
    engine = _toy(
        Turn(
            {"a": {"t": 1}, "two": {"t": 1}, "b": {"s": -2.0}},
            lambda net, x: {"t": 3 * net.two.u[0] + 4 * net.a.w, "s": net.b.w**2 / 2},
        ),
        networks={"a": One(1.0), "b": One(3.0), "two": Two()},
    )
    engine.step()
    assert engine.gradient_norms() == pytest.approx({"grad/a+two": 5.0, "grad/b": 6.0})
    assert engine.networks.two.idle.detach() == 9.0, "a weight that no term reaches stays"
    turns = _toy(
        Turn({"a": {"t": 1}}, lambda net, x: {"t": 3 * net.a.w}, name="one"),
        Turn({"a": {"t": 1}}, lambda net, x: {"t": -7 * net.a.w}, name="two"),
    )
    turns.step()
    assert turns.gradient_norms() == pytest.approx({"grad/one/a": 3.0, "grad/two/a": 7.0})


@pytest.mark.parametrize(("model", "passes"), [("vae", 1), ("vaegan", 3)])
def test_networks_with_equal_rows_share_one_backward_pass(
    model: str, passes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = _engine(model)
    calls: list[int] = []
    original = torch.autograd.grad
    monkeypatch.setattr(
        torch.autograd, "grad", lambda loss, p, **more: (calls.append(len(p)), original(loss, p, **more))[1]
    )
    engine.step()
    assert len(calls) == passes
    assert sum(calls) == len(list(engine.networks.parameters()))


def test_rows_are_equal_by_what_they_say_not_by_how() -> None:
    rows = player_groups({"a": {"t": 1, "s": 2}, "b": {"s": 2.0, "t": 1.0, "u": 0}, "c": {"t": 1}})
    assert [row.networks for row in rows] == [("a", "b"), ("c",)]


@pytest.mark.parametrize(
    ("players", "message"),
    [
        ({"critic": {"t": 1}}, "player 'critic' is no network of the model (a, b, c)"),
        ({"a": {"loss": 1}}, "no term 'loss' for its players; terms: t"),
        ({"a": {"t": 1}, "b": {}}, "a player has no term to minimize"),
        ({"a": {"t": 0.0}}, "a player has no term to minimize"),
    ],
)
def test_a_table_that_cannot_be_played_is_named(players: dict[str, dict[str, float]], message: str) -> None:
    with pytest.raises(ZooError) as caught:
        _toy(Turn(players, lambda net, x: {"t": net.a.w}, name="my turn")).step()
    assert "turn 'my turn'" in str(caught.value)
    assert message in str(caught.value)


def test_a_term_that_no_player_can_change_is_named() -> None:
    turn = Turn({"a": {"t": 1, "u": 2}}, lambda net, x: {"t": 2 * net.b.w, "u": net.a.w.detach()}, name="my turn")
    with pytest.raises(ZooError, match=r"turn 'my turn': 't' . 'u' depends on no parameter of a player"):
        _toy(turn).step()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_run_that_diverges_is_told_with_the_term_and_the_step(bad: float) -> None:
    value = torch.tensor(1.0)
    engine = _toy(Turn({"a": {"w": 1}}, lambda net, x: {"w": net.a.w, "odd": value * net.b.w}))
    engine.step()
    engine.check_finite()
    value = torch.tensor(bad)
    engine.step()
    value = torch.tensor(1.0)
    engine.step()  # one bad step among good ones is not averaged away
    with pytest.raises(ZooError, match=r"diverged: term 'odd' .* step 3; .*--lr"):
        engine.check_finite()
    with pytest.raises(ZooError, match="diverged"):
        engine.read_terms()


@pytest.mark.parametrize(
    ("rule", "first", "second"),
    [
        # Of w² from w = 2 the gradient is 4; then by each paper's formula.
        (zoo.SGD(lr=0.1, momentum=0.5), 2 - 0.4, 1.6 - 0.1 * (0.5 * 4 + 3.2)),
        (zoo.RMSprop(lr=0.1, alpha=0.9), 2 - 0.1 * 4 / math.sqrt(1.6), None),
        (zoo.Adam(lr=0.1), 1.9, None),
        (zoo.SGD(lr=0.1, momentum=0.0, weight_decay=0.5), 2 - 0.1 * (4 + 0.5 * 2), None),
        (zoo.RMSprop(lr=0.1, alpha=0.75, weight_decay=1.0), 2 - 0.1 * 6 / math.sqrt(0.25 * 36), None),
    ],
)
def test_optimizers_by_hand(rule: zoo.Optimizer, first: float, second: float | None) -> None:
    engine = _toy(Turn({"a": {"t": 1}}, lambda net, x: {"t": net.a.w**2}), rule=rule)
    engine.step()
    assert engine.networks.a.w.item() == pytest.approx(first, rel=1e-6)
    if second is not None:
        engine.step()
        assert engine.networks.a.w.item() == pytest.approx(second, rel=1e-6)


# ------------------------------------------------------------------------------------------------------------ gates

RULES = [zoo.Adam(lr=0.05), zoo.RMSprop(lr=0.05), zoo.SGD(lr=0.05, momentum=0.9)]


class Bowl(nn.Module):
    """Weights in a bowl: the gradient depends on where they are, and only on that."""

    def __init__(self, *values: float) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(values))
        self.v = nn.Parameter(torch.tensor([[0.5], [-1.5]]))

    def loss(self) -> Tensor:
        return (self.w**2).sum() + (self.v**4).sum()


def _bowls(rule: zoo.Optimizer, gate: Callable[[int], Mapping[str, Tensor]] | None) -> Engine:
    count = iter(range(1000))
    turn = Turn(
        {"a": {"a": 1}, "b": {"b": 1}},
        lambda net, x: {"a": net.a.loss(), "b": net.b.loss()},
        gate=None if gate is None else lambda terms: gate(next(count)),
    )
    return _toy(turn, networks={"a": Bowl(1.0, -2.0), "b": Bowl(0.3, 4.0)}, rule=rule)


def _of(engine: Engine, network: str) -> dict[str, Tensor]:
    """A network's weights and optimizer state, by names that do not depend on how networks were grouped."""
    state = engine.state()
    found = {k: v for k, v in state.items() if k.startswith(f"net/{network}.")}
    return found | {
        "/".join(k.split("/")[3:]): v for k, v in state.items() if k.startswith("update/") and f"/{network}." in k
    }


def _assert_same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> None:
    assert a.keys() == b.keys()
    assert len(a) > 2
    different = [k for k in a if not torch.equal(a[k], b[k])]
    assert not different


@pytest.mark.parametrize("rule", RULES, ids=lambda r: type(r).__name__)
def test_a_closed_gate_holds_weights_moments_and_step_count_bit_for_bit(rule: zoo.Optimizer) -> None:
    engine = _bowls(rule, lambda i: {"a": torch.tensor(i < 2), "b": torch.tensor(True)})
    engine.step()
    engine.step()
    a, b = _of(engine, "a"), _of(engine, "b")
    engine.step()
    _assert_same(_of(engine, "a"), a)
    now = _of(engine, "b")
    assert [k for k in b if torch.equal(now[k], b[k])] == [], "everything of the other moves on"


@pytest.mark.parametrize("rule", RULES, ids=lambda r: type(r).__name__)
@pytest.mark.parametrize("pattern", ["TTTT", "TFTFT", "FTT", "FFFTFTTF"])
def test_a_held_step_leaves_no_trace_from_the_first_step_on(rule: zoo.Optimizer, pattern: str) -> None:
    # In its bowl a network does not know how often it was held: it must be where as many free steps would bring it.
    gated = _bowls(rule, lambda i: {"a": torch.tensor(pattern[i] == "T")})
    free = _bowls(rule, None)
    for _ in pattern:
        torch.full((64,), math.nan)  # what uninitialized memory may hold
        gated.step()
    for _ in range(pattern.count("T")):
        free.step()
    _assert_same(_of(gated, "a"), _of(free, "a"))
    for _ in range(pattern.count("F")):
        free.step()
    _assert_same(_of(gated, "b"), _of(free, "b"))


@pytest.mark.parametrize("rule", RULES, ids=lambda r: type(r).__name__)
def test_a_network_that_a_gate_stops_mentioning_is_free_again(rule: zoo.Optimizer) -> None:
    gated = _bowls(rule, lambda i: {} if i else {"a": torch.tensor(False)})
    free = _bowls(rule, None)
    gated.step()
    gated.step()
    free.step()
    _assert_same(_of(gated, "a"), _of(free, "a"))


@pytest.mark.parametrize("rule", RULES, ids=lambda r: type(r).__name__)
def test_gates_hold_a_network_some_of_whose_weights_get_their_first_gradient_late(rule: zoo.Optimizer) -> None:
    class Late(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.late = nn.Parameter(torch.tensor([1.0, 2.0, 3.0]))
            self.early = nn.Parameter(torch.tensor([[0.5], [4.0]]))

    def run(pattern: str, free: bool) -> Engine:
        count, allowed = iter(pattern), iter(pattern)

        def terms(net: Networks, x: Tensor) -> Mapping[str, Tensor]:
            loss = (net.a.early**2).sum()
            return {"t": loss if next(count) == "e" else loss + (net.a.late**2).sum()}

        gate = None if free else lambda terms: {"a": torch.tensor(next(allowed) != "F")}
        engine = _toy(Turn({"a": {"t": 1}}, terms, gate=gate), networks={"a": Late()}, rule=rule)
        for _ in pattern:
            engine.step()
        return engine

    _assert_same(_of(run("eeFFll", False), "a"), _of(run("eell", True), "a"))


def test_a_gate_for_nobody_is_named() -> None:
    engine = _bowls(RULES[0], lambda i: {"critc": torch.tensor(False)})
    with pytest.raises(ZooError, match="critc"):
        engine.step()


def test_the_equilibrium_of_vaegan_holds_by_the_authors_margins() -> None:
    engine = _engine("vaegan", equilibrium=True)
    for real, fake, critic, decoder in (
        (0.68, 0.68, True, True),
        (0.2, 0.68, False, True),  # the critic is ahead: it waits
        (0.68, 0.2, False, True),
        (1.2, 0.68, True, False),  # the decoder is
        (1.2, 0.2, True, True),  # nobody may move, so both do
    ):
        turn = engine.objective.turns()[0]
        assert turn.gate is not None
        gates = turn.gate({"cost of real": torch.tensor(real), "cost of fake": torch.tensor(fake)})
        assert {k: bool(v) for k, v in gates.items()} == {"critic": critic, "decoder": decoder}


# ----------------------------------------------------------------------------------------------------------- resume


@pytest.mark.parametrize(
    ("model", "options"),
    [("vae", {"likelihood": "gaussian"}), ("vaegan", {}), ("vaegan", {"equilibrium": True, "norm": "group"})],
)
@pytest.mark.parametrize("k", [0, 3, 5], ids=["untrained", "mid-epoch", "at an epoch's end"])
def test_a_resumed_engine_goes_on_to_the_same_bits(model: str, options: dict[str, Any], k: int) -> None:
    engine = _engine(model, **options)
    assert engine.stream.per_epoch == 5
    for _ in range(k):
        engine.step()
    saved = safetensors.torch.save(engine.state())
    for _ in range(4):
        engine.step()
    state, means = engine.state(), engine.read_terms()

    fresh = _engine(model, seed=99, **options)
    torch.manual_seed(12345)
    fresh.load_state(safetensors.torch.load(saved))
    assert fresh.step_count == k
    for _ in range(4):
        fresh.step()
    again = fresh.state()
    assert again.keys() == state.keys()
    assert any(key.endswith("running_mean") for key in state) == (options.get("norm") != "group")
    assert any(key.endswith("exp_avg") for key in state)
    different = [key for key in state if not torch.equal(state[key], again[key])]
    assert not different
    assert fresh.read_terms() == means
    assert fresh.images_seen == engine.images_seen == (k + 4) * BATCH


@pytest.mark.parametrize("rule", [attrs.evolve(r, lr=0.005) for r in RULES], ids=lambda r: type(r).__name__)
def test_every_optimizer_is_resumed_in_every_turn(rule: zoo.Optimizer) -> None:
    def made() -> Engine:
        noisy = Turn(
            {"a": {"t": 1}, "b": {"t": 2}},
            lambda net, x: {"t": (net.a.loss() + net.b.loss()) * (1 + torch.rand(()))},
            name="noisy",
            repeat=2,
        )
        other = Turn({"b": {"t": 1}}, lambda net, x: {"t": net.b.loss() * x.mean()}, name="other")
        return _toy(noisy, other, networks={"a": Bowl(1.0), "b": Bowl(2.0)}, rule=rule)

    engine = made()
    for _ in range(2):
        engine.step()
    saved = engine.state()
    untouched = {k: v.clone() for k, v in saved.items()}
    for _ in range(3):
        engine.step()
    assert all(torch.equal(saved[k], untouched[k]) for k in saved), "a state is a copy, not a view"
    fresh = made()
    fresh.load_state(saved)
    for _ in range(3):
        fresh.step()
    a, b = engine.state(), fresh.state()
    assert a.keys() == b.keys()
    assert all(v.isfinite().all() for v in a.values())
    assert not [k for k in a if not torch.equal(a[k], b[k])]
    assert all(torch.equal(saved[k], untouched[k]) for k in saved), "nor does training on it change it"
    assert fresh.read_terms() == engine.read_terms()


# ----------------------------------------------------------------------------------------------------------- stream


@pytest.mark.parametrize(("n", "batch"), [(12, 4), (13, 4), (7, 7), (9, 2)])
def test_an_epoch_shows_no_image_twice(n: int, batch: int) -> None:
    images = torch.arange(n, dtype=torch.uint8).view(n, 1, 1, 1)
    stream = BatchStream(images, batch, 3, CPU)
    assert stream.per_epoch == n // batch
    orders = []
    for epoch in range(3):
        shown = [
            int(v)
            for i in range(stream.per_epoch)
            for v in ((stream[epoch * stream.per_epoch + i] + 1) * 127.5).round()
        ]
        assert len(set(shown)) == len(shown) == n // batch * batch
        orders.append(shown)
    assert orders[0] != orders[1] != orders[2] != orders[0]


def test_an_image_that_one_epoch_leaves_out_is_shown_by_others() -> None:
    stream = BatchStream(torch.arange(5, dtype=torch.uint8).view(5, 1, 1, 1), 4, 0, CPU)
    shown = {int(v) for i in range(20) for v in ((stream[i] + 1) * 127.5).round()}
    assert shown == {0, 1, 2, 3, 4}


def test_a_batch_is_a_function_of_seed_and_position() -> None:
    images = _images(20)
    sequential = [BatchStream(images, 3, 7, CPU)[i] for i in range(15)]
    stream = BatchStream(images, 3, 7, CPU)
    torch.manual_seed(0)
    for i in (14, 0, 7, 7, 13, 1, 6, 5):
        torch.rand(i + 1)  # the global generator plays no part
        assert torch.equal(stream[i], sequential[i])
    assert not torch.equal(BatchStream(images, 3, 8, CPU)[0], sequential[0])
    # Seed 7's second epoch is not seed 8's first.
    assert not torch.equal(BatchStream(images, 3, 8, CPU)[0], sequential[6])


def test_drawing_batches_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(4)
    expected = torch.rand(3)
    torch.manual_seed(4)
    stream = BatchStream(_images(20), 3, 7, CPU)
    for i in range(9):
        stream[i]
    assert torch.equal(torch.rand(3), expected)


def test_a_batch_holds_pixels_in_minus_one_to_one() -> None:
    images = torch.tensor([0, 255, 51], dtype=torch.uint8).view(3, 1, 1, 1)
    batch = BatchStream(images, 3, 0, CPU)[0]
    assert batch.dtype == torch.float32
    torch.testing.assert_close(batch.flatten().sort().values, torch.tensor([-1.0, -0.6, 1.0]))


def test_a_batch_larger_than_the_data_set_is_refused() -> None:
    assert BatchStream(_images(4), 4, 0, CPU).per_epoch == 1
    with pytest.raises(UsageError, match="batch: 5 is not allowed; the data set has 4"):
        BatchStream(_images(4), 5, 0, CPU)


def test_large_seeds_are_seeds_too() -> None:
    images = _images(20)
    a, b = (BatchStream(images, 3, seed, CPU)[0] for seed in (2**62, 2**62 + 1))
    assert not torch.equal(a, b)


# ---------------------------------------------------------------------------------------------------- no host syncs


class NoSync(TorchDispatchMode):
    """Raises at every operation whose result the host must wait for."""

    banned = ("_local_scalar_dense", "item", "nonzero", "is_nonzero", "equal", "masked_select", "_unique2")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.removeprefix("aten::")
        places = args[1] if name in ("index", "index_put", "index_put_") else ()
        masks = [i for i in places if i is not None and i.dtype == torch.bool]
        if name in self.banned or masks:
            raise AssertionError(f"host sync: {func}")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "sync", [lambda t: t.sum().item(), lambda t: bool(t[0]), lambda t: t[t > 0], lambda t: float(t[0]), torch.nonzero]
)
def test_the_sync_detector_detects(sync: Callable[[Tensor], Any]) -> None:
    t = torch.ones(3)
    with NoSync(), pytest.raises(AssertionError, match="host sync"):
        sync(t)


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("vae", {}),
        ("vae", {"likelihood": "gaussian", "norm": "none"}),
        ("vaegan", {}),
        ("vaegan", {"equilibrium": True}),
        ("vaegan", {"saturating": True, "norm": "group", "fakes": "prior"}),
    ],
)
def test_a_step_reads_nothing_back_to_the_host(model: str, options: dict[str, Any]) -> None:
    engine = _engine(model, **options)
    with NoSync():
        for _ in range(7):  # across an epoch's end
            engine.step()
    assert engine.step_count == 7
    assert engine.read_terms()


@pytest.mark.parametrize("rule", RULES, ids=lambda r: type(r).__name__)
def test_a_gated_step_reads_nothing_back_whatever_the_optimizer(rule: zoo.Optimizer) -> None:
    allowed = [torch.tensor(v) for v in (True, False, True)]
    engine = _bowls(rule, lambda i: {"a": allowed[i]})
    with NoSync():
        for _ in range(3):
            engine.step()


def test_bf16_computes_networks_in_half_and_keeps_weights_and_losses_in_single() -> None:
    objective = registry().model("vaegan")(latent=5, width=4)
    torch.manual_seed(0)
    networks = Networks(objective.networks(zoo.DataSpec("noise", SHAPE)))
    seen: list[torch.dtype] = []
    networks.critic.trunk.convolutions[0].register_forward_hook(lambda m, i, out: seen.append(out.dtype))
    engine = Engine(objective, networks, BatchStream(_images(), BATCH, 0, CPU), "bf16")
    terms = engine.terms(objective.turns()[0], engine.stream[0])
    assert set(seen) == {torch.bfloat16}
    assert {t.dtype for t in terms.values()} == {torch.float32}
    engine.step()
    assert {p.dtype for p in networks.parameters()} == {torch.float32}
    assert engine.read_terms().keys() == terms.keys()


def test_a_gradient_in_another_memory_layout_than_its_parameter_moves_it_by_the_same_numbers() -> None:
    """Fused kernels walk through memory: unmatched layouts would pair each weight with another's gradient."""
    from zoo.engine.gated_optimizer import GatedOptimizer, match_layout

    moved = []
    for layout in (torch.contiguous_format, torch.channels_last):
        torch.manual_seed(0)
        weight = nn.Parameter(torch.randn(3, 4, 3, 3).to(memory_format=layout))
        gradient = torch.randn(3, 4, 3, 3)
        update = GatedOptimizer(zoo.Adam(lr=0.1), {"w": weight}, torch.device("cpu"))
        for _ in range(3):
            weight.grad = match_layout(weight, gradient * weight.detach())
            update.step()
        state = {k: v.contiguous() for k, v in update.state().items()}
        update.load_state(state)  # as a checkpoint brings it: contiguous
        weight.grad = match_layout(weight, gradient)
        update.step()
        moved.append(weight.detach().contiguous())
    torch.testing.assert_close(moved[0], moved[1], rtol=0, atol=0)
