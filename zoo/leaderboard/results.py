"""Reads results: finished runs, failed runs, and their training protocols."""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import attrs

from zoo.compatibility import convert_result
from zoo.errors import ZooError
from zoo.evaluation.protocol import Protocol, compute_fingerprint
from zoo.leaderboard.cards import read_card
from zoo.leaderboard.commands import build_command, check_command
from zoo.leaderboard.result_folder import ResultFolder
from zoo.leaderboard.score_descriptions import read_score_info
from zoo.leaderboard.untrusted import RefusedError, item, name, note, number, pairs, scalar, table, whole
from zoo.metrics.score_info import ScoreInfo
from zoo.result_file import SEAL, seal

__all__ = [
    "Cost",
    "FailedResult",
    "ResultKey",
    "Run",
    "Training",
    "json_digest",
    "read_failure",
    "read_protocol",
    "read_result",
]

_FAILURES = ("diverged", "error", "timeout", "killed")


def json_digest(value: Any) -> str:
    """SHA-256 of a JSON value, independent of the order of its entries."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, allow_nan=False).encode()).hexdigest()


@attrs.frozen
class Training:
    """The training protocol of a table: its protocol file or, without one, its budget."""

    title: str
    entries: Mapping[str, Any] = attrs.field(hash=False)
    key: str

    def explain(self, other: Training) -> list[str]:
        """Describe the entries that differ."""
        names = [*self.entries, *(k for k in other.entries if k not in self.entries)]
        shown = [(k, self.entries.get(k, "none"), other.entries.get(k, "none")) for k in names]
        return [f"{k}: {a} against {b}" for k, a, b in shown if a != b]


@attrs.frozen
class Cost:
    """Cost of a run; None for values that are not in the result."""

    seconds: float | None = None
    images_per_second: float | None = None
    peak_memory_bytes: float | None = None
    flops_per_image: float | None = None
    evaluation_seconds: float | None = None
    parameters: Mapping[str, int] = attrs.field(factory=dict)
    device: str = ""
    threads: int | None = None


@attrs.frozen(kw_only=True, eq=False)
class ResultKey:
    """Common entries of finished and failed runs, which identify the cell and the table."""

    path: str
    """Relative to the given folder, with ``/``, so that the output does not depend on its location."""
    folder: ResultFolder
    model: str
    dataset: str
    seed: int
    plugin: str
    package: str
    version: str
    options: Mapping[str, Any]
    changed: frozenset[str] | None
    """Options that differ from the defaults of the model; None in results of zoo 0.1.0."""
    budget: Mapping[str, Any]
    training: Training
    scoring: tuple[str, str]
    """The extractor and the number of samples in the settings."""
    finished: str
    """Time in ISO 8601, UTC; empty if unknown."""
    command: str
    card: Mapping[str, Any] | None
    digest: str
    """SHA-256 of the content of the file."""
    row_key: str
    """Equal for the seeds of the same row only."""


@attrs.frozen(kw_only=True, eq=False)
class Run(ResultKey):
    """A finished run."""

    headline: str
    score: float | None
    scores: Mapping[str, float | None]
    score_info: Mapping[str, ScoreInfo]
    """Stored descriptions of the scores."""
    protocol: Protocol
    fingerprint: str
    smallest: float | None
    """Share of the smallest class in the generated images; None without a classifier."""
    cost: Cost
    weights: str
    files: frozenset[str] = frozenset()
    """Names of the images in the folder."""


@attrs.frozen(kw_only=True, eq=False)
class FailedResult(ResultKey):
    """A failed run."""

    kind: str
    reason: str
    attempts: int
    knows_protocol: bool
    """Whether the file states its protocol file, or that it had none."""


def _read_shared(found: Mapping[str, Any], content: bytes) -> dict[str, Any]:
    if found.get("format") != 1:
        raise RefusedError("format is not 1; a newer version of latent-zoo may be able to read it")
    plugin = table(item(found, "plugin"), "plugin")
    settings = table(item(found, "settings"), "settings")
    chosen = {k: scalar(v, f"option {k}") for k, v in pairs(settings.get("options") or {}, "options")}
    changed = found.get("options_changed")
    model, dataset = name(item(found, "model"), "model"), name(item(found, "dataset"), "dataset")
    seed, given = whole(item(found, "seed"), "seed"), found.get("command")
    budget = _read_budget(settings)
    card = found.get("card")
    package, version = (
        name(item(plugin, "package"), "plugin's package"),
        name(item(plugin, "version"), "plugin's version"),
    )
    return {
        "model": model,
        "dataset": dataset,
        "seed": seed,
        "plugin": name(plugin.get("name", ""), "plugin's name", empty=True),
        "package": package,
        "version": version,
        "options": chosen,
        "changed": None if changed is None else frozenset(k for k, _ in pairs(changed, "options_changed")),
        "budget": budget,
        "training": _read_training(found.get("protocol_file"), budget),
        "scoring": _read_scoring(settings),
        "command": build_command(model, dataset, seed, budget, chosen) if given is None else check_command(given),
        "card": None if card is None else read_card(card),
        "row_key": json_digest([model, package, version, chosen, budget]),
        "digest": hashlib.sha256(content).hexdigest(),
    }


def read_result(
    found: Mapping[str, Any], content: bytes, path: str, folder: ResultFolder, files: frozenset[str]
) -> Run:
    """Parse the object in a ``result.json``.

    Raises:
        RefusedError: If an entry is missing or invalid.
    """
    if SEAL in found and seal(found)[SEAL] != found[SEAL]:
        raise RefusedError("it was changed after it was written: its content_sha256 is of another content")
    found = convert_result(found)
    shared = _read_shared(found, content)
    scores = {k: None if v is None else number(v, f"score {k}") for k, v in pairs(item(found, "scores"), "scores")}
    if not found.get("protocol"):
        raise RefusedError("it was not scored (extractor none)")
    protocol, fingerprint, stored_fingerprint = read_protocol(found["protocol"])
    headline = next((k for k in ("FID", f"FD-{protocol.extractor}") if k in scores), None)
    if headline is None:
        raise RefusedError("scores contains neither FID nor FD-EXTRACTOR")
    if found.get("fingerprint") != stored_fingerprint:
        raise RefusedError("fingerprint does not match the protocol: one of the two was changed")
    if protocol.dataset != shared["dataset"]:
        raise RefusedError("dataset does not match the protocol")
    weights = found.get("weights_sha256")
    return Run(
        **shared,
        path=path,
        folder=folder,
        files=files,
        headline=headline,
        score=scores[headline],
        scores=scores,
        score_info=read_score_info(found),
        protocol=protocol,
        fingerprint=fingerprint,
        smallest=scores.get("smallest class share"),
        cost=_read_cost(found),
        weights="" if weights is None else name(weights, "weights_sha256"),
        finished=_read_time(table(found.get("provenance") or {}, "provenance").get("finished")),
    )


def read_failure(found: Mapping[str, Any], content: bytes, path: str, folder: ResultFolder) -> FailedResult:
    """Parse the object in a ``failed.json``.

    Raises:
        RefusedError: If an entry is missing or invalid.
    """
    found = convert_result(found)
    kind = item(found, "kind")
    if kind not in _FAILURES:
        raise RefusedError(f"kind is not one of {', '.join(_FAILURES)}")
    return FailedResult(
        **_read_shared(found, content),
        path=path,
        folder=folder,
        kind=kind,
        reason=note(found.get("reason") or "", "reason"),
        attempts=whole(found.get("attempts") or 1, "attempts"),
        knows_protocol="protocol_file" in found,
        finished=_read_time(found.get("finished")),
    )


def _read_budget(settings: Mapping[str, Any]) -> dict[str, Any]:
    # Exactly one of epochs and images is set, or neither if a run failed early.
    amounts = {k: whole(settings[k], k, high=10**12) for k in ("epochs", "images") if settings.get(k) is not None}
    return {
        **amounts,
        "batch": whole(settings.get("batch", 64), "batch", high=10**9),
        "precision": name(settings.get("precision", "fp32"), "precision"),
    }


def _read_scoring(settings: Mapping[str, Any]) -> tuple[str, str]:
    asked = settings.get("extractor"), settings.get("samples")
    return str(scalar(asked[0], "extractor") or "auto"), str(scalar(asked[1], "samples"))


def _read_training(file: Any, budget: Mapping[str, Any]) -> Training:
    if file is None:
        amount = " ".join(f"{budget[k]:,} {k}" for k in ("epochs", "images") if k in budget) or "an unknown amount"
        amount = "1 epoch" if amount == "1 epochs" else amount
        return Training(f"{amount}, batch {budget['batch']}, {budget['precision']}", budget, json_digest(budget))
    entries = table(file, "protocol_file")
    title = name(item(entries, "name"), "protocol_file's name")
    version = str(scalar(entries.get("version"), "protocol_file's version"))
    digest = name(item(entries, "digest"), "protocol_file's digest")
    shown = {"training protocol": f"{title} {version} ({digest[:8]})"}
    return Training(f"protocol {title} {version} ({digest[:8]})", shown, json_digest([title, version, digest]))


# Many results have the same protocol; each protocol is checked and hashed once.
_PROTOCOLS: dict[str, tuple[Protocol, str, str]] = {}


def read_protocol(value: Any) -> tuple[Protocol, str, str]:
    """Return the protocol without its seed, its fingerprint, and the fingerprint of the stored entries.

    Raises:
        RefusedError: If an entry is malformed.
    """
    entries = {**table(value, "protocol"), "seed": 0}
    key = json_digest(entries)
    if key not in _PROTOCOLS:
        for field, entry in entries.items():
            what = f"protocol's {name(field, 'a name in protocol')}"
            if field in ("libraries", "metrics", "contributed_metrics", "separate_metrics"):
                for _, line in pairs(entry, what):
                    _check_line(line, what)
            elif field in ("n_real", "n_generated", "revision", "seed"):
                whole(entry, what)
            else:
                _check_line(entry, what)
        try:
            protocol = Protocol.from_dict(entries)
        except ZooError as error:
            raise RefusedError(note(str(error), "protocol")) from None
        _PROTOCOLS[key] = protocol, protocol.fingerprint, compute_fingerprint(entries)
    return _PROTOCOLS[key]


def _check_line(value: Any, what: str) -> None:
    if not isinstance(value, str) or len(value) > 1000 or not value.isprintable():
        raise RefusedError(f"{what} is not a line of text")


def _read_cost(found: Mapping[str, Any]) -> Cost:
    cost = table(found.get("cost") or {}, "cost")

    def amount(entries: Mapping[str, Any], key: str) -> float | None:
        return None if entries.get(key) is None else max(0.0, number(entries[key], key))

    return Cost(
        seconds=amount(cost, "seconds"),
        images_per_second=amount(cost, "images_per_second"),
        peak_memory_bytes=amount(cost, "peak_memory_bytes"),
        flops_per_image=amount(cost, "flops_per_image"),
        evaluation_seconds=amount(found, "evaluation_seconds"),
        parameters={k: whole(v, "parameters") for k, v in pairs(cost.get("parameters") or {}, "parameters")},
        device=note(cost.get("device") or "", "device", limit=80),
        threads=None if cost.get("threads") is None else whole(cost["threads"], "threads"),
    )


def _read_time(value: Any) -> str:
    # A common format, because times are compared as text.
    if value is None:
        return ""
    try:
        found = datetime.datetime.fromisoformat(name(value, "finished"))
        if found.tzinfo is None:
            found = found.replace(tzinfo=datetime.UTC)
        return found.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError):
        raise RefusedError("finished is no time in ISO 8601") from None
