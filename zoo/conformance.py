"""The conformance suite: what every model must do, as named checks that ship with the zoo.

``zoo check MODEL`` runs them for plugin authors, the zoo's own tests for every registered model. Each takes a
:class:`Case`, a fresh model on one image size, and raises :class:`Failed` with what is wrong and how to mend it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from zoo.data import DataSpec
from zoo.engine import BatchStream, Engine
from zoo.engine.compiled import preserve_state, trace_gradients
from zoo.engine.turn_step import TurnStep
from zoo.errors import ZooError
from zoo.game import player_groups, term_names
from zoo.interfaces import Autoencoder, Generator, Objective
from zoo.options import options_of
from zoo.run.trained import TrainedAutoencoder, make_networks, wrap_trained

__all__ = ["CHECKS", "SHAPES", "Case", "Failed", "Outcome", "check_model"]

SHAPES = ((1, 28, 28), (3, 32, 32), (1, 17, 40))
"""(C, H, W) that a model is checked on: gray, color, and an odd one."""

BATCH = 8


class Failed(Exception):  # noqa: N818 (a verdict, not an error of the program)
    """A model does not pass a check; the message says where and what to do."""


@attrs.frozen(eq=False)
class Case:
    """One model, with its default options, on one image size."""

    model: type[Objective]
    shape: tuple[int, int, int]
    device: torch.device = attrs.field(factory=lambda: torch.device("cpu"))
    images: int = 4 * BATCH

    @property
    def data(self) -> DataSpec:
        """A data set's description."""
        return DataSpec("check", self.shape, tuple("0123456789"), torch.zeros(self.shape))

    def pixels(self) -> Tensor:
        """Random smooth images, uint8 (N, C, H, W), the same ones always."""
        generator = torch.Generator().manual_seed(0)
        coarse = torch.rand(self.images, self.shape[0], 4, 4, generator=generator) * 255
        size = self.shape[1:]
        smooth = torch.nn.functional.interpolate(coarse, size=size, mode="bilinear", align_corners=False)
        return smooth.to(torch.uint8)

    def objective(self) -> Objective:
        """The model with its default options."""
        return self.model()

    def engine(self, seed: int = 0) -> Engine:
        """A fresh engine over fresh networks."""
        torch.manual_seed(seed)
        objective, labels = self.objective(), torch.arange(self.images) % 10
        networks = make_networks(objective, self.data).to(self.device)
        return Engine(objective, networks, BatchStream(self.pixels(), BATCH, seed, self.device, labels))


def check_options(case: Case) -> None:
    """Every option has a help text and a default that it allows itself; a docstring and a paper are there."""
    for info in options_of(case.model).values():
        if not info.help.strip():
            raise Failed(f"option {info.name} has no help text")
        info.validate(info.default)
    if not (case.model.__doc__ or "").strip() or (case.model.__doc__ or "").startswith("Method generated"):
        raise Failed("the class has no docstring; zoo list shows its first line")
    if not case.model.paper:
        raise Failed('the class names no paper; set paper = "authors, venue, arXiv number"')


def check_game(case: Case) -> None:
    """Rows name networks and terms that exist; terms are finite scalars."""
    engine = case.engine()
    names = engine.networks.names()
    playing: set[str] = set()
    for turn in engine.objective.turns():
        for network in turn.players:
            if network not in names:
                raise Failed(f"turn {turn.name!r}: player {network!r} is no network; networks: {', '.join(names)}")
        playing |= set(turn.players)
        terms = engine.terms(turn, *engine.first_batch(turn))
        for name in term_names(turn):
            if name not in terms:
                raise Failed(f"turn {turn.name!r}: no term {name!r}; terms() returns {', '.join(terms)}")
        for name, value in terms.items():
            if not isinstance(value, Tensor) or value.ndim != 0:
                raise Failed(f"turn {turn.name!r}: term {name!r} is no scalar tensor; take a mean over the batch")
            if not math.isfinite(float(value.detach())):
                raise Failed(f"turn {turn.name!r}: term {name!r} is {float(value.detach())} on fresh networks")
    idle = [n for n in names if n not in playing and any(p.requires_grad for p in engine.networks[n].parameters())]
    if idle:
        raise Failed(f"network {idle[0]!r} plays in no turn: it would never be trained")


