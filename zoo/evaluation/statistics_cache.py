"""Tensors computed from real data, kept on disk under a key of all that determines them."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import safetensors
import torch
from torch import Tensor

from zoo.evaluation.extractors import Extractor
from zoo.evaluation.protocol import versions
from zoo.files import open_atomic
from zoo.tensor_file import tensor_file

__all__ = ["Kind", "cache_key", "cached"]

_FORMAT = "1"

Kind = tuple[tuple[int, ...], torch.dtype]
"""Shape and dtype that a cached tensor must have."""


def cache_key(extractor: Extractor, dataset_digest: str, split: str, n: int, **more: str) -> str:
    """A digest of the extractor, the real pictures and what else determines the tensors."""
    entries = {
        "format": _FORMAT,
        "extractor": extractor.name,
        "extractor_digest": extractor.digest,
        "resize": extractor.resize,
        "channels": extractor.channels,
        "libraries": versions(extractor.libraries),
        "dataset_digest": dataset_digest,
        "split": split,
        "n": n,
        **more,
    }
    return hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest()


def cached(
    key: str, kinds: Mapping[str, Kind], compute: Callable[[], Mapping[str, Tensor]], folder: Path | None = None
) -> dict[str, Tensor]:
    """The tensors from the cache where they are in it, else computed and put there.

    A cached file that is damaged is computed again. Where the cache cannot be written a warning says so.

    Args:
        key: as `cache_key` gives it.
        kinds: the tensors by name, with shape and dtype.
        compute: what finds them.
        folder: where the cache is; by default ``reference`` in zoo's cache folder.
    """
    path = (_folder() if folder is None else folder) / f"{key}.safetensors"
    found = _read(path, key, kinds)
    if found is None:
        found = {name: tensor.detach().cpu().contiguous() for name, tensor in compute().items()}
        _write(path, key, found)
    return found


def _folder() -> Path:
    from zoo.data.array_cache import cache_dir

    return Path(cache_dir()) / "reference"


def _sum(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(tensors[name].contiguous().numpy().data)
    return digest.hexdigest()


def _read(path: Path, key: str, kinds: Mapping[str, Kind]) -> dict[str, Tensor] | None:
    """Read cached tensors; None if there are none or the file has changed."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in kinds}
    except (OSError, safetensors.SafetensorError):
        return None
    sound = (
        metadata.get("key") == key
        and all((tuple(tensors[name].shape), tensors[name].dtype) == kind for name, kind in kinds.items())
        and metadata.get("sha256") == _sum(tensors)
    )
    return tensors if sound else None


def _write(path: Path, key: str, tensors: dict[str, Tensor]) -> None:
    """Write beside ``path`` and rename: another process sees the whole file or none."""
    try:
        parts = tensor_file(tensors, {"key": key, "sha256": _sum(tensors)})
        path.parent.mkdir(parents=True, exist_ok=True)
        with open_atomic(path, sync=False) as file:
            for part in parts:
                file.write(part)
    except OSError as error:
        warnings.warn(f"reference statistics are not cached: {path.parent}: {error.strerror or error}", stacklevel=4)
