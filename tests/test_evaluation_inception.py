"""Inception equals torch-fidelity's, and known faults of other libraries' versions still exist.

The weights are random, in torch-fidelity's file format: the tests cover the network and the preprocessing.
"""

from __future__ import annotations

import contextlib
import io
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images
from torch import Tensor, nn

from zoo.data import to_uint8
from zoo.errors import ZooError
from zoo.evaluation import Extractor, Inception, PinnedClassifier, inception, score_name
from zoo.metrics import compare_with_training
from zoo.metrics.distances import nearest


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test reads or fills the user's caches, nor finds Inception's weights there."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv("ZOO_INCEPTION_WEIGHTS", raising=False)
    return tmp_path / "cache"


def pictures(n: int, channels: int, side: int) -> Tensor:
    return torch.randint(
        0, 256, (n, channels, side, side), generator=torch.Generator().manual_seed(0), dtype=torch.uint8
    )


def photographs(side: int, channels: int) -> Tensor:
    """scikit-learn's two photographs, resized as a data set's maker would, uint8 (2, channels, side, side)."""
    made = [Image.fromarray(photo).convert("L" if channels == 1 else "RGB") for photo in load_sample_images().images]
    arrays = [np.asarray(photo.resize((side, side), Image.Resampling.LANCZOS)) for photo in made]
    return torch.from_numpy(np.stack(arrays)).view(2, side, side, channels).permute(0, 3, 1, 2).contiguous()


