"""Data sets: the bundled ones, the published ones, and any folder of images."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from zoo.data.array_cache import cache_dir
from zoo.data.celeba import load_celeba
from zoo.data.digits import load_digits
from zoo.data.download import check_directory
from zoo.data.image_folder import absolute_name, open_folder
from zoo.data.pixels import from_uint8, to_uint8
from zoo.data.spec import DataOptions, Dataset, DataSource, DataSpec, DataWarning, Split
from zoo.data.torchvision_sets import load_cifar10, load_emnist, load_mnist_like, load_svhn
from zoo.errors import UsageError, unknown_name

__all__ = [
    "DataOptions",
    "DataSource",
    "DataSpec",
    "DataWarning",
    "Dataset",
    "Split",
    "absolute_name",
    "bundled_sources",
    "cache_dir",
    "from_uint8",
    "load_dataset",
    "open_folder",
    "to_uint8",
]

_FOLDER = "folder:"


def bundled_sources() -> list[DataSource]:
    """The data sets that come with zoo, the default first."""
    gray, color = (1, 28, 28), (3, 32, 32)
    return [
        DataSource("digits", "8×8 scans of digits, bundled: no download", load_digits, (1, 8, 8), 100),
        *(
            DataSource(name, text, partial(load_mnist_like, name, folder, 20), gray, 20, 60_000)
            for name, folder, text in (
                ("mnist", "MNIST", "handwritten digits, 28×28 gray"),
                ("fashion-mnist", "FashionMNIST", "articles of clothing, 28×28 gray"),
                ("kmnist", "KMNIST", "cursive Japanese characters, 28×28 gray"),
            )
        ),
        DataSource("emnist", "digits and letters in 47 balanced classes, 28×28 gray", load_emnist, gray, 20, 112_800),
        DataSource("cifar10", "photographs in ten classes, 32×32 RGB", load_cifar10, color, 50, 50_000),
        DataSource("svhn", "house numbers from street views, 32×32 RGB", load_svhn, color, 50, 73_257),
        DataSource(
            "celeba", "faces of celebrities, the middle 148 pixels at 64×64 RGB", load_celeba, (3, 64, 64), 20, 162_770
        ),
    ]


def load_dataset(name: str, options: DataOptions, sources: Mapping[str, DataSource]) -> Dataset:
    """The data set of that name.

    Args:
        name: A registered name, or `folder:PATH` for one's own images; see `open_folder`.
        options: How it is found and shaped.
        sources: What is registered, by name.

    Raises:
        UsageError: if nothing has that name, or `data_dir` is not a directory that can be read.
        ZooError: if the data cannot be had.
    """
    if options.data_dir is not None:  # also where the source would not look at it: a mistyped path is told
        check_directory(options.data_dir, "data_dir")
    if name.startswith(_FOLDER):
        if not (path := name.removeprefix(_FOLDER)):
            raise UsageError("folder: needs a path, as in folder:~/photos.")
        return open_folder(path, options)
    if name not in sources:
        raise unknown_name("data set", name, [*sources, "folder:PATH"])
    return sources[name].load(options)
