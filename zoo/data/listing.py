"""Which files of a folder are its images, and what the folders around them mean."""

from __future__ import annotations

import hashlib
import unicodedata
import warnings
from collections.abc import Sequence
from pathlib import Path

import attrs

from zoo.data.spec import DataWarning
from zoo.errors import UsageError

__all__ = ["LAYOUTS", "Item", "choose_test_paths", "scan"]

LAYOUTS = "expected images in it, or in class folders PATH/<class>/, or either under PATH/train and PATH/test"

_NOT_IMAGES = frozenset(
    f".{suffix}"
    for line in (
        "txt md rst csv tsv json jsonl xml yaml yml toml ini cfg log html htm css js py ipynb sh",
        "pdf doc docx",
        "npy npz mat pkl pt pth h5 hdf5 parquet db sqlite zip gz tar tgz 7z md5 sha256 lock part",
        "mp4 avi mov wav mp3",
    )
    for suffix in line.split()
)


_VALIDATION = ("validation", "valid", "val", "dev")


@attrs.frozen
class Item:
    """One candidate: its path relative to the folder (with `/`), and its class and split where given."""

    path: str
    label: str | None = None
    split: str | None = None


def scan(root: Path) -> list[Item]:
    """The files of a folder that may be images, sorted by path.

    Hidden files and those whose suffix says that they are text, archives and the like are passed over. Without a folder
    ``test`` beside ``train``, that of the validation split is the test split; what else lies beside them is named in a
    `DataWarning`.
    Folders are read one level deep; a link that leads back to the folder or above it is not followed.

    Raises:
        UsageError: if there are none, train and test differ in layout, or class folders hold only folders.
    """
    train, test = root / "train", _test_folder(root)
    if train.is_dir() and test is not None:
        _warn_of_unused(root, (train, test))
        items = [*_layout(root, train, "train"), *_layout(root, test, "test")]
        kinds = {split: {i.label is None for i in items if i.split == split} for split in ("train", "test")}
        for split, found in kinds.items():
            if not found:
                raise UsageError(f"{train if split == 'train' else test} holds no images.")
        if kinds["train"] != kinds["test"]:
            raise UsageError(f"{root}: of {train.name} and {test.name} one has class folders and the other has not.")
    else:
        items = _layout(root, root, None)
    if not items:
        raise UsageError(f"{root} holds no images; {LAYOUTS}.")
    return sorted(items, key=lambda item: item.path)


def _test_folder(root: Path) -> Path | None:
    """The folder of the test split: ``test``, else the one of the validation split."""
    found = [root / name for name in ("test", *_VALIDATION) if (root / name).is_dir()]
    if found and found[0].name != "test" and (root / "train").is_dir():
        warnings.warn(f"{root}: there is no test/; {found[0].name}/ is the test split", DataWarning, stacklevel=2)
    return found[0] if found else None


def _warn_of_unused(root: Path, used: Sequence[Path]) -> None:
    files, folders = _children(root, root)
    unused = [path.name + ("/" if path in folders else "") for path in (*folders, *files) if path not in used]
    if unused:
        more = f" and {len(unused) - 5} more" if len(unused) > 5 else ""
        names = f"{used[0].name}/ and {used[1].name}/"
        warnings.warn(f"{root}: only {names} are read, not {', '.join(unused[:5])}{more}", DataWarning, stacklevel=2)


def _layout(root: Path, folder: Path, split: str | None) -> list[Item]:
    files, folders = _children(root, folder)
    labelled = []
    for each in folders:
        inside, deeper = _children(root, each)
        if deeper and not inside:
            raise UsageError(f"{each} holds folders and no images; {LAYOUTS}.")
        labelled += [Item(path.relative_to(root).as_posix(), each.name, split) for path in inside]
    if labelled and files:
        names = ", ".join(path.name for path in files[:5]) + ("..." if len(files) > 5 else "")
        warnings.warn(
            f"{folder}: {len(files)} files beside the class folders are left out: {names}",
            DataWarning,
            stacklevel=2,
        )
    return labelled or [Item(path.relative_to(root).as_posix(), None, split) for path in files]


def _children(root: Path, folder: Path) -> tuple[list[Path], list[Path]]:
    """Candidate files and folders directly inside; a broken link is a file, so it is named as damaged."""
    files, folders = [], []
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise UsageError(f"{folder} cannot be read: {error.strerror}.") from error
    home = root.resolve()
    for entry in entries:
        if entry.name.startswith((".", "__MACOSX")) or entry.name.lower() in ("thumbs.db", "desktop.ini"):
            continue
        if entry.is_dir():
            if not (entry.is_symlink() and home.is_relative_to(entry.resolve())):
                folders.append(entry)
        elif entry.suffix.lower() not in _NOT_IMAGES and (entry.is_file() or entry.is_symlink()):
            files.append(entry)
    return files, folders


def choose_test_paths(paths: Sequence[str], fraction: float = 0.1) -> list[bool]:
    """Which paths belong to the test split: those whose hash lies in the lowest `fraction` of its range.

    In a large folder each path is decided by itself, so that files added later move no other. A small one has at least
    a quarter of its paths, up to 10, in the test split: those with the lowest hashes. Scores need 2 images of
    each split; 3 paths or fewer give one test image.
    Accented names count the same in either Unicode form, composed as on Linux or decomposed as on macOS.

    >>> choose_test_paths(["a.png", "b.png"])
    [False, True]
    """
    ranks = []
    for path in paths:
        name = unicodedata.normalize("NFC", path).encode("utf-8", "surrogateescape")
        ranks.append(int.from_bytes(hashlib.sha256(name).digest()[:8], "big") / 2**64)
    least = 1 if len(paths) < 4 else min(10, max(2, len(paths) // 4))
    highest = sorted(ranks)[least - 1]
    test = [rank < fraction or rank <= highest for rank in ranks]
    if all(test):
        test[ranks.index(max(ranks))] = False
    return test
