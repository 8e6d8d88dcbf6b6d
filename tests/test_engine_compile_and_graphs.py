"""Compiled steps and CUDA graphs equal eager steps; where they are not available, the reason is reported."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from importlib import import_module

import attrs
import pytest
import torch
from torch import Tensor, nn

import zoo
from zoo import options
from zoo.data import DataSpec
from zoo.engine import BatchStream, Engine, bf16_speedup
from zoo.engine.cuda_graph import EAGER_STEPS, CudaRecorder, GraphedStep
from zoo.registry import registry
from zoo.run.trained import make_networks

BATCH, IMAGES, SHAPE = 8, 44, (1, 12, 12)
SMALL = {"width": 4}
STEPS = 20  # IMAGES // BATCH = 5 a pass: many passes end within them

GAMES = {
    "one turn": ("vae", {}),
    "a gate": ("vaegan", {"equilibrium": True}),
    "turns": ("aae", {}),
    "labels": ("aae", {"labels": 20}),
    "five critic batches": ("wgan-gp", {}),
    "a schedule": ("bigan", {"decay": True}),
    "momentum": ("aae", {"sgd": True}),
}


def engine(game: str, device: str = "cpu", **settings: object) -> Engine:
    name, chosen = GAMES.get(game, (game, {}))
    torch.manual_seed(0)
    objective = options.build(registry().model(name), {**(SMALL if name != "doomed" else {}), **chosen})
    networks = make_networks(objective, DataSpec("test", SHAPE, tuple("0123456789"), torch.zeros(SHAPE))).to(device)
    images = torch.randint(0, 256, (IMAGES, *SHAPE), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    stream = BatchStream(images, BATCH, 0, torch.device(device), torch.arange(IMAGES) % 10)
    return Engine(objective, networks, stream, steps=STEPS, **settings)  # type: ignore[arg-type]


def stepped(engine: Engine, steps: int = STEPS) -> dict[str, Tensor]:
    if engine.step_count == 0:
        torch.manual_seed(2)
    for _ in range(steps):
        engine.step()
    return engine.state()


def same_bits(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


@attrs.define
class Tape:
    """A recorder that replays by calling: with it, what lies at the recorded places alone decides, as on a GPU."""

    refusal: str = ""
    breaks: str = ""
    warm_steps: int = 0
    records: int = 0

    def warm(self, step: Callable[[], None], watch: bool) -> str:
        self.warm_steps += 1
        step()
        return self.refusal if watch else ""

    def record(self, step: Callable[[], None]) -> Callable[[], None]:
        self.records += 1
        if self.breaks:
            raise RuntimeError(f"{self.breaks}\nand much more")
        return step


def on_tape(engine: Engine, tape: Tape) -> Engine:
    engine._recorder = tape
    return engine


@pytest.mark.parametrize("game", GAMES)
def test_a_recorded_step_reads_its_batches_where_they_were_recorded(game: str) -> None:
    tape = Tape()
    recorded = on_tape(engine(game), tape)
    same_bits(stepped(engine(game)), stepped(recorded))
    assert (tape.warm_steps, tape.records) == (EAGER_STEPS, 1)
    assert recorded.mode == "graph"
    assert not recorded.fallbacks


@pytest.mark.parametrize("tape", [Tape(refusal="it waits"), Tape(breaks="it cannot")], ids=["watched", "recorded"])
def test_a_step_that_cannot_be_recorded_stays_eager_and_says_why(tape: Tape) -> None:
    stuck = on_tape(engine("turns"), tape)
    same_bits(stepped(engine("turns")), stepped(stuck))
    assert stuck.mode == "eager"
    assert stuck.fallbacks == {"graphs": tape.refusal or tape.breaks}
    assert tape.records <= 1


def test_a_state_that_is_taken_up_is_recorded_anew() -> None:
    tape, straight = Tape(), stepped(engine("a gate"))
    resumed = on_tape(engine("a gate"), tape)
    state = stepped(resumed, 10)
    stepped(resumed, 3)
    resumed.load_state(state)
    same_bits(straight, stepped(resumed, 10))
    assert tape.records == 2


def test_two_turns_of_one_name_are_refused() -> None:
    @zoo.frozen
    class Twice(registry().model("gan")):  # type: ignore[misc]
        def turns(self) -> tuple[zoo.Turn, ...]:
            return tuple(attrs.evolve(turn, name="step") for turn in super().turns())

    objective = Twice(width=4)
    networks = make_networks(objective, DataSpec("test", SHAPE, (), torch.zeros(SHAPE)))
    with pytest.raises(zoo.ZooError, match="2 are named 'step'"):
        Engine(objective, networks, BatchStream(torch.zeros(8, *SHAPE, dtype=torch.uint8), 8, 0, torch.device("cpu")))


@pytest.mark.slow
@pytest.mark.parametrize("game", ["a gate", "labels"])
def test_a_compiled_step_does_the_same_mathematics(game: str) -> None:
    eager, faster = engine(game), engine(game, compile=True)
    one, other = stepped(eager), stepped(faster)
    assert faster.mode == "compiled", faster.fallbacks
    for name, value in one.items():
        if name.startswith("rng"):
            assert torch.equal(value, other[name])  # as much noise was drawn
        else:
            torch.testing.assert_close(other[name], value, rtol=1e-3, atol=1e-4)
    assert faster.read_terms() == pytest.approx(eager.read_terms(), rel=1e-3)
    assert faster.gradient_norms() == pytest.approx(eager.gradient_norms(), rel=1e-2)


def test_what_cannot_be_compiled_stays_eager_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> nn.Module:
        raise RuntimeError("no compiler is here\nlong story")

    monkeypatch.setattr("torch._inductor.compile", broken)
    stuck = engine("a gate", compile=True)
    same_bits(stepped(engine("a gate")), stepped(stuck))
    assert stuck.mode == "eager"
    assert stuck.fallbacks == {"compile": "turn 'step': no compiler is here"}


def test_a_run_says_that_it_fell_back(monkeypatch: pytest.MonkeyPatch, tmp_path, cli) -> None:
    def broken(*_: object, **__: object) -> nn.Module:
        raise RuntimeError("no compiler is here")

    monkeypatch.setattr("torch._inductor.compile", broken)
    done = cli("run", "vae", "--family=mlp", "--width=4", "--images=640", "--compile", "--out", tmp_path / "run")
    assert done.status == 0
    assert "compile: not used, steps run eagerly: turn 'step': no compiler is here" in done.out + done.err
    assert '"compile": "turn \'step\': no compiler is here"' in (tmp_path / "run" / "result.json").read_text()


@pytest.mark.cuda
@pytest.mark.parametrize("model", sorted(registry().models))
def test_a_captured_step_is_the_eager_step(model: str) -> None:
    eager, graphed = engine(model, "cuda", graphs=False), engine(model, "cuda")
    one, other = stepped(eager), stepped(graphed)
    assert graphed.mode == "graph", graphed.fallbacks
    for name, value in one.items():
        if name.startswith("rng"):
            assert torch.equal(value, other[name])
        else:
            torch.testing.assert_close(other[name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.cuda
@pytest.mark.parametrize("game", GAMES)
def test_every_kind_of_game_is_captured(game: str) -> None:
    eager, graphed = engine(game, "cuda", graphs=False), engine(game, "cuda")
    one, other = stepped(eager), stepped(graphed)
    assert graphed.mode == "graph", graphed.fallbacks
    for name, value in one.items():
        if not name.startswith("rng"):
            torch.testing.assert_close(other[name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.cuda
def test_a_step_that_waits_for_the_gpu_is_not_captured() -> None:
    @zoo.frozen
    class Waits(registry().model("vae")):  # type: ignore[misc]
        def terms(self, net: zoo.Networks, x: Tensor) -> dict[str, Tensor]:
            terms = super().terms(net, x)
            return {**terms, "kl": terms["kl"] * (1.0 if terms["kl"].item() > 0 else 0.0)}

    objective = Waits(width=4)
    networks = make_networks(objective, DataSpec("test", SHAPE, (), torch.zeros(SHAPE))).to("cuda")
    images = torch.zeros(16, *SHAPE, dtype=torch.uint8)
    stuck = Engine(objective, networks, BatchStream(images, 8, 0, torch.device("cuda")))
    stepped(stuck, 6)
    assert stuck.mode == "eager"
    assert "waits for the GPU" in stuck.fallbacks["graphs"]


@pytest.mark.cuda
def test_a_step_that_breaks_its_capture_goes_on_eagerly() -> None:
    device = torch.device("cuda")
    counted = torch.zeros((), device=device)

    def step(_: object) -> None:
        counted.add_(1)
        if torch.cuda.is_current_stream_capturing():
            raise RuntimeError("not in a graph")

    stuck = GraphedStep(step, CudaRecorder(device))
    for _ in range(6):
        stuck([])
    assert stuck.reason == "not in a graph"
    assert int(counted) == 6


@pytest.mark.parametrize(("ratio", "chosen"), [(1.5, "bf16"), (1.0, "fp32"), (0.5, "fp32")])
def test_auto_precision_is_settled_by_a_trial_and_kept(monkeypatch, tmp_path, ratio, chosen) -> None:
    monkeypatch.setattr(import_module("zoo.run.train"), "bf16_speedup", lambda *_: ratio)
    asked = {"family": "mlp", "width": 4, "images": 640, "precision": "auto", "out": tmp_path / "run"}
    zoo.train("vae", **asked)
    assert f'precision = "{chosen}"' in (tmp_path / "run" / "config.toml").read_text()
    monkeypatch.setattr(import_module("zoo.run.train"), "bf16_speedup", lambda *_: 2 - ratio)
    zoo.train("vae", **asked, resume=True)  # no other trial, no refusal


def test_the_trial_moves_nothing_and_draws_no_noise(monkeypatch) -> None:
    monkeypatch.setattr("zoo.engine.bf16_trial.BLOCK_SECONDS", 0.01)
    trained = engine("a gate")
    before = trained.state()
    assert bf16_speedup(trained.objective, trained.networks, trained.stream) > 0
    same_bits(before, trained.state())


@pytest.mark.usefixtures("toys")
def test_a_trial_that_diverges_is_no_failure_of_the_run(monkeypatch) -> None:
    monkeypatch.setattr("zoo.engine.bf16_trial.BLOCK_SECONDS", 0.01)
    doomed = engine("doomed")
    assert bf16_speedup(doomed.objective, doomed.networks, doomed.stream) > 0


@pytest.mark.slow
def test_a_run_imports_no_compiler_and_nothing_that_it_does_not_use(tmp_path) -> None:
    script = (
        "import sys, zoo\n"
        f"zoo.train('vae', family='mlp', width=4, images=640, out={str(tmp_path / 'run')!r})\n"
        "print([m for m in ('torch._dynamo', 'sympy', 'sklearn', 'pandas', 'torch_fidelity') if m in sys.modules])\n"
    )
    zoo.train("vae", family="mlp", width=4, images=640, out=tmp_path / "first")  # which fills the cache of digits
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
