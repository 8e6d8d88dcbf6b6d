"""Optimizer settings as values: what a model asks for, and how the engine builds it."""

from __future__ import annotations

import abc
import itertools
from collections.abc import Sequence

import attrs
import torch
from torch import Tensor

__all__ = ["SGD", "Adam", "ExponentialTail", "Optimizer", "RMSprop", "Schedule", "Stages"]


class Schedule(abc.ABC):
    """What the learning rate is multiplied by as training goes on; a value, like the optimizer that it belongs to."""

    @abc.abstractmethod
    def factor(self, progress: float) -> float:
        """The factor at ``progress``, the share of the run's steps that is done, in [0, 1)."""


@attrs.frozen
class ExponentialTail(Schedule):
    """1 until ``start``, then exponentially down to ``end`` at the last step.

    >>> [round(ExponentialTail(0.5, 0.01).factor(t), 3) for t in (0.0, 0.5, 0.75, 1.0)]
    [1.0, 1.0, 0.1, 0.01]
    """

    start: float = 0.5
    end: float = 0.01

    def factor(self, progress: float) -> float:
        """In (0, 1]."""
        return float(self.end ** max(0.0, (progress - self.start) / (1 - self.start)))


@attrs.frozen
class Stages(Schedule):
    """Constant stage by stage: ``factors``, each for its part of the run in proportion to ``lengths``.

    >>> [Stages((1, 3), (1.0, 0.5)).factor(t) for t in (0.0, 0.2, 0.25, 0.9)]
    [1.0, 1.0, 0.5, 0.5]
    """

    lengths: tuple[float, ...]
    factors: tuple[float, ...]

    def factor(self, progress: float) -> float:
        """One of ``factors``."""
        bounds = itertools.accumulate(self.lengths)
        total = sum(self.lengths)
        return next((f for f, b in zip(self.factors, bounds, strict=True) if progress * total < b), self.factors[-1])


class Optimizer(abc.ABC):
    """Settings of an optimizer; equal settings may share one instance."""

    schedule: Schedule | None = None
    """How its learning rate changes over the run; None keeps it."""

    @abc.abstractmethod
    def build(self, parameters: Sequence[Tensor], device: torch.device) -> torch.optim.Optimizer:
        """A torch optimizer over ``parameters``, fused and capturable where torch has it."""


@attrs.frozen
class Adam(Optimizer):
    """Adam (Kingma & Ba, arXiv:1412.6980); ``weight_decay`` is the L2 term of the loss, not decoupled."""

    lr: float = 2e-4
    beta1: float = 0.5
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0
    schedule: Schedule | None = None

    def build(self, parameters: Sequence[Tensor], device: torch.device) -> torch.optim.Optimizer:
        """Fused Adam: one kernel for all parameters, able to skip a step on the device."""
        return torch.optim.Adam(
            parameters,
            lr=_rate(self.lr, device),
            capturable=device.type == "cuda",
            betas=(self.beta1, self.beta2),
            eps=self.eps,
            weight_decay=self.weight_decay,
            fused=True,
        )


@attrs.frozen
class RMSprop(Optimizer):
    """RMSProp (Tieleman & Hinton 2012), VAE-GAN's optimizer; ``alpha`` is the decay of the squared gradient."""

    lr: float = 3e-4
    alpha: float = 0.9
    eps: float = 1e-8
    weight_decay: float = 0.0
    schedule: Schedule | None = None

    def build(self, parameters: Sequence[Tensor], device: torch.device) -> torch.optim.Optimizer:
        """The foreach implementation; torch has no fused one."""
        return torch.optim.RMSprop(
            parameters,
            lr=_rate(self.lr, device),
            alpha=self.alpha,
            eps=self.eps,
            weight_decay=self.weight_decay,
            foreach=True,
            capturable=device.type == "cuda",
        )


@attrs.frozen
class SGD(Optimizer):
    """Stochastic gradient descent with momentum, the AAE paper's optimizer."""

    lr: float = 1e-2
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: Schedule | None = None

    def build(self, parameters: Sequence[Tensor], device: torch.device) -> torch.optim.Optimizer:
        """Fused SGD."""
        optimizer = torch.optim.SGD(
            parameters,
            lr=_rate(self.lr, device),
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            fused=True,
        )
        if self.momentum:
            # Torch leaves the buffers uninitialized where a gate holds the first step, and fails where a parameter
            # gets its first gradient late. From zeros the first step is the same.
            for parameter in parameters:
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        return optimizer


def _rate(lr: float, device: torch.device) -> float | Tensor:
    # A captured step reads its rate from memory, where a schedule can change it; a number would be part of the graph.
    return torch.tensor(lr, device=device) if device.type == "cuda" else lr
