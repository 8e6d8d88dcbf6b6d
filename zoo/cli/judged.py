"""What ``zoo eval`` hands to the evaluation: a trained model's abilities as callables, and anyone's images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import UnidentifiedImageError
from torch import Tensor

from zoo.data import Dataset, to_uint8, to_unit
from zoo.data.images import Frame, in_threads, probe, read
from zoo.distributions import Bernoulli, Gaussian, Likelihood, Normal
from zoo.errors import UsageError
from zoo.evaluation import Codes, Density
from zoo.interfaces import Autoencoder, Generator
from zoo.run import Trained, TrainedAutoencoder

__all__ = ["codes_of", "density_of", "read_images"]


def codes_of(trained: Trained) -> Codes | None:
    """Encoder, decoder and prior as the evaluation asks for them; None where there is no encoder."""
    if not isinstance(trained, TrainedAutoencoder):
        return None

    @torch.no_grad()
    def draw(x: Tensor) -> Tensor:
        z: Tensor = trained.networks["encoder"](to_unit(x).to(trained.device)).rsample()
        return z.float()

    like = torch.empty(0, device=trained.device)
    return Codes(
        encode=trained.encode,
        decode=lambda z: to_uint8(trained.decode(z)).cpu(),
        prior=lambda count: trained.objective.prior(like, count),
        draw=draw if type(trained.objective).encode is Autoencoder.encode else None,
    )


def density_of(trained: Trained, data: Dataset) -> Density | None:
    """The density, where posterior, likelihood and prior are ones whose densities are known; else None."""
    if not isinstance(trained, TrainedAutoencoder) or type(trained.objective).prior is not Generator.prior:
        return None
    net, device = trained.networks, trained.device
    with torch.no_grad():
        posterior = net["encoder"](torch.zeros(1, *data.shape, device=device))
        if not isinstance(posterior, Gaussian):
            return None
        likelihood = net["decoder"](posterior.mean)
    if not isinstance(likelihood, Bernoulli | Normal):
        return None
    return Density(
        posterior=lambda x: net["encoder"](x.to(device)),
        likelihood=lambda z: _On(net["decoder"](z.to(device)), device),
        observation="Bernoulli, binarised" if isinstance(likelihood, Bernoulli) else "Gaussian",
    )


class _On:
    """A likelihood that takes images from any device."""

    def __init__(self, likelihood: Likelihood, device: torch.device) -> None:
        self._likelihood, self._device = likelihood, device

    def log_prob(self, x: Tensor) -> Tensor:
        """Of images (B, C, H, W) in [−1, 1], (B,)."""
        return self._likelihood.log_prob(x.to(self._device))


def read_images(source: Path, data: Dataset) -> Tensor:
    """The images of a folder or of a samples.npy, uint8 (N, C, H, W), of the data set's own shape."""
    channels, height, width = data.shape
    wanted = f"{data.name}'s are {width}×{height} pixels: resize them yourself, by the rule that you report"
    if source.suffix == ".npy":
        try:
            array = np.load(source, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise UsageError(f"images: {source} cannot be read: {error}") from None
        if array.ndim == 3:
            array = array[..., None]
        if array.dtype != np.uint8 or array.shape[1:] != (height, width, channels) or not len(array):
            raise UsageError(f"images: {source} holds {array.dtype} {array.shape}; {wanted}, uint8, N×H×W or N×H×W×3")
        return torch.from_numpy(array).permute(0, 3, 1, 2).contiguous()
    if not source.is_dir():
        raise UsageError(f"images: {source} is neither a folder nor a .npy file")
    endings = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff")
    files = sorted(p for p in source.rglob("*") if p.suffix.lower() in endings and not p.name.startswith("."))
    if not files:
        raise UsageError(f"images: {source} holds no images ({', '.join(endings)})")

    def one(path: Path) -> Any:
        try:
            size = probe(path)[1]
            if size != (height, width):
                raise UsageError(f"images: {path} has {size[1]}×{size[0]} pixels; {wanted}")
            return read(path, Frame((height, width), channels, "none"))
        except (OSError, UnidentifiedImageError, ValueError) as error:
            raise UsageError(f"images: {path} cannot be read: {error}") from None

    return torch.from_numpy(np.stack(in_threads(one, files)))
