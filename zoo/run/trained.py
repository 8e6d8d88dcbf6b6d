"""Trained models: ``zoo.load``, sampling, encoding, decoding and reconstruction."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
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
from zoo.memory import AllocationError, AllocationLimit, format_bytes, total_memory
from zoo.registry import registry
from zoo.run.hub import PREFIX, download
from zoo.run.notebook import model_html
from zoo.run.run_folder import RunFolder
from zoo.run.tiles import to_image_array
from zoo.terminal import count, printable

__all__ = ["TrainedAutoencoder", "TrainedModel", "load", "make_networks", "wrap_trained"]

_BATCH = 500
"""Images that networks process at a time, by default."""
_BATCH_VALUES = _BATCH * 64 * 64 * 3
"""Values of the images in such a batch, at most: activations are many times as large."""


Labels = int | Sequence[int] | Tensor | NDArray[Any]
"""Class indices: one for all images, or one per image."""


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

    def labels(self, y: Labels | None, n: int) -> tuple[Tensor, ...]:
        """Labels as the networks take them: (y,) with y int64 (n,), or () if the model is not conditional.

        Args:
            y: A class index, or one per image; None for all classes in turn.
            n: Number of images.

        Raises:
            UsageError: If labels are given for a model that is not conditional, or are no class indices.
        """
        if not self.objective.conditional:
            if y is not None:
                raise UsageError("y: labels are not allowed; the model is not conditional")
            return ()
        classes = len(self.data.classes)
        given = torch.arange(n) % classes if y is None else torch.as_tensor(y)
        if given.is_floating_point() or given.shape not in ((), (n,)):
            found = f"{given.dtype} {tuple(given.shape)}"
            raise UsageError(f"y: {found} is not allowed; must be an integer, or integers ({n},)")
        if len(outside := given[(given < 0) | (given >= classes)].flatten()):
            raise UsageError(f"y: {int(outside[0])} is not allowed; must be from 0 to {classes - 1}")
        return (given.long().expand(n).to(self.device),)

    def only_if_conditional(self, y: Labels | None) -> Labels | None:
        """Labels as the methods take them: y if the model is conditional, None otherwise."""
        return y if self.objective.conditional else None

    def sample(self, n: int, *, y: Labels | None = None, seed: int | None = None, batch: int | None = None) -> Tensor:
        """Generate images.

        Codes are drawn on the CPU, so that a seed gives the same images on every device, up to rounding. A model that
        overrides ``sample`` draws on its device, and its images also depend on ``batch``.

        Args:
            n: Number of images.
            y: Classes, for a conditional model: an index, or one per image; all classes in turn by default.
            seed: Seed of the codes; None for torch's global generator.
            batch: Number of images generated at a time; None for 500, fewer of more than 64×64×3 values.

        Returns:
            Images (n, C, H, W) in [−1, 1].
        """
        return torch.cat(list(self.sample_parts(n, y=y, seed=seed, batch=batch)))

    @torch.no_grad()
    def sample_parts(
        self, n: int, *, y: Labels | None = None, seed: int | None = None, batch: int | None = None
    ) -> Iterator[Tensor]:
        """The images of :meth:`sample`, ``batch`` at a time."""
        if n < 1:
            raise UsageError(f"n: {n} is not allowed; must be at least 1")
        batch, labels = batch or self._default_batch, self.labels(y, n)
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices, enabled=seed is not None):
            if seed is not None:
                torch.manual_seed(seed)
            if type(self.objective).sample is Generator.sample:
                # All codes at once: drawn in batches, they would depend on the batch size.
                codes = self.objective.prior(torch.empty(0), n).to(self.device)
                for part in zip(*(torch.split(t, batch) for t in (codes, *labels)), strict=True):
                    yield self.objective.decode(self.networks, *part).float()
            else:
                for i in range(0, n, batch):
                    own = [y[i : i + batch] for y in labels]
                    yield self.objective.sample(self.networks, min(batch, n - i), *own).float()

    @torch.no_grad()
    def decode(self, z: Tensor, y: Labels | None = None) -> Tensor:
        """Decode codes z (B, d) to mean images (B, C, H, W) in [−1, 1], a part at a time.

        Args:
            z: Codes.
            y: Classes, for a conditional model: an index, or one per code; all classes in turn by default.
        """
        z = torch.as_tensor(z, dtype=torch.float32, device=self.device)
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            latent = self.objective.prior(z, 1).shape[1]
        if z.ndim != 2 or z.shape[1] != latent:
            raise UsageError(f"z: shape {tuple(z.shape)} is not allowed; must be (B, {latent})")
        parts = zip(*(torch.split(t, self._default_batch) for t in (z, *self.labels(y, len(z)))), strict=True)
        return torch.cat([self.objective.decode(self.networks, *part) for part in parts]).float()

    @property
    def _default_batch(self) -> int:
        return max(1, min(_BATCH, _BATCH_VALUES // math.prod(self.data.shape)))

    def _repr_html_(self) -> str:
        return model_html(self.objective, self.networks, self.data, to_uint8(self.sample(10, seed=0)).cpu())

    def images(self, n: int, *, seed: int | None = None) -> NDArray[np.uint8]:
        """Generate images as a uint8 array: (n, H, W) for one channel, (n, H, W, C) for three."""
        return to_image_array(torch.cat([to_uint8(part).cpu() for part in self.sample_parts(n, seed=seed)]))


class TrainedAutoencoder(TrainedModel):
    """A trained model that can also encode and reconstruct.

    Attributes:
        objective: The model.
        networks: Its networks.
        data: Shape (C, H, W), name and classes of the training data.
    """

    objective: Autoencoder

    def _inputs(self, x: Tensor | NDArray[Any], y: Labels | None, batch: int | None) -> Iterator[tuple[Tensor, ...]]:
        x = torch.as_tensor(x)
        if x.dtype != torch.uint8 and not x.is_floating_point():
            raise UsageError(f"x: {x.dtype} is not allowed; must be float in [−1, 1], or uint8")
        if x.dim() == 0 or tuple(x.shape[1:]) != self.data.shape:
            wanted = ", ".join(map(str, self.data.shape))
            raise UsageError(f"x: shape {tuple(x.shape)} is not allowed; must be (B, {wanted})")
        if self.objective.conditional and y is None:
            raise UsageError("y: None is not allowed; the model is conditional on the labels of the images")
        labels, start = self.labels(y, len(x)), 0
        # Converted part by part: floats take four times the memory of uint8.
        for part in chunks(x, batch or self._default_batch):
            own = [y[start : start + len(part)] for y in labels]
            start += len(part)
            yield ((from_uint8(part) if part.dtype == torch.uint8 else part.float()).to(self.device), *own)

    @torch.no_grad()
    def encode(self, x: Tensor | NDArray[Any], y: Labels | None = None, *, batch: int | None = None) -> Tensor:
        """Encode images to posterior means (B, d).

        Args:
            x: Images (B, C, H, W), in [−1, 1] or uint8.
            y: Their classes, for a conditional model: an index, or one per image.
            batch: Images encoded at a time; None for 500, fewer of more than 64×64×3 values.
        """
        return torch.cat([self.objective.encode(self.networks, *part) for part in self._inputs(x, y, batch)]).float()

    def reconstruct(self, x: Tensor | NDArray[Any], y: Labels | None = None, *, batch: int | None = None) -> Tensor:
        """Encode and decode images: (B, C, H, W) in [−1, 1].

        Args:
            x: Images (B, C, H, W), in [−1, 1] or uint8.
            y: Their classes, for a conditional model: an index, or one per image.
            batch: Images encoded at a time; None for 500, fewer of more than 64×64×3 values.
        """
        return torch.cat(list(self.reconstruction_parts(x, y, batch=batch)))

    @torch.no_grad()
    def reconstruction_parts(
        self, x: Tensor | NDArray[Any], y: Labels | None = None, *, batch: int | None = None
    ) -> Iterator[Tensor]:
        """The images of :meth:`reconstruct`, ``batch`` at a time."""
        for part in self._inputs(x, y, batch):
            yield self.objective.reconstruct(self.networks, *part).float()


_TRAINING_FACTOR = 4  # weights, gradients and Adam's two moments


def make_networks(objective: Objective, data: DataSpec) -> Networks:
    """Build the untrained networks of a model for a data set.

    Raises:
        UsageError: If this machine has too little memory to train them.
    """
    memory = total_memory()
    try:
        with AllocationLimit(memory // _TRAINING_FACTOR):
            return Networks(objective.networks(data))
    except AllocationError as error:
        raise UsageError(
            f"latent, width: networks of more than {format_bytes(error.requested)} are not allowed; training them "
            f"takes {_TRAINING_FACTOR} times as much, and this machine has {format_bytes(memory)} of memory"
        ) from None


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
        run: The run folder, or ``hf:user/name`` (``hf:user/name@revision``) on the Hugging Face Hub (extra ``hub``).
        device: Device of the networks.

    Returns:
        A :class:`TrainedAutoencoder` if the model has an encoder.

    Raises:
        UsageError: If there is no run, it is unfinished, or its model is not installed.
        ZooError: If the weights are damaged or belong to another run.
    """
    if str(run).startswith(PREFIX):
        if isinstance(run, Path):  # of a command, which may write to the folder
            raise UsageError(f"{run} is not a run folder; zoo pull {run} downloads it to one")
        run = download(run)
    folder = RunFolder(Path(run))
    tensors, facts = folder.load_model()
    objective = options.build(registry().model(facts["model"]), facts["options"])
    data = DataSpec(facts["dataset"], tuple(facts["shape"]), tuple(facts["classes"]))
    problem = f"{folder.model} does not fit the networks that {facts['model']} now builds"
    networks = _make_networks_for(tensors, objective, data, problem)
    return wrap_trained(objective, networks, data).to(device)


