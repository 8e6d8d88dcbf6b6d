"""Optimizer whose update can be held by a boolean on the device, without a host sync."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from zoo.optimizers import LRSchedule, Optimizer

__all__ = ["GatedOptimizer", "match_layout"]


class GatedOptimizer:
    """A torch optimizer with a gate and a learning-rate schedule.

    Args:
        settings: optimizer settings.
        parameters: parameters by name; the names are the keys of the state.
        device: device of the parameters.
        schedule: learning-rate schedule, or None for a constant learning rate.
    """

    def __init__(
        self,
        settings: Optimizer,
        parameters: Mapping[str, nn.Parameter],
        device: torch.device,
        schedule: LRSchedule | None = None,
    ) -> None:
        self._parameters = dict(parameters)
        _skip_compiler_import()
        self._optimizer = settings.build(list(self._parameters.values()), device)
        # Silences torch's warning about a step that is not captured: the first steps, and all without CUDA graphs.
        self._optimizer._warned_capturable_if_run_uncaptured = True
        self._step = _plain_step(self._optimizer)
        self._schedule = schedule
        self._initial_lrs = [float(group["lr"]) for group in self._optimizer.param_groups]
        self._fused = all(group.get("fused") for group in self._optimizer.param_groups)

    @property
    def learning_rates(self) -> list[float]:
        """Learning rate of each parameter group. Syncs on CUDA."""
        return [float(group["lr"]) for group in self._optimizer.param_groups]

    def set_learning_rate(self, progress: float) -> None:
        """Set the learning rate to its initial value times the schedule's factor.

        Args:
            progress: completed steps divided by the steps of the run.
        """
        if self._schedule is None:
            return
        factor = self._schedule.factor(progress)
        for group, initial in zip(self._optimizer.param_groups, self._initial_lrs, strict=True):
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(initial * factor)  # in place: a CUDA graph reads this memory
            else:
                group["lr"] = initial * factor

    @torch.no_grad()
    def step(self, allowed: Tensor | None = None) -> None:
        """Update the parameters from their ``.grad``.

        Args:
            allowed: boolean scalar on the device; False leaves parameters and optimizer state as they are.
        """
        if allowed is None or self._fused:
            # A gradient scaler's mechanism: fused kernels skip the whole update where `found_inf` is 1.
            self._optimizer.found_inf = None if allowed is None else (~allowed).to(torch.float32)  # type: ignore[attr-defined]
            self._step()
            return
        before = {key: tensor.clone() for key, tensor in self._tensors().items()}
        self._step()
        for key, new in self._tensors().items():
            old = before.get(key)  # None for state created by this step: it starts from zeros
            new.copy_(torch.where(allowed, new, torch.zeros_like(new) if old is None else old))

    def _tensors(self) -> dict[str, Tensor]:
        return {**self._parameters, **self.state()}

    def state(self) -> dict[str, Tensor]:
        """State tensors by ``parameter/entry``."""
        return {
            f"{name}/{entry}": value
            for name, parameter in self._parameters.items()
            for entry, value in self._optimizer.state.get(parameter, {}).items()
            if isinstance(value, Tensor)
        }

    def load_state(self, flat: Mapping[str, Tensor]) -> None:
        """Load tensors from :meth:`state`."""
        index = {name: i for i, name in enumerate(self._parameters)}
        state: dict[int, dict[str, Tensor | None]] = {}
        for key, value in flat.items():
            name, entry = key.rsplit("/", 1)
            state.setdefault(index[name], {})[entry] = match_layout(self._parameters[name], value.clone())
        self._optimizer.load_state_dict({"state": state, "param_groups": self._optimizer.state_dict()["param_groups"]})


def match_layout(parameter: Tensor, value: Tensor | None) -> Tensor | None:
    """``value`` in the memory layout of ``parameter``: fused kernels pair elements by memory position, not by index."""
    if value is None or value.shape != parameter.shape or value.stride() == parameter.stride():
        return value
    return torch.empty_like(parameter).copy_(value)


def _skip_compiler_import() -> None:
    # torch excludes some optimizer methods from compilation at their first call, which imports the whole compiler (one
    # second). Marking them as excluded avoids the import.
    for name in ("add_param_group", "load_state_dict", "state_dict", "zero_grad"):
        method = inspect.unwrap(getattr(torch.optim.Optimizer, name))
        if not hasattr(method, "__dynamo_disable"):
            setattr(method, "__dynamo_disable", method)


def _plain_step(optimizer: torch.optim.Optimizer) -> Callable[[], object]:
    # The wrapper around torch's own `step` imports the compiler too; it sets the gradient mode, as GatedOptimizer.step.
    if type(optimizer).__module__.startswith("torch.optim."):
        return functools.partial(inspect.unwrap(type(optimizer).step), optimizer)
    return optimizer.step
