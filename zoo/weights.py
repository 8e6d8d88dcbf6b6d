"""Weights of terms that are not constants: functions of training progress, and ratios of gradients.

They stand in a game table where a number would: ``{"decoder": {"rec": 1.0, "kl": zoo.Ramp(end=0.5)}}``.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import attrs

from zoo.errors import ZooError

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = [
    "AnyWeight",
    "Cycle",
    "GradientRatio",
    "Ramp",
    "ScheduledWeight",
    "Switch",
    "Weight",
    "format_weight",
    "gradient_ratio",
]


_FRACTION: list[Callable[[Any, Any, Any], Any]] = [attrs.validators.ge(0), attrs.validators.le(1)]


class Weight(abc.ABC):
    """Base class of weights that change in training. Instances are immutable, and equal if their settings are."""

    @abc.abstractmethod
    def __str__(self) -> str:
        """Text of at most about 20 characters for the game table."""


class ScheduledWeight(Weight):
    """Weight as a function of training progress alone.

    The engine computes it on the host before each step and keeps it in a tensor, so that compiled and captured steps
    read its current value.
    """

    @abc.abstractmethod
    def value(self, progress: float) -> float:
        """Weight of the next step.

        Args:
            progress: Completed steps divided by the steps of the run, in [0, 1].
        """


@attrs.frozen
class Ramp(ScheduledWeight):
    """Linear change from ``start`` to ``end``, constant before and after it.

    Args:
        start: Weight until ``begin``.
        end: Weight from ``until`` on.
        begin: Fraction of training at which the change begins.
        until: Fraction of training at which it is complete.

    >>> [Ramp(0.0, 2.0, until=0.5).value(t) for t in (0.0, 0.25, 0.5, 0.9)]
    [0.0, 1.0, 2.0, 2.0]
    """

    start: float = 0.0
    end: float = 1.0
    begin: float = attrs.field(default=0.0, validator=_FRACTION)
    until: float = attrs.field(default=1.0, validator=_FRACTION)

    def __attrs_post_init__(self) -> None:
        if self.begin >= self.until:
            raise ValueError(f"begin: {self.begin:g} is not allowed; must be below until, {self.until:g}")

    def value(self, progress: float) -> float:
        """Between ``start`` and ``end``."""
        if progress >= self.until:
            return float(self.end)
        share = max(0.0, progress - self.begin) / (self.until - self.begin)
        return self.start + (self.end - self.start) * share

    def __str__(self) -> str:
        return f"{self.start:g} → {self.end:g}"


@attrs.frozen
class Cycle(ScheduledWeight):
    """Cycles that rise linearly from ``low`` to ``high`` and stay there (Fu et al., arXiv:1903.10145).

    Args:
        low: Weight at the start of a cycle.
        high: Weight at the end of a cycle.
        cycles: Number of cycles in the run.
        rise: Fraction of each cycle in which the weight rises.

    >>> [Cycle(cycles=2).value(t) for t in (0.0, 0.125, 0.25, 0.49, 0.5, 1.0)]
    [0.0, 0.5, 1.0, 1.0, 0.0, 1.0]
    """

    low: float = 0.0
    high: float = 1.0
    cycles: int = attrs.field(default=4, validator=attrs.validators.ge(1))
    rise: float = attrs.field(default=0.5, validator=[attrs.validators.gt(0), attrs.validators.le(1)])

    def value(self, progress: float) -> float:
        """Between ``low`` and ``high``; ``high`` at the end of training."""
        position = 1.0 if progress >= 1.0 else math.modf(progress * self.cycles)[0]
        return self.low + (self.high - self.low) * min(1.0, position / self.rise)

    def __str__(self) -> str:
        return f"{self.low:g} → {self.high:g}, {self.cycles}×"


@attrs.frozen
class GradientRatio(Weight):
    """Weight that equalizes the gradients of two terms at one parameter (Esser et al., arXiv:2012.09841, equation 7).

    The weight is ``scale`` · ‖∇ reference‖ / (‖∇ term‖ + ``eps``), at most ``limit``, where ∇ is the gradient with
    respect to the parameter; no gradient flows through the weight.

    Args:
        reference: Name of the term to whose gradient the weighted term is scaled.
        term: Name of the weighted term.
        parameter: Name of the parameter within the model's networks, such as ``decoder.last.weight``.
        scale: Factor of the ratio.
        limit: Largest ratio.
        eps: Added to the denominator.
    """

    reference: str
    term: str
    parameter: str
    scale: float = 1.0
    limit: float = 1e4
    eps: float = 1e-4

    def compute(self, terms: Mapping[str, Tensor], networks: nn.Module) -> Tensor:
        """Weight for the terms of a batch: a scalar without gradient."""
        import torch  # here, so that `zoo show` starts without it

        try:
            parameter = networks.get_parameter(self.parameter)
        except AttributeError:
            raise ZooError(f"weight {self}: the networks have no parameter {self.parameter!r}") from None
        norms = []
        for name in (self.reference, self.term):
            if name not in terms:
                raise ZooError(f"weight {self}: no term {name!r}; terms: {', '.join(terms)}")
            try:
                (gradient,) = torch.autograd.grad(terms[name], parameter, retain_graph=True)
            except RuntimeError:
                raise ZooError(
                    f"weight {self}: term {name!r} does not depend on {self.parameter!r}, or its network does not play "
                    "in the turn"
                ) from None
            norms.append(gradient.detach().float().norm())
        ratio: Tensor = (norms[0] / (norms[1] + self.eps)).clamp(max=self.limit)
        return self.scale * ratio

    def __str__(self) -> str:
        factor = "" if self.scale == 1 else f"{self.scale:g} · "
        return f"{factor}‖∇{self.reference}‖/‖∇{self.term}‖"


@attrs.frozen
class Switch(ScheduledWeight):
    """Weight that is 0 until a moment of training.

    Args:
        at: Fraction of training from which the weight counts.
        weight: The weight after it: a number, or another weight.

    >>> [Switch(0.3).value(t) for t in (0.0, 0.29, 0.3, 1.0)]
    [0.0, 0.0, 1.0, 1.0]
    """

    at: float = attrs.field(validator=_FRACTION)
    weight: float | Weight = 1.0

    def value(self, progress: float) -> float:
        """The factor of ``weight`` if that is a :class:`GradientRatio`; otherwise the weight itself."""
        if progress < self.at:
            return 0.0
        if isinstance(self.weight, ScheduledWeight):
            return self.weight.value(progress)
        return 1.0 if isinstance(self.weight, Weight) else float(self.weight)

    def __str__(self) -> str:
        return f"{format_weight(self.weight)} from {100 * self.at:g} %"


AnyWeight = float | Weight
"""A weight in a game table."""


def gradient_ratio(weight: AnyWeight) -> GradientRatio | None:
    """The ratio of gradients within a weight, or None."""
    while isinstance(weight, Switch):
        weight = weight.weight
    return weight if isinstance(weight, GradientRatio) else None


def format_weight(weight: AnyWeight | str) -> str:
    """Text of a weight, or of the text that a result has for it, for a game table.

    >>> format_weight(-0.5), format_weight(Ramp(until=0.5)), format_weight("0 → 1")
    ('−0.5', '0 → 1', '0 → 1')
    """
    text = f"{weight:g}" if isinstance(weight, int | float) else str(weight)
    return text.replace("-", "−")
