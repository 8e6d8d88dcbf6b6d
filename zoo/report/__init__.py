"""The report of a run: one self-contained HTML page."""

from __future__ import annotations

from zoo.report.report import REPORT, write_report

__all__ = ["REPORT", "write_report"]
