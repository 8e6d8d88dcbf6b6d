"""Adagrad without state on the host, so that a CUDA graph can capture it; torch's has its step count there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["CapturableAdagrad"]


class CapturableAdagrad(torch.optim.Optimizer):
    """Adagrad (Duchi et al. 2011) without decay of the learning rate; ``weight_decay`` is an L2 penalty.

    Args:
        parameters: Parameters to optimize.
        lr: Learning rate; a scalar tensor can be changed after capture.
        eps: Term added to the square root, for numerical stability.
        weight_decay: Weight of the L2 penalty.
    """

    def __init__(self, parameters: Sequence[Tensor], lr: float | Tensor, eps: float, weight_decay: float) -> None:
        super().__init__(parameters, {"lr": lr, "eps": eps, "weight_decay": weight_decay})
        for group in self.param_groups:
            for parameter in group["params"]:
                self.state[parameter]["sum"] = torch.zeros_like(parameter)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Update the parameters that have a gradient."""
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if not parameters:
                continue
            gradients: tuple[Tensor, ...] | list[Tensor] = [p.grad for p in parameters]
            if group["weight_decay"]:
                gradients = torch._foreach_add(gradients, parameters, alpha=group["weight_decay"])
            sums = [self.state[p]["sum"] for p in parameters]
            torch._foreach_addcmul_(sums, gradients, gradients, 1)
            roots = torch._foreach_sqrt(sums)
            torch._foreach_add_(roots, group["eps"])
            updates = torch._foreach_div(gradients, roots)
            torch._foreach_mul_(updates, group["lr"])
            torch._foreach_sub_(parameters, updates)
