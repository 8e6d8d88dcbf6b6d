"""Trained models: ``zoo.load``, sampling, encoding, decoding and reconstruction."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo import options
from zoo.data import DataSpec, chunks, from_uint8, to_uint8
from zoo.errors import UsageError, ZooError
from zoo.interfaces import Autoencoder, Generator, Networks, Objective
from zoo.registry import registry
from zoo.run.run_folder import RunFolder

__all__ = ["TrainedAutoencoder", "TrainedModel", "load", "make_networks", "wrap_trained"]


class TrainedModel:
    """A model with its trained networks, in evaluation mode.

    Attributes:
        objective: The model.
        networks: Its networks.
        data: Shape (C, H, W), name and classes of the training data.
    """

    def __init__(self, objective: Generator, networks: Networks, data: DataSpec) -> None:
        self.objective, self.networks, self.data = objective, networks.eval(), data

    @property
    def device(self) -> torch.device:
        """Device of the networks."""
        return next(self.networks.parameters()).device

    def to(self, device: str | torch.device) -> TrainedModel:
        """Move the networks to a device; returns self."""
        self.networks.to(device)
        return self

    @torch.no_grad()
    def sample(self, n: int, *, seed: int | None = None, batch: int = 500) -> Tensor:
        """Generate images.

        Codes are drawn on the CPU, so that a seed gives the same images on every device, up to rounding. A model that
        overrides ``sample`` draws on its device, and its images also depend on ``batch``.

        Args:
            n: Number of images.
            seed: Seed of the codes; None for torch's global generator.
            batch: Number of images generated at a time.

        Returns:
            Images (n, C, H, W) in [−1, 1].
        """
        if n < 1:
            raise UsageError(f"n: {n} is not allowed; must be at least 1")
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices, enabled=seed is not None):
            if seed is not None:
                torch.manual_seed(seed)
            if type(self.objective).sample is Generator.sample:
                # All codes at once: drawn in batches, they would depend on the batch size.
                codes = self.objective.prior(torch.empty(0), n).to(self.device)
                parts = [self.objective.decode(self.networks, z) for z in torch.split(codes, batch)]
            else:
                parts = [self.objective.sample(self.networks, min(batch, n - i)) for i in range(0, n, batch)]
        return torch.cat(parts).float()

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        """Decode codes z (B, d) to mean images (B, C, H, W) in [−1, 1]."""
        z = torch.as_tensor(z, dtype=torch.float32, device=self.device)
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            latent = self.objective.prior(z, 1).shape[1]
        if z.ndim != 2 or z.shape[1] != latent:
            raise UsageError(f"z: shape {tuple(z.shape)} is not allowed; must be (B, {latent})")
        return self.objective.decode(self.networks, z).float()

    def images(self, n: int, *, seed: int | None = None) -> NDArray[np.uint8]:
        """Generate images as a uint8 array: (n, H, W) for one channel, (n, H, W, C) for three."""
        return to_image_array(to_uint8(self.sample(n, seed=seed)))


class TrainedAutoencoder(TrainedModel):
    """A trained model that can also encode and reconstruct.

    Attributes:
        objective: The model.
        networks: Its networks.
        data: Shape (C, H, W), name and classes of the training data.
    """

    objective: Autoencoder

    def _inputs(self, x: Tensor | NDArray[Any], batch: int) -> Iterator[Tensor]:
        x = torch.as_tensor(x)
        if x.dtype != torch.uint8 and not x.is_floating_point():
            raise UsageError(f"x: {x.dtype} is not allowed; must be float in [−1, 1], or uint8")
        if x.dim() == 0 or tuple(x.shape[1:]) != self.data.shape:
            wanted = ", ".join(map(str, self.data.shape))
            raise UsageError(f"x: shape {tuple(x.shape)} is not allowed; must be (B, {wanted})")
        for part in chunks(x, batch):  # converted one by one: floats take four times the memory of uint8
            yield (from_uint8(part) if part.dtype == torch.uint8 else part.float()).to(self.device)

    @torch.no_grad()
    def encode(self, x: Tensor | NDArray[Any], *, batch: int = 500) -> Tensor:
        """Encode images x (B, C, H, W), in [−1, 1] or uint8, to posterior means (B, d)."""
        return torch.cat([self.objective.encode(self.networks, part) for part in self._inputs(x, batch)]).float()

    @torch.no_grad()
    def reconstruct(self, x: Tensor | NDArray[Any], *, batch: int = 500) -> Tensor:
        """Encode and decode images x (B, C, H, W), in [−1, 1] or uint8, to images (B, C, H, W) in [−1, 1]."""
        return torch.cat([self.objective.reconstruct(self.networks, part) for part in self._inputs(x, batch)]).float()


def to_image_array(images: Tensor) -> NDArray[np.uint8]:
    """Convert uint8 images (N, C, H, W) to an array (N, H, W) for one channel, (N, H, W, C) for three."""
    array = images.cpu().permute(0, 2, 3, 1).numpy()
    return array[..., 0] if array.shape[-1] == 1 else array


def make_networks(objective: Objective, data: DataSpec) -> Networks:
    """Build the untrained networks of a model for a data set."""
    return Networks(objective.networks(data))


def wrap_trained(objective: Objective, networks: Networks, data: DataSpec) -> TrainedModel:
    """Wrap trained networks in the class that has the abilities of their model.

    Raises:
        UsageError: If the model is neither a ``Generator`` nor an ``Autoencoder``.
    """
    if isinstance(objective, Autoencoder):
        return TrainedAutoencoder(objective, networks, data)
    if isinstance(objective, Generator):
        return TrainedModel(objective, networks, data)
    raise UsageError(f"{type(objective).__name__} is neither a Generator nor an Autoencoder: it cannot sample")


def load(run: str | Path, *, device: str = "cpu") -> TrainedModel:
    """Load the trained model of a run folder.

    Args:
        run: The run folder.
        device: Device of the networks.

    Returns:
        A :class:`TrainedAutoencoder` if the model has an encoder.

    Raises:
        UsageError: If there is no run, it is unfinished, or its model is not installed.
        ZooError: If the weights are damaged or belong to another run.
    """
    folder = RunFolder(Path(run))
    tensors, facts = folder.load_model()
    objective = options.build(registry().model(facts["model"]), facts["options"])
    data = DataSpec(facts["dataset"], tuple(facts["shape"]), tuple(facts["classes"]))
    networks = make_networks(objective, data)
    try:
        networks.load_state_dict(tensors)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise ZooError(f"{folder.model} does not fit the networks that {facts['model']} now builds: {reason}") from None
    return wrap_trained(objective, networks, data).to(device)
