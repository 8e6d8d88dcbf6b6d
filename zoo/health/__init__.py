"""Health of training runs: what is measured, the conditions that are named, and their usual remedies."""

from __future__ import annotations

from zoo.health.findings import KINDS, Finding, parse_stop_on
from zoo.health.measurements import Measurements
from zoo.health.monitor import HealthMonitor, probe_steps
from zoo.health.probe import Probe

__all__ = ["KINDS", "Finding", "HealthMonitor", "Measurements", "Probe", "parse_stop_on", "probe_steps"]