def _make_networks_for(tensors: Mapping[str, Tensor], objective: Objective, data: DataSpec, problem: str) -> Networks:
    # The options may ask for networks of any size, whatever the file contains.
    stored = sum(value.nbytes for value in tensors.values())
    try:
        with AllocationLimit(4 * stored + _INITIALIZATION_BYTES):
            networks = Networks(objective.networks(data))
    except AllocationError:
        raise ZooError(f"{problem}: its options ask for larger networks than its {format_bytes(stored)}") from None
    expected = networks.state_dict()
    different = [
        *_listed("missing", [name for name in expected if name not in tensors]),
        *_listed("unknown", [name for name in tensors if name not in expected]),
        *_listed(
            "of another shape or type",
            [
                f"{name} {_describe(tensors[name])}, not {_describe(value)}"
                for name, value in expected.items()
                if name in tensors and _describe(tensors[name]) != _describe(value)
            ],
        ),
    ]
    if different:
        raise ZooError(f"{problem}: {'; '.join(different)}")
    networks.load_state_dict(tensors)
    return networks


_INITIALIZATION_BYTES = 64 << 20  # small tensors that a constructor may need


def _describe(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def _listed(what: str, names: Sequence[str], most: int = 3) -> list[str]:
    if not names:
        return []
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return [f"{count(len(names), 'tensor')} {what} ({', '.join(map(printable, names[:most]))}{more})"]
