"""DINOv2 with random weights: network against a plain implementation, preprocessing against Pillow, refused files."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from sklearn.datasets import load_sample_images
from torch import Tensor
from torch.nn import functional as F

from zoo.data import DataOptions, Dataset, Split, bundled_sources, load_dataset
from zoo.errors import ZooError
from zoo.evaluation import DINOv2, EvaluationSettings, evaluate_images, score_name
from zoo.evaluation.dinov2 import FILE, URL, _positions, prepare
from zoo.run.scoring import choose_extractor

SMALL = {"architecture": "vit_small_patch14_dinov2", "features": 384}


@pytest.fixture(autouse=True)
def _own_cache(own_cache: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or fills the user's cache, nor finds weights there."""
    monkeypatch.delenv("ZOO_DINOV2_WEIGHTS", raising=False)


@pytest.fixture(scope="module")
def tensors() -> dict[str, Tensor]:
    """Random weights under the publisher's names, for 37×37 patches as theirs are."""
    torch.manual_seed(0)
    net = timm.create_model("vit_small_patch14_dinov2", num_classes=0)
    made = {name: value.clone() for name, value in net.state_dict().items()}
    for name, value in made.items():
        if name.endswith("gamma"):  # a layer scale as small as at the start would hide what the blocks do
            value.uniform_(0.5, 1)
        if name in ("pos_embed", "cls_token"):
            value.normal_(0, 0.5)
        if name.endswith("bias"):
            value.normal_(0, 0.1)
    return {**made, "mask_token": torch.zeros(1, 384)}


