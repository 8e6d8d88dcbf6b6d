"""Names of data sets that are not registered: ``folder:PATH`` and ``hf:NAME``."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["FOLDER", "HUGGING_FACE", "absolute_name", "is_registered_name", "public_name", "stem"]

FOLDER, HUGGING_FACE = "folder:", "hf:"


def is_registered_name(dataset: str) -> bool:
    """Whether a name is one that plugins register, and not a folder or a data set from Hugging Face."""
    return not dataset.startswith((FOLDER, HUGGING_FACE))


def absolute_name(dataset: str) -> str:
    """The name with an absolute path, so that a run can be repeated from another working directory.

    Unchanged if there is no such path here: the name of a registered data set, or of a folder in the data root.

    >>> absolute_name("mnist"), absolute_name("hf:org/name")
    ('mnist', 'hf:org/name')
    """
    prefix, _, path = dataset.partition(":")
    local = Path(path).expanduser()
    if is_registered_name(dataset) or not path or not local.exists():
        return dataset
    return f"{prefix}:{os.path.abspath(local)}"


def public_name(dataset: str) -> str:
    """The name without the path of a folder, which others need not see.

    >>> public_name("folder:/data/photos"), public_name("hf:/data/faces"), public_name("hf:org/name")
    ('folder:photos', 'hf:faces', 'hf:org/name')
    """
    prefix, _, path = dataset.partition(":")
    if is_registered_name(dataset) or (prefix == "hf" and not os.path.isabs(Path(path).expanduser())):
        return dataset
    return f"{prefix}:{Path(os.path.abspath(Path(path).expanduser())).name or 'root'}"


def stem(dataset: str) -> str:
    """The name as part of a file name.

    >>> stem("mnist"), stem("folder:/data/photos"), stem("hf:org/name")
    ('mnist', 'folder-photos', 'hf-name')
    """
    prefix, _, path = dataset.partition(":")
    return dataset if is_registered_name(dataset) else f"{prefix}-{Path(os.path.abspath(path)).name or 'root'}"
