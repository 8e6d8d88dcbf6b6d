"""The user's own images: any folder of files that Pillow can read, as a data set."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import attrs
import numpy as np
import torch
from numpy.typing import NDArray

from zoo.data.array_cache import cache_dir, load_arrays, save_arrays
from zoo.data.download import check_directory, data_root
from zoo.data.images import Frame, in_threads, is_gray, probe, read
from zoo.data.listing import Item, scan, share
from zoo.data.spec import SMALLEST_SIDE, DataOptions, Dataset, DataWarning, Split
from zoo.errors import UsageError

__all__ = ["absolute_name", "open_folder"]

_LARGEST_OWN_SIDE = 128  # pixels; images that share a size up to this keep it
_USUAL_SIZE = (64, 64)
_IMAGES_SEEN = 1_200_000  # about 20 epochs of MNIST

_Header: TypeAlias = tuple[str, tuple[int, int]]  # Pillow mode, upright (H, W)


@attrs.frozen(eq=False)
class _Decoded:
    images: NDArray[np.uint8]  # (n, C, H, W)
    kept: NDArray[np.int64]  # (n,) positions in the listing
    damaged: list[str]  # «path: reason» of every other file


def open_folder(path: str | Path, options: DataOptions) -> Dataset:
    """Images of one's own: flat in a folder, in class folders, or either of these under `train` and `test`.

    - Without a test folder, the hash of their relative paths sets a tenth of the images aside, of fewer than 100
      at least a quarter, up to 10.
    - Size: `image_size`; else the size that all images share, if neither side exceeds 128 pixels; else 64×64.
    - Channels: `channels`; else 1 if every image is gray, else 3.
    - Files that cannot be decoded are named in a `DataWarning` and left out.
    - What was decoded is cached, until a file's path, size or modification time changes.
    - Epochs: as many as show about 1.2 million images, between 1 and 200.

    Args:
        path: The folder. A relative path is looked up in the working directory, then in the data root, so that a
            protocol can name a folder without the path of a machine.
        options: `data_dir`, `image_size`, `crop` and `channels` are used; how images are resized is told in
            `zoo.data.images`.

    Returns:
        A data set named `folder:` and the folder's own name.

    Raises:
        UsageError: if the folder is missing, has fewer than two readable images, or another layout.
    """
    root = _find(Path(path).expanduser(), options)
    items = scan(root)
    file = cache_dir() / "data" / f"folder-{_key(root, items, options)}.npz"
    decoded = _from_cache(file, len(items))
    if decoded is None:
        decoded = _decode(root, items, options)
        arrays: dict[str, NDArray[Any]] = {
            "images": decoded.images,
            "kept": decoded.kept,
            "damaged": np.array(decoded.damaged, dtype=np.str_),
        }
        save_arrays(file, arrays)
    if decoded.damaged:
        message = f"{root}: {len(decoded.damaged)} of {len(items)} files are damaged or no images, and left out: "
        warnings.warn(message + _first(decoded.damaged), DataWarning, stacklevel=2)
    return _dataset(root, [items[int(index)] for index in decoded.kept], decoded.images)


def absolute_name(dataset: str) -> str:
    """``folder:PATH`` with an absolute path; unchanged if it names another data set or a folder of the data root."""
    prefix, _, path = dataset.partition("folder:")
    if prefix or not path:
        return dataset
    found = Path(path).expanduser()
    return f"folder:{os.path.abspath(found)}" if found.exists() else dataset


def _find(path: Path, options: DataOptions) -> Path:
    if path.exists() or path.is_absolute():
        return check_directory(path, "folder")
    inside = data_root(options) / path
    if not inside.is_dir():
        raise UsageError(f"folder: {str(path)!r} does not exist, neither here nor in the data root {inside.parent}.")
    return check_directory(inside, "folder")


def _dataset(root: Path, items: Sequence[Item], images: NDArray[np.uint8]) -> Dataset:
    if any(item.split for item in items):
        test = np.array([item.split == "test" for item in items])
        for part, rows in (("train", ~test), ("test", test)):
            if not rows.any():
                raise UsageError(f"{root / part} holds no image that can be read.")
    elif len(items) < 2:
        raise UsageError(f"{root} holds one image; at least two are needed, one to train on and one to test.")
    else:
        test = np.array(share([item.path for item in items]))
    classes = tuple(sorted({item.label for item in items if item.label is not None}))
    labels = np.array([classes.index(item.label) for item in items if item.label is not None], dtype=np.int64)

    def split(rows: NDArray[np.bool_]) -> Split:
        return Split(torch.from_numpy(images[rows]), torch.from_numpy(labels[rows]) if classes else None)

    train = split(~test)
    epochs = min(200, max(1, round(_IMAGES_SEEN / len(train))))
    return Dataset(f"folder:{Path(os.path.abspath(root)).name or 'root'}", train, split(test), classes, epochs)


def _key(root: Path, items: Sequence[Item], options: DataOptions) -> str:
    """Changes whenever a file, an option that shapes images, or the decoder changes."""
    import PIL

    sha = hashlib.sha256()
    sha.update(repr(("folder 1", PIL.__version__, options.image_size, options.crop, options.channels)).encode())
    sha.update(os.fsencode(root.resolve()))
    for item in items:
        try:
            stat = os.stat(root / item.path)
            stamp = (stat.st_size, stat.st_mtime_ns)
        except OSError:  # a broken link
            stamp = (-1, -1)
        sha.update(os.fsencode(f"\0{item.path}\0{stamp}"))
    return sha.hexdigest()


def _from_cache(file: Path, count: int) -> _Decoded | None:
    stored = load_arrays(file)
    if stored is None or stored.keys() != {"images", "kept", "damaged"}:
        return None
    decoded = _Decoded(stored["images"], stored["kept"], stored["damaged"].tolist())
    whole = len(decoded.images) == len(decoded.kept) == count - len(decoded.damaged)
    return decoded if whole and decoded.images.dtype == np.uint8 and decoded.images.ndim == 4 else None


def _decode(root: Path, items: Sequence[Item], options: DataOptions) -> _Decoded:
    """Read every header, settle the frame, decode; again in the rare case that damage changes the frame."""

    def header(item: Item) -> _Header | str:
        try:
            return probe(root / item.path)
        except Exception as error:  # Pillow's formats raise all kinds of errors on damaged files
            return _reason(item, error)

    headers: dict[int, _Header] = {}
    damaged: dict[int, str] = {}
    for index, found in enumerate(in_threads(header, items)):
        if isinstance(found, str):
            damaged[index] = found
        else:
            headers[index] = found
    while headers:
        frame = _frame(root, list(headers.values()), options)
        kept = list(headers)
        images = np.empty((len(kept), *frame.shape), np.uint8)

        def pixels(row: int, kept: list[int] = kept, out: NDArray[np.uint8] = images, frame: Frame = frame) -> str:
            item = items[kept[row]]
            try:
                out[row] = read(root / item.path, frame)
            except Exception as error:
                return _reason(item, error)
            return ""

        bad = {row: reason for row, reason in enumerate(in_threads(pixels, range(len(kept)))) if reason}
        for row, reason in bad.items():
            damaged[kept[row]] = reason
            del headers[kept[row]]
        if headers and _frame(root, list(headers.values()), options) == frame:
            rows = [row for row in range(len(kept)) if row not in bad]
            reasons = [damaged[index] for index in sorted(damaged)]
            return _Decoded(images[rows] if bad else images, np.array(list(headers), dtype=np.int64), reasons)
    reasons = [damaged[index] for index in sorted(damaged)]
    raise UsageError(f"{root}: none of its {len(items)} files can be read as an image: {_first(reasons)}")


def _frame(root: Path, headers: Sequence[_Header], options: DataOptions) -> Frame:
    channels = options.channels or (1 if all(is_gray(mode) for mode, _ in headers) else 3)
    if options.image_size is not None:
        return Frame(options.image_size, channels, options.crop)
    sizes = {size for _, size in headers}
    size = sizes.pop() if len(sizes) == 1 else _USUAL_SIZE
    if min(size) < SMALLEST_SIDE:
        raise UsageError(
            f"{root}: its images are {size[0]}×{size[1]} pixels, and each side must have at least"
            f" {SMALLEST_SIDE}; give image_size to enlarge them."
        )
    return Frame(size if max(size) <= _LARGEST_OWN_SIDE else _USUAL_SIZE, channels, options.crop)


def _reason(item: Item, error: Exception) -> str:
    from PIL import UnidentifiedImageError

    text = " ".join(str(error).split()) or type(error).__name__
    name = item.path.encode("utf-8", "replace").decode()  # a name that is not Unicode cannot be stored or printed
    if isinstance(error, UnidentifiedImageError):
        text = "no image format that Pillow knows"  # its own message repeats the whole path
    elif isinstance(error, OSError) and error.strerror:
        text = error.strerror
    return f"{name}: {text}"


def _first(reasons: Sequence[str]) -> str:
    return "; ".join(reasons[:5]) + (f"; and {len(reasons) - 5} more" if len(reasons) > 5 else "") + "."
