"""Data sets of Hugging Face's `datasets`, built here: nothing is downloaded."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import zoo
from zoo.data import DataOptions, DataWarning, ImageFormat, is_mapped, load_dataset, open_huggingface
from zoo.errors import UsageError, ZooError
from zoo.registry import registry

os.environ["HF_HUB_OFFLINE"] = "1"  # read when the library is imported
datasets = pytest.importorskip("datasets", reason="the extra hf is not installed")


@pytest.fixture(autouse=True)
def private_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))


def pixels(count: int, seed: int = 0) -> list[np.ndarray[Any, Any]]:
    return list(np.random.default_rng(seed).integers(0, 256, (count, 12, 10, 3), dtype=np.uint8))


def split(count: int, seed: int = 0, labels: list[int] | None = None) -> Any:
    features = {"picture": datasets.Image(), "kind": datasets.ClassLabel(names=["cat", "dog"])}
    columns = {
        "picture": [Image.fromarray(each) for each in pixels(count, seed)],
        "kind": labels or [i % 2 for i in range(count)],
    }
    return datasets.Dataset.from_dict(columns, datasets.Features(features))


def test_a_dataset_dict_gives_its_images_labels_and_classes() -> None:
    whole = datasets.DatasetDict(train=split(9), test=split(5, 1))
    data = open_huggingface(whole, DataOptions())
    assert (data.name, data.classes, data.shape) == ("hf:in-memory", ("cat", "dog"), (3, 12, 10))
    for mine, count, seed in ((data.train, 9, 0), (data.test, 5, 1)):
        assert torch.equal(mine.images, torch.from_numpy(np.stack(pixels(count, seed)).transpose(0, 3, 1, 2)))
        assert mine.labels is not None
        assert mine.labels.tolist() == [i % 2 for i in range(count)]


@pytest.mark.parametrize("memory", [0, 2**30])
def test_a_saved_data_set_is_loaded_by_its_path(tmp_path: Path, memory: int) -> None:
    datasets.DatasetDict(train=split(9), validation=split(5, 1), extra=split(3)).save_to_disk(tmp_path / "faces")
    options = DataOptions(format=ImageFormat((8, 8), 1), memory=memory)
    with pytest.warns(DataWarning, match="split extra is not used"):
        data = load_dataset(f"hf:{tmp_path / 'faces'}", options, registry().sources())
    assert (data.name, data.shape, len(data.train), len(data.test)) == ("hf:faces", (1, 8, 8), 9, 5)
    assert is_mapped(data.train.images) == (memory == 0)
    with pytest.warns(DataWarning, match="extra"):
        again = load_dataset(f"hf:{tmp_path / 'faces'}", DataOptions(format=options.format), registry().sources())
    assert again.digest == data.digest


def test_a_data_set_without_test_images_has_a_share_set_aside(tmp_path: Path) -> None:
    split(40).save_to_disk(tmp_path / "faces")
    data = open_huggingface(str(tmp_path / "faces"), DataOptions())
    assert (len(data.train) + len(data.test), len(data.test)) == (40, 10)


def test_damaged_images_are_named_and_left_out() -> None:
    files = []
    for each in pixels(6):
        buffer = io.BytesIO()
        Image.fromarray(each).save(buffer, "png")
        files.append(buffer.getvalue())
    files[2] = files[2][:50] + b"\0" * 60 + files[2][110:]
    columns = {"image": [{"bytes": content, "path": None} for content in files]}
    part = datasets.Dataset.from_dict(columns, datasets.Features({"image": datasets.Image()}))
    with pytest.warns(DataWarning, match=r"1 images are damaged and left out: row 2: "):
        data = open_huggingface(part, DataOptions())
    assert len(data.train) + len(data.test) == 5
    assert data.classes == ()


def test_withheld_labels_are_no_labels() -> None:
    data = open_huggingface(datasets.DatasetDict(train=split(4), test=split(4, 1, [-1] * 4)), DataOptions())
    assert data.classes == ()
    assert data.train.labels is None


def test_what_is_no_data_set_of_images_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no column of images; it has text"):
        open_huggingface(datasets.Dataset.from_dict({"text": ["a", "b"]}), DataOptions())
    with pytest.raises(UsageError, match="no split 'train'; it has test"):
        open_huggingface(datasets.DatasetDict(test=split(3)), DataOptions())
    with pytest.raises(ZooError, match=r"hf:nobody/nothing cannot be loaded: [^\n]+$"):
        load_dataset("hf:nobody/nothing", DataOptions(), registry().sources())
    with pytest.raises(UsageError, match="hf: needs a name or a path"):
        load_dataset("hf:", DataOptions(), registry().sources())


def test_a_run_on_a_saved_data_set_names_it_without_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split(40).save_to_disk(tmp_path / "faces")
    monkeypatch.chdir(tmp_path)
    zoo.train("vae", dataset="hf:faces", epochs=1, batch=8, extractor="none", family="mlp", width=4)
    folder = zoo.run.run_folder.RunFolder(tmp_path / "runs" / "vae-hf-faces-seed0")
    assert folder.settings().dataset == f"hf:{tmp_path / 'faces'}"
    assert folder.load_result()["dataset"] == "hf:faces"
