"""Inception-v3 with the original TensorFlow weights, as torch-fidelity ported it: the extractor of FID."""

from __future__ import annotations

import hashlib
import io
import os
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, final

import torch
from torch import Tensor, nn

from zoo.errors import ZooError
from zoo.evaluation.extractors import Extractor, sha256_of
from zoo.files import open_atomic

__all__ = ["Inception"]

FILE = "weights-inception-2015-12-05-6726825d.pth"
URL = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{FILE}"
DIGEST = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
VARIABLE = "ZOO_INCEPTION_WEIGHTS"
_TIMEOUT_S = 30.0


@final
class Inception(Extractor):
    """The 2048 pooled features that FID is defined on.

    The weights (96 MB) are looked for in the file that ``ZOO_INCEPTION_WEIGHTS`` names, else in zoo's cache,
    then in torch hub's, and are downloaded at the first call where they are in none of them.

    References:
        Heusel et al., arXiv:1706.08500. Graph, resize and weights are torch-fidelity's (release v0.2.0).

    Args:
        weights: a file to read, in torch-fidelity's format; None looks as said above.
        expect_digest: the SHA-256 that the file must have; None takes any, but the distance is then not FID.
    """

    name = "inception"
    features = 2048
    resize = "any size to 299x299, TensorFlow 1 bilinear (align_corners=False, antialias=False), float32"
    channels = "3 as is; 1 replicated to 3"
    libraries = ("torch", "torch-fidelity")
    batch = 50

    def __init__(self, weights: Path | str | None = None, expect_digest: str | None = DIGEST) -> None:
        super().__init__()
        self._weights = None if weights is None else Path(weights)
        self._expect = expect_digest
        self._net: nn.Module | None = None
        self._digest: str | None = None

    @property
    def digest(self) -> str:
        """The SHA-256 of the weights: the pinned one, or the file's where any was allowed."""
        if self._expect is not None:
            return self._expect
        return self._load()[1]

    def available(self) -> str | None:
        """None where the weights are on this machine, else where they were looked for."""
        if self._net is not None or self._find() is not None:
            return None
        places = " or ".join(str(p) for p in self._places())
        return f"{FILE} is not on this machine ({places}); it is downloaded at first use"

    def to(self, device: torch.device | str) -> Self:
        """Compute on this device from now on; returns itself."""
        if self._net is not None:
            self._net.to(device)
        return super().to(device)

    def extract(self, images: Tensor) -> Tensor:
        """Features (B, 2048), see `Extractor.extract`."""
        net, _ = self._load()
        features: Tensor = net(images if images.shape[1] == 3 else images.expand(-1, 3, -1, -1))[0]
        return features

    def _places(self) -> list[Path]:
        if self._weights is not None:
            return [self._weights]
        named = os.environ.get(VARIABLE)
        if named:
            return [Path(named).expanduser()]
        return [_own_place(), Path(torch.hub.get_dir()) / "checkpoints" / FILE]

    def _find(self) -> Path | None:
        return next((place for place in self._places() if place.is_file()), None)

    def _load(self) -> tuple[nn.Module, str]:
        if self._net is None or self._digest is None:
            path = self._find()
            if path is None:
                if self._weights is not None or os.environ.get(VARIABLE):
                    raise ZooError(_remedy(f"{self._places()[0]} is not a file"))
                path = _download(_own_place())
            digest = sha256_of(path)
            if self._expect is not None and digest != self._expect:
                raise ZooError(_remedy(f"{path} has SHA-256 {digest}, not {self._expect}"))
            self._net = _network(path).to(self.device)
            self._digest = digest
        return self._net, self._digest


def _own_place() -> Path:
    from zoo.data.array_cache import cache_dir

    return Path(cache_dir()) / "weights" / FILE


def _remedy(problem: str) -> str:
    return (
        f"inception: {problem}; get {FILE} (SHA-256 {DIGEST}) from {URL} and put it at {_own_place()} "
        f"or name it in {VARIABLE}; `--extractor classifier` works offline"
    )


def _download(target: Path) -> Path:
    """Fetch the weights to ``target``, which appears whole and checked or not at all."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256()
        with urllib.request.urlopen(URL, timeout=_TIMEOUT_S) as source, open_atomic(target, sync=False) as file:
            while block := source.read(1 << 20):
                digest.update(block)
                file.write(block)
            if digest.hexdigest() != DIGEST:
                raise ZooError(_remedy(f"{URL} gave a file with SHA-256 {digest.hexdigest()}"))
    except OSError as error:  # urllib's errors and timeouts are OSErrors
        raise ZooError(_remedy(f"{FILE} could not be downloaded ({error})")) from None
    return target


def _network(path: Path) -> nn.Module:
    """torch-fidelity's graph with the weights in ``path``, which are read as tensors and nothing else."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    class Graph(FeatureExtractorInceptionV3):  # type: ignore[misc]
        # Its constructor unpickles whatever the file holds. It is given an empty dictionary of our own to
        # read, and the weights afterwards, by the reader that takes tensors only.
        def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
            return super().load_state_dict(state_dict, *args, **kwargs) if state_dict else None

    empty = io.BytesIO()
    torch.save({}, empty)
    empty.seek(0)
    net: nn.Module = Graph("inception-v3-compat", ["2048"], feature_extractor_weights_path=empty)
    try:
        net.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # whatever a reader of tensors raises at a file of another kind
        first = str(error).strip().splitlines()
        reason = first[0] if first else type(error).__name__
        raise ZooError(f"inception: {path} does not hold torch-fidelity's Inception weights: {reason}") from None
    return net.eval().requires_grad_(False)
