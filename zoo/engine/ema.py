"""Exponential moving average of the weights of all networks."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

__all__ = ["WeightEMA"]


class WeightEMA:
    """Exponential moving average (EMA) of a model's parameters, over steps.

    Starts at the initial weights. After every step, for every network: ``average = decay * average + (1 - decay) *
    weight``. A network whose update a gate holds counts with its unchanged weights: the average is over steps, not over
    updates. Buffers are copied, not averaged: batch-norm statistics are running averages already.

    Args:
        module: module whose ``state_dict`` is averaged.
        decay: weight of the old average, in (0, 1).
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self._module, self.decay = module, decay
        self._average = {name: value.detach().clone() for name, value in module.state_dict().items()}

    @torch.no_grad()
    def update(self) -> None:
        """Include the current weights, without a host sync."""
        averages: list[Tensor] = []
        weights: list[Tensor] = []
        for name, value in self._module.state_dict(keep_vars=True).items():
            if isinstance(value, nn.Parameter):
                averages.append(self._average[name])
                weights.append(value)
            else:
                self._average[name].copy_(value)
        torch._foreach_lerp_(averages, weights, 1 - self.decay)

    def state(self) -> dict[str, Tensor]:
        """Averaged parameters and current buffers, by the names of the module's ``state_dict``."""
        return dict(self._average)

    @torch.no_grad()
    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Load tensors from :meth:`state`."""
        for name, value in self._average.items():
            value.copy_(state[name])

    def copy_to(self, module: nn.Module) -> None:
        """Replace the weights of ``module`` by the average."""
        module.load_state_dict(self._average)
