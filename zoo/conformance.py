"""Conformance checks for models, run by ``zoo check MODEL`` and by the tests for every bundled model.

Each check takes a :class:`Case`, a model on one image size, and raises :class:`CheckFailed` with the problem and its
remedy.
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
from zoo.options import get_options
from zoo.run.trained import TrainedAutoencoder, make_networks, wrap_trained

__all__ = ["CHECKS", "SHAPES", "Case", "CheckFailed", "CheckResult", "check_model"]

SHAPES = ((1, 28, 28), (3, 32, 32), (1, 17, 40))
"""Image sizes (C, H, W) of the checks: gray, color, and not square."""

BATCH = 8


class CheckFailed(Exception):  # noqa: N818 (a result of a check, not an error of the program)
    """A model does not pass a check; the message has the problem and its remedy."""


@attrs.frozen(eq=False)
class Case:
    """A model with default options on one image size.

    Args:
        model: Class of the model.
        shape: Image size (C, H, W).
        device: Device of the networks.
        images: Number of training images.
    """

    model: type[Objective]
    shape: tuple[int, int, int]
    device: torch.device = attrs.field(factory=lambda: torch.device("cpu"))
    images: int = 4 * BATCH

    @property
    def data(self) -> DataSpec:
        """Description of the data set."""
        return DataSpec("check", self.shape, tuple("0123456789"), torch.zeros(self.shape))

    def pixels(self) -> Tensor:
        """Smooth random images, uint8 (N, C, H, W), always the same."""
        generator = torch.Generator().manual_seed(0)
        coarse = torch.rand(self.images, self.shape[0], 4, 4, generator=generator) * 255
        size = self.shape[1:]
        smooth = torch.nn.functional.interpolate(coarse, size=size, mode="bilinear", align_corners=False)
        return smooth.to(torch.uint8)

    def objective(self) -> Objective:
        """The model with its default options."""
        return self.model()

    def engine(self, seed: int = 0) -> Engine:
        """New engine with new networks."""
        torch.manual_seed(seed)
        objective, labels = self.objective(), torch.arange(self.images) % 10
        networks = make_networks(objective, self.data).to(self.device)
        return Engine(objective, networks, BatchStream(self.pixels(), BATCH, seed, self.device, labels))


def check_options(case: Case) -> None:
    """Every option has a help text and an allowed default; the class has a docstring and a paper."""
    for info in get_options(case.model).values():
        if not info.help.strip():
            raise CheckFailed(f"option {info.name} has no help text")
        info.validate(info.default)
    if not (case.model.__doc__ or "").strip() or (case.model.__doc__ or "").startswith("Method generated"):
        raise CheckFailed("the class has no docstring; zoo list shows its first line")
    if not case.model.paper:
        raise CheckFailed('the class names no paper; set paper = "authors, venue, arXiv number"')


def check_game(case: Case) -> None:
    """Players are networks of the model; their terms exist and are finite scalars."""
    engine = case.engine()
    names = engine.networks.names()
    players: set[str] = set()
    for turn in engine.objective.turns():
        for network in turn.players:
            if network not in names:
                raise CheckFailed(
                    f"turn {turn.name!r}: player {network!r} is not a network; networks: {', '.join(names)}"
                )
        players |= set(turn.players)
        terms = engine.terms(turn, *engine.first_batch(turn))
        for name in term_names(turn):
            if name not in terms:
                raise CheckFailed(f"turn {turn.name!r}: no term {name!r}; terms() returns {', '.join(terms)}")
        for name, value in terms.items():
            if not isinstance(value, Tensor) or value.ndim != 0:
                raise CheckFailed(
                    f"turn {turn.name!r}: term {name!r} is not a scalar tensor; take the mean over the batch"
                )
            if not math.isfinite(float(value.detach())):
                raise CheckFailed(
                    f"turn {turn.name!r}: term {name!r} is {float(value.detach())} for newly initialized networks"
                )
    idle = [n for n in names if n not in players and any(p.requires_grad for p in engine.networks[n].parameters())]
    if idle:
        raise CheckFailed(f"network {idle[0]!r} is a player of no turn and would never be trained")


def check_gradients(case: Case) -> None:
    """Every parameter gets a gradient from the terms of its player in some turn; terms change no parameter."""
    engine = case.engine()
    with_gradient: set[str] = set()
    for turn in engine.objective.turns():
        before = {k: v.clone() for k, v in engine.networks.named_parameters()}
        terms = engine.terms(turn, *engine.first_batch(turn))
        for row in player_groups(turn.players):
            named = {f"{n}.{k}": p for n in row.networks for k, p in engine.networks[n].named_parameters()}
            loss = torch.stack([w * terms[t] for t, w in row.weights]).sum()
            found = torch.autograd.grad(loss, list(named.values()), retain_graph=True, allow_unused=True)
            with_gradient |= {k for k, g in zip(named, found, strict=True) if g is not None}
        for name, value in engine.networks.named_parameters():
            if not torch.equal(value, before[name]):
                raise CheckFailed(
                    f"turn {turn.name!r}: computing the terms changed {name}; only the engine may update parameters"
                )
    for name, parameter in engine.networks.named_parameters():
        if parameter.requires_grad and name not in with_gradient:
            raise CheckFailed(
                f"{name} gets no gradient from the terms of its player in any turn and would never be trained"
            )


def check_routing(case: Case) -> None:
    """A turn updates its players and no other network."""
    engine = case.engine()
    for index, turn in enumerate(engine.objective.turns()):
        before = {k: v.clone() for k, v in engine.networks.named_parameters()}
        engine.step_turn(index, *engine.first_batch(turn))
        changed = {k.partition(".")[0] for k, v in engine.networks.named_parameters() if not torch.equal(v, before[k])}
        gated: set[str] = set() if turn.gate is None else set(turn.players)
        if changed - set(turn.players):
            raise CheckFailed(
                f"turn {turn.name!r} updated {sorted(changed - set(turn.players))}, which are not its players"
            )
        if set(turn.players) - changed - gated:
            raise CheckFailed(f"turn {turn.name!r} did not update {sorted(set(turn.players) - changed)}")


def check_repeatable(case: Case) -> None:
    """Two runs with the same seed are identical: all randomness comes from torch's generators."""
    states = []
    for _ in range(2):
        engine = case.engine(seed=3)
        for _ in range(3):
            engine.step()
        states.append(engine.state())
    for name, value in states[0].items():
        if not torch.equal(value, states[1][name]):
            raise CheckFailed(
                f"two runs with the same seed differ in {name}; sample with torch, on the device of the batch"
            )


