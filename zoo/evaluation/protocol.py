"""The protocol of scores: everything that must be equal for two scores to be compared."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from zoo.compatibility import convert_protocol
from zoo.errors import ZooError

__all__ = ["DTYPE", "QUANTIZATION", "Protocol", "compute_fingerprint", "versions"]

QUANTIZATION = "generated: mul(255).round().clamp(0, 255).to(uint8), once; real: the original uint8"
DTYPE = "features float32 (TF32 off), moments float64"
_REVISION = 2

# Results differ in their seeds; a data set is identified by its digest; metrics in _SEPARATE are compared per entry.
_NOT_COMPARED = frozenset({"seed", "dataset", "contributed_metrics", "separate_metrics"})
_SEPARATE = ("contributed_metrics", "separate_metrics")


def versions(libraries: Iterable[str]) -> dict[str, str]:
    """Public versions of installed distributions, without the build after ``+`` (cpu, cu130)."""
    found = {}
    for name in sorted(set(libraries)):
        try:
            found[name] = importlib.metadata.version(name).split("+")[0]
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def compute_fingerprint(entries: Mapping[str, Any]) -> str:
    """SHA-256, in hexadecimal, of all entries except the seed, the data set's name and separately compared metrics."""
    compared = {name: value for name, value in entries.items() if name not in _NOT_COMPARED}
    text = json.dumps(compared, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


@attrs.frozen
class Protocol:
    """Conditions under which scores were measured."""

    extractor: str
    extractor_digest: str
    resize: str
    channels: str
    dataset: str
    dataset_digest: str
    n_real: int
    n_generated: int
    bn_mode: str = "running"
    """Statistics that batch normalization used while generating."""
    seed: int = 0
    """Seed of sampling. Scores that differ in it alone can be compared."""
    reference_split: str = "test"
    dtype: str = DTYPE
    quantization: str = QUANTIZATION
    libraries: dict[str, str] = attrs.field(factory=dict)
    """Public versions of the libraries that the extractor uses."""
    metrics: dict[str, str] = attrs.field(factory=dict)
    """Constants of the built-in metrics: neighbors, subsets, seeds, numbers of images."""
    revision: int = _REVISION
    """Incremented when the meaning of a score changes."""
    contributed_metrics: dict[str, str] = attrs.field(factory=dict)
    """Constants and package of each metric from another package. They are not part of the fingerprint, so that
    installing a package does not separate new results from old ones; two results are comparable if the metrics that
    both have are equal."""
    separate_metrics: dict[str, str] = attrs.field(factory=dict)
    """Constants of built-in metrics that are compared one by one too, by the name of their score: a metric added to zoo
    does not separate new results from old ones."""

    def _compared(self) -> dict[str, Any]:
        return {name: value for name, value in self.to_dict().items() if name not in _NOT_COMPARED}

    def _conflicts(self, other: Protocol, field: str) -> list[str]:
        mine, theirs = getattr(self, field), getattr(other, field)
        return [name for name in mine if name in theirs and mine[name] != theirs[name]]

    @property
    def fingerprint(self) -> str:
        """See `compute_fingerprint`."""
        return compute_fingerprint(self.to_dict())

    def differs_from(self, other: Protocol) -> list[str]:
        """Names of the entries that differ; empty if scores under the two protocols can be compared."""
        mine, theirs = self._compared(), other._compared()
        differing = [name for name in mine if mine[name] != theirs[name]]
        return [*differing, *(field for field in _SEPARATE if self._conflicts(other, field))]

    def explain(self, other: Protocol) -> list[str]:
        """The differences as text, such as ``n_generated: 1,000 against 10,000``; empty if there are none."""
        mine, theirs = self._compared(), other._compared()
        lines = []
        for name in self.differs_from(other):
            if name in _SEPARATE:
                a, b = getattr(self, name), getattr(other, name)
                lines += [f"metric {k}: {a[k]} against {b[k]}" for k in self._conflicts(other, name)]
                continue
            a, b = mine[name], theirs[name]
            if isinstance(a, dict) and isinstance(b, dict):
                keys = sorted(k for k in {*a, *b} if a.get(k) != b.get(k))
                lines += [f"{name}, {k}: {a.get(k, 'none')} against {b.get(k, 'none')}" for k in keys]
            else:
                lines.append(f"{name}: {_shown(name, a)} against {_shown(name, b)}")
        return lines

    def describe(self) -> str:
        """The entries as lines of text, the fingerprint first."""
        entries = self.to_dict()
        tables = ("metrics", *_SEPARATE, "libraries")
        pairs = [("fingerprint", self.fingerprint[:16]), *((k, _shown(k, v)) for k, v in entries.items())]
        pairs = [pair for pair in pairs if pair[0] not in tables]
        for name in tables:
            pairs += [(f"{name}, {k}", v) for k, v in entries.get(name, {}).items()]
        width = max(len(name) for name, _ in pairs)
        return "\n".join(f"{name.replace('_', ' '):{width}}  {value}" for name, value in pairs)

    def to_dict(self) -> dict[str, Any]:
        """The entries as JSON stores them; without those of separately compared metrics that are empty."""
        return {name: value for name, value in attrs.asdict(self).items() if value or name not in _SEPARATE}

    @classmethod
    def from_dict(cls, entries: Mapping[str, Any]) -> Protocol:
        """The protocol with these entries, under today's names or those of zoo 0.1.0.

        Raises:
            ZooError: If an entry is missing or unknown.
        """
        entries = convert_protocol(entries)
        names = {field.name for field in attrs.fields(cls)}
        if missing := sorted(names - set(entries) - set(_SEPARATE)):
            raise ZooError(
                f"protocol: {', '.join(missing)} is missing; if an older latent-zoo wrote it, "
                "score the run again with zoo eval RUN"
            )
        if unknown := sorted(set(entries) - names):
            raise ZooError(f"protocol: {', '.join(unknown)} is unknown; a newer latent-zoo may have written it")
        return cls(**entries)


def _shown(name: str, value: Any) -> str:
    if name.endswith("digest"):
        return str(value)[:16]
    return f"{value:,}" if isinstance(value, int) else str(value)
