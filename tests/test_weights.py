"""Weights that change in training, lazy turns, shared optimizers, and state that no gradient makes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import zoo
from zoo.engine import BatchStream, Engine
from zoo.engine.cuda_graph import EAGER_STEPS
from zoo.errors import ZooError
from zoo.interfaces import Networks
from zoo.leaderboard import build, to_json
from zoo.registry import Plugin, Registered, registry
from zoo.report import write_report
from zoo.run.hub import plan_push

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


def test_the_progress_is_1_after_training() -> None:
    engine = engine_of(Plain_with_progress(), 4)
    engine.step()
    engine.finish()
    assert float(engine.networks.progress) == 1.0


def test_a_ratio_within_two_switches_counts() -> None:
    nested = zoo.Switch(0.0, zoo.Switch(0.5, zoo.GradientRatio("rec", "gan", "decoder.w", eps=0.0)))

    @zoo.frozen
    class Nested(Ratio):
        """A ratio of 2 that counts from the second half on."""

        def players(self) -> Any:
            return {"decoder": {"gan": nested}}

    assert movements(Nested(), 4) == [0.0, 0.0, 6.0, 6.0]


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (zoo.GradientRatio("w", "gan", "decoder.w"), "no term 'gan'; terms: w"),
        (zoo.GradientRatio("w", "w", "decoder.v"), "no parameter 'decoder.v'"),
        (type("Odd", (zoo.Weight,), {"__str__": lambda self: "odd"})(), "odd is neither a ScheduledWeight"),
    ],
    ids=str,
)
def test_weights_that_cannot_be_computed_are_named(weight: Any, message: str) -> None:
    with pytest.raises(ZooError, match=message):
        engine_of(weighted(weight), 4).step()


def test_a_ratio_at_a_parameter_on_which_a_term_does_not_depend_is_named() -> None:
    @zoo.frozen
    class Apart(Ratio):
        """The parameter is that of a network which does not play."""

        def networks(self, data: Any) -> Mapping[str, nn.Module]:
            return {"decoder": Scalar(), "other": Scalar()}

        def players(self) -> Any:
            return {"decoder": {"gan": zoo.GradientRatio("rec", "gan", "other.w")}}

    with pytest.raises(ZooError, match=r"'rec' does not depend on 'other.w'"):
        engine_of(Apart(), 4).step()


@pytest.mark.parametrize(
    "make",
    [
        lambda: zoo.Ramp(begin=0.5, until=0.5),
        lambda: zoo.Ramp(until=1.5),
        lambda: zoo.Cycle(rise=0.0),
        lambda: zoo.Cycle(cycles=0),
        lambda: zoo.Switch(30.0),
    ],
)
def test_settings_of_weights_are_checked(make: Any) -> None:
    with pytest.raises(ValueError, match=r"must be|not allowed"):
        make()


@zoo.frozen
class Curved(Plain):
    """Minimizes w², at every third step a second time in a turn of its own."""

    def turns(self) -> tuple[zoo.Turn, ...]:
        def terms(net: Networks, x: Tensor) -> Mapping[str, Tensor]:
            return {"w": net.decoder.w.square()}

        row = {"decoder": {"w": 0.25}}
        return zoo.Turn(row, terms, name="play"), zoo.Turn(row, terms, name="again", every=3)


def test_gradient_norms_after_a_replay_are_those_of_the_replayed_graph() -> None:
    class Graphs:
        """Recorder whose replays write to the tensors of the capture and run no Python of the engine's."""

        def __init__(self, engine: Engine) -> None:
            self.engine = engine

        def warm(self, step: Any, watch: bool) -> str:
            step()
            return ""

        def record(self, step: Any) -> Any:
            w = self.engine.networks.decoder.w
            before = w.detach().clone()
            step()
            with torch.no_grad():
                w.copy_(before)
            captured = [turn_step.last_gradients for turn_step in self.engine.turn_steps]

            def replay() -> None:
                known = [turn_step.last_gradients for turn_step in self.engine.turn_steps]
                step()
                for turn_step, memory, previous in zip(self.engine.turn_steps, captured, known, strict=True):
                    if turn_step.last_gradients is not previous:
                        for old, new in zip(memory, turn_step.last_gradients, strict=True):
                            old.copy_(new)
                    turn_step.last_gradients = previous

            return replay

    eager, captured = engine_of(Curved(), 40), engine_of(Curved(), 40)
    captured._recorder = Graphs(captured)  # type: ignore[assignment]
    for _ in range(30):
        eager.step()
        captured.step()
        assert captured.gradient_norms()["grad/play/decoder"] == pytest.approx(
            eager.gradient_norms()["grad/play/decoder"]
        )


def test_batches_are_read_for_the_turns_that_are_due_only() -> None:
    @zoo.frozen
    class Hungry(Plain):
        """A rare turn on four batches beside one on a single batch."""

        def turns(self) -> tuple[zoo.Turn, ...]:
            def terms(net: Networks, x: Tensor) -> Mapping[str, Tensor]:
                return {"w": net.decoder.w + 0}

            row = {"decoder": {"w": 1.0}}
            return zoo.Turn(row, terms, name="play"), zoo.Turn(row, terms, name="rare", every=3, repeat=4)

    engine = engine_of(Hungry(), 6)
    fetched: list[int] = []
    fetch = engine.stream.fetch
    engine.stream.fetch = lambda position: (fetched.append(position), fetch(position))[1]  # type: ignore[method-assign]
    for _ in range(4):
        engine.step()
    assert fetched == [0, 1, 2, 3, 4, 8, 12, 13, 14, 15]


@pytest.fixture(scope="module")
def ramped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a VAE whose KL rises, with a turn that is run at every second step."""

    @zoo.frozen
    class Ramped(registry().model("vae")):  # type: ignore[misc]
        """A VAE whose KL rises."""

        def turns(self) -> tuple[zoo.Turn, ...]:
            row = {"nll": 1.0, "kl": zoo.Ramp()}
            return (zoo.Turn({"encoder": row, "decoder": row}, self.terms, name="rise", every=2),)

    out = tmp_path_factory.mktemp("weights") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry().models, "ramped", Registered("ramped", Ramped, Plugin("toys", "toy-package", "1")))
        zoo.train("ramped", dataset="digits", epochs=1, width=4, out=out)
        patch.setenv("HF_HUB_OFFLINE", "1")
        readme = plan_push(out, "hf:user/name").files["README.md"]
        (out / "card.md").write_bytes(readme.read_bytes() if isinstance(readme, Path) else readme)
        write_report(out)
    return out


def test_the_game_of_a_changing_weight_is_on_card_page_and_leaderboard(ramped: Path) -> None:
    card = json.loads((ramped / "result.json").read_text())["card"]["game"]
    assert card[0]["notes"] == ["every 2 steps"]
    assert card[0]["rows"][0]["weights"] == {"kl": "0 → 1", "nll": 1.0}
    assert "| rise, every 2 steps | nll | kl |" in (ramped / "card.md").read_text()
    assert "| encoder, decoder | 1 | 0 → 1 |" in (ramped / "card.md").read_text()
    page = (ramped / "report.html").read_text()
    assert "turn rise, every 2 steps" in page
    assert "<td>0 → 1" in page
    board = build([ramped])
    assert not board.left_out
    assert "0 → 1" in to_json(board)
