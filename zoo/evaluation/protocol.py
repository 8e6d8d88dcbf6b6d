"""The protocol of a score: everything that must be the same before two numbers may be compared."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from zoo.errors import ZooError

__all__ = ["DTYPE", "QUANTISATION", "Protocol", "versions"]

QUANTISATION = "generated: mul(255).round().clamp(0, 255).to(uint8), once; real: the original uint8"
DTYPE = "features float32 (TF32 off), moments float64"
_REVISION = 1

# Not compared: the seed is what rows differ in, and a data set is known by its digest.
_APART = frozenset({"seed", "dataset"})


def versions(libraries: Iterable[str]) -> dict[str, str]:
    """Public versions of distributions; the build behind a ``+`` (cpu, cu130) is no part of a protocol."""
    found = {}
    for name in sorted(set(libraries)):
        try:
            found[name] = importlib.metadata.version(name).split("+")[0]
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


@attrs.frozen
class Protocol:
    """How a row of scores was measured."""

    extractor: str
    extractor_digest: str
    resize: str
    channels: str
    dataset: str
    dataset_digest: str
    n_real: int
    n_generated: int
    bn_mode: str = "running"
    """Which statistics batch normalisation used while the pictures were generated."""
    seed: int = 0
    """The seed that the row's training and sampling had. Rows that differ in it alone may be compared."""
    reference_split: str = "test"
    dtype: str = DTYPE
    quantisation: str = QUANTISATION
    libraries: dict[str, str] = attrs.field(factory=dict)
    """Public versions of the libraries that the extractor computes with."""
    revision: int = _REVISION
    """Raised when the meaning of a score changes."""

    def _compared(self) -> dict[str, Any]:
        return {name: value for name, value in self.to_dict().items() if name not in _APART}

    @property
    def fingerprint(self) -> str:
        """The SHA-256, in hexadecimal, of every entry except the seed and the data set's name."""
        text = json.dumps(self._compared(), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def differs_from(self, other: Protocol) -> list[str]:
        """The entries that keep the two apart; empty where the fingerprints are equal."""
        mine, theirs = self._compared(), other._compared()
        return [name for name in mine if mine[name] != theirs[name]]

    def to_dict(self) -> dict[str, Any]:
        """The entries, as JSON takes them."""
        return attrs.asdict(self)

    @classmethod
    def from_dict(cls, entries: Mapping[str, Any]) -> Protocol:
        """The protocol with these entries, all of which are wanted; others are an error."""
        names = {field.name for field in attrs.fields(cls)}
        if missing := sorted(names - set(entries)):
            raise ZooError(f"protocol: without {', '.join(missing)}")
        if unknown := sorted(set(entries) - names):
            raise ZooError(f"protocol: {', '.join(unknown)} is unknown; was it written by a newer latent-zoo?")
        return cls(**entries)
