"""Weights that change in training, lazy turns, shared optimizers, and state that no gradient makes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import zoo
from zoo.engine import BatchStream, Engine
from zoo.engine.cuda_graph import EAGER_STEPS
from zoo.errors import ZooError
from zoo.interfaces import Networks

IMAGES = torch.arange(32 * 4, dtype=torch.uint8).view(32, 1, 2, 2)


class Scalar(nn.Module):
    """One parameter w and one buffer."""

    def __init__(self, w: float = 1.0) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(w))
        self.state: Tensor
        self.register_buffer("state", torch.zeros(()))


@zoo.frozen
class Plain(zoo.Generator):
    """Base of the models below: one network, plain gradient descent with rate 1."""

    def networks(self, data: Any) -> Mapping[str, nn.Module]:
        return {"decoder": Scalar()}

    def optimizer(self, network: str, turn: str) -> zoo.Optimizer:
        return zoo.SGD(lr=1.0, momentum=0.0)


def engine_of(objective: zoo.Objective, steps: int | None, **options: Any) -> Engine:
    torch.manual_seed(0)
    networks = Networks(objective.networks(None))  # type: ignore[arg-type]
    return Engine(objective, networks, BatchStream(IMAGES, 8, 0, torch.device("cpu")), steps=steps, **options)


def movements(objective: zoo.Objective, steps: int, **options: Any) -> list[float]:
    """Decrease of w in each step."""
    engine, found = engine_of(objective, steps, **options), []
    for _ in range(steps):
        before = engine.networks.decoder.w.item()
        engine.step()
        found.append(round(before - engine.networks.decoder.w.item(), 5))
    return found


def weighted(weight: Any) -> zoo.Objective:
    """A model that minimizes weight · w, whose gradient is the weight."""

    @zoo.frozen
    class Weighted(Plain):
        """Minimizes weight · w."""

        def players(self) -> Any:
            return {"decoder": {"w": weight}}

        def terms(self, net: Networks, x: Tensor) -> Mapping[str, Tensor]:
            return {"w": net.decoder.w + 0}

    return Weighted()


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("weight", "expected"),
    [
        (zoo.Ramp(until=0.5), [0.0, 0.5, 1.0, 1.0]),
        (zoo.Ramp(1.0, 0.0), [1.0, 0.75, 0.5, 0.25]),
        (zoo.Cycle(cycles=2, rise=1.0), [0.0, 0.5, 0.0, 0.5]),
        (zoo.Switch(0.5, 2.0), [0.0, 0.0, 2.0, 2.0]),
        (zoo.Switch(0.25, zoo.Ramp(0.0, 4.0)), [0.0, 1.0, 2.0, 3.0]),
    ],
    ids=str,
)
def test_each_step_has_the_weight_of_its_progress(weight: Any, expected: list[float], compiled: bool) -> None:
    assert movements(weighted(weight), 4, compile=compiled) == expected


def test_a_resumed_run_has_the_weights_of_its_progress() -> None:
    whole, part = (engine_of(weighted(zoo.Ramp()), 4) for _ in range(2))
    for _ in range(2):
        part.step()
    resumed = engine_of(weighted(zoo.Ramp()), 4)
    resumed.load_state(part.state())
    for _ in range(2):
        resumed.step()
    for _ in range(4):
        whole.step()
    assert torch.equal(resumed.networks.decoder.w, whole.networks.decoder.w)


def test_without_steps_the_weights_are_the_final_ones() -> None:
    engine = engine_of(weighted(zoo.Ramp()), None)
    engine.step()
    assert float(engine.networks.decoder.w) == 0.0


@zoo.frozen
class Ratio(Plain):
    """rec has gradient 6 and gan gradient 3 at w."""

    def players(self) -> Any:
        ratio = zoo.GradientRatio("rec", "gan", "decoder.w", scale=0.5, eps=0.0)
        return {"decoder": {"rec": 1.0, "gan": zoo.Switch(0.5, ratio)}}

    def terms(self, net: Networks, x: Tensor) -> Mapping[str, Tensor]:
        return {"rec": 6 * net.decoder.w, "gan": 3 * net.decoder.w}


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_gradient_ratio_equalizes_two_gradients(compiled: bool) -> None:
    # 0.5 · 6/3 · 3 = 3 from the second half on.
    assert movements(Ratio(), 4, compile=compiled) == [6.0, 6.0, 9.0, 9.0]


def test_zoo_show_prints_weights_that_change() -> None:
    from zoo.weights import format_weight

    assert format_weight(zoo.Switch(0.3, zoo.GradientRatio("rec", "fool", "decoder.w", scale=0.8))) == (
        "0.8 · ‖∇rec‖/‖∇fool‖ from 30 %"
    )


@zoo.frozen
class Lazy(Plain):
    """w falls by 1 per step, and by 10 more at every third."""

    def turns(self) -> tuple[zoo.Turn, ...]:
        return (
            zoo.Turn({"decoder": {"w": 1.0}}, lambda net, x: {"w": net.decoder.w + 0}, name="play"),
            zoo.Turn({"decoder": {"v": 10.0}}, lambda net, x: {"v": net.decoder.w + 0}, name="penalty", every=3),
        )


def test_a_lazy_turn_runs_at_every_nth_step_and_its_terms_are_means_over_its_runs() -> None:
    assert movements(Lazy(), 7) == [11.0, 1.0, 1.0, 11.0, 1.0, 1.0, 11.0]
    engine = engine_of(Lazy(), 7)
    for _ in range(2):
        engine.step()
    assert set(engine.read_terms()) == {"play/w", "penalty/v"}
    engine.step()
    assert set(engine.read_terms()) == {"play/w"}  # the penalty did not run
    for _ in range(4):
        engine.step()
    # w before the penalties of steps 3 and 6: 1 − 11 − 1 − 1 = −12 less 1 for the turn before; then 13 lower.
    assert engine.read_terms()["penalty/v"] == pytest.approx((-13 - 26) / 2)


def test_a_lazy_turns_terms_survive_a_checkpoint_before_its_next_run() -> None:
    engine = engine_of(Lazy(), 9)
    engine.step()
    resumed = engine_of(Lazy(), 9)
    resumed.load_state(engine.state())
    assert resumed.read_terms() == engine.read_terms()


@zoo.frozen
class Shared(Plain):
    """Two networks in a first turn; the second turn updates one of them with the same optimizer."""

    shares: str = zoo.option("play", "Turn whose optimizers the second turn uses.")

    def networks(self, data: Any) -> Mapping[str, nn.Module]:
        return {"decoder": Scalar(), "critic": Scalar()}

    def turns(self) -> tuple[zoo.Turn, ...]:
        row = {"w": 1.0}
        return (
            zoo.Turn({"critic": row, "decoder": row}, lambda net, x: {"w": net.critic.w + net.decoder.w}, name="play"),
            zoo.Turn(
                {"critic": row},
                lambda net, x: {"w": net.critic.w.square()},
                name="penalty",
                every=2,
                shares=self.shares,
            ),
        )

    def optimizer(self, network: str, turn: str) -> zoo.Optimizer:
        return zoo.Adam(lr=0.1)


def test_turns_may_share_optimizers() -> None:
    engine = engine_of(Shared(), 4)
    for _ in range(4):
        engine.step()
    # The reference: one Adam of torch's, stepped by both turns.
    w = nn.Parameter(torch.tensor(1.0))
    adam = torch.optim.Adam([w], lr=0.1, betas=(0.5, 0.999))
    for step in range(4):
        w.grad = torch.tensor(1.0)
        adam.step()
        if step % 2 == 0:
            w.grad = 2 * w.detach()
            adam.step()
    torch.testing.assert_close(engine.networks.critic.w, w)
    assert not any(key.startswith("update/1/") for key in engine.state())  # stored once


@pytest.mark.parametrize("wrong", ["pley", "penalty"])
def test_optimizers_of_no_turn_cannot_be_shared(wrong: str) -> None:
    with pytest.raises(ZooError, match="is no turn with optimizers of its own; those are play"):
        engine_of(Shared(shares=wrong), 4)


@zoo.frozen
class Counts(Plain):
    """A buffer that follows w by an average over steps, from a term of another shape than a scalar."""

    def turns(self) -> tuple[zoo.Turn, ...]:
        return (zoo.Turn({"decoder": {"w": 1.0}}, self.terms, after=self.update),)

    def terms(self, net: Networks, x: Tensor) -> Mapping[str, Tensor]:
        return {"w": net.decoder.w + 0, "pair": torch.stack([net.decoder.w, net.decoder.w])}

    def update(self, net: Networks, terms: Mapping[str, Tensor]) -> None:
        assert not torch.is_grad_enabled()
        net.decoder.state.mul_(0.5).add_(terms["pair"].sum())


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_state_is_updated_after_the_step_and_in_the_checkpoint(compiled: bool) -> None:
    engine = engine_of(Counts(), 4, compile=compiled)
    for _ in range(3):
        engine.step()
    # w before the steps: 1, 0, −1.
    assert float(engine.networks.decoder.state) == pytest.approx(0.5 * (0.5 * 2 + 0) - 2)
    assert set(engine.read_terms()) == {"w"}  # tensors of other shapes are not logged
    resumed = engine_of(Counts(), 4)
    resumed.load_state(engine.state())
    assert torch.equal(resumed.networks.decoder.state, engine.networks.decoder.state)


def test_captured_steps_replay_the_turns_that_are_due() -> None:
    class Replays:
        """Recorder whose replay runs the step again, as a graph would."""

        def warm(self, step: Any, watch: bool) -> str:
            step()
            return ""

        def record(self, step: Any) -> Any:
            return step

    eager, captured = engine_of(Lazy(), 40), engine_of(Lazy(), 40)
    captured._recorder = Replays()  # type: ignore[assignment]
    for _ in range(40):
        eager.step()
        captured.step()
    assert len(captured._graphs) == 2
    assert captured.mode == "graph"
    assert EAGER_STEPS < 40 // 3
    assert torch.equal(eager.networks.decoder.w, captured.networks.decoder.w)


def test_progress_is_a_tensor_of_the_networks() -> None:
    engine = engine_of(Plain_with_progress(), 4)
    seen = []
    for _ in range(4):
        engine.step()
        seen.append(engine.read_terms()["progress"])
    assert seen == [0.0, 0.25, 0.5, 0.75]
    assert "progress" not in engine.networks.state_dict()


@zoo.frozen
class Plain_with_progress(Plain):  # noqa: N801
    """Logs the progress."""

    def players(self) -> Any:
        return {"decoder": {"w": 1.0}}

    def terms(self, net: Networks, x: Tensor) -> Mapping[str, Tensor]:
        return {"w": net.decoder.w + 0, "progress": net.progress + 0}
