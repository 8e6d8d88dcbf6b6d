"""CelebA: aligned faces of celebrities, decoded once and kept in the cache."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from zoo.data.array_cache import cache_dir, load_arrays, save_arrays
from zoo.data.download import Published, data_root, obtain
from zoo.data.images import Frame, in_threads, render
from zoo.data.spec import DataOptions, Dataset, Split
from zoo.errors import ZooError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["load_celeba"]

_CROP = 148  # of 178×218 pixels; the commonest choice of the VAE literature, others crop to 108 or 140
_SIZE = (64, 64)
_ARCHIVE, _PARTITION = "img_align_celeba.zip", "list_eval_partition.txt"


def load_celeba(options: DataOptions) -> Dataset:
    """CelebA (Liu et al., 2015), «aligned and cropped»: 162,770 training and 19,962 test faces, unlabelled.

    The middle 148×148 pixels, where the face is, are resized to 64×64, or to `image_size`; with crop "none"
    the whole 178×218 image is squeezed. The splits are the published train and test; valid is left aside.
    The images are read from `celeba/img_align_celeba.zip`, else from the folder of that name beside it.
    Decoding takes minutes, so its result, 2.2 GB at 64×64, is cached.
    """
    from torchvision.datasets import CelebA

    root, folder = data_root(options), CelebA.base_folder
    published = {
        name: Published(f"{folder}/{name}", md5, (f"https://drive.google.com/file/d/{file_id}/view",))
        for file_id, md5, name in CelebA.file_list
    }
    frame = Frame(options.image_size or _SIZE, options.channels or 3, options.crop)
    packed, plain = root / folder / _ARCHIVE, root / folder / Path(_ARCHIVE).stem
    partition = obtain("celeba", root, published[_PARTITION], options.download)

    file = None
    source = packed if packed.is_file() else plain
    if source.exists():  # an archive that was verified and decoded before is not hashed again, which takes seconds
        file = _cache_file(source, partition, frame)
        stored = load_arrays(file)
        if stored is not None and {"train", "test"} <= stored.keys():
            return _dataset(stored["train"], stored["test"])
    if source == packed or not plain.is_dir():
        source = obtain("celeba", root, published[_ARCHIVE], options.download)
        file = _cache_file(source, partition, frame)

    rows = [line.split() for line in partition.read_text().splitlines() if line.strip()]
    names = {part: [name for name, number in rows if number == code] for part, code in (("train", "0"), ("test", "2"))}
    if source.is_dir():
        arrays = {part: _decode(lambda n: (source / n).read_bytes(), names[part], frame) for part in names}
    else:
        with zipfile.ZipFile(source) as archive:
            arrays = {part: _decode(lambda n: archive.read(f"{plain.name}/{n}"), names[part], frame) for part in names}
    if file is not None:
        save_arrays(file, arrays)
    return _dataset(arrays["train"], arrays["test"])


def _dataset(train: NDArray[np.uint8], test: NDArray[np.uint8]) -> Dataset:
    return Dataset("celeba", Split(torch.from_numpy(train)), Split(torch.from_numpy(test)), (), 20)


def _cache_file(source: Path, partition: Path, frame: Frame) -> Path:
    stamps = [(path.stat().st_size, path.stat().st_mtime_ns) for path in (source, partition)]
    key = repr(("celeba 1", str(source.resolve()), stamps, frame, _CROP))
    return cache_dir() / "data" / f"celeba-{hashlib.sha256(key.encode()).hexdigest()}.npz"


def _decode(content: Callable[[str], bytes], names: list[str], frame: Frame) -> NDArray[np.uint8]:
    out = np.empty((len(names), *frame.shape), np.uint8)

    from PIL import Image

    def one(index: int) -> None:
        try:
            with Image.open(io.BytesIO(content(names[index]))) as image:
                out[index] = render(_middle(image) if frame.crop == "center" else image, frame)
        except Exception as error:  # Pillow's formats raise all kinds of errors on damaged files
            raise ZooError(f"celeba: {names[index]} is damaged or missing: {error}") from error

    in_threads(one, range(len(names)))
    return out


def _middle(image: Image) -> Image:
    left, top = (image.width - _CROP) // 2, (image.height - _CROP) // 2
    return image.crop((left, top, left + _CROP, top + _CROP))
