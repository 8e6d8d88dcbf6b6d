"""One optimizer over some networks' parameters, which a device boolean can hold still without a host sync."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from zoo.optimizers import Optimizer

__all__ = ["GatedOptimizer", "match_layout"]


def match_layout(parameter: Tensor, value: Tensor | None) -> Tensor | None:
    """The same numbers in the parameter's memory layout: fused kernels walk through memory, not through indices."""
    if value is None or value.shape != parameter.shape or value.stride() == parameter.stride():
        return value
    return torch.empty_like(parameter).copy_(value)


def _leave_the_compiler_alone() -> None:
    # Torch guards some methods of its optimizers against its compiler, and imports the whole of it at their first call:
    # a second at the start of each process, and another at its end. Marked as guarded already, they are called as such.
    for name in ("add_param_group", "load_state_dict", "state_dict", "zero_grad"):
        method = inspect.unwrap(getattr(torch.optim.Optimizer, name))
        if not hasattr(method, "__dynamo_disable"):
            setattr(method, "__dynamo_disable", method)


def _step_of(optimizer: torch.optim.Optimizer) -> Callable[[], object]:
    # Torch's own step imports its compiler likewise, and sets the gradient mode, as Update.step does too.
    if type(optimizer).__module__.startswith("torch.optim."):
        return functools.partial(inspect.unwrap(type(optimizer).step), optimizer)
    return optimizer.step


class GatedOptimizer:
    """A torch optimizer, a gate, and its state as flat tensors.

    Arguments:
        settings: which optimizer.
        parameters: by name; the names key the state.
        device: where they lie.
    """

    def __init__(self, settings: Optimizer, parameters: Mapping[str, nn.Parameter], device: torch.device) -> None:
        self._named = dict(parameters)
        _leave_the_compiler_alone()
        self._optimizer = settings.build(list(self._named.values()), device)
        # It would warn that its steps are not captured: the first are not, nor any where graphs are off.
        self._optimizer._warned_capturable_if_run_uncaptured = True
        self._step = _step_of(self._optimizer)
        self._schedule = settings.schedule
        self._rates = [float(group["lr"]) for group in self._optimizer.param_groups]
        self._fused = all(group.get("fused") for group in self._optimizer.param_groups)

    def at(self, progress: float) -> None:
        """Set the learning rate for ``progress``, the share of the run's steps that is done."""
        if self._schedule is not None:
            factor = self._schedule.factor(progress)
            for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
                if isinstance(group["lr"], Tensor):
                    group["lr"].fill_(rate * factor)
                else:
                    group["lr"] = rate * factor

    @torch.no_grad()
    def step(self, allowed: Tensor | None = None) -> None:
        """Update from each parameter's ``.grad``; not at all where ``allowed`` (a boolean scalar) is False."""
        if allowed is None or self._fused:
            # The fused kernels skip parameters, moments and step counts alike when «an inf was found».
            held = None if allowed is None else (~allowed).to(torch.float32)
            self._optimizer.found_inf = held  # type: ignore[attr-defined]
            self._step()
        else:
            before = {key: tensor.clone() for key, tensor in self._tensors().items()}
            self._step()
            for key, new in self._tensors().items():
                old = before.get(key)  # None for state that this very step has made, from zeros
                new.copy_(torch.where(allowed, new, torch.zeros_like(new) if old is None else old))

    def _tensors(self) -> dict[str, Tensor]:
        return {**self._named, **self.state()}

    def state(self) -> dict[str, Tensor]:
        """The optimizer's tensors by ``parameter/entry``."""
        return {
            f"{name}/{entry}": value
            for name, parameter in self._named.items()
            for entry, value in self._optimizer.state.get(parameter, {}).items()
            if isinstance(value, Tensor)
        }

    def load_state(self, flat: Mapping[str, Tensor]) -> None:
        """Take up a :meth:`state`."""
        index = {name: i for i, name in enumerate(self._named)}
        state: dict[int, dict[str, Tensor | None]] = {}
        for key, value in flat.items():
            name, entry = key.rsplit("/", 1)
            state.setdefault(index[name], {})[entry] = match_layout(self._named[name], value.clone())
        self._optimizer.load_state_dict({"state": state, "param_groups": self._optimizer.state_dict()["param_groups"]})
