"""Presets: named settings of a model, with their source and the differences from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

__all__ = ["Preset", "format_settings", "get_presets"]


@attrs.frozen
class Preset:
    """Settings of a published experiment.

    Args:
        settings: Settings of the run and options of the model, by name.
        source: Sections of the paper or files of the authors' code.
        deviations: Remaining differences from the source, with the details.

    >>> Preset({"latent": 50}, "section 4", {"Adam": "in place of SGD"}).summary
    'differs in Adam'
    >>> Preset({"latent": 50}, "section 4").summary
    'exact'
    """

    settings: Mapping[str, Any]
    source: str = ""
    deviations: Mapping[str, str] = attrs.field(factory=dict)

    @property
    def summary(self) -> str:
        """``exact``, or the differences from the source."""
        return f"differs in {'; '.join(self.deviations)}" if self.deviations else "exact"


def get_presets(model: type) -> dict[str, Preset]:
    """Presets of a model by name; plain settings, as in models of zoo 0.1.0, become presets without a source."""
    found: Mapping[str, Preset | Mapping[str, Any]] = getattr(model, "presets", {})
    return {name: value if isinstance(value, Preset) else Preset(value) for name, value in found.items()}


def format_settings(settings: Mapping[str, Any]) -> str:
    """Format settings on one line.

    >>> format_settings({"dataset": "mnist", "joint": True})
    'dataset mnist, joint true'
    """
    return ", ".join(f"{k} {str(v).lower() if isinstance(v, bool) else v}" for k, v in settings.items())
