"""``result.json`` and ``eval-EXTRACTOR.json``: their digest, and reading with checks. Imports no torch."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo.errors import ZooError
from zoo.reading import read_json
from zoo.terminal import printable

__all__ = ["SEAL", "is_number", "read_result_file", "seal"]

SEAL = "content_sha256"
"""Entry of a result by which a later change is recognized: the SHA-256 of all other entries."""


def is_number(value: Any) -> bool:
    """Whether a value from JSON is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf


def seal(result: Mapping[str, Any]) -> dict[str, Any]:
    """A result with the digest of its entries, by which :func:`read_result_file` recognizes a later change."""
    entries = {name: value for name, value in result.items() if name != SEAL}
    content = json.dumps(entries, sort_keys=True, allow_nan=False)
    return {**entries, SEAL: hashlib.sha256(content.encode()).hexdigest()}


def read_result_file(path: Path) -> dict[str, Any]:
    """Read ``result.json`` or ``eval-EXTRACTOR.json``, as stored.

    Raises:
        FileNotFoundError: If there is no file.
        ZooError: If it cannot be read, is not a result, or has changed since it was written.
    """
    found = read_json(path)
    if not isinstance(found, dict) or not isinstance(found.get("scores"), dict):
        raise ZooError(f"{path} cannot be read: it has no scores")
    if SEAL in found and found[SEAL] != seal(found)[SEAL]:
        raise ZooError(f"{path} is damaged: its content has changed since it was written")
    for name, value in found["scores"].items():
        if value is not None and not is_number(value):
            raise ZooError(f"{path} cannot be read: its score {printable(name)} is not a number")
    for name in ("protocol", "score_info", "settings"):
        if not isinstance(found.get(name, {}), dict | None):
            raise ZooError(f"{path} cannot be read: its {name} is not an object")
    return found
