"""Kinds of health findings with their remedies, and the setting ``stop_on`` that names them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from zoo.errors import UsageError, unknown_name

__all__ = ["KINDS", "Finding", "Kind", "parse_stop_on"]


@attrs.frozen
class Kind:
    """A kind of finding.

    Attributes:
        title: What is wrong, for the first words of a message.
        remedy: The usual remedy.
    """

    title: str
    remedy: str


KINDS: Mapping[str, Kind] = {
    "nan": Kind("not finite", "a lower --lr, --clip-grad-norm 1 or another --norm is the usual remedy"),
    "exploding-gradients": Kind(
        "exploding gradients", "a lower --lr, --clip-grad-norm 1 or --lr-warmup 0.05 is the usual remedy"
    ),
    "critic-saturation": Kind(
        "critic saturation",
        "a weaker critic (lower learning rate, fewer updates, noisy inputs) or a gradient penalty is the usual remedy",
    ),
    "mode-collapse": Kind(
        "mode collapse", "a lower --lr, a larger --batch or another adversarial loss is the usual remedy"
    ),
    "posterior-collapse": Kind(
        "posterior collapse", "a smaller weight of the KL or of the prior's term is the usual remedy"
    ),
    "dead-units": Kind("dead units", "a lower --lr or --norm batch is the usual remedy"),
}
"""Kinds of findings by name."""

_ALIASES: Mapping[str, tuple[str, ...]] = {
    "any": tuple(KINDS),
    "collapse": ("mode-collapse", "posterior-collapse"),
    "none": (),
}


@attrs.frozen(kw_only=True)
class Finding:
    """A condition that held for long enough to be named.

    Attributes:
        kind: Name of the kind, one of :data:`KINDS`.
        subject: The network, player or term that it is about; empty for the whole model.
        step: Step at which it was named.
        last_step: Last step at which it held.
        ended: Whether it no longer held at the last measurement.
        evidence: The measured value that led to it.
    """

    kind: str
    subject: str
    step: int
    last_step: int
    ended: bool = False
    evidence: str

    def __str__(self) -> str:
        kind = KINDS[self.kind]
        subject = f" ({self.subject})" if self.subject else ""
        until = f" until step {self.last_step:,}" if self.ended else ""
        return f"{kind.title}{subject} at step {self.step:,}{until}: {self.evidence}; {kind.remedy}"

    def to_dict(self) -> dict[str, Any]:
        """The finding for JSON, with its message."""
        return {**attrs.asdict(self), "message": str(self)}


def parse_stop_on(text: str | None) -> frozenset[str]:
    """Parse ``stop_on``: kinds of findings separated by commas, ``collapse`` (both kinds), ``any`` or ``none``.

    Raises:
        UsageError: If a name is unknown.

    >>> sorted(parse_stop_on("collapse,nan"))
    ['mode-collapse', 'nan', 'posterior-collapse']
    """
    if text is None:
        return frozenset()
    found: set[str] = set()
    for name in (part.strip() for part in text.split(",")):
        if name not in KINDS and name not in _ALIASES:
            raise UsageError(f"stop_on: {unknown_name('kind of finding', name, [*KINDS, *_ALIASES])}")
        found.update(_ALIASES.get(name, (name,)))
    return frozenset(found)
