"""One optimiser over some networks' parameters, which a device boolean can hold still without a host sync."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from zoo.optimisers import Optimiser

__all__ = ["Update"]


class Update:
    """A torch optimiser, a gate, and its state as flat tensors.

    Arguments:
        settings: which optimiser.
        parameters: by name; the names key the state.
        device: where they lie.
    """

    def __init__(self, settings: Optimiser, parameters: Mapping[str, nn.Parameter], device: torch.device) -> None:
        self._named = dict(parameters)
        self._optimiser = settings.build(list(self._named.values()), device)
        self._fused = all(group.get("fused") for group in self._optimiser.param_groups)

    def step(self, allowed: Tensor | None = None) -> None:
        """Update from each parameter's ``.grad``; not at all where ``allowed`` (a boolean scalar) is False."""
        if allowed is None:
            self._optimiser.step()
        elif self._fused:
            # The fused kernels skip parameters, moments and step counts alike when «an inf was found».
            self._optimiser.found_inf = (~allowed).to(torch.float32)  # type: ignore[attr-defined]
            self._optimiser.step()
        else:
            before = [t.clone() for t in self._tensors()]
            self._optimiser.step()
            after = self._tensors()
            if len(before) < len(after):  # the first step has just made the state, from zeros
                before += [torch.zeros_like(t) for t in after[len(before) :]]
            for old, new in zip(before, after, strict=True):
                new.copy_(torch.where(allowed, new, old))

    def _tensors(self) -> list[Tensor]:
        state = self._optimiser.state
        parameters = list(self._named.values())
        return [
            *parameters,
            *(v for p in parameters for v in state.get(p, {}).values() if isinstance(v, Tensor)),
        ]

    def state(self) -> dict[str, Tensor]:
        """The optimiser's tensors by ``parameter/entry``."""
        return {
            f"{name}/{entry}": value
            for name, parameter in self._named.items()
            for entry, value in self._optimiser.state.get(parameter, {}).items()
            if isinstance(value, Tensor)
        }

    def load_state(self, flat: Mapping[str, Tensor]) -> None:
        """Take up a :meth:`state`."""
        index = {name: i for i, name in enumerate(self._named)}
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in flat.items():
            name, entry = key.rsplit("/", 1)
            state.setdefault(index[name], {})[entry] = value.clone()
        self._optimiser.load_state_dict({"state": state, "param_groups": self._optimiser.state_dict()["param_groups"]})
