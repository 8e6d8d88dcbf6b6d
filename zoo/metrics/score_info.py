"""Descriptions of scores: display name, meaning, unit and direction. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

import attrs

__all__ = ["FIELDS", "ScoreInfo"]

FIELDS = {
    "FD": r"FID|FD-[A-Za-z0-9_-]+",
    "KID": r"KID|KID-[A-Za-z0-9_-]+",
    "extractor": r"[A-Za-z0-9_-]+",
    "second_FD": r"FD-[A-Za-z0-9_-]+",
}
"""Fields that every score name may contain, with the regular expression of their values: the Fréchet distance's and
the kernel distance's name under the extractor in use (``FID`` or ``FD-classifier``), the extractor's name, and the
Fréchet distance's name under the extractor of the second opinion. A metric may define more in `Metric.name_fields`;
their values contain neither parentheses nor semicolons."""

_OTHER_FIELD = "[^;()]+"


@attrs.frozen
class ScoreInfo:
    """Description of one score.

    Args:
        name: Display name, also the key in ``result.json``. May contain fields: ``"{KID} std"``.
        description: Meaning, in less than a line.
        higher_is_better: Direction; None if the score has a target value or serves as a reference for others.
        unit: Unit of the value; empty for a dimensionless one.
        column: Whether the leaderboard page shows the score in a column of its own.
        group: Evaluation stage of the score's inputs, such as ``samples`` or ``codes``; set by the metric's class.
        undefined_name: Key of the null value if the metric is not defined for a model; ``name`` by default, and an
            empty string for no key at all.

    >>> info = ScoreInfo("{KID} std", "standard deviation of KID over subsets")
    >>> info.format({"KID": "KID-classifier"}), info.matches("KID-classifier std"), info.better
    ('KID-classifier std', True, 'neither')
    """

    name: str
    description: str
    higher_is_better: bool | None = None
    unit: str = ""
    column: bool = True
    undefined_name: str | None = None
    group: str = ""

    @property
    def better(self) -> Literal["lower", "higher", "neither"]:
        """Direction in words."""
        if self.higher_is_better is None:
            return "neither"
        return "higher" if self.higher_is_better else "lower"

    @property
    def help(self) -> str:
        """Description followed by the unit."""
        return f"{self.description}, in {self.unit}" if self.unit else self.description

    def format(self, fields: Mapping[str, str]) -> str:
        """The display name with its fields filled in."""
        return self.name.format_map(dict(fields))

    def matches(self, name: str) -> bool:
        """Whether ``name`` is a display name of this score."""
        if name == self.undefined_name:
            return True
        parts = re.split(r"\{(\w+)\}", self.name)
        pattern = "".join(f"(?:{FIELDS.get(p, _OTHER_FIELD)})" if i % 2 else re.escape(p) for i, p in enumerate(parts))
        return re.fullmatch(pattern, name) is not None

    def to_dict(self) -> dict[str, Any]:
        """Entries as stored in ``result.json``, without the names."""
        return {
            "description": self.description,
            "higher_is_better": self.higher_is_better,
            "unit": self.unit,
            "column": self.column,
            "group": self.group,
        }