def check_gradients(case: Case) -> None:
    """Every parameter of every player gets a gradient from its own row, in some turn; nobody else moves."""
    engine = case.engine()
    reached: set[str] = set()
    for turn in engine.objective.turns():
        before = {k: v.clone() for k, v in engine.networks.named_parameters()}
        terms = engine.terms(turn, *engine.first_batch(turn))
        for row in player_groups(turn.players):
            named = {f"{n}.{k}": p for n in row.networks for k, p in engine.networks[n].named_parameters()}
            loss = torch.stack([w * terms[t] for t, w in row.weights]).sum()
            found = torch.autograd.grad(loss, list(named.values()), retain_graph=True, allow_unused=True)
            reached |= {k for k, g in zip(named, found, strict=True) if g is not None}
        for name, value in engine.networks.named_parameters():
            if not torch.equal(value, before[name]):
                raise Failed(f"turn {turn.name!r}: computing the terms moved {name}; only the engine moves parameters")
    for name, parameter in engine.networks.named_parameters():
        if parameter.requires_grad and name not in reached:
            raise Failed(f"{name} gets no gradient from its network's row in any turn: it would never be trained")


def check_routing(case: Case) -> None:
    """A turn moves the networks that play in it and no other."""
    engine = case.engine()
    for index, turn in enumerate(engine.objective.turns()):
        before = {k: v.clone() for k, v in engine.networks.named_parameters()}
        engine.step_turn(index, *engine.first_batch(turn))
        moved = {k.partition(".")[0] for k, v in engine.networks.named_parameters() if not torch.equal(v, before[k])}
        held: set[str] = set() if turn.gate is None else set(turn.players)
        if moved - set(turn.players):
            raise Failed(f"turn {turn.name!r} moved {sorted(moved - set(turn.players))}, which do not play in it")
        if set(turn.players) - moved - held:
            raise Failed(f"turn {turn.name!r} did not move {sorted(set(turn.players) - moved)}")


def check_repeatable(case: Case) -> None:
    """The same seed gives the same bits: all randomness comes from torch's generators."""
    states = []
    for _ in range(2):
        engine = case.engine(seed=3)
        for _ in range(3):
            engine.step()
        states.append(engine.state())
    for name, value in states[0].items():
        if not torch.equal(value, states[1][name]):
            raise Failed(f"two runs of one seed differ in {name}; draw noise with torch, on the batch's device")


def check_resume(case: Case) -> None:
    """Stopping and going on gives the same bits as not stopping."""
    straight = case.engine()
    for _ in range(4):
        straight.step()
    first = case.engine()
    for _ in range(2):
        first.step()
    state = first.state()
    second = case.engine(seed=0)
    second.step()
    second.load_state(state)
    for _ in range(2):
        second.step()
    end = second.state()
    for name, value in straight.state().items():
        if not torch.equal(value, end[name]):
            raise Failed(f"a resumed run differs in {name}; keep all that changes in parameters or buffers")


def check_abilities(case: Case) -> None:
    """Samples, codes and reconstructions have the data set's shape and lie in [−1, 1]."""
    objective = case.objective()
    if not isinstance(objective, Generator):
        raise Failed("it is neither a zoo.Generator nor a zoo.Autoencoder; derive from one of them")
    torch.manual_seed(0)
    trained = wrap_trained(objective, make_networks(objective, case.data).to(case.device), case.data)
    _image("sample", trained.sample(5, seed=0), (5, *case.shape))
    if not torch.equal(trained.sample(5, seed=0), trained.sample(5, seed=0)):
        raise Failed("sample with one seed gives different images; draw from torch's generator only")
    z = objective.prior(torch.empty(0, device=case.device), 5)
    _image("decode", trained.decode(z), (5, *case.shape))
    if isinstance(trained, TrainedAutoencoder):
        x = case.pixels()[:5]
        code = trained.encode(x)
        if code.shape != z.shape:
            raise Failed(f"encode returns {tuple(code.shape)}, but the prior's codes are {tuple(z.shape)}")
        _image("reconstruct", trained.reconstruct(x), (5, *case.shape))
    elif isinstance(objective, Autoencoder):
        raise Failed("an Autoencoder must be able to reconstruct")