def check_resume(case: Case) -> None:
    """A resumed run is identical to an uninterrupted one."""
    uninterrupted = case.engine()
    for _ in range(4):
        uninterrupted.step()
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
    for name, value in uninterrupted.state().items():
        if not torch.equal(value, end[name]):
            raise CheckFailed(f"a resumed run differs in {name}; keep state in parameters and buffers only")


def check_abilities(case: Case) -> None:
    """Samples and reconstructions have the image size and lie in [−1, 1]; codes have the dimension of the prior."""
    objective = case.objective()
    if not isinstance(objective, Generator):
        raise CheckFailed("the model is not a zoo.Generator or zoo.Autoencoder; derive it from one of them")
    torch.manual_seed(0)
    trained = wrap_trained(objective, make_networks(objective, case.data).to(case.device), case.data)
    _image("sample", trained.sample(5, seed=0), (5, *case.shape))
    if not torch.equal(trained.sample(5, seed=0), trained.sample(5, seed=0)):
        raise CheckFailed("sample gives different images for the same seed; sample with torch's generators only")
    z = objective.prior(torch.empty(0, device=case.device), 5)
    _image("decode", trained.decode(z), (5, *case.shape))
    if isinstance(trained, TrainedAutoencoder):
        x = case.pixels()[:5]
        code = trained.encode(x)
        if code.shape != z.shape:
            raise CheckFailed(
                f"encode returns {tuple(code.shape)}, but the prior gives codes of shape {tuple(z.shape)}"
            )
        _image("reconstruct", trained.reconstruct(x), (5, *case.shape))
    elif isinstance(objective, Autoencoder):
        raise CheckFailed("an Autoencoder must be able to reconstruct")


