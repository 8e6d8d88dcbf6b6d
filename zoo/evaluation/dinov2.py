"""DINOv2's features: a transformer that learnt from photographs without labels. An optional extractor."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any, Self, final

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.errors import ZooError
from zoo.evaluation.extractors import Extractor, sha256_of

__all__ = ["DINOv2"]

FILE = "dinov2_vitl14_pretrain.pth"
URL = f"https://dl.fbaipublicfiles.com/dinov2/dinov2_vitl14/{FILE}"
VARIABLE = "ZOO_DINOV2_WEIGHTS"
_ARCHITECTURE = "vit_large_patch14_dinov2"
_SIDE, _PATCH = 224, 14
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@final
class DINOv2(Extractor):
    """The 1024 features of ViT-L/14's class token, which Stein et al. advise for photographs.

    The graph is timm's (``pip install 'latent-zoo[dino]'``). The weights (1.2 GB) are looked for in the file that
    ``ZOO_DINOV2_WEIGHTS`` names, else in zoo's cache, and are never downloaded: their publisher states no digest that a
    download could be checked by. The digest of the file that is read is the protocol's, and keeps others apart.

    References:
        Oquab et al., arXiv:2304.07193; Stein et al., arXiv:2306.04675, whose code (dgm-eval) resizes in this way.

    Args:
        weights: a file to read, the publisher's ``.pth`` or the same tensors as ``.safetensors``.
        architecture: timm's name of what the file holds: ``vit_small_patch14_dinov2`` has 384 features, and
        features: how many it has.
    """

    name = "dinov2"
    features = 1024
    resize = "any size to 224x224, bicubic antialias=True rounded to 8 bits, ImageNet mean and deviation; float32"
    channels = "3 as is; 1 replicated to 3"
    libraries = ("timm", "torch")
    batch = 25

    def __init__(
        self, weights: Path | str | None = None, *, architecture: str = _ARCHITECTURE, features: int = 1024
    ) -> None:
        super().__init__()
        self.features = features
        self._weights, self._architecture = None if weights is None else Path(weights), architecture
        self._net: nn.Module | None = None
        self._digest: str | None = None

    @property
    def digest(self) -> str:
        """The SHA-256 of the file that is read."""
        return self._load()[1]

    def available(self) -> str | None:
        """None where weights and timm are on this machine, else what is missing and how to get it."""
        if importlib.util.find_spec("timm") is None:
            return "dinov2: timm is not installed; pip install 'latent-zoo[dino]' brings it"
        place = self._place()
        if self._net is not None or place.is_file():
            return None
        return (
            f"dinov2: {place} is not a file; get {FILE} from {URL} and put it there or name it in {VARIABLE}; "
            "`--extractor classifier` works offline"
        )

    def to(self, device: torch.device | str) -> Self:
        """Compute on this device from now on; returns itself."""
        if self._net is not None:
            self._net.to(device)
        return super().to(device)

    def extract(self, images: Tensor) -> Tensor:
        """Features (B, d), see `Extractor.extract`."""
        net, _ = self._load()
        features: Tensor = net(prepare(images))
        return features

    def _place(self) -> Path:
        if self._weights is not None:
            return self._weights
        named = os.environ.get(VARIABLE)
        if named:
            return Path(named).expanduser()
        from zoo.data.array_cache import cache_dir

        return Path(cache_dir()) / "weights" / FILE

    def _load(self) -> tuple[nn.Module, str]:
        if self._net is None or self._digest is None:
            if missing := self.available():
                raise ZooError(missing)
            place = self._place()
            self._digest = sha256_of(place)
            self._net = _network(place, self._architecture).to(self.device)
        return self._net, self._digest


def prepare(images: Tensor) -> Tensor:
    """Input of the network: images resized as by Pillow's bicubic filter, to within a gray level, and standardized.

    Args:
        images: uint8, with shape (B, 1 or 3, H, W).

    Returns:
        float32, with shape (B, 3, 224, 224).
    """
    x = images.float()
    for size in ((x.shape[-2], _SIDE), (_SIDE, _SIDE)):  # Pillow goes along the rows first, and rounds in between
        if tuple(x.shape[-2:]) != size:
            x = F.interpolate(x, size=size, mode="bicubic", align_corners=False, antialias=True)
            x = x.round().clamp(0, 255)
    mean, std = (torch.tensor(v, device=x.device).view(1, 3, 1, 1) for v in (_MEAN, _STD))
    return (x.expand(-1, 3, -1, -1) / 255 - mean) / std


def _network(path: Path, architecture: str) -> nn.Module:
    """Timm's graph with the weights in ``path``, which are read as tensors and nothing else."""
    import timm

    net: nn.Module = timm.create_model(architecture, pretrained=False, img_size=_SIDE, num_classes=0)
    try:
        read = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
        tensors: dict[str, Any] = {name: value for name, value in read.items() if name != "mask_token"}
        tensors["pos_embed"] = _positions(tensors["pos_embed"], _SIDE // _PATCH)
        net.load_state_dict(tensors)
    except Exception as error:  # whatever a reader of tensors raises at a file of another kind
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ZooError(f"dinov2: {path} does not hold the weights of {architecture}: {first}") from None
    return net.eval().requires_grad_(False)


def _positions(embedding: Tensor, side: int) -> Tensor:
    """Position embeddings (1, 1 + n², d) for ``side`` patches a side, as DINOv2's own code resizes them.

    timm's way of it antialiases, which gives other features. The 0.1 is in the original, against a rounding error.
    """
    first, rest = embedding[:, :1].float(), embedding[:, 1:].float()
    n = round(rest.shape[1] ** 0.5)
    if n == side:
        return embedding
    factor = (side + 0.1) / n
    grid = rest.reshape(1, n, n, -1).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, scale_factor=(factor, factor), mode="bicubic", align_corners=False)
    return torch.cat([first, grid.permute(0, 2, 3, 1).flatten(1, 2)], 1)
