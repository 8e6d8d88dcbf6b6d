"""Checks of training: reproducible, resumable, without host syncs, capturable, and it learns."""

from __future__ import annotations

from typing import Any

import attrs
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from zoo.conformance.case import Case, CheckFailed
from zoo.engine.compiled import preserve_state, trace_gradients
from zoo.engine.turn_step import TurnStep
from zoo.interfaces import Networks
from zoo.run.trained import TrainedAutoencoder, wrap_trained

__all__ = ["check_capture", "check_learns", "check_repeatable", "check_resume", "check_sync", "energy_distance"]


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
    """A resumed run is identical to an uninterrupted one, and no network keeps state outside parameters and buffers."""
    uninterrupted = case.engine()
    before = _python_state(uninterrupted.networks)
    for _ in range(4):
        uninterrupted.step()
    after = _python_state(uninterrupted.networks)
    for name in after:
        if before.get(name) != after[name]:
            raise CheckFailed(
                f"training changes the attribute {name}, which a checkpoint does not contain; keep state in a buffer "
                "(register_buffer), and update it in Turn(after=...)"
            )
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


def _python_state(networks: Networks) -> dict[str, str]:
    """Plain Python values that are attributes of modules, by name."""
    of_torch = vars(nn.Module())
    return {
        f"{prefix}.{name}" if prefix else name: repr(value)
        for prefix, module in networks.named_modules()
        for name, value in vars(module).items()
        if isinstance(value, bool | int | float | str | list | tuple | dict | set) and name not in of_torch
    }


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
            found.append(float((trained.reconstruct(x, *case.labels(len(x))) - x).square().mean()))
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
