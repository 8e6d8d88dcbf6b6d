"""Labels of rows: options that were changed or that distinguish a row from others of the model."""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence
from typing import Any

from zoo.leaderboard.results import ResultKey

__all__ = ["Labels", "format_label"]


class Labels:
    """Labels of the rows of a table.

    Args:
        rows: A cell of each row.
    """

    def __init__(self, rows: Sequence[ResultKey]) -> None:
        self._all_values: dict[str, set[str]] = collections.defaultdict(set)
        self._model_values: dict[tuple[str, str, str], set[str]] = collections.defaultdict(set)
        self._budgets: dict[str, set[str]] = collections.defaultdict(set)
        models = collections.Counter((cell.model, cell.package) for cell in rows)
        having = collections.Counter((cell.model, cell.package, name) for cell in rows for name in cell.options)
        # Versions of a model may have different options; an option that others lack distinguishes a row.
        self._partial = {key for key, count in having.items() if count < models[key[:2]]}
        for cell in rows:
            for name, value in cell.options.items():
                self._all_values[name].add(repr(value))
                self._model_values[cell.model, cell.package, name].add(repr(value))
            for name, value in cell.budget.items():
                self._budgets[name].add(repr(value))
        # An option that a protocol file sets to the same value for all models does not distinguish a row.
        by_file = bool(rows) and "training protocol" in rows[0].training.entries
        counts = collections.Counter(name for cell in rows for name in cell.options) if by_file else {}
        self._common = {name for name, n in counts.items() if n > 1 and len(self._all_values[name]) == 1}

    def label(self, cell: ResultKey) -> dict[str, Any]:
        """Return the options and the budget entries that the row shows."""
        changed = set(cell.changed or ()) - self._common
        keys = {name: (cell.model, cell.package, name) for name in cell.options}
        apart = {name for name, key in keys.items() if len(self._model_values[key]) > 1 or key in self._partial}
        label = {name: cell.options[name] for name in sorted(changed | apart) if name in cell.options}
        return {**label, **{name: value for name, value in cell.budget.items() if len(self._budgets[name]) > 1}}


def format_label(label: Mapping[str, Any]) -> str:
    """Format a label as text.

    >>> format_label({"latent": 32, "raw": True, "gamma": 0.01})
    'latent 32, raw yes, gamma 0.01'
    """
    return ", ".join(f"{name.replace('_', ' ')} {format_value(value)}" for name, value in label.items())


def format_value(value: Any) -> str:
    """Format the value of an option."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
