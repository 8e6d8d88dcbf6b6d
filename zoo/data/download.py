"""Published files: where they lie, whether they are intact, and getting the ones that are missing."""

from __future__ import annotations

import hashlib
import http.client
import os
import socket
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import attrs

from zoo.data.spec import DataOptions, DataWarning
from zoo.errors import UsageError, ZooError

__all__ = ["Published", "check_directory", "damage", "data_root", "obtain", "present"]

_TIMEOUT = 20.0  # seconds without a byte before a mirror is given up


@attrs.frozen
class Published:
    """A file as published: its path under the data root, its MD5 (hex), its addresses in the order tried."""

    path: str
    md5: str
    urls: tuple[str, ...]


def data_root(options: DataOptions) -> Path:
    """The torchvision-style root: `data_dir`, else `$ZOO_DATA`, else the user's data directory.

    Raises:
        UsageError: if the user named a directory that is missing or cannot be read.
    """
    if options.data_dir is not None:
        return check_directory(options.data_dir, "data_dir")
    if named := os.environ.get("ZOO_DATA"):
        return check_directory(Path(named).expanduser(), "ZOO_DATA")
    import platformdirs

    return Path(platformdirs.user_data_dir("latent-zoo", appauthor=False))


def check_directory(path: Path, argument: str) -> Path:
    """`path`, if it is a directory that can be read; else a `UsageError` that names it."""
    if not path.is_dir():
        what = "is not a directory" if path.exists() else "does not exist"
        raise UsageError(f"{argument}: {str(path)!r} {what}.")
    if not os.access(path, os.R_OK | os.X_OK):
        raise UsageError(f"{argument}: {str(path)!r} cannot be read; check its permissions.")
    return path


def damage(path: Path, md5: str) -> str | None:
    """Describe the damage of a file in one clause; None if its MD5 is the published one."""
    try:
        with path.open("rb") as content:
            actual = hashlib.file_digest(content, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except OSError as error:
        return f"{path} cannot be read ({error.strerror})"
    return None if actual == md5 else f"{path} is damaged (md5 {actual}, expected {md5})"


def obtain(dataset: str, root: Path, file: Published, download: bool, problem: str | None = None) -> Path:
    """The path of a published file, verified; downloaded only if it is missing or damaged.

    Args:
        dataset: Its name, for messages.
        root: The data root.
        file: File to obtain.
        download: Whether it may be downloaded.
        problem: What the caller found wrong already, such as a damaged unpacked copy; told to the user.

    Raises:
        ZooError: if there is no intact copy and none could be downloaded, with how to supply it by hand.
    """
    path = root / file.path
    if path.is_file():
        found = damage(path, file.md5)
        if found is None:
            if problem:
                warnings.warn(f"{dataset}: {problem}; {path} is used instead.", DataWarning, stacklevel=2)
            return path
        problem = f"{problem}; {found}" if problem else found
    if not download:
        state = problem or f"{path} is missing"
        raise ZooError(f"{dataset}: {state}, and downloading is switched off. {_by_hand(path, file)}")
    if problem:
        warnings.warn(f"{dataset}: {problem}; downloading {path.name} again.", DataWarning, stacklevel=2)
    reasons = _download(root, path, file)
    if reasons is not None:
        state = f"{problem}, and" if problem else f"{path.name} is missing, and"
        raise ZooError(f"{dataset}: {state} downloading it failed ({reasons}). {_by_hand(path, file)}")
    return path


def _by_hand(path: Path, file: Published) -> str:
    return (
        f"To supply it by hand, get {path.name} (md5 {file.md5}) from {' or '.join(file.urls)}"
        f" and put it at {path}. The data set 'digits' needs no download."
    )


def _download(root: Path, path: Path, file: Published) -> str | None:
    """Put an intact copy at `path`, whole or not at all; else say why every address failed."""
    reasons = []
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root, prefix=".download-") as folder:
            for url in file.urls:
                reason = _try(url, folder, path.name, file.md5)
                if reason is None:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    os.replace(Path(folder, path.name), path)
                    return None
                reasons.append(reason)
    except OSError as error:
        reasons.append(f"cannot write: {error}")
    return "; ".join(dict.fromkeys(reasons))


def _try(url: str, folder: str, name: str, md5: str) -> str | None:
    from torchvision.datasets import utils

    try:
        with _socket_timeout(_TIMEOUT):
            utils.download_url(url, folder, name, md5)
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        return " ".join(str(error).split()) or type(error).__name__
    return None


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    """Set the timeout of new sockets, because torchvision's download takes none."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def present(root: Path, paths: Sequence[str]) -> bool:
    """Whether all of these files lie under the data root."""
    return all((root / path).is_file() for path in paths)
