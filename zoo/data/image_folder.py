"""Data sets from folders of image files that Pillow can read."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import attrs
import numpy as np
from numpy.typing import NDArray

from zoo.data.dataset_names import public_name
from zoo.data.download import check_directory, data_root
from zoo.data.image_format import SMALLEST_SIDE, ImageFormat
from zoo.data.image_store import DamagedImageError, ImageStore, Stored, hash_inputs
from zoo.data.images import in_threads, is_gray, probe, read
from zoo.data.listing import Item, choose_test_paths, scan
from zoo.data.spec import DataOptions, Dataset, DataWarning
from zoo.errors import UsageError, ZooError
from zoo.terminal import count

__all__ = ["default_epochs", "default_format", "folder_files", "open_folder"]

_LARGEST_OWN_SIDE = 128  # pixels; images that share a size up to this keep it
_USUAL_SIZE = (64, 64)
_FEWEST = 3
_IMAGES_SEEN = 1_200_000  # about 20 epochs of MNIST

_Header: TypeAlias = tuple[str, tuple[int, int]]  # Pillow mode, upright (H, W)


def open_folder(path: str | Path, options: DataOptions) -> Dataset:
    """Load images flat in a folder, in class folders, or either of these under `train` and `test`.

    - Without a test folder, a tenth of the images, chosen by the hashes of their relative paths, is the test split; of
      fewer than 100 images at least a quarter, up to 10.
    - Size: `options.format.size`; else the size that all images share, if neither side exceeds 128 pixels; else 64×64.
    - Channels: `options.format.channels`; else 1 if every image is gray, else 3.
    - Files that cannot be decoded are named in a `DataWarning` and left out.
    - Decoded images are cached until a file's path, size or modification time changes. An interrupted decoding is
      continued by the next call. Images beyond `options.memory` are mapped from the cache.
    - Epochs: as many as show about 1.2 million images, between 1 and 200.

    Args:
        path: The folder. A relative path is looked up in the working directory, then in the data root, so that a
            protocol can name a folder without the path of a machine.
        options: How the images are loaded; `zoo.data.images` says how they are resized.

    Returns:
        A data set named `folder:` and the folder's own name.

    Raises:
        UsageError: If the folder is missing, has fewer than three readable images, or another layout.
    """
    root, items, stored = _load(path, options)
    damaged = stored.arrays["damaged"].tolist()
    if damaged:
        message = f"{root}: {len(damaged)} of {len(items)} files are damaged or no images, and left out: "
        warnings.warn(message + _first(damaged), DataWarning, stacklevel=2)
    return attrs.evolve(stored.dataset, epochs=default_epochs(len(stored.dataset.train)))


def folder_files(path: str | Path, options: DataOptions) -> tuple[list[str], list[str]]:
    """Paths of the training and of the test images of :func:`open_folder`, in their order.

    Args:
        path: The folder.
        options: How the images are loaded.

    Returns:
        Paths relative to the folder, with ``/``.

    Raises:
        UsageError: As :func:`open_folder`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # `open_folder` gives them
        root, items, stored = _load(path, options)
    damaged = stored.arrays["damaged"].tolist()  # in the order of the items
    kept = []
    for index, item in enumerate(items):
        if damaged and damaged[0].startswith(f"{_printed(item)}: "):
            del damaged[0]
        else:
            kept.append(index)
    train, total = len(stored.dataset.train), len(stored.dataset.train) + len(stored.dataset.test)
    if len(kept) != total:
        raise ZooError(f"{root}: {total} images were decoded, and {len(kept)} of its files can be read")
    paths = [items[index].path for index in _training_first(root, items, kept)]
    return paths[:train], paths[train:]


def _load(path: str | Path, options: DataOptions) -> tuple[Path, list[Item], Stored]:
    """The folder, its files, and its images, which are decoded unless they are cached."""
    root = _find(Path(path).expanduser(), options)
    items = scan(root)
    store = ImageStore(public_name(f"folder:{root}"), "folder", _key(root, items, options), options)
    stored = store.find()
    if stored is None:
        with store.lock():
            stored = store.find() or _decode(store, root, items, options)
    return root, items, stored


def default_epochs(images: int) -> int:
    """Default number of epochs of a training set without a published one."""
    return min(200, max(1, round(_IMAGES_SEEN / images)))


def default_format(asked: ImageFormat, sizes: set[tuple[int, int]], *, gray: bool) -> ImageFormat:
    """The format of images that need not agree in size and mode: what is asked for, else what they share.

    Args:
        asked: The format of the options.
        sizes: All (H, W) of the images.
        gray: Whether all of them are gray.
    """
    size = next(iter(sizes)) if len(sizes) == 1 else _USUAL_SIZE
    return asked.resolve((1 if gray else 3, *(size if max(size) <= _LARGEST_OWN_SIDE else _USUAL_SIZE)))


