"""Bars of reproduction targets: a published value is reproduced only if it beats controls that learned nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import attrs

__all__ = ["Bar", "is_met", "judge"]


@attrs.frozen
class Bar:
    """A published value of one measure.

    Args:
        measure: Name of the measure.
        published: Its published value.
        tolerance: Distance from it that still counts, such as its published error.
        better: Which values are better.
        controls: Published values of controls, by name; for others the value measured here stands for it.
    """

    measure: str
    published: float
    tolerance: float
    better: Literal["higher", "lower"] = "higher"
    controls: Mapping[str, float] = attrs.field(factory=dict)

    def advantage(self, value: float, other: float) -> float:
        """How much better ``value`` is than ``other``; negative if it is worse."""
        return value - other if self.better == "higher" else other - value

    def reaches(self, value: float) -> bool:
        """Whether a value is within the tolerance of the published one, or better."""
        return self.advantage(value, self.published) >= -self.tolerance

    def margin(self, control: str, found: float) -> float:
        """Published advantage over a control, whose value here is ``found``."""
        return self.advantage(self.published, self.controls.get(control, found))

    def beats(self, value: float, control: str, found: float) -> bool:
        """Whether a value beats a control by the published margin, up to the tolerance, and by more than nothing."""
        return self.advantage(value, found) >= max(self.margin(control, found) - self.tolerance, 1e-12)


def judge(
    bars: Sequence[Bar], found: Mapping[str, float], controls: Mapping[str, Mapping[str, float]]
) -> list[dict[str, Any]]:
    """Judge measured values.

    Args:
        bars: The bars of a target.
        found: Measured values by measure.
        controls: For each control, its values by measure; a control need not have all.

    Returns:
        For each bar what was published, found and required of each control, and whether it is met; a measure that was
        not taken is not met.
    """
    verdicts = []
    for bar in bars:
        value = found.get(bar.measure)
        rows = {
            name: {
                "value": values[bar.measure],
                "margin": bar.margin(name, values[bar.measure]),
                "beaten": value is not None and bar.beats(value, name, values[bar.measure]),
            }
            for name, values in controls.items()
            if bar.measure in values
        }
        reached = value is not None and bar.reaches(value)
        verdicts.append(
            {
                "measure": bar.measure,
                "published": bar.published,
                "tolerance": bar.tolerance,
                "better": bar.better,
                "found": value,
                "reached": reached,
                "controls": rows,
                "met": reached and bool(rows) and all(row["beaten"] for row in rows.values()),
            }
        )
    return verdicts


def is_met(verdicts: Sequence[Mapping[str, Any]]) -> bool:
    """Whether all bars are met."""
    return bool(verdicts) and all(verdict["met"] for verdict in verdicts)