def _image(what: str, images: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(images.shape) != shape:
        raise Failed(f"{what} returns {tuple(images.shape)}, not {shape}")
    if not bool(images.isfinite().all()) or float(images.abs().max()) > 1 + 1e-5:
        raise Failed(f"{what} returns values outside [−1, 1]; end the decoder with tanh, or with a Likelihood")


class _NoSync(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Refuses what reads a value back to the host."""

    _READS = ("aten._local_scalar_dense", "aten.nonzero", "aten.is_nonzero", "aten.equal")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if str(func).startswith(self._READS):
            raise Failed(f"a step reads a value back to the host ({func}); keep gates and weights as tensors")
        return func(*args, **(kwargs or {}))


def check_sync(case: Case) -> None:
    """A step reads nothing back to the host, so that a GPU never waits."""
    engine = case.engine()
    engine.step()
    with _NoSync():  # type: ignore[no-untyped-call]
        engine.step()


def check_capture(case: Case) -> None:
    """What a step did on one batch, traced, it does on another: so it may be compiled, or captured as a CUDA graph."""
    for turn_step in case.engine().turn_steps:
        first, second = (turn_step.batch(position) for position in (0, 1))
        name = turn_step.turn.name
        with preserve_state(turn_step):
            try:
                graph, names = trace_gradients(turn_step, *first)
            except RuntimeError:
                raise Failed(
                    f"turn {name!r} decides in Python by a tensor's value; keep it a tensor (torch.where)"
                ) from None

        def eagerly(*batch: Tensor, turn_step: TurnStep = turn_step) -> list[Tensor | None]:
            terms, gradients = turn_step.eager_gradients(*batch)
            return [*terms.values(), *gradients]

        found = []
        for differentiate in (eagerly, graph):
            with preserve_state(turn_step):
                found.append([*differentiate(*second), *(b.clone() for b in turn_step.networks.buffers())])
        labels = [*names, *(f"gradient {i}" for i in range(len(turn_step.parameters)))]
        for label, eager, again in zip(labels + ["a buffer"] * len(found[0]), *found, strict=False):
            if (eager is None) != (again is None) or (eager is not None and not torch.equal(eager, again)):
                raise Failed(
                    f"turn {name!r}: {label} comes from more than the batch, the networks and torch's generators; a "
                    "compiled or captured step would repeat what Python once computed"
                )


def check_learns(case: Case) -> None:
    """On 64 images, 300 steps bring the samples nearer to them, or the reconstructions of an autoencoder."""
    case = attrs.evolve(case, images=64)
    engine = case.engine()
    trained = wrap_trained(engine.objective, engine.networks, case.data)
    x = case.pixels().to(case.device).float() / 127.5 - 1

    def errors() -> list[float]:
        engine.networks.eval()
        found = [energy_distance(trained.sample(64, seed=0), x)]
        if isinstance(trained, TrainedAutoencoder):
            found.append(float((trained.reconstruct(x) - x).square().mean()))
        engine.networks.train()
        return found

    before = errors()
    for _ in range(300):
        engine.step()
    engine.check_finite()
    after = errors()
    if not any(b < 0.7 * a for a, b in zip(before, after, strict=True)):
        change = ", ".join(f"{a:.3g} to {b:.3g}" for a, b in zip(before, after, strict=True))
        raise Failed(f"300 steps on 64 images teach it nothing (energy distance, reconstruction error: {change})")


def energy_distance(a: Tensor, b: Tensor) -> float:
    """2 E‖X − Y‖ − E‖X − X'‖ − E‖Y − Y'‖ of images (N, …), a metric between distributions (Székely & Rizzo 2013)."""
    a, b = a.flatten(1), b.flatten(1)
    n, m = len(a), len(b)
    within = torch.cdist(a, a).sum() / (n * (n - 1)) + torch.cdist(b, b).sum() / (m * (m - 1))
    return float(2 * torch.cdist(a, b).mean() - within)


CHECKS: Mapping[str, Callable[[Case], None]] = {
    "options": check_options,
    "game": check_game,
    "gradients": check_gradients,
    "routing": check_routing,
    "repeatable": check_repeatable,
    "resume": check_resume,
    "abilities": check_abilities,
    "sync": check_sync,
    "capture": check_capture,
    "learns": check_learns,
}
"""The checks by name. Names are kept: a package may rely on them."""

SLOW = frozenset({"learns"})
ONCE = frozenset({"options", "learns"})


@attrs.frozen
class Outcome:
    """One check on one shape: ``problem`` is None where it passed."""

    check: str
    shape: tuple[int, int, int]
    problem: str | None


def check_model(model: type[Objective], *, slow: bool = False) -> Iterator[Outcome]:
    """Run every check on every shape (slow ones on request, some on the first shape only)."""
    for shape in SHAPES:
        for name, check in CHECKS.items():
            if (name in SLOW and not slow) or (name in ONCE and shape != SHAPES[0]):
                continue
            yield Outcome(name, shape, run_check(check, Case(model, shape)))


def run_check(check: Callable[[Case], None], case: Case) -> str | None:
    """The problem that a check finds, or None. What a model raises is a problem too, not a crash."""
    try:
        check(case)
    except (Failed, ZooError) as error:
        return str(error)
    except Exception as error:
        first = (str(error).strip().splitlines() or ["(no message)"])[0]
        return f"{type(error).__name__}: {first}"
    return None
