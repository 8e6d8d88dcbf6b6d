"""The comparison of two commits notices a weight that differs in one bit, and scores beyond rounding."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

NAMES = ("classifier", "classifier-v1")


def run(folder: Path, tensors: dict[str, torch.Tensor], scores: dict[str, float | None]) -> Path:
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors")
    (folder / "eval.json").write_text(json.dumps({"scores": scores}))
    return folder


@pytest.fixture
def before(tmp_path: Path) -> Path:
    scores = {"FD-classifier": 10.0, "FD-classifier floor": 1.0, "class shares": None, "of 0.1.0 only": 1.0}
    return run(tmp_path / "before", {"a": torch.ones(3), "b": torch.zeros(2)}, scores)


def test_equal_runs_have_no_differences(before, tmp_path, script):
    scores = {"FD-classifier-v1": 10.0 + 1e-12, "FD-classifier-v1 floor": 1.0, "class shares": None, "new": 1.0}
    after = run(tmp_path / "after", {"a": torch.ones(3), "b": torch.zeros(2)}, scores)
    compare = script("benchmarks/compare_commits.py")
    assert compare.compare_weights(before, after) == []
    assert compare.compare_scores(before, after, NAMES) == (3, {})


def test_every_difference_is_found(before, tmp_path, script):
    scores = {"FD-classifier-v1": 10.0 + 1e-6, "FD-classifier-v1 floor": None, "class shares": 0.1}
    after = run(tmp_path / "after", {"a": torch.ones(3), "b": torch.tensor([0.0, -0.0]), "c": torch.ones(1)}, scores)
    compare = script("benchmarks/compare_commits.py")
    assert compare.compare_weights(before, after) == ["b", "c"]
    count, different = compare.compare_scores(before, after, NAMES)
    assert count == 3
    assert different == {
        "FD-classifier-v1": [10.0, 10.0 + 1e-6],
        "FD-classifier-v1 floor": [1.0, None],
        "class shares": [None, 0.1],
    }
