"""Data sets: bundled, published, from a folder of images, or from Hugging Face."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from zoo.data.array_cache import cache_dir
from zoo.data.celeba import load_celeba
from zoo.data.conform import conform
from zoo.data.dataset_names import FOLDER, HUGGING_FACE, absolute_name
from zoo.data.digits import load_digits
from zoo.data.download import check_directory
from zoo.data.huggingface import open_huggingface
from zoo.data.image_folder import folder_files, open_folder
from zoo.data.image_format import ImageFormat
from zoo.data.mapped import chunks, is_mapped, take
from zoo.data.memory_limit import parse_bytes
from zoo.data.pixels import from_uint8, to_uint8
from zoo.data.spec import DataOptions, Dataset, DataSource, DataSpec, DataWarning, Split
from zoo.data.torchvision_sets import load_cifar10, load_emnist, load_mnist_like, load_svhn
from zoo.data.validation_split import count_held_out, hold_out
from zoo.errors import UsageError, unknown_name

__all__ = [
    "DataOptions",
    "DataSource",
    "DataSpec",
    "DataWarning",
    "Dataset",
    "ImageFormat",
    "Split",
    "absolute_name",
    "bundled_sources",
    "cache_dir",
    "chunks",
    "count_held_out",
    "folder_files",
    "from_uint8",
    "hold_out",
    "is_mapped",
    "load_dataset",
    "open_folder",
    "open_huggingface",
    "parse_bytes",
    "take",
    "to_uint8",
]


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
    """Load a data set in the format of the options.

    Args:
        name: A registered name, `folder:PATH` for a folder of images (see `open_folder`), or `hf:NAME` for one of
            Hugging Face's data sets.
        options: Where it is found and how it is loaded.
        sources: The registered data sets by name.

    Raises:
        UsageError: If nothing has that name, or `data_dir` is not a directory that can be read.
        ZooError: If the data are not available.
    """
    if options.data_dir is not None:  # also if the source would not look at it: a mistyped path is an error
        check_directory(options.data_dir, "data_dir")
    if name.startswith(FOLDER):
        if not (path := name.removeprefix(FOLDER)):
            raise UsageError("folder: needs a path, as in folder:~/photos.")
        return open_folder(path, options)
    if name.startswith(HUGGING_FACE):
        if not (path := name.removeprefix(HUGGING_FACE)):
            raise UsageError("hf: needs a name or a path, as in hf:org/name.")
        return open_huggingface(path, options)
    if name not in sources:
        raise unknown_name("data set", name, [*sources, "folder:PATH", "hf:NAME"])
    return conform(sources[name].load(options), options)
