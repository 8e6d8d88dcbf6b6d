"""Moments of real data, computed once and kept on disk under a key of all that determines them."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import warnings
from pathlib import Path

import safetensors
import torch
from safetensors.torch import save
from torch import Tensor

from zoo.evaluation.extractors import Extractor
from zoo.evaluation.frechet import Reference
from zoo.evaluation.moments import Moments
from zoo.evaluation.protocol import versions

__all__ = ["moments_of", "reference_moments"]

_FORMAT = "1"


def moments_of(extractor: Extractor, images: Tensor, batch: int = 500) -> Moments:
    """Moments of the features of uint8 pictures (N, C, H, W), whatever N."""
    moments = Moments()
    for part in torch.split(images, batch):
        moments.update(extractor(part))
    return moments


def reference_moments(
    extractor: Extractor, images: Tensor, *, dataset_digest: str, split: str, folder: Path | None = None
) -> Reference:
    """The moments of real pictures and the root of their covariance, from the cache where they are in it.

    A cached file that is damaged is computed again. Where the cache cannot be written a warning says so.

    Args:
        extractor: what finds the features.
        images: uint8 (N, C, H, W); all of the part of the data set that ``split`` names.
        dataset_digest: of the data set's content.
        split: what part of the data set ``images`` is, such as ``test``.
        folder: where the cache is; by default ``reference`` in zoo's cache folder.
    """
    key = _key(extractor, dataset_digest, split, len(images))
    path = (_folder() if folder is None else folder) / f"{key}.safetensors"
    reference = _read(path, key, extractor.features, len(images))
    if reference is None:
        reference = Reference.of(moments_of(extractor, images))
        _write(path, key, reference)
    return reference


def _folder() -> Path:
    from zoo.data.cache import cache_dir

    return Path(cache_dir()) / "reference"


def _key(extractor: Extractor, dataset_digest: str, split: str, n: int) -> str:
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
    }
    return hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest()


def _sum(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(tensors[name].contiguous().numpy().data)
    return digest.hexdigest()


def _read(path: Path, key: str, features: int, n: int) -> Reference | None:
    """The cached reference; None where there is none or the file is not what was written."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in ("mean", "cov", "root")}
    except (OSError, safetensors.SafetensorError):
        return None
    square = (features, features)
    sound = (
        metadata.get("key") == key
        and [tuple(tensors[name].shape) for name in ("mean", "cov", "root")] == [(features,), square, square]
        and all(tensor.dtype == torch.float64 for tensor in tensors.values())
        and metadata.get("sha256") == _sum(tensors)
    )
    return Reference(Moments.of(n, tensors["mean"], tensors["cov"]), tensors["root"]) if sound else None


def _write(path: Path, key: str, reference: Reference) -> None:
    """Write beside ``path`` and rename: another process sees the whole file or none."""
    moments = reference.moments
    tensors = {"mean": moments.mean, "cov": moments.cov, "root": reference.root.contiguous()}
    data = save(tensors, metadata={"key": key, "n": str(moments.n), "sha256": _sum(tensors)})
    part: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
        part = Path(name)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        part.replace(path)
    except OSError as error:
        warnings.warn(f"reference statistics are not cached: {path.parent}: {error.strerror}", stacklevel=3)
    finally:
        if part is not None:
            part.unlink(missing_ok=True)
