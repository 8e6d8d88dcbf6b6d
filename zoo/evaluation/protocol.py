"""The protocol of a score: everything that must be the same before two numbers may be compared."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from zoo.errors import ZooError

__all__ = ["DTYPE", "METRICS", "QUANTIZATION", "Protocol", "versions"]

QUANTIZATION = "generated: mul(255).round().clamp(0, 255).to(uint8), once; real: the original uint8"
DTYPE = "features float32 (TF32 off), moments float64"
METRICS: dict[str, str] = {
    "floor": "training images drawn with seed 0",
    "kid": "MMD², unbiased, (x·y/d + 1)³; 100 subsets of 1000 or the smaller side, RandomState(2020)",
    "prdc": "k = 5; at most 10000 a side, drawn with seed 0 or by digest",
    "memorization": "nearest of all training images, Euclidean; at most 10000 a side; near copies: percentile 1",
    "parzen": "pixels in [0, 1]; σ from 0.1 to 1 in 10 steps on 1000 training images drawn with seed 0",
    "probe": "logistic regression, C = 1, standardized codes; at most 10000 training codes drawn with seed 0",
    "knn": "k = 1 and 5, Euclidean; the probe's codes",
    "mmd": "IMQ, C = 2·var(prior)·s, s = 0.1 to 10, unbiased; at most 5000 a side",
    "active units": "Var E[z|x] > 0.01 over the test images",
    "cycle": "at most 5000 codes",
    "likelihood": "importance-weighted, k = 5000, 64 test images drawn with seed 0",
}
"""How the scores beside the Fréchet distance are measured, whether or not a row has them. A test compares these words
with the constants that they speak of."""
_REVISION = 2

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
    """Which statistics batch normalization used while the pictures were generated."""
    seed: int = 0
    """The seed that the row's training and sampling had. Rows that differ in it alone may be compared."""
    reference_split: str = "test"
    dtype: str = DTYPE
    quantization: str = QUANTIZATION
    libraries: dict[str, str] = attrs.field(factory=dict)
    """Public versions of the libraries that the extractor computes with."""
    metrics: dict[str, str] = attrs.field(factory=METRICS.copy)
    """What each score beside the Fréchet distance depends on: neighbors, subsets, seeds, caps."""
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

    def explain(self, other: Protocol) -> list[str]:
        """What keeps the two apart, entry by entry: ``n_generated: 1,000 against 10,000``; empty where nothing does."""
        mine, theirs = self._compared(), other._compared()
        lines = []
        for name in self.differs_from(other):
            a, b = mine[name], theirs[name]
            if isinstance(a, dict) and isinstance(b, dict):
                keys = sorted(k for k in {*a, *b} if a.get(k) != b.get(k))
                lines += [f"{name}, {k}: {a.get(k, 'none')} against {b.get(k, 'none')}" for k in keys]
            else:
                lines.append(f"{name}: {_shown(name, a)} against {_shown(name, b)}")
        return lines

    def describe(self) -> str:
        """The protocol in lines that a person reads, the fingerprint first."""
        entries = self.to_dict()
        apart = ("metrics", "libraries")
        pairs = [("fingerprint", self.fingerprint[:16]), *((k, _shown(k, v)) for k, v in entries.items())]
        pairs = [pair for pair in pairs if pair[0] not in apart]
        for name in apart:
            pairs += [(f"{name}, {k}", v) for k, v in entries[name].items()]
        width = max(len(name) for name, _ in pairs)
        return "\n".join(f"{name.replace('_', ' '):{width}}  {value}" for name, value in pairs)

    def to_dict(self) -> dict[str, Any]:
        """The entries, as JSON takes them."""
        return attrs.asdict(self)

    @classmethod
    def from_dict(cls, entries: Mapping[str, Any]) -> Protocol:
        """The protocol with these entries, all of which are wanted; others are an error."""
        names = {field.name for field in attrs.fields(cls)}
        if missing := sorted(names - set(entries)):
            raise ZooError(
                f"protocol: without {', '.join(missing)}; where an older latent-zoo wrote it, "
                "zoo eval RUN scores the run anew"
            )
        if unknown := sorted(set(entries) - names):
            raise ZooError(f"protocol: {', '.join(unknown)} is unknown; was it written by a newer latent-zoo?")
        return cls(**entries)


def _shown(name: str, value: Any) -> str:
    if name.endswith("digest"):
        return str(value)[:16]
    return f"{value:,}" if isinstance(value, int) else str(value)
