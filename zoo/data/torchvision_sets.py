"""The published sets, in torchvision's directory layout and with torchvision's checksums.

Packed files are read as they are. Nothing is unpacked beside them, so a read-only root will do.
"""

from __future__ import annotations

import gzip
import importlib.metadata
import re
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.data.array_cache import cache_dir, load_arrays, save_arrays
from zoo.data.download import Published, damage, data_root, obtain, present
from zoo.data.spec import DataOptions, Dataset, Split
from zoo.errors import ZooError

__all__ = ["load_cifar10", "load_emnist", "load_mnist_like", "load_svhn"]

_CIFAR10_CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)


def load_mnist_like(name: str, folder: str, epochs: int, options: DataOptions) -> Dataset:
    """MNIST (LeCun et al., 1998) or a set published in its four idx files, (1, 28, 28), ten classes.

    `ROOT/<folder>/raw/*.gz` are used if they are there, else the same files unpacked. Only the packed ones
    have published checksums; unpacked ones are checked for the length that their header states.

    Args:
        name: As users type it.
        folder: torchvision's class of that set, which is also its directory.
        epochs: The default number of epochs.
        options: See `DataOptions`.
    """
    root, source = data_root(options), _published(folder)

    def tensor(file: str, md5: str) -> Tensor:
        packed = f"{folder}/raw/{file}"
        plain = root / packed.removesuffix(".gz")
        if not present(root, [packed]) and plain.is_file():
            return _idx(plain.read_bytes(), plain)
        urls = tuple(mirror + file for mirror in source["mirrors"].tolist())
        path = obtain(name, root, Published(packed, md5, urls), options.download)
        return _idx(gzip.decompress(path.read_bytes()), path)

    files = source["resources"].tolist()
    train_x, train_y, test_x, test_y = (tensor(file, md5) for file, md5 in files)
    for images, labels, (images_file, _), (labels_file, _) in (
        (train_x, train_y, files[0], files[1]),
        (test_x, test_y, files[2], files[3]),
    ):
        if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
            raise ZooError(
                f"{name}: {images_file} and {labels_file} in {root / folder / 'raw'} do not belong together: shapes "
                f"{tuple(images.shape)} and {tuple(labels.shape)}; remove the wrong one."
            )
    train, test = _gray(train_x, train_y), _gray(test_x, test_y)
    # torchvision names MNIST's classes '0 - zero'; the digit says as much
    return Dataset(name, train, test, tuple(c.split(" - ")[0] for c in source["classes"].tolist()), epochs)


def _published(folder: str) -> dict[str, NDArray[Any]]:
    """Mirrors, files with checksums, and classes of a data set of four files, as torchvision lists them.

    Cached between runs, because torchvision imports torch's compiler, which takes longer than reading the files.
    """
    imported = "torchvision" in sys.modules
    path = cache_dir() / f"torchvision-{importlib.metadata.version('torchvision')}-{folder}.npz"
    kept = None if imported else load_arrays(path)
    if kept is not None and kept.keys() == {"mirrors", "resources", "classes"}:
        return kept
    from torchvision import datasets

    source = getattr(datasets, folder)
    facts = {name: np.array(getattr(source, name)) for name in ("mirrors", "resources", "classes")}
    if not imported:
        save_arrays(path, facts)
    return facts


def load_emnist(options: DataOptions) -> Dataset:
    """EMNIST (Cohen et al., 2017), 'balanced': 47 classes of digits and letters, (1, 28, 28), upright.

    The published files hold each image transposed; here they are turned upright.
    """
    from torchvision.datasets import EMNIST

    root, raw = data_root(options), "EMNIST/raw"
    names = [f"emnist-balanced-{s}-{kind}" for s in ("train", "test") for kind in ("images-idx3", "labels-idx1")]
    packed, plain = f"{raw}/{EMNIST.url.rpartition('/')[2]}", [f"{raw}/{name}-ubyte" for name in names]
    if not present(root, [packed]) and present(root, plain):
        parts = [_idx((root / path).read_bytes(), root / path) for path in plain]
    else:
        path = obtain("emnist", root, Published(packed, EMNIST.md5, (EMNIST.url,)), options.download)
        with zipfile.ZipFile(path) as archive:
            parts = [_idx(gzip.decompress(archive.read(f"gzip/{name}-ubyte.gz")), path) for name in names]
    train = _gray(parts[0].transpose(1, 2), parts[1])
    test = _gray(parts[2].transpose(1, 2), parts[3])
    return Dataset("emnist", train, test, tuple(EMNIST.classes_split_dict["balanced"]), 20)


def _gray(images: Tensor, labels: Tensor) -> Split:
    return Split(images[:, None].contiguous(), labels.long())


