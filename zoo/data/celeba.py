"""CelebA: aligned faces of celebrities, decoded once and kept in the cache."""

from __future__ import annotations

import contextlib
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import numpy as np
from numpy.typing import NDArray

from zoo.data.download import Published, data_root, obtain
from zoo.data.image_format import ImageFormat
from zoo.data.image_store import ImageStore, Stored, hash_inputs
from zoo.data.images import render
from zoo.data.spec import DataOptions, Dataset
from zoo.errors import ZooError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["load_celeba"]

_CROP = 148  # of 178×218 pixels; the commonest choice of the VAE literature, others crop to 108 or 140
_SIZE = (64, 64)
_ARCHIVE, _PARTITION = "img_align_celeba.zip", "list_eval_partition.txt"


def load_celeba(options: DataOptions) -> Dataset:
    """Load CelebA (Liu et al., 2015), aligned and cropped: 162,770 training and 19,962 test faces, without labels.

    The middle 148×148 pixels, where the face is, are resized to 64×64, or to the size of the options; with crop
    ``none`` the whole 178×218 image is stretched. The splits are the published train and test; valid is not used.
    The images are read from `celeba/img_align_celeba.zip`, else from the folder of that name beside it.
    Decoding takes minutes, so its result, 2.2 GB at 64×64, is cached.
    """
    from torchvision.datasets import CelebA

    root, folder = data_root(options), CelebA.base_folder
    published = {
        name: Published(f"{folder}/{name}", md5, (f"https://drive.google.com/file/d/{file_id}/view",))
        for file_id, md5, name in CelebA.file_list
    }
    form = attrs.evolve(options.format, size=options.format.size or _SIZE).resolve((3, *_SIZE))
    packed, plain = root / folder / _ARCHIVE, root / folder / Path(_ARCHIVE).stem
    partition = obtain("celeba", root, published[_PARTITION], options.download)

    source = packed if packed.is_file() else plain
    if source.exists():  # an archive that was verified and decoded before is not hashed again, which takes seconds
        stored = _store(source, partition, form, options).find()
        if stored is not None:
            return stored.dataset
    if source == packed or not plain.is_dir():
        source = obtain("celeba", root, published[_ARCHIVE], options.download)
    store = _store(source, partition, form, options)
    with store.lock():
        return (store.find() or _decode(store, source, partition, form)).dataset


def _store(source: Path, partition: Path, form: ImageFormat, options: DataOptions) -> ImageStore:
    stamps = [(path.stat().st_size, path.stat().st_mtime_ns) for path in (source, partition)]
    return ImageStore("celeba", "celeba", hash_inputs(str(source.resolve()), stamps, form, _CROP), options)


def _decode(store: ImageStore, source: Path, partition: Path, form: ImageFormat) -> Stored:
    from PIL import Image

    rows = [line.split() for line in partition.read_text().splitlines() if line.strip()]
    train, test = ([name for name, number in rows if number == code] for code in ("0", "2"))
    names = [*train, *test]
    with contextlib.ExitStack() as stack:
        content: Callable[[str], bytes]
        if source.is_dir():
            content = lambda name: (source / name).read_bytes()  # noqa: E731
        else:
            archive, folder = stack.enter_context(zipfile.ZipFile(source)), Path(_ARCHIVE).stem
            content = lambda name: archive.read(f"{folder}/{name}")  # noqa: E731

        def pixels(row: int) -> NDArray[np.uint8]:
            try:
                with Image.open(io.BytesIO(content(names[row]))) as image:
                    return render(_middle(image) if form.crop == "center" else image, form)
            except Exception as error:  # Pillow's formats raise all kinds of errors on damaged files
                raise ZooError(f"celeba: {names[row]} is damaged or missing: {error}") from error

        decoded = store.decode(len(names), form.shape, pixels)
    return store.finish(decoded, np.arange(len(names)), len(train), None, ())


def _middle(image: Image) -> Image:
    left, top = (image.width - _CROP) // 2, (image.height - _CROP) // 2
    return image.crop((left, top, left + _CROP, top + _CROP))
