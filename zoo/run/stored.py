"""Stored files of a run, checked while they are read: tensors, the facts beside them, results, lines of metrics.

A run folder may be damaged or come from another person, so that nothing in a file is trusted: each is of a limited
size, its digest is compared, and its entries are checked for their types before anything depends on them.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import safetensors
from torch import Tensor

from zoo.errors import ZooError
from zoo.reading import parse_json
from zoo.result_file import is_number
from zoo.tensor_file import tensor_bytes, tensor_file
from zoo.terminal import printable

__all__ = [
    "check_checkpoint_facts",
    "check_metrics_line",
    "check_model_facts",
    "read_tensors",
    "serialize",
]

_DIGEST = "sha256"
_MAX_SIDE, _MAX_CLASSES = 4096, 100_000


def serialize(tensors: Mapping[str, Tensor], key: str, facts: Mapping[str, Any]) -> list[bytes | memoryview]:
    """The content of a safetensors file with facts, which include a digest of the whole.

    Args:
        tensors: The tensors by name.
        key: Name of the metadata entry.
        facts: Facts that JSON can hold.

    Returns:
        The header, and the memory of each tensor: not copied, since a checkpoint may be as large as free memory.
    """
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    sealed = {**facts, _DIGEST: _digest(tensors, facts)}
    return tensor_file(tensors, {key: json.dumps(sealed)})


def read_tensors(
    path: Path, key: str, check: Callable[[Any], None], *, only_facts: bool = False
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a file that :func:`serialize` made.

    Args:
        path: The file.
        key: Name of the metadata entry.
        check: Called with the facts; raises ``ValueError`` with the reason if they are malformed.
        only_facts: Leave the tensors in the file.

    Returns:
        The tensors, and the facts without their digest. Files of zoo 0.1.0 have no digest.

    Raises:
        ZooError: If the file cannot be read, is of another kind, or has changed since it was written.
    """
    try:
        if not path.is_file():  # a pipe would be waited for
            raise ZooError(f"{path} cannot be read: it is not a regular file")
        with safetensors.safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(key)
            tensors = {} if only_facts else {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, safetensors.SafetensorError, TypeError, ValueError) as error:
        raise ZooError(f"{path} cannot be read: {printable(str(error))}") from None
    if text is None:
        raise ZooError(f"{path} cannot be read: it is not a file of a zoo run")
    facts = parse_json(text, str(path))
    try:
        if not isinstance(facts, dict):
            raise ValueError("they are not an object")
        check(facts)
    except ValueError as error:
        raise ZooError(f"{path} cannot be read: its facts are malformed: {printable(str(error))}") from None
    digest = facts.pop(_DIGEST, None)
    if digest is not None and not only_facts and digest != _digest(tensors, facts):
        raise ZooError(f"{path} is damaged: its content has changed since it was written")
    return tensors, facts


def _digest(tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> str:
    sha = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name in sorted(tensors):
        value = tensors[name]
        sha.update(f"\0{name}\0{value.dtype}\0{tuple(value.shape)}\0".encode("utf-8", "surrogatepass"))
        sha.update(tensor_bytes(value))
    return sha.hexdigest()


def check_model_facts(facts: Mapping[str, Any]) -> None:
    """Check the facts of ``model.safetensors``; see :func:`read_tensors`."""
    _require(facts, model=str, options=dict, dataset=str, shape=list, classes=list)
    for name, value in facts["options"].items():
        if not isinstance(value, str | int | float | bool):
            raise ValueError(f"option {name} is not a value of an option")
    shape = facts["shape"]
    if len(shape) != 3 or not all(type(n) is int and 1 <= n <= _MAX_SIDE for n in shape):
        raise ValueError(f"shape must be (C, H, W), each at most {_MAX_SIDE}")
    if len(facts["classes"]) > _MAX_CLASSES or not all(isinstance(name, str) for name in facts["classes"]):
        raise ValueError(f"classes must be at most {_MAX_CLASSES:,} names")
    if not isinstance(facts.get("settings", {}), dict):
        raise ValueError("settings is not an object")


def check_checkpoint_facts(facts: Mapping[str, Any]) -> None:
    """Check the facts of a checkpoint; see :func:`read_tensors`."""
    _require(facts, seconds=(int, float), steps=int)
    if not (math.isfinite(facts["seconds"]) and facts["seconds"] >= 0):
        raise ValueError("seconds must be a finite number, at least 0")
    if "settings" in facts:  # not in those of zoo 0.1.0
        _require(facts, settings=dict, data_sha256=str)


def _require(facts: Mapping[str, Any], **types: type | tuple[type, ...]) -> None:
    for name, kind in types.items():
        if name not in facts:
            raise ValueError(f"{name} is missing")
        if not isinstance(facts[name], kind) or isinstance(facts[name], bool):
            raise ValueError(f"{name} is of another type")


def check_metrics_line(line: Any) -> bool:
    """Whether a value is a line of ``metrics.jsonl``."""
    return (
        isinstance(line, dict)
        and all(type(line.get(key)) is int for key in ("step", "images"))
        and is_number(line.get("seconds"))
        and all(isinstance(line.get(key), dict) for key in ("terms", "gradients"))
        and all(is_number(value) for value in line["terms"].values())
        and all(value is None or is_number(value) for value in line["gradients"].values())
    )
