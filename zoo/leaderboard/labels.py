"""Labels of rows: options that differ from the defaults or distinguish rows of a model."""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence
from typing import Any

from zoo.leaderboard.results import ResultKey

__all__ = ["Labels", "in_words"]


class Labels:
    """Labels of the rows of a table.

    Args:
        rows: A cell of each row.
    """

    def __init__(self, rows: Sequence[ResultKey]) -> None:
        self._of_all: dict[str, set[str]] = collections.defaultdict(set)
        self._of_model: dict[tuple[str, str, str], set[str]] = collections.defaultdict(set)
        self._budgets: dict[str, set[str]] = collections.defaultdict(set)
        models = collections.Counter((cell.model, cell.package) for cell in rows)
        having = collections.Counter((cell.model, cell.package, name) for cell in rows for name in cell.options)
        # Two versions of a model may not have the same options: to have one is then a difference too.
        self._new = {key for key, count in having.items() if count < models[key[:2]]}
        for cell in rows:
            for name, value in cell.options.items():
                self._of_all[name].add(repr(value))
                self._of_model[cell.model, cell.package, name].add(repr(value))
            for name, value in cell.budget.items():
                self._budgets[name].add(repr(value))
        # A protocol file may set an option for all. What several rows have, all alike, is then no peculiarity.
        by_file = bool(rows) and "training protocol" in rows[0].training.entries
        counts = collections.Counter(name for cell in rows for name in cell.options) if by_file else {}
        self._common = {name for name, n in counts.items() if n > 1 and len(self._of_all[name]) == 1}

    def of(self, cell: ResultKey) -> dict[str, Any]:
        """Options and parts of the budget that the row shows."""
        changed = set(cell.changed or ()) - self._common
        keys = {name: (cell.model, cell.package, name) for name in cell.options}
        apart = {name for name, key in keys.items() if len(self._of_model[key]) > 1 or key in self._new}
        label = {name: cell.options[name] for name in sorted(changed | apart) if name in cell.options}
        return {**label, **{name: value for name, value in cell.budget.items() if len(self._budgets[name]) > 1}}


def in_words(label: Mapping[str, Any]) -> str:
    """``latent 32, norm none``.

    >>> in_words({"latent": 32, "raw": True, "gamma": 0.01})
    'latent 32, raw yes, gamma 0.01'
    """
    return ", ".join(f"{name.replace('_', ' ')} {value_in_words(value)}" for name, value in label.items())


def value_in_words(value: Any) -> str:
    """Format the value of an option."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
