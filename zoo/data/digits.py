"""The default data set: scikit-learn's bundled 8×8 scans of handwritten digits, which need no download.

They are the 1,797 scans of the *test* part of UCI's 'Optical Recognition of Handwritten Digits' (Alpaydin and
Kaynak, 1998), from 13 writers, reduced to 17 gray levels.
"""

from __future__ import annotations

import importlib.metadata
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from zoo.data.array_cache import cache_dir, load_arrays, save_arrays
from zoo.data.spec import DataOptions, Dataset, Split

__all__ = ["load_digits"]

_SCANS = 1797
_TEST = 500
_EPOCHS = 100


def load_digits(options: DataOptions) -> Dataset:
    """1,297 training and 500 test images, (1, 8, 8), ten classes; the split is fixed and stratified by class.

    Gray levels 0..16 become round(255 v / 16). `data_dir` and `download` play no part.
    """
    arrays = _scans()
    images, labels = torch.from_numpy(arrays["images"])[:, None], torch.from_numpy(arrays["labels"])
    chosen = torch.from_numpy(_stratified(arrays["labels"], _TEST))
    train, test = (Split(images[rows], labels[rows]) for rows in (~chosen, chosen))
    return Dataset("digits", train, test, tuple("0123456789"), _EPOCHS)


def _scans() -> dict[str, NDArray[Any]]:
    # Kept between runs, since scikit-learn takes longer to import than a small model to train.
    path = cache_dir() / f"digits-scikit-learn-{importlib.metadata.version('scikit-learn')}.npz"
    kept = load_arrays(path)
    if kept is not None and kept.keys() == {"images", "labels"} and kept["images"].shape == (_SCANS, 8, 8):
        return kept
    from sklearn import datasets

    scans = datasets.load_digits()
    arrays = {
        "images": np.rint(scans.images * (255 / 16)).astype(np.uint8),
        "labels": scans.target.astype(np.int64),
    }
    save_arrays(path, arrays)
    return arrays


def _stratified(labels: NDArray[np.int64], count: int) -> NDArray[np.bool_]:
    """Mark `count` rows, each class in proportion (largest remainders), the same ones on every machine.

    NumPy froze the stream of `RandomState` (NEP 19); a splitter of scikit-learn's carries no such promise,
    and another split would be another data set.
    """
    sizes = np.bincount(labels)
    exact = sizes * count / len(labels)
    quota = np.floor(exact).astype(int)
    quota[np.argsort(quota - exact, kind="stable")[: count - quota.sum()]] += 1
    order = np.random.RandomState(0).permutation(len(labels))
    chosen = np.zeros(len(labels), dtype=np.bool_)
    for label, wanted in enumerate(quota):
        chosen[order[labels[order] == label][:wanted]] = True
    return chosen