def _idx(content: bytes, path: Path) -> Tensor:
    """The array of an idx file: two zero bytes, type (8: unsigned bytes), rank, big-endian sizes, values."""
    rank = content[3] if len(content) > 3 else 0
    sizes = np.frombuffer(content[4 : 4 + 4 * rank], ">u4").astype(int).tolist()
    values = len(content) - 4 - 4 * rank
    if content[:3] != b"\0\0\x08" or len(sizes) != rank or rank == 0 or values != int(np.prod(sizes)):
        raise ZooError(f"{path} is damaged: it is no idx file of the length that its header states; remove it.")
    return torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=4 + 4 * rank).view(sizes)


def load_cifar10(options: DataOptions) -> Dataset:
    """CIFAR-10 (Krizhevsky, 2009): 50,000 training and 10,000 test photographs, (3, 32, 32), ten classes.

    Read from `cifar-10-batches-py/` if all its files are there and intact, else from
    `cifar-10-python.tar.gz`.
    """
    from torchvision.datasets import CIFAR10

    root = data_root(options)
    files = {f"{CIFAR10.base_folder}/{name}": md5 for name, md5 in CIFAR10.train_list + CIFAR10.test_list}
    troubles: list[str] = []
    if present(root, list(files)):
        troubles = [bad for path, md5 in files.items() if (bad := damage(root / path, md5))]
        if not troubles:
            return _cifar10([(root / path).read_bytes() for path in files])
    published = Published(CIFAR10.filename, CIFAR10.tgz_md5, (CIFAR10.url,))
    path = obtain("cifar10", root, published, options.download, "; ".join(troubles) or None)
    contents = {}
    with tarfile.open(path) as archive:
        for member in archive:  # in the archive's order, so that it is decompressed once
            if member.name in files and (stream := archive.extractfile(member)):
                contents[member.name] = stream.read()
    return _cifar10([contents[path] for path in files])


def _cifar10(contents: Sequence[bytes]) -> Dataset:
    """The last file is the test split; the others are the training split."""
    batches = [_cifar10_batch(content) for content in contents]

    def split(parts: Sequence[tuple[NDArray[np.uint8], list[int]]]) -> Split:
        pixels = np.concatenate([images for images, _ in parts])
        labels = torch.tensor([label for _, mine in parts for label in mine])
        return Split(torch.from_numpy(pixels), labels)

    return Dataset("cifar10", split(batches[:-1]), split(batches[-1:]), _CIFAR10_CLASSES, 50)


_LABELS = re.compile(rb"U\x06labels((?:q.|[\](e]|K.)+)", re.DOTALL)
_LABEL = re.compile(rb"K(.)|q.", re.DOTALL)


def _cifar10_batch(content: bytes) -> tuple[NDArray[np.uint8], list[int]]:
    """Images (N, 3, 32, 32) and labels of a published batch, found in its bytes; nothing in the file is executed.

    The file is a dictionary as Python 2 serialized it. After the key ``labels`` a list of one-byte integers follows
    (``K`` and the byte, with marks and references to memory cells between), and the pixels are the string (``T``, its
    length in four bytes, its content) of 3072 bytes per label.
    """
    if (listed := _LABELS.search(content)) is None:
        raise ZooError("cifar10: a batch is not as it was published: it has no labels")
    labels = [ord(label) for label in _LABEL.findall(listed[1]) if label]
    size = 3 * 32 * 32 * len(labels)
    start = content.find(b"T" + size.to_bytes(4, "little")) + 5
    if not labels or start < 5 or len(content) < start + size:
        raise ZooError(f"cifar10: a batch is not as it was published: it has no pixels for {len(labels)} labels")
    return np.frombuffer(content, np.uint8, size, start).reshape(len(labels), 3, 32, 32), labels


def load_svhn(options: DataOptions) -> Dataset:
    """SVHN (Netzer et al., 2011), cropped digits: 73,257 training and 26,032 test images, (3, 32, 32).

    The files `train_32x32.mat` and `test_32x32.mat` lie in the root itself. Label 10 there is the digit 0.
    """
    from scipy.io import loadmat
    from torchvision.datasets import SVHN

    root = data_root(options)

    def split(part: str) -> Split:
        url, filename, md5 = SVHN.split_list[part]
        path = obtain("svhn", root, Published(filename, md5, (url,)), options.download)
        try:
            content = loadmat(path)
        except (ValueError, OSError, zlib.error) as error:
            raise ZooError(f"{path} is damaged: {error}; remove it.") from error
        pixels = np.ascontiguousarray(content["X"].transpose(3, 2, 0, 1))
        labels = content["y"].reshape(-1).astype(np.int64) % 10
        return Split(torch.from_numpy(pixels), torch.from_numpy(labels))

    return Dataset("svhn", split("train"), split("test"), tuple("0123456789"), 50)
