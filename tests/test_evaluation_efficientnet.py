"""EfficientNet-Lite0: pinned weights, architecture against timm's, preprocessing, accuracy on photographs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor

import zoo
from zoo.data import DataOptions, bundled_sources, load_dataset
from zoo.evaluation import EfficientNet, Inception, PinnedClassifier
from zoo.evaluation.efficientnet import DIGEST, EfficientNetLite0, load_network, prepare, weights_path
from zoo.run.scoring import choose_extractor

PHOTOS = Path(os.environ.get("ZOO_DATA", "")) / "cifar10-jpeg"
# ImageNet's classes of the ten folders.
CLASSES = {
    "airplane": [404, 895],
    "automobile": [436, 468, 511, 609, 627, 656, 661, 751, 817],
    "bird": [*range(7, 25), *range(80, 101), *range(127, 147)],
    "cat": [281, 282, 283, 284, 285],
    "deer": [351, 352, 353],
    "dog": [*range(151, 269)],
    "frog": [30, 31, 32],
    "horse": [339, 340],
    "ship": [403, 510, 554, 625, 628, 724, 780, 814, 871, 914],
    "truck": [555, 569, 675, 717, 864, 867],
}


@pytest.fixture(scope="module")
def network() -> EfficientNetLite0:
    return load_network()


def images(n: int, side: int = 32, channels: int = 3) -> Tensor:
    return torch.randint(
        0, 256, (n, channels, side, side), generator=torch.Generator().manual_seed(n), dtype=torch.uint8
    )


@pytest.mark.parametrize("side", [64, 96, 97])
def test_logits_equal_those_of_timm(network: EfficientNetLite0, side: int) -> None:
    timm = pytest.importorskip("timm")
    reference = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    reference.load_state_dict(dict(zip(reference.state_dict(), network.state_dict().values(), strict=True)))
    x = prepare(images(3), side)
    with torch.no_grad():
        torch.testing.assert_close(network(x), reference(x), rtol=1e-4, atol=1e-4)


def test_preprocessing_is_that_of_the_weights() -> None:
    x = images(2, 96)
    torch.testing.assert_close(prepare(x, 96), (x.float() - 127) / 128)
    assert prepare(images(2, 20, 1), 96).shape == (2, 3, 96, 96)
    flat = torch.full((1, 3, 32, 32), 200, dtype=torch.uint8)
    torch.testing.assert_close(prepare(flat, 96), torch.full((1, 3, 96, 96), 73 / 128), rtol=0, atol=1e-5)


def test_features_are_pooled_stages_and_do_not_depend_on_the_batch(network: EfficientNetLite0) -> None:
    extractor, x = EfficientNet(), images(60)
    found = extractor(x)
    stages = list(network.activations(prepare(x[:4], 96)))
    torch.testing.assert_close(found[:4], torch.cat([stages[i].mean((2, 3)) for i in (4,)], 1), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(extractor(x[55:]), found[55:], rtol=1e-3, atol=1e-4)
    assert found.shape == (60, extractor.features)


def test_other_weights_are_refused(tmp_path: Path) -> None:
    path = weights_path()
    assert path is not None
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    (tmp_path / "w.pth").write_bytes(data)
    with pytest.raises(zoo.ZooError, match=f"not {DIGEST}"):
        EfficientNet(tmp_path / "w.pth")(images(2))


def test_auto_never_scores_color_by_a_digit_classifier(monkeypatch: pytest.MonkeyPatch) -> None:
    notes: list[str] = []
    monkeypatch.setattr(Inception, "available", lambda self: "inception: weights are missing")
    assert isinstance(choose_extractor("auto", 3, notes.append), EfficientNet)
    assert isinstance(choose_extractor("auto", 1, notes.append), PinnedClassifier)
    assert len(notes) == 1
    assert "--extractor inception" in notes[0]
    monkeypatch.setattr(Inception, "available", lambda self: None)
    # A chosen extractor is tried at once; here there are no weights to try.
    monkeypatch.setattr(Inception, "extract", lambda self, images: torch.zeros(len(images), self.features))
    assert isinstance(choose_extractor("auto", 3, notes.append), Inception)


@pytest.mark.slow
@pytest.mark.mnist
@pytest.mark.skipif(not PHOTOS.is_dir(), reason="no cifar10-jpeg under ZOO_DATA")
def test_it_recognizes_photographs(network: EfficientNetLite0) -> None:
    data = load_dataset(f"folder:{PHOTOS}", DataOptions(), {s.name: s for s in bundled_sources()})
    chosen = torch.randperm(len(data.test.images), generator=torch.Generator().manual_seed(0))[:500]
    with torch.no_grad():
        logits = torch.cat([network(prepare(part, 96)) for part in data.test.images[chosen].split(50)])
    scores = torch.stack([logits[:, CLASSES[name.split("/")[-1]]].amax(1) for name in data.classes], 1)
    assert data.test.labels is not None
    accuracy = (scores.argmax(1) == data.test.labels[chosen]).double().mean()
    assert accuracy > 0.4, "chance is 0.1; the images have 32x32 pixels"
