"""Data sets of images in the format of Hugging Face's `datasets` library (extra ``hf``)."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from numpy.typing import NDArray

from zoo.data.dataset_names import public_name
from zoo.data.image_folder import default_epochs, default_format
from zoo.data.image_format import ImageFormat
from zoo.data.image_store import DamagedImageError, ImageStore, Stored, hash_inputs
from zoo.data.images import in_threads, is_gray, probe, read
from zoo.data.listing import choose_test_paths
from zoo.data.spec import DataOptions, Dataset, DataWarning
from zoo.errors import UsageError, ZooError

if TYPE_CHECKING:
    import datasets

__all__ = ["open_huggingface"]

_TEST_SPLITS = ("test", "validation", "valid", "val")


def open_huggingface(source: str | datasets.Dataset | datasets.DatasetDict, options: DataOptions) -> Dataset:
    """Load a data set of the `datasets` library.

    The splits are ``train`` and ``test``, else ``validation``; a data set without either of these has a tenth of its
    images set aside, as a folder has. Images are the first column of type ``Image``, labels the first of type
    ``ClassLabel``. Size, channels, damaged images, cache and epochs are as for `open_folder`.

    Args:
        source: Name on the Hugging Face Hub, a path (of `save_to_disk`, or of files that `load_dataset` reads), or the
            data set itself.
        options: How the images are loaded.

    Raises:
        UsageError: If `datasets` is not installed, or the data set has no images.
        ZooError: If the data set cannot be loaded.
    """
    name = f"hf:{source}" if isinstance(source, str) else "hf:in-memory"
    parts = _splits(_load(source), name)
    image, label = _columns(parts[0], name)
    names = _class_names(parts, label)
    key = hash_inputs([part._fingerprint for part in parts], image, label, options.format, _version())
    store = ImageStore(public_name(name), "hf", key, options)
    stored = store.find()
    if stored is None:
        with store.lock():
            stored = store.find() or _decode(store, parts, image, label, names, options, name)
    damaged = stored.arrays["damaged"].tolist()
    if damaged:
        shown = "; ".join(damaged[:5]) + (f"; and {len(damaged) - 5} more" if len(damaged) > 5 else "")
        warnings.warn(f"{name}: {len(damaged)} images are damaged and left out: {shown}.", DataWarning, stacklevel=2)
    return attrs.evolve(stored.dataset, epochs=default_epochs(len(stored.dataset.train)))


def _version() -> str:
    import PIL

    return PIL.__version__


def _load(source: Any) -> Mapping[str, Any]:
    """The splits by name."""
    try:
        import datasets
    except ImportError:
        raise UsageError("hf: needs Hugging Face's datasets; pip install 'latent-zoo[hf]'") from None
    found = source
    if isinstance(source, str):
        path = Path(source).expanduser()
        saved = any((path / file).is_file() for file in ("dataset_dict.json", "state.json"))
        try:
            found = datasets.load_from_disk(path) if saved else datasets.load_dataset(source)
        except Exception as error:  # the library raises all kinds of errors
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ZooError(f"hf:{source} cannot be loaded: {reason}") from error
    return found if isinstance(found, Mapping) else {"train": found}


def _splits(found: Mapping[str, Any], name: str) -> list[Any]:
    """The training split, and the test split if there is one."""
    if "train" not in found:
        raise UsageError(f"{name} has no split 'train'; it has {', '.join(found)}")
    test = next((split for split in _TEST_SPLITS if split in found), None)
    unused = [split for split in found if split not in ("train", test)]
    if unused:
        warnings.warn(f"{name}: split {', '.join(unused)} is not used.", DataWarning, stacklevel=3)
    return [found["train"], *([found[test]] if test else [])]


def _columns(part: Any, name: str) -> tuple[str, str | None]:
    import datasets

    def first(kind: type) -> str | None:
        return next((column for column, feature in part.features.items() if isinstance(feature, kind)), None)

    image = first(datasets.Image)
    if image is None:
        raise UsageError(f"{name} has no column of images; it has {', '.join(part.features) or 'none'}")
    return image, first(datasets.ClassLabel)


def _class_names(parts: list[Any], label: str | None) -> tuple[str, ...]:
    """Names of the classes; empty if an image has no label, as in a published test split whose labels are withheld."""
    if label is None:
        return ()
    if any(label not in part.features or min(x if x is not None else -1 for x in part[label]) < 0 for part in parts):
        return ()
    return tuple(parts[0].features[label].names)


def _decode(
    store: ImageStore,
    parts: list[Any],
    image: str,
    label: str | None,
    classes: tuple[str, ...],
    options: DataOptions,
    name: str,
) -> Stored:
    import datasets

    sources = [part.select_columns([image]).cast_column(image, datasets.Image(decode=False)) for part in parts]
    rows = [(which, row) for which, part in enumerate(parts) for row in range(len(part))]
    if len(rows) < 2:
        raise UsageError(f"{name} has {len(rows)} images; at least two are needed, one to train on and one to test.")
    test = [which == 1 for which, _ in rows] if len(parts) > 1 else choose_test_paths([f"{row:012}" for _, row in rows])
    order = sorted(range(len(rows)), key=test.__getitem__)

    def file(index: int) -> io.BytesIO | Path:
        which, row = rows[index]
        found = sources[which][row][image]
        if found is None:
            raise ValueError("no image")
        return Path(found["path"]) if found["bytes"] is None else io.BytesIO(found["bytes"])

    def header(index: int) -> tuple[str, tuple[int, int]] | None:
        try:
            return probe(file(index))
        except Exception:  # a damaged image, which decoding reports
            return None

    def pixels(place: int) -> NDArray[np.uint8]:
        try:
            return read(file(order[place]), form)
        except Exception as error:  # Pillow's formats raise all kinds of errors on damaged files
            reason = " ".join(str(error).split()) or type(error).__name__
            raise DamagedImageError(f"row {rows[order[place]][1]}: {reason}") from error

    form: ImageFormat = options.format
    if form.size is None or form.channels is None:
        headers = [found for found in in_threads(header, range(len(rows))) if found is not None]
        if not headers:
            raise UsageError(f"{name}: none of its {len(rows)} images can be read")
        form = default_format(form, {size for _, size in headers}, gray=all(is_gray(mode) for mode, _ in headers))
    decoded = store.decode(len(rows), form.shape, pixels)
    kept = np.array([place for place in range(len(rows)) if place not in decoded.damaged], dtype=np.int64)
    train = sum(not test[order[place]] for place in kept)
    if not 0 < train < len(kept):
        raise UsageError(f"{name}: a split has no image that can be read")
    labels = None
    if classes:
        columns = [part[label] for part in parts]
        labels = np.array([columns[rows[order[p]][0]][rows[order[p]][1]] for p in kept], dtype=np.int64)
    reasons = np.array([decoded.damaged[place] for place in sorted(decoded.damaged)], dtype=np.str_)
    return store.finish(decoded, kept, train, labels, classes, {"damaged": reasons})
