"""Optimizer settings, learning-rate schedules, and the optimization settings of a run that apply to every model."""

from __future__ import annotations

import abc
import math
from collections.abc import Sequence

import attrs
import torch
from torch import Tensor

from zoo.adagrad import CapturableAdagrad
from zoo.errors import UsageError

__all__ = [
    "SGD",
    "Adagrad",
    "Adam",
    "ConstantLR",
    "CosineLR",
    "ExponentialLR",
    "LRSchedule",
    "LinearLR",
    "MultiStepLR",
    "Optimization",
    "Optimizer",
    "RMSprop",
    "WarmupLR",
    "make_schedule",
]


class LRSchedule(abc.ABC):
    """Factor by which the initial learning rate is multiplied, as a function of training progress."""

    @abc.abstractmethod
    def factor(self, progress: float) -> float:
        """Factor of the next step.

        Args:
            progress: Completed steps divided by the steps of the run, in [0, 1).
        """


@attrs.frozen
class ConstantLR(LRSchedule):
    """The initial learning rate throughout."""

    def factor(self, progress: float) -> float:
        """Always 1."""
        return 1.0


@attrs.frozen
class LinearLR(LRSchedule):
    """Linear decay from 1 to 0 at the end of training.

    >>> [LinearLR().factor(t) for t in (0.0, 0.25, 0.5)]
    [1.0, 0.75, 0.5]
    """

    def factor(self, progress: float) -> float:
        """``1 - progress``."""
        return 1.0 - progress


@attrs.frozen
class CosineLR(LRSchedule):
    """Half a cosine from 1 to 0 at the end of training (Loshchilov & Hutter, arXiv:1608.03983, without restarts).

    >>> [round(CosineLR().factor(t), 3) for t in (0.0, 0.25, 0.5, 0.75)]
    [1.0, 0.854, 0.5, 0.146]
    """

    def factor(self, progress: float) -> float:
        """``(1 + cos(π progress)) / 2``."""
        return 0.5 * (1.0 + math.cos(math.pi * progress))


@attrs.frozen
class ExponentialLR(LRSchedule):
    """1 until ``start``, then exponential decay to ``end_factor`` at the end of training.

    Args:
        start: Fraction of training before the decay.
        end_factor: Factor at the end of training.

    >>> [round(ExponentialLR(0.5, 0.01).factor(t), 3) for t in (0.0, 0.5, 0.75, 1.0)]
    [1.0, 1.0, 0.1, 0.01]
    """

    start: float = 0.5
    end_factor: float = 0.01

    def factor(self, progress: float) -> float:
        """In (0, 1]."""
        return float(self.end_factor ** max(0.0, (progress - self.start) / (1 - self.start)))


@attrs.frozen
class MultiStepLR(LRSchedule):
    """1 until the first milestone, then ``factors[i]`` from ``milestones[i]`` on.

    Args:
        milestones: Fractions of training, ascending.
        factors: One factor per milestone, relative to the initial learning rate.

    >>> [MultiStepLR((0.5, 0.75), (0.1, 0.01)).factor(t) for t in (0.0, 0.5, 0.7, 0.75)]
    [1.0, 0.1, 0.1, 0.01]
    """

    milestones: tuple[float, ...]
    factors: tuple[float, ...]

    def factor(self, progress: float) -> float:
        """1, or one of ``factors``."""
        passed = sum(progress >= milestone for milestone in self.milestones)
        return self.factors[passed - 1] if passed else 1.0


@attrs.frozen
class WarmupLR(LRSchedule):
    """Linear increase from 0 to 1 over the first ``fraction`` of training, times the factor of ``schedule``.

    Args:
        fraction: Fraction of training with the warm-up.
        schedule: Schedule to multiply.

    >>> warmup = WarmupLR(0.5, LinearLR())
    >>> [warmup.factor(t) for t in (0.0, 0.25, 0.5, 0.75)]
    [0.0, 0.375, 0.5, 0.25]
    """

    fraction: float
    schedule: LRSchedule

    def factor(self, progress: float) -> float:
        """Between 0 and the factor of ``schedule``."""
        return min(1.0, progress / self.fraction) * self.schedule.factor(progress)


def make_schedule(name: str, milestones: Sequence[float] = (), gamma: float = 0.1) -> LRSchedule:
    """Learning-rate schedule by its ``--lr-schedule`` name.

    Args:
        name: ``constant``, ``linear``, ``cosine`` or ``multistep``.
        milestones: For ``multistep``, fractions of training at which the learning rate is multiplied by ``gamma``.
        gamma: For ``multistep``.

    Raises:
        UsageError: For milestones that are not ascending fractions in (0, 1).

    >>> make_schedule("multistep", (0.5, 0.75), 0.5)
    MultiStepLR(milestones=(0.5, 0.75), factors=(0.5, 0.25))
    """
    if name == "multistep":
        if not milestones or any(not a < b for a, b in zip((0.0, *milestones), (*milestones, 1.0), strict=True)):
            given = ",".join(f"{m:g}" for m in milestones)
            raise UsageError(
                f"lr_milestones: {given!r} is not allowed; must be ascending fractions of training "
                "above 0 and below 1, such as 0.5,0.75"
            )
        return MultiStepLR(tuple(milestones), tuple(gamma ** (i + 1) for i in range(len(milestones))))
    schedules: dict[str, LRSchedule] = {"constant": ConstantLR(), "linear": LinearLR(), "cosine": CosineLR()}
    return schedules[name]