def _image(what: str, images: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(images.shape) != shape:
        raise CheckFailed(f"{what} returns {tuple(images.shape)}, not {shape}")
    if not bool(images.isfinite().all()) or float(images.abs().max()) > 1 + 1e-5:
        raise CheckFailed(f"{what} returns values outside [−1, 1]; end the decoder with tanh, or return a Likelihood")


class _NoSync(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Raises for operations that read a value back to the host."""

    _READS = ("aten._local_scalar_dense", "aten.nonzero", "aten.is_nonzero", "aten.equal")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if str(func).startswith(self._READS):
            raise CheckFailed(
                f"a step reads a value back to the host ({func}); keep gates and weights as tensors on the device"
            )
        return func(*args, **(kwargs or {}))


def check_sync(case: Case) -> None:
    """A step reads no value back to the host, which would synchronize with the device."""
    engine = case.engine()
    engine.step()
    with _NoSync():  # type: ignore[no-untyped-call]
        engine.step()


def check_capture(case: Case) -> None:
    """A step traced on one batch is correct for another, so that it can be compiled or captured as a CUDA graph."""
    for turn_step in case.engine().turn_steps:
        first, second = (turn_step.batch(position) for position in (0, 1))
        name = turn_step.turn.name
        with preserve_state(turn_step):
            try:
                graph, names = trace_gradients(turn_step, *first)
            except RuntimeError:
                raise CheckFailed(
                    f"turn {name!r} branches in Python on the value of a tensor; use torch.where"
                ) from None

        def eager(*batch: Tensor, turn_step: TurnStep = turn_step) -> list[Tensor | None]:
            terms, gradients = turn_step.eager_gradients(*batch)
            return [*terms.values(), *gradients]

        found = []
        for differentiate in (eager, graph):
            with preserve_state(turn_step):
                found.append([*differentiate(*second), *(b.clone() for b in turn_step.networks.buffers())])
        labels = [*names, *(f"gradient {i}" for i in range(len(turn_step.parameters)))]
        for label, a, b in zip(labels + ["a buffer"] * len(found[0]), *found, strict=False):
            if (a is None) != (b is None) or (a is not None and not torch.equal(a, b)):
                raise CheckFailed(
                    f"turn {name!r}: {label} depends on more than the batch, the networks and torch's generators; a "
                    "compiled or captured step would repeat a value computed once in Python"
                )


def check_learns(case: Case) -> None:
    """300 steps on 64 images reduce the energy distance of samples or the error of reconstructions by 30 %."""
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
        raise CheckFailed(
            f"300 steps on 64 images do not improve the model (energy distance, reconstruction error: {change})"
        )


def energy_distance(a: Tensor, b: Tensor) -> float:
    """Energy distance 2 E‖X − Y‖ − E‖X − X'‖ − E‖Y − Y'‖ between images (N, …) (Székely & Rizzo 2013)."""
    a, b = a.flatten(1), b.flatten(1)
    n, m = len(a), len(b)
    same = torch.cdist(a, a).sum() / (n * (n - 1)) + torch.cdist(b, b).sum() / (m * (m - 1))
    return float(2 * torch.cdist(a, b).mean() - same)


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
"""Checks by name. Packages rely on the names: do not change them."""

SLOW = frozenset({"learns"})
"""Checks that run only on request."""

ONCE = frozenset({"options", "learns"})
"""Checks that run on the first image size only."""


@attrs.frozen
class CheckResult:
    """Result of a check on one image size.

    Args:
        check: Name of the check.
        shape: Image size (C, H, W).
        problem: The problem found; None if the check passed.
    """

    check: str
    shape: tuple[int, int, int]
    problem: str | None


def check_model(model: type[Objective], *, slow: bool = False) -> Iterator[CheckResult]:
    """Run the checks on all image sizes.

    Args:
        model: Class of the model.
        slow: Also run the checks of :data:`SLOW`.
    """
    for shape in SHAPES:
        for name, check in CHECKS.items():
            if (name in SLOW and not slow) or (name in ONCE and shape != SHAPES[0]):
                continue
            yield CheckResult(name, shape, run_check(check, Case(model, shape)))


def run_check(check: Callable[[Case], None], case: Case) -> str | None:
    """Run a check and return the problem that it found, or None; an exception of the model is a problem too."""
    try:
        check(case)
    except (CheckFailed, ZooError) as error:
        return str(error)
    except Exception as error:
        first = (str(error).strip().splitlines() or ["(no message)"])[0]
        return f"{type(error).__name__}: {first}"
    return None
