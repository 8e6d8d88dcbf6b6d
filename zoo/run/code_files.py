"""Files of codes: .npz, .npy and .parquet."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.data import Dataset
from zoo.errors import UsageError, ZooError
from zoo.files import write_atomically
from zoo.reading import read_bytes
from zoo.terminal import count, printable

__all__ = ["read_codes", "write_npz", "write_parquet"]

_ARRAYS = ("z", "z_test", "z_train")
_MAX_BYTES = 4 << 30


def write_npz(path: Path, codes: Mapping[str, Tensor], data: Dataset) -> str:
    """Write the arrays ``z_SPLIT`` and, if there are labels, ``labels_SPLIT``; returns their names and shapes."""
    arrays: dict[str, Any] = {}
    for name, split in _splits(data):
        arrays[f"z_{name}"] = codes[name].numpy()
        if split.labels is not None:
            arrays[f"labels_{name}"] = split.labels.cpu().numpy()
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    write_atomically(path, buffer.getvalue())
    return ", ".join(f"{name} {array.shape}" for name, array in arrays.items())


def write_parquet(
    path: Path, codes: Mapping[str, Tensor], data: Dataset, paths: Mapping[str, Sequence[str]] | None = None
) -> str:
    """Write a row per image; returns the number of rows and the names of the columns.

    Args:
        path: The file.
        codes: Codes (n, d) by split.
        data: The data set.
        paths: Paths of the images by split, for data sets of files.

    Raises:
        UsageError: If pyarrow is not installed.
    """
    pyarrow, parquet = _import_pyarrow("out")
    tables = []
    for name, split in _splits(data):
        z = codes[name]
        columns: dict[str, Any] = {"split": [name] * len(z), "index": np.arange(len(z))}
        if paths is not None:
            columns["path"] = list(paths[name])
        if split.labels is not None:
            labels = split.labels.cpu().numpy()
            columns["label"], columns["class"] = labels, [data.classes[k] for k in labels]
        columns["z"] = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(z.flatten().numpy()), z.shape[1])
        tables.append(pyarrow.table(columns))
    table = pyarrow.concat_tables(tables)
    buffer = io.BytesIO()
    parquet.write_table(table, buffer)
    write_atomically(path, buffer.getvalue())
    return f"{count(table.num_rows, 'row')} with {', '.join(table.column_names)}"


def read_codes(path: Path, array: str | None = None) -> Tensor:
    """Read codes (n, d), at least one, from an .npz, .npy or .parquet file.

    Args:
        path: The file.
        array: Name of the array in an .npz file; by default the first there is of z, z_test and z_train.

    Raises:
        UsageError: If the file is missing or of another kind, or has no such array.
        ZooError: If it cannot be read.
    """
    if path.suffix not in (".npz", ".npy", ".parquet"):
        raise UsageError(f"codes: {str(path)!r} is not allowed; must end in .npz, .npy or .parquet")
    if array is not None and path.suffix != ".npz":
        raise UsageError(f"array: only an .npz file has named arrays, not {path}")
    try:
        content = read_bytes(path, _MAX_BYTES)
    except FileNotFoundError:
        raise UsageError(f"codes: no file {path}; zoo encode writes one") from None
    try:
        found = _read_parquet(content) if path.suffix == ".parquet" else _read_arrays(content, path, array)
        z = torch.from_numpy(np.ascontiguousarray(found, dtype=np.float32))
    except ZooError:
        raise
    except Exception as error:  # NumPy, zipfile and pyarrow raise all kinds of errors on malformed files
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ZooError(f"{path} cannot be read: {printable(reason)}") from None
    if z.ndim != 2 or not len(z):
        raise UsageError(f"codes: shape {tuple(z.shape)} is not allowed in {path}; must be (N, d) with N at least 1")
    if not z.isfinite().all():
        raise UsageError(f"codes: {path} has values that are NaN or infinite")
    return z


def _read_arrays(content: bytes, path: Path, array: str | None) -> Any:
    found = np.load(io.BytesIO(content), allow_pickle=False)
    if path.suffix == ".npy":
        return found
    name = array or next((name for name in _ARRAYS if name in found.files), None)
    if name not in found.files:
        wanted = repr(array) if array else "of z, z_test and z_train"
        raise UsageError(f"array: {path} has none {wanted}; it has {', '.join(map(printable, found.files)) or 'none'}")
    return found[name]


def _read_parquet(content: bytes) -> Any:
    _, parquet = _import_pyarrow("codes")
    table = parquet.read_table(io.BytesIO(content))
    if "z" not in table.column_names:
        raise UsageError(f"codes: there is no column z, only {', '.join(map(printable, table.column_names))}")
    return np.stack(table["z"].to_pylist())


def _import_pyarrow(argument: str) -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise UsageError(
            f"{argument}: .parquet files need the package pyarrow; pip install pyarrow, or use .npz"
        ) from None
    return pyarrow, parquet


def _splits(data: Dataset) -> list[tuple[str, Any]]:
    return [("train", data.train), ("test", data.test)]