@attrs.frozen
class Optimization:
    """Optimization settings of a run, for any model; the defaults leave training as the model defines it.

    Args:
        lr_schedule: Replaces the schedule of every optimizer of the model; None keeps them.
        lr_warmup: Fraction of training over which the learning rate rises linearly from 0; multiplies the schedule.
        clip_grad_norm: Largest norm of the gradient of one player; larger gradients are scaled down to it.
        ema_decay: Decay per step of an exponential moving average of the weights; None keeps no average.
    """

    lr_schedule: LRSchedule | None = None
    lr_warmup: float = 0.0
    clip_grad_norm: float | None = None
    ema_decay: float | None = None

    def schedule(self, optimizer: Optimizer) -> LRSchedule | None:
        """Schedule of the run for one of the model's optimizers; None for a constant learning rate."""
        schedule = self.lr_schedule or optimizer.schedule
        return WarmupLR(self.lr_warmup, schedule or ConstantLR()) if self.lr_warmup else schedule


class Optimizer(abc.ABC):
    """Settings of an optimizer; equal settings may share one instance."""

    schedule: LRSchedule | None = None
    """Learning-rate schedule; None for a constant learning rate."""

    @abc.abstractmethod
    def build(self, parameters: Sequence[Tensor], device: torch.device) -> torch.optim.Optimizer:
        """Build the torch optimizer of ``parameters``, fused and capturable where torch supports it.

        On CUDA its learning rate must be a tensor: a captured step reads it from memory.
        """


@attrs.frozen
class Adam(Optimizer):
    """Adam (Kingma & Ba, arXiv:1412.6980).

    Args:
        lr: Learning rate.
        beta1: Decay of the first moment.
        beta2: Decay of the second moment.
        eps: Added to the root of the second moment.
        weight_decay: Weight of an L2 penalty, not decoupled.
        schedule: Learning-rate schedule; None for a constant learning rate.
    """

    lr: float = 2e-4
    beta1: float = 0.5
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0
    schedule: LRSchedule | None = None

    def build(self, parameters: Sequence[Tensor], device: torch.device) -> torch.optim.Optimizer:
        """Fused Adam, whose kernel can skip an update on the device."""
        return torch.optim.Adam(
            parameters,
            lr=_lr(self.lr, device),
            capturable=device.type == "cuda",
            betas=(self.beta1, self.beta2),
            eps=self.eps,
            weight_decay=self.weight_decay,
            fused=True,
        )


@attrs.frozen
class RMSprop(Optimizer):
    """RMSProp (Tieleman & Hinton 2012), used by VAE-GAN.

    Args:
        lr: Learning rate.
        alpha: Decay of the mean squared gradient.
        eps: Added to the root of the mean squared gradient.
        weight_decay: Weight of an L2 penalty.
        schedule: Learning-rate schedule; None for a constant learning rate.
    """

    lr: float = 3e-4
    alpha: float = 0.9
    eps: float = 1e-8
    weight_decay: float = 0.0
    schedule: LRSchedule | None = None

    def build(self, parameters: Sequence[Tensor], device: torch.device) -> torch.optim.Optimizer:
        """Foreach RMSProp; torch has no fused one."""
        return torch.optim.RMSprop(
            parameters,
            lr=_lr(self.lr, device),
            alpha=self.alpha,
            eps=self.eps,
            weight_decay=self.weight_decay,
            foreach=True,
            capturable=device.type == "cuda",
        )


@attrs.frozen
class Adagrad(Optimizer):
    """Adagrad (Duchi et al. 2011), used by the VAE paper.

    Args:
        lr: Learning rate.
        eps: Added to the root of the accumulated squared gradient.
        weight_decay: Weight of an L2 penalty.
        schedule: Learning-rate schedule; None for a constant learning rate.
    """

    lr: float = 1e-2
    eps: float = 1e-10
    weight_decay: float = 0.0
    schedule: LRSchedule | None = None

    def build(self, parameters: Sequence[Tensor], device: torch.device) -> torch.optim.Optimizer:
        """Foreach Adagrad that can be captured as a CUDA graph, unlike torch's."""
        return CapturableAdagrad(parameters, _lr(self.lr, device), self.eps, self.weight_decay)


@attrs.frozen
class SGD(Optimizer):
    """Stochastic gradient descent with momentum, used by the AAE paper.

    Args:
        lr: Learning rate.
        momentum: Decay of the momentum.
        weight_decay: Weight of an L2 penalty.
        schedule: Learning-rate schedule; None for a constant learning rate.
    """

    lr: float = 1e-2
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: LRSchedule | None = None

    def build(self, parameters: Sequence[Tensor], device: torch.device) -> torch.optim.Optimizer:
        """Fused SGD."""
        optimizer = torch.optim.SGD(
            parameters,
            lr=_lr(self.lr, device),
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            fused=True,
        )
        if self.momentum:
            # torch leaves a buffer uninitialized if a gate holds the first update, and fails if a parameter gets its
            # first gradient later than others. Zeros give the same first step.
            for parameter in parameters:
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        return optimizer


def _lr(lr: float, device: torch.device) -> float | Tensor:
    # A CUDA graph reads the learning rate from memory, where a schedule can change it; a float would be baked in.
    return torch.tensor(lr, device=device) if device.type == "cuda" else lr