@pytest.fixture(scope="module")
def weights(tensors: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dino") / FILE
    torch.save(tensors, path)
    return path


def photographs(side: int, channels: int = 3) -> Tensor:
    made = [Image.fromarray(photo).convert("L" if channels == 1 else "RGB") for photo in load_sample_images().images]
    arrays = [np.asarray(photo.resize((side, side), Image.Resampling.LANCZOS)) for photo in made]
    return torch.from_numpy(np.stack(arrays)).view(2, side, side, channels).permute(0, 3, 1, 2).contiguous()


def by_hand(x: Tensor, w: dict[str, Tensor]) -> Tensor:
    """The class token of a pre-norm transformer with layer scale: Oquab et al., appendix B; 6 heads of 64."""
    x = F.conv2d(x, w["patch_embed.proj.weight"], w["patch_embed.proj.bias"], stride=14).flatten(2).mT
    x = torch.cat([w["cls_token"].expand(len(x), -1, -1), x], 1) + _positions(w["pos_embed"], 16)
    for i in range(12):
        b = {name.removeprefix(f"blocks.{i}."): value for name, value in w.items() if name.startswith(f"blocks.{i}.")}
        h = F.layer_norm(x, (384,), b["norm1.weight"], b["norm1.bias"], 1e-6)
        q, k, v = F.linear(h, b["attn.qkv.weight"], b["attn.qkv.bias"]).unflatten(2, (3, 6, 64)).permute(2, 0, 3, 1, 4)
        h = ((q @ k.mT / 8).softmax(-1) @ v).transpose(1, 2).flatten(2)
        x = x + b["ls1.gamma"] * F.linear(h, b["attn.proj.weight"], b["attn.proj.bias"])
        h = F.layer_norm(x, (384,), b["norm2.weight"], b["norm2.bias"], 1e-6)
        h = F.linear(
            F.gelu(F.linear(h, b["mlp.fc1.weight"], b["mlp.fc1.bias"])), b["mlp.fc2.weight"], b["mlp.fc2.bias"]
        )
        x = x + b["ls2.gamma"] * h
    return F.layer_norm(x, (384,), w["norm.weight"], w["norm.bias"], 1e-6)[:, 0]


@pytest.mark.slow
def test_the_graph_is_dinov2s(weights: Path, tensors: dict[str, Tensor]) -> None:
    extractor, images = DINOv2(weights, **SMALL), photographs(64)
    found = extractor(images)
    assert found.shape == (2, 384)
    assert found.dtype == torch.float32
    assert (found[0] - found[1]).std() > 0.05  # a dead network would agree with anything
    torch.testing.assert_close(found, by_hand(prepare(images), tensors), rtol=1e-4, atol=1e-4)
    assert torch.equal(extractor(images), found)
    torch.testing.assert_close(torch.cat([extractor(image[None]) for image in images]), found, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("side", "channels"), [(28, 1), (64, 3), (300, 3), (224, 3)])
def test_pictures_are_resized_as_pillow_does(side: int, channels: int) -> None:
    images = photographs(side, channels)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    for image, found in zip(images, prepare(images), strict=True):
        pillow = Image.fromarray(image.permute(1, 2, 0).squeeze(-1).numpy()).convert("RGB")
        wanted = np.asarray(pillow.resize((224, 224), Image.Resampling.BICUBIC))
        levels = (found.permute(1, 2, 0).numpy() * std + mean) * 255
        assert np.abs(levels - levels.round()).max() < 1e-3
        assert np.abs(levels - wanted).max() < 2.01  # Pillow computes in fixed point: some round the other way
        assert np.abs(levels - wanted).mean() < 0.02


def test_positions_are_resized_about_their_centres() -> None:
    def grid(values: Tensor) -> Tensor:
        table = values.repeat(37, 1).view(1, 37 * 37, 1)
        found = _positions(torch.cat([torch.full((1, 1, 1), 99.0), table], 1), 16)
        assert found.shape == (1, 257, 1)
        assert found[0, 0] == 99
        assert torch.equal(_positions(found, 16), found)
        return found[0, 1:, 0].view(16, 16)

    # The i-th of 16 is read at (i + ½)·37/16.1 − ½ of 37; without the 0.1 the last would lie 0.2 further on.
    wanted = (torch.arange(16) + 0.5) * 37 / 16.1 - 0.5
    torch.testing.assert_close(grid(torch.arange(37.0))[5, 1:15], wanted[1:15], rtol=0, atol=0.06)
    # Read, not averaged: what alternates does not vanish, as it would with antialiasing.
    assert grid(torch.tensor([1.0, -1.0]).repeat(19)[:37]).abs().max() > 0.9


@pytest.mark.slow
def test_the_protocol_holds_the_digest_of_the_file_and_the_rule(weights: Path, tmp_path: Path) -> None:
    digits = load_dataset("digits", DataOptions(), {s.name: s for s in bundled_sources()})
    extractor = DINOv2(weights, **SMALL)
    assert score_name(extractor) == "FD-dinov2"
    assert extractor.digest == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert "224" in extractor.resize
    assert "bicubic" in extractor.resize
    few = few_of(digits, 8)
    protocol = evaluate_images([digits.train.images[:6]], few, extractor, EvaluationSettings(n=6)).protocol
    assert protocol.extractor_digest == extractor.digest
    assert protocol.libraries["timm"] == timm.__version__


def few_of(data: Dataset, n: int) -> Dataset:
    return Dataset("few", Split(data.train.images[:n]), Split(data.test.images[:n]))


@pytest.mark.slow
def test_safetensors_hold_the_same(weights: Path, tensors: dict[str, Tensor], tmp_path: Path) -> None:
    save_file(tensors, tmp_path / "dino.safetensors")
    images = photographs(32)[:1]
    found = DINOv2(tmp_path / "dino.safetensors", **SMALL)
    assert torch.equal(found(images), DINOv2(weights, **SMALL)(images))
    assert found.digest != DINOv2(weights, **SMALL).digest


def test_missing_weights_say_where_they_are_to_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ZooError) as caught:
        choose_extractor("dinov2", 3, print)
    for part in (FILE, URL, "ZOO_DINOV2_WEIGHTS", "`--extractor classifier` works offline"):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)
    monkeypatch.setenv("ZOO_DINOV2_WEIGHTS", str(tmp_path / "none.pth"))
    with pytest.raises(ZooError, match=r"none\.pth is not a file"):
        DINOv2()(photographs(32))


def test_a_missing_timm_says_how_to_install_it(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ZooError, match=r"pip install 'latent-zoo\[dino\]'"):
        DINOv2(weights, **SMALL)(photographs(32))


@pytest.mark.slow
def test_other_files_are_refused_and_run_nothing(tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str, str]]:
            return open, (str(tmp_path / "sprung"), "w")

    torch.save({"pos_embed": Trap()}, tmp_path / "trap.pth")
    torch.save({"fc": torch.zeros(3)}, tmp_path / "other.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save({k: v for k, v in tensors.items() if k != "norm.bias"}, tmp_path / "few.pth")
    (tmp_path / "noise.pth").write_bytes(b"noise")
    (tmp_path / "noise.safetensors").write_bytes(b"noise")
    for name in ("trap.pth", "other.pth", "list.pth", "few.pth", "noise.pth", "noise.safetensors"):
        with pytest.raises(ZooError, match="does not hold the weights of vit_small"):
            DINOv2(tmp_path / name, **SMALL)(photographs(32))
    assert not (tmp_path / "sprung").exists()
