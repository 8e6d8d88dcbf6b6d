"""Data sets in memory, brought to another image format or, where they exceed the memory limit, to the cache."""

from __future__ import annotations

from math import prod

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.data.image_format import ImageFormat
from zoo.data.image_store import ImageStore, hash_inputs
from zoo.data.images import in_threads, render
from zoo.data.mapped import is_mapped
from zoo.data.spec import DataOptions, Dataset, Split

__all__ = ["conform"]


def conform(dataset: Dataset, options: DataOptions) -> Dataset:
    """Give a data set the format of the options, and map its images if they exceed their memory limit.

    Args:
        dataset: The data set; returned as it is if it has the format and fits.
        options: `format`, `memory` and `progress`.
    """
    form = options.format.resolve(dataset.shape)
    splits, count = (dataset.train, dataset.test), len(dataset.train) + len(dataset.test)
    if count * prod(form.shape) > options.memory_limit and not is_mapped(dataset.train.images):
        return _mapped(dataset, form, options)
    if form.shape == dataset.shape:
        return dataset
    train, test = (Split(_rendered(split.images, form), split.labels) for split in splits)
    return attrs.evolve(dataset, train=train, test=test, stored=None)


def _mapped(dataset: Dataset, form: ImageFormat, options: DataOptions) -> Dataset:
    import PIL

    train, test = dataset.train, dataset.test
    store = ImageStore(dataset.name, "set", hash_inputs(dataset.digest, form, PIL.__version__), options)
    stored = store.find()
    if stored is None:
        with store.lock():
            stored = store.find()
            if stored is None:

                def pixels(row: int) -> NDArray[np.uint8]:
                    split, index = (train, row) if row < len(train) else (test, row - len(train))
                    return _render(split.images[index], form)

                count = len(train) + len(test)
                labels = None
                if train.labels is not None and test.labels is not None:
                    labels = torch.cat([train.labels, test.labels]).numpy()
                decoded = store.decode(count, form.shape, pixels)
                stored = store.finish(decoded, np.arange(count), len(train), labels, dataset.classes)
    return attrs.evolve(stored.dataset, epochs=dataset.epochs)


def _rendered(images: Tensor, form: ImageFormat) -> Tensor:
    out = torch.empty((len(images), *form.shape), dtype=torch.uint8)

    def one(row: int) -> None:
        out[row] = torch.from_numpy(np.array(_render(images[row], form)))

    in_threads(one, range(len(images)))
    return out


def _render(image: Tensor, form: ImageFormat) -> NDArray[np.uint8]:
    from PIL import Image

    pixels = image.cpu().numpy()
    if pixels.shape == form.shape:
        return pixels
    return render(Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0).copy()), form)
