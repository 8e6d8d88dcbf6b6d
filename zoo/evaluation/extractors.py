"""Feature extractors: the interface of plugins, and the pinned digit classifiers that work offline."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Self, final

import torch
from safetensors.torch import load
from torch import Tensor, nn

from zoo.data.mapped import chunks
from zoo.errors import UsageError, ZooError
from zoo.evaluation.classifier import CHANNELS_RULE, RESIZE_RULE, DigitClassifier, LeNet, prepare
from zoo.metrics.full_precision import full_precision

__all__ = ["Classifier", "ClassifierV1", "Extractor", "PinnedClassifier", "sha256_of"]


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Extractor(ABC):
    """Base class of feature extractors: a named map from images to feature vectors, with all that fixes its values.

    Extractors are built without arguments; weights may be loaded on the first call. A subclass sets the attributes and
    defines ``digest`` and ``extract``; one with networks extends ``to``.
    """

    name: str
    """Name for ``--extractor``; the distance is named ``FD-<name>``."""
    features: int
    """The length d of a feature vector."""
    resize: str
    """Description of the resize to the network's size."""
    channels: str
    """Description of the conversion to the network's channels."""
    labels: tuple[str, ...] = ()
    """The data sets whose classes its logits name, in the data set's order; empty but for a `Classifier`."""
    libraries: tuple[str, ...] = ("torch",)
    """The distributions whose versions may change its values."""
    batch: int = 100
    """How many pictures it takes at a time."""

    def __init__(self) -> None:
        self.device = torch.device("cpu")

    @property
    @abstractmethod
    def digest(self) -> str:
        """The SHA-256 of its weights, in hexadecimal."""

    @abstractmethod
    def extract(self, images: Tensor) -> Tensor:
        """Features (B, d) of at most ``batch`` uint8 pictures (B, 1 or 3, H, W) on ``self.device``."""

    @classmethod
    def problem(cls) -> str | None:
        """Why this class cannot be used as an extractor, or None."""
        wanted = ("name", "features", "resize", "channels")
        missing = sorted({*getattr(cls, "__abstractmethods__", ()), *(n for n in wanted if not hasattr(cls, n))})
        return f"{cls.__name__} does not define {', '.join(missing)}" if missing else None

    def available(self) -> str | None:
        """None where it can be used without a download, else the reason why not."""
        return None

    def to(self, device: torch.device | str) -> Self:
        """Compute on this device from now on; returns itself."""
        self.device = torch.device(device)
        return self

    @final
    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Features in full float32, without gradients.

        Args:
            images: uint8, with shape (B, 1 or 3, H, W), on any device.

        Returns:
            float32, with shape (B, d), on the extractor's device.
        """
        if images.dtype != torch.uint8 or images.dim() != 4 or images.shape[1] not in (1, 3):
            raise UsageError(
                f"images: {images.dtype} with shape {tuple(images.shape)} is not allowed; "
                f"must be torch.uint8 with shape (B, 1 or 3, H, W)"
            )
        if not len(images):
            return torch.empty(0, self.features, device=self.device)
        with full_precision(), torch.autocast(self.device.type, enabled=False):
            parts = [self.extract(part.to(self.device)).float() for part in chunks(images, self.batch)]
        found = torch.cat(parts)
        if found.shape != (len(images), self.features):
            raise ZooError(
                f"extractor {self.name!r}: features with shape {tuple(found.shape)}, "
                f"but {(len(images), self.features)} were announced"
            )
        return found

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.name!r}, features={self.features}, device='{self.device}')"


class Classifier(Extractor):
    """An extractor whose features also name a class, for the data sets in ``labels``."""

    @abstractmethod
    def logits(self, features: Tensor) -> Tensor:
        """Logits (B, K) from features (B, d)."""

    @final
    @torch.no_grad()
    def classify(self, images: Tensor) -> Tensor:
        """Logits (B, K) of uint8 pictures (B, 1 or 3, H, W)."""
        features = self(images)
        with full_precision(), torch.autocast(self.device.type, enabled=False):
            return self.logits(features)


class PackagedExtractor(Extractor):
    """Base class of extractors whose weights are part of the package; reads and checks them when built.

    A subclass sets ``WEIGHTS`` and ``DIGEST``, and defines ``build_network``.

    Args:
        weights: a file to read instead of the one in the package; its digest must be the pinned one all the same.

    Raises:
        ZooError: if the weights are missing or not the pinned ones.
    """

    WEIGHTS: Path
    DIGEST: str

    resize = RESIZE_RULE
    channels = CHANNELS_RULE
    batch = 250

    def __init__(self, weights: Path | None = None) -> None:
        super().__init__()
        path = self.WEIGHTS if weights is None else Path(weights)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ZooError(f"{path}: {error.strerror}; install latent-zoo again to get it back") from None
        found = hashlib.sha256(data).hexdigest()
        if found != self.DIGEST:
            raise ZooError(
                f"{path}: SHA-256 is {found}, but that of the pinned {self.name} is {self.DIGEST}; "
                f"install latent-zoo again to get it back"
            )
        network = self.build_network().eval().requires_grad_(False)
        network.load_state_dict(load(data))
        self._network = network

    @abstractmethod
    def build_network(self) -> nn.Module:
        """Build the network whose weights the package has."""

    @property
    def digest(self) -> str:
        """SHA-256 of the weights, checked when they were read."""
        return self.DIGEST

    def to(self, device: torch.device | str) -> Self:
        """Compute on this device from now on; returns itself."""
        self._network.to(device)
        return super().to(device)


class _PackagedClassifier(PackagedExtractor, Classifier):
    """A digit classifier whose weights are part of the package."""

    network: type[LeNet | DigitClassifier]
    labels = ("mnist", "digits")

    def build_network(self) -> nn.Module:
        """Build the classifier."""
        # Channels-last is four times as fast on a CPU; the values differ by rounding only.
        self._net = self.network().to(memory_format=torch.channels_last)
        return self._net

    def extract(self, images: Tensor) -> Tensor:
        """Features (B, d), see `Extractor.extract`."""
        return self._net.features(prepare(images).contiguous(memory_format=torch.channels_last))

    def logits(self, features: Tensor) -> Tensor:
        """Logits (B, 10) for the digits 0 to 9."""
        return self._net.logits(features)


@final
class PinnedClassifier(_PackagedClassifier):
    """The extractor of gray images: a digit classifier with 192 features, see `zoo.evaluation.classifier.LeNet`.

    Trained on the training splits of MNIST and scikit-learn's digits by ``benchmarks/train_classifier.py``, and chosen
    among candidates by its agreement with a panel of unlike extractors: ``docs/judge.md``.

    Args:
        weights: a file to read instead of the one in the package; its digest must be the pinned one all the same.

    Raises:
        ZooError: if the weights are missing or not the pinned ones.
    """

    WEIGHTS = Path(__file__).parent / "weights" / "classifier-v2.safetensors"
    DIGEST = "db45bad7aeb7aba0437f5668db816665bb58063abd6167c5198392184e473f6b"
    network = LeNet

    name = "classifier"
    features = 192


@final
class ClassifierV1(_PackagedClassifier):
    """Extractor of zoo 0.1, kept to repeat its scores. It is nearly blind to blur: ``docs/judge.md``."""

    WEIGHTS = Path(__file__).parent / "weights" / "classifier-v1.safetensors"
    DIGEST = "3f5e68becd3ad72cb4d2495d13f9e77cd2b353408073ceb86c5f7f7cb1cbd7bc"
    network = DigitClassifier

    name = "classifier-v1"
    features = 64
