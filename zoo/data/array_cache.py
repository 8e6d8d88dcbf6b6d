"""Cache directory of derived files, and NumPy arrays in it, stored without pickle."""

from __future__ import annotations

import os
import warnings
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.data.spec import DataWarning
from zoo.files import open_atomic

__all__ = ["cache_dir", "load_arrays", "save_arrays"]


def cache_dir() -> Path:
    """The root of everything that can be computed again: `$ZOO_CACHE`, else the user's cache directory.

    The directory need not exist yet. Deleting it is always safe.
    """
    if root := os.environ.get("ZOO_CACHE"):
        return Path(root).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("latent-zoo", appauthor=False))


def load_arrays(path: Path) -> dict[str, NDArray[Any]] | None:
    """The arrays that `save_arrays` stored at `path`; None if there are none or the file is damaged."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (OSError, EOFError, KeyError, ValueError, AttributeError, zipfile.BadZipFile, zlib.error):
        return None  # the caller computes it again


def save_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Store arrays at `path` as .npz, whole or not at all; warns `DataWarning` where that is impossible."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open_atomic(path, sync=False) as file:
            np.savez(file, **dict(arrays))  # type: ignore[arg-type]
    except OSError as error:
        warnings.warn(
            f"decoded images are not cached, {error}; set ZOO_CACHE to a directory that can be written.",
            DataWarning,
            stacklevel=2,
        )
