"""Measurements of a probe, and their form in ``health.json``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Self

import attrs

__all__ = ["CriticMeasurement", "DeadUnits", "Measurements"]


@attrs.frozen
class CriticMeasurement:
    """Separation of real and fake inputs by a critic.

    Attributes:
        error: Mean probability that the critic gives to the wrong answer, the mean of that of real and fake inputs.
        accuracy: Share of right answers by the sign of the logits, likewise.
        slope: Sum of the absolute gradients of the critic's loss with respect to its logits.
    """

    error: float
    accuracy: float
    slope: float


@attrs.frozen
class DeadUnits:
    """The layer of a network with the largest share of dead units.

    Attributes:
        layer: Its name in the network.
        units: Number of its units.
        share: Share of them that are zero for every input.
    """

    layer: str
    units: int
    share: float


@attrs.frozen(kw_only=True)
class Measurements:
    """Measurements of a probe; None where a model lacks the ability or the value is not finite.

    Attributes:
        step: Number of steps so far.
        not_finite: ``samples`` or ``codes`` if one of them has values that are not finite; else empty.
        sample_spread: Mean distance of pairs of samples, relative to that of training images.
        nearest_sample: Mean distance of samples to the nearest other one, relative to that of training images.
        active_units: Number of code dimensions whose posterior mean varies over images.
        units: Number of code dimensions.
        kl: Mean KL(q(z | x) ‖ N(0, I)) in nats, for Gaussian posteriors.
        critics: Measurements by critic.
        dead_units: Dead units by network, for networks with ReLU layers.
    """

    step: int
    not_finite: str = ""
    sample_spread: float | None = None
    nearest_sample: float | None = None
    active_units: int | None = None
    units: int | None = None
    kl: float | None = None
    critics: Mapping[str, CriticMeasurement] = attrs.field(factory=dict)
    dead_units: Mapping[str, DeadUnits] = attrs.field(factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The measurements for JSON; :meth:`from_dict` reads them back."""
        return attrs.asdict(self)

    @classmethod
    def from_dict(cls, table: Any) -> Self:
        """Read the output of :meth:`to_dict`.

        Raises:
            ValueError: If an entry is missing, unknown or of another type.
        """
        values = _checked(cls, table, skip=("critics", "dead_units"))
        for name, kind in (("critics", CriticMeasurement), ("dead_units", DeadUnits)):
            if not isinstance(values[name], dict):
                raise ValueError(f"{name} is not an object")
            values[name] = {key: kind(**_checked(kind, value)) for key, value in values[name].items()}
        return cls(**values)


_TYPES: Mapping[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (int, float),
    "int | None": (int, type(None)),
    "float | None": (int, float, type(None)),
}


def _checked(kind: type, table: Any, skip: tuple[str, ...] = ()) -> dict[str, Any]:
    fields = {field.name: str(field.type) for field in attrs.fields(kind)}
    if not isinstance(table, dict) or set(table) != set(fields):
        raise ValueError(f"{kind.__name__} has other entries than {', '.join(fields)}")
    for name, value in table.items():
        if name in skip:
            continue
        right = isinstance(value, _TYPES[fields[name]]) and not isinstance(value, bool)
        if not right or (isinstance(value, float) and not math.isfinite(value)):
            raise ValueError(f"{name} is not of type {fields[name]}")
    return dict(table)