def _find(path: Path, options: DataOptions) -> Path:
    if path.exists() or path.is_absolute():
        return check_directory(path, "folder")
    inside = data_root(options) / path
    if not inside.is_dir():
        raise UsageError(f"folder: {str(path)!r} does not exist, neither here nor in the data root {inside.parent}.")
    return check_directory(inside, "folder")


def _split(root: Path, items: Sequence[Item]) -> NDArray[np.bool_]:
    """Which of the readable files are test images."""
    if any(item.split for item in items):
        test = np.array([item.split == "test" for item in items])
        for part, rows in (("train", ~test), ("test", test)):
            if not rows.any():
                raise UsageError(f"{root / part} holds no image that can be read.")
        return test
    if len(items) < _FEWEST:
        raise UsageError(
            f"{root} has {count(len(items), 'image')}; at least {_FEWEST} are needed, 2 to train on and 1 to test, and "
            "1 more for scores."
        )
    return np.array(choose_test_paths([item.path for item in items]))


def _key(root: Path, items: Sequence[Item], options: DataOptions) -> str:
    """Changes whenever a file, an option that shapes images, or the decoder changes."""
    import PIL

    stamps = []
    for item in items:
        try:
            stat = os.stat(root / item.path)
            stamps.append((stat.st_size, stat.st_mtime_ns))
        except OSError:  # a broken link
            stamps.append((-1, -1))
    form = options.format
    paths = [item.path for item in items]
    return hash_inputs(PIL.__version__, form.size, form.crop, form.channels, str(root.resolve()), paths, stamps)


def _decode(store: ImageStore, root: Path, items: Sequence[Item], options: DataOptions) -> Stored:
    """Read every header, choose the format, decode; again in the rare case that damage changes the format."""

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
        form = _format(root, list(headers.values()), options)
        kept = _training_first(root, items, list(headers))

        def pixels(row: int, kept: Sequence[int] = kept, form: ImageFormat = form) -> NDArray[np.uint8]:
            item = items[kept[row]]
            try:
                return read(root / item.path, form)
            except Exception as error:
                raise DamagedImageError(_reason(item, error)) from error

        decoded = store.decode(len(kept), form.shape, pixels)
        for row, reason in decoded.damaged.items():
            damaged[kept[row]] = reason
            del headers[kept[row]]
        if headers and _format(root, list(headers.values()), options) == form:
            row_of = {index: row for row, index in enumerate(kept)}
            final = _training_first(root, items, list(headers))
            rows = np.array([row_of[index] for index in final], dtype=np.int64)
            train = int((~_split(root, [items[index] for index in headers])).sum())
            names = [items[index].label for index in final]
            classes = tuple(sorted({name for name in names if name is not None}))
            places = {name: place for place, name in enumerate(classes)}
            labels = np.array([places[name] for name in names if name is not None], dtype=np.int64) if classes else None
            texts = np.array([damaged[index] for index in sorted(damaged)], dtype=np.str_)
            return store.finish(decoded, rows, train, labels, classes, {"damaged": texts})
    reasons = [damaged[index] for index in sorted(damaged)]
    raise UsageError(f"{root}: none of its {len(items)} files can be read as an image: {_first(reasons)}")


def _training_first(root: Path, items: Sequence[Item], kept: Sequence[int]) -> list[int]:
    """The readable files, training images before test images, else in the order of the listing."""
    test = _split(root, [items[index] for index in kept]).tolist()
    return sorted(kept, key=dict(zip(kept, test, strict=True)).__getitem__)


def _format(root: Path, headers: Sequence[_Header], options: DataOptions) -> ImageFormat:
    sizes = {size for _, size in headers}
    if options.format.size is None and len(sizes) == 1 and min(size := next(iter(sizes))) < SMALLEST_SIDE:
        raise UsageError(
            f"{root}: its images are {size[0]}×{size[1]} pixels, and each side must have at least"
            f" {SMALLEST_SIDE}; give image_size to enlarge them."
        )
    return default_format(options.format, sizes, gray=all(is_gray(mode) for mode, _ in headers))


def _reason(item: Item, error: Exception) -> str:
    from PIL import UnidentifiedImageError

    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, UnidentifiedImageError):
        text = "no image format that Pillow knows"  # its own message repeats the whole path
    elif isinstance(error, OSError) and error.strerror:
        text = error.strerror
    return f"{_printed(item)}: {text}"


def _printed(item: Item) -> str:
    # A name that is not Unicode cannot be stored or printed.
    return item.path.encode("utf-8", "replace").decode()


def _first(reasons: Sequence[str]) -> str:
    return "; ".join(reasons[:5]) + (f"; and {len(reasons) - 5} more" if len(reasons) > 5 else "") + "."
