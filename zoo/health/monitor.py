"""The history of a run's measurements, and the findings that follow from it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import attrs

from zoo.health.findings import Finding
from zoo.health.measurements import Measurements
from zoo.health.rules import Conditions, check_gradients, check_measurements

__all__ = ["HealthMonitor", "probe_steps"]

PROBES = 12
"""Largest number of probes of a run."""
STEPS_PER_PROBE = 50
"""Least number of steps per probe, whose cost is about that of a step."""
WARMUP = 0.2
"""Share of training before the first probe that counts: an untrained model is not unwell."""
WARMUP_STEPS = 150
PATIENCE = 2
"""Number of successive probes at which a condition must hold."""


def probe_steps(steps: int, every: int) -> frozenset[int]:
    """Steps after which the networks are probed.

    Args:
        steps: Number of steps of the run.
        every: Number of steps per logged line; networks are probed at logged steps only.

    >>> sorted(probe_steps(200, 1)), len(probe_steps(2000, 10))
    ([50, 100, 150, 200], 12)
    """
    count = min(PROBES, steps // STEPS_PER_PROBE)
    moments = (-(-steps * i // (count * every)) * every for i in range(1, count + 1))
    return frozenset(min(steps, moment) for moment in moments)


class HealthMonitor:
    """Findings of a run, as a function of its logged gradient norms and the measurements of its probes.

    Args:
        steps: Number of steps of the run.
    """

    def __init__(self, steps: int) -> None:
        self._warmup = max(WARMUP * steps, WARMUP_STEPS)
        self._lines, self._probes = _Tracker(1), _Tracker(PATIENCE)
        self._measurements: list[Measurements] = []
        self._norms: dict[str, list[float]] = {}

    @property
    def findings(self) -> list[Finding]:
        """The findings so far, in order of their steps."""
        found = [*self._lines.findings.values(), *self._probes.findings.values()]
        return sorted(found, key=lambda finding: finding.step)

    def add_gradients(self, step: int, norms: Mapping[str, float | None]) -> list[Finding]:
        """Add the gradient norms of a logged step by player, None for one that is not finite; returns new findings."""
        conditions: dict[tuple[str, str], str] = {}
        for name, norm in norms.items():
            if norm is None or not math.isfinite(norm):
                conditions["nan", f"gradient of {name}"] = "some values are NaN or infinite"
                continue
            history = self._norms.setdefault(name, [])
            history.append(norm)
            if evidence := check_gradients(history):
                conditions["exploding-gradients", name] = evidence
        return self._lines.update(step, conditions)

    def add_measurements(self, found: Measurements) -> list[Finding]:
        """Add the measurements of a probe; returns new findings."""
        self._measurements.append(found)
        return self._probes.update(found.step, check_measurements(found) if found.step >= self._warmup else {})

    def add_divergence(self, step: int, subject: str, evidence: str) -> list[Finding]:
        """Add that a term or a weight is not finite; returns new findings."""
        return self._lines.add(step, ("nan", subject), evidence)

    def to_dict(self) -> dict[str, Any]:
        """The content of ``health.json``."""
        return {
            "format": 1,
            "findings": [finding.to_dict() for finding in self.findings],
            "probes": [found.to_dict() for found in self._measurements],
        }


class _Tracker:
    """Conditions that are checked together; those that hold at ``patience`` successive checks become findings."""

    def __init__(self, patience: int) -> None:
        self.findings: dict[tuple[str, str], Finding] = {}
        self._patience = patience
        self._streaks: dict[tuple[str, str], int] = {}

    def update(self, step: int, conditions: Conditions) -> list[Finding]:
        """Enter the conditions that hold at a step; returns new findings."""
        self._streaks = {key: self._streaks.get(key, 0) + 1 for key in conditions}
        for key, finding in self.findings.items():
            if key not in conditions:
                self.findings[key] = attrs.evolve(finding, ended=True)
        new = []
        for key, evidence in conditions.items():
            if key in self.findings or key[0] == "nan" or self._streaks[key] >= self._patience:
                new += self.add(step, key, evidence)
        return new

    def add(self, step: int, key: tuple[str, str], evidence: str) -> list[Finding]:
        """Enter a finding, or that it still holds; returns it if it is new."""
        if key in self.findings:
            self.findings[key] = attrs.evolve(self.findings[key], last_step=step, ended=False)
            return []
        kind, subject = key
        self.findings[key] = Finding(kind=kind, subject=subject, step=step, last_step=step, evidence=evidence)
        return [self.findings[key]]