@pytest.fixture(scope="module")
def random_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    class Untrained(FeatureExtractorInceptionV3):  # type: ignore[misc]
        def load_state_dict(self, *args: object, **kwargs: object) -> None:
            pass

    empty = io.BytesIO()
    torch.save({}, empty)
    empty.seek(0)
    torch.manual_seed(0)
    net = Untrained("inception-v3-compat", ["2048"], feature_extractor_weights_path=empty)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)  # so that the features are of order one, not dying out
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
            module.running_mean.normal_(0, 0.1)
    path = tmp_path_factory.mktemp("weights") / "random.pth"
    torch.save(net.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def random_inception(random_weights: Path) -> Inception:
    return Inception(random_weights, expect_digest=None)


@pytest.mark.parametrize(("side", "channels"), [(28, 1), (32, 3), (64, 3)])
def test_inception_is_torch_fidelitys_on_photographs(
    random_weights: Path, random_inception: Inception, side: int, channels: int
) -> None:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    oracle = FeatureExtractorInceptionV3("oracle", ["2048"], feature_extractor_weights_path=str(random_weights))
    images = photographs(side, channels)
    assert images.shape == (2, channels, side, side)
    (wanted,) = oracle(images.expand(-1, 3, -1, -1).contiguous())
    found = random_inception(images)
    assert found.shape == (2, 2048)
    assert wanted.std() > 0.1  # a dead network would agree with anything
    assert (wanted[0] - wanted[1]).std() > 1e-2
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_grey_is_replicated_and_the_rules_are_recorded(random_inception: Inception) -> None:
    gray = photographs(28, 1)[:1]
    torch.testing.assert_close(random_inception(gray), random_inception(gray.repeat(1, 3, 1, 1)), rtol=0, atol=0)
    assert "299x299" in random_inception.resize
    assert "antialias=False" in random_inception.resize
    assert "replicated" in random_inception.channels


def test_only_the_original_weights_are_called_fid(random_inception: Inception) -> None:
    assert score_name(Inception()) == "FID"
    assert score_name(random_inception) == "FD-inception"
    assert score_name(PinnedClassifier()) == "FD-classifier"

    class Impostor(Extractor):
        name, features, resize, channels = "inception", 2048, "none", "as is"
        digest = inception.DIGEST

        def extract(self, images: Tensor) -> Tensor:
            return torch.zeros(len(images), 2048)

    assert score_name(Impostor()) == "FD-inception"


def test_inception_that_cannot_be_fetched_says_what_to_do(monkeypatch: pytest.MonkeyPatch, cache_folder: Path) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        assert kwargs["timeout"]
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    assert "not on this machine" in (Inception().available() or "")
    with pytest.raises(ZooError) as caught:
        Inception()(pictures(1, 3, 32))
    message = str(caught.value)
    place = str(cache_folder / "weights" / inception.FILE)
    for part in (
        inception.FILE,
        inception.URL,
        inception.DIGEST,
        place,
        "`--extractor classifier`",
        "no network",
    ):
        assert part in message
    assert "\n" not in message


def test_inception_refuses_other_weights_wherever_they_come_from(
    monkeypatch: pytest.MonkeyPatch, cache_folder: Path, random_weights: Path
) -> None:
    monkeypatch.setattr(urllib.request, "urlopen", lambda *a, **k: io.BytesIO(b"an error page"))
    with pytest.raises(ZooError, match="gave a file with SHA-256"):
        Inception()(pictures(1, 3, 32))
    assert not list((cache_folder / "weights").iterdir())
    monkeypatch.setenv("ZOO_INCEPTION_WEIGHTS", str(random_weights))
    assert Inception().available() is None
    with pytest.raises(ZooError, match="has SHA-256"):
        Inception()(pictures(1, 3, 32))
    monkeypatch.setenv("ZOO_INCEPTION_WEIGHTS", str(random_weights) + ".not")
    with pytest.raises(ZooError, match="is not a file"):
        Inception()(pictures(1, 3, 32))


class _Trap:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (self.path, "w")


def test_inception_runs_no_code_from_its_weights(tmp_path: Path) -> None:
    torch.save({"fc.bias": _Trap(str(tmp_path / "sprung"))}, tmp_path / "trap.pth")
    torch.save({"fc.bias": torch.zeros(3)}, tmp_path / "few.pth")
    (tmp_path / "noise.pth").write_bytes(b"noise")
    for name in ("trap.pth", "few.pth", "noise.pth"):
        with pytest.raises(ZooError, match="does not hold torch-fidelity's Inception weights"):
            Inception(tmp_path / name, expect_digest=None)(pictures(1, 3, 32))
    assert not (tmp_path / "sprung").exists()


# What others do wrong: each test fails on the day that it is put right, and says what to do then


class ShownError(Exception):
    """Carries what a network was shown."""

    def __init__(self, x: Tensor) -> None:
        self.x = x


def shown(network: nn.Module, images: Tensor) -> Tensor:
    """What the first convolution of an Inception sees."""

    def stop(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        raise ShownError(inputs[0])

    handle = network.Conv2d_1a_3x3.conv.register_forward_pre_hook(stop)
    try:
        with pytest.raises(ShownError) as caught:
            network(images)
    finally:
        handle.remove()
    return caught.value.x


def test_torchmetrics_still_antialiases_by_default_which_is_not_torch_fidelitys(random_weights: Path) -> None:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    from torchmetrics.image.fid import FrechetInceptionDistance

    digits = torch.from_numpy(load_digits().images[:50] * 15.9375).byte()[:, None]
    digits = torch.nn.functional.interpolate(digits.float(), (28, 28), mode="bilinear").byte().repeat(1, 3, 1, 1)
    weights = str(random_weights)
    wanted = shown(FeatureExtractorInceptionV3("oracle", ["2048"], feature_extractor_weights_path=weights), digits)
    default = FrechetInceptionDistance(2048, feature_extractor_weights_path=weights).inception
    switched = FrechetInceptionDistance(2048, feature_extractor_weights_path=weights, antialias=False).inception
    torch.testing.assert_close(shown(switched, digits), wanted)
    levels = 128 * float((shown(default, digits) - wanted).abs().mean())
    assert levels > 3, (
        "torchmetrics' default resize is torch-fidelity's now: say so in docs/evaluation.md, delete this test"
    )


def test_torchmetrics_kid_and_mifid_still_cannot_be_switched_back() -> None:
    from inspect import signature

    from torchmetrics.image.kid import KernelInceptionDistance
    from torchmetrics.image.mifid import MemorizationInformedFrechetInceptionDistance

    for metric in (KernelInceptionDistance, MemorizationInformedFrechetInceptionDistance):
        assert "antialias" not in signature(metric).parameters, (
            f"{metric.__name__} has an antialias switch now: it may serve as an oracle on images; say so in the docs"
        )


@pytest.mark.parametrize("name", ["fid", "kid", "mifid"])
def test_torchmetrics_normalize_still_truncates_and_wraps(name: str) -> None:
    from torchmetrics.image.fid import FrechetInceptionDistance
    from torchmetrics.image.kid import KernelInceptionDistance
    from torchmetrics.image.mifid import MemorizationInformedFrechetInceptionDistance

    class Seen(nn.Module):
        num_features = 1

        def forward(self, x: Tensor) -> Tensor:
            raise ShownError(x)

    kinds = {"fid": FrechetInceptionDistance, "kid": KernelInceptionDistance}
    metric = kinds.get(name, MemorizationInformedFrechetInceptionDistance)(feature=Seen(), normalize=True)
    metric.used_custom_model = False  # as with its own Inception, whose weights cannot be had here
    unit = torch.tensor([1.02, 0.9999, 0.5, 0.0])
    with pytest.raises(ShownError) as caught:
        metric.update(unit.expand(1, 3, 1, 4), real=False)
    assert caught.value.x[0, 0, 0].tolist() == [4, 254, 127, 0], (
        "torchmetrics rounds now: its normalize=True may be used, and rule 6 of the protocol has one reason less"
    )
    assert to_uint8(unit * 2 - 1).tolist() == [255, 255, 128, 0]


class Flat(nn.Module):
    """Features that are the pixels."""

    num_features = 12

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1).float()


def test_torchmetrics_mifid_still_takes_copies_for_originals() -> None:
    from torchmetrics.image.mifid import MemorizationInformedFrechetInceptionDistance, _compute_cosine_distance

    random = torch.Generator().manual_seed(0)
    train = torch.randn(200, 3, 2, 2, generator=random)
    copies = train[:2].repeat(50, 1, 1, 1)
    metric = MemorizationInformedFrechetInceptionDistance(feature=Flat())
    metric.update(train, real=True)
    metric.update(copies, real=False)
    x, y = Flat()(train).double(), Flat()(copies).double()
    assert float(_compute_cosine_distance(y, x)) == pytest.approx(0, abs=1e-6)  # Kaggle's direction: copies
    from torchmetrics.image.fid import _compute_fid

    fid = _compute_fid(x.mean(0), torch.cov(x.T), y.mean(0), torch.cov(y.T))
    assert float(metric.compute()) == pytest.approx(float(fid), rel=1e-6), (  # divided by 1: as if all were original
        "torchmetrics' MiFID asks in the right direction now: drop what docs and memorization.py say, and this test"
    )
    others = torch.randn(200, 12, generator=random)
    assert compare_with_training(y, x, nearest(others, x)[0]).probability == 1


def test_torchmetrics_kid_and_mifid_still_keep_every_feature() -> None:
    from torchmetrics.image.kid import KernelInceptionDistance
    from torchmetrics.image.mifid import MemorizationInformedFrechetInceptionDistance

    for kind in (KernelInceptionDistance, MemorizationInformedFrechetInceptionDistance):
        metric = kind(feature=Flat())
        for _ in range(3):
            metric.update(torch.zeros(5, 3, 2, 2), real=True)
        assert sum(len(part) for part in metric.real_features) == 15, (
            f"{kind.__name__} streams now: it may be worth using; compare it with zoo.metrics'"
        )


def test_torch_fidelity_still_runs_code_from_a_weights_file(tmp_path: Path) -> None:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    torch.save({"fc.bias": _Trap(str(tmp_path / "sprung"))}, tmp_path / "trap.pth")
    with contextlib.suppress(Exception):  # it may dislike such weights, afterwards
        FeatureExtractorInceptionV3("trap", ["2048"], feature_extractor_weights_path=str(tmp_path / "trap.pth"))
    assert (tmp_path / "sprung").exists(), (
        "torch-fidelity reads tensors only now: zoo.evaluation.inception._network may hand it the file itself"
    )
