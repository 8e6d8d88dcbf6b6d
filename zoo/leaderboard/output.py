"""Writing a file whole or not at all, without importing torch as the run folder's own writer does."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from zoo.errors import ZooError

__all__ = ["write"]


def write(path: Path, content: bytes) -> None:
    """Replace the file by this content; what was there before stays until the new one is complete."""
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
        temporary = ""
    except OSError as error:
        raise ZooError(f"cannot write {path}: {error.strerror or error}; what was there before is untouched") from error
    finally:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
