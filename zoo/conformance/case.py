"""A model on one image size, as the checks take it."""

from __future__ import annotations

import attrs
import torch
from torch import Tensor

from zoo.data import DataSpec
from zoo.engine import BatchStream, Engine
from zoo.interfaces import Objective
from zoo.run.trained import make_networks

__all__ = ["SHAPES", "Case", "CheckFailed"]

SHAPES = ((1, 28, 28), (3, 32, 32), (1, 17, 40))
"""Image sizes (C, H, W) of the checks: gray, color, and not square."""

BATCH = 8


class CheckFailed(Exception):  # noqa: N818 (a result of a check, not an error of the program)
    """A model does not pass a check; the message has the problem and its remedy."""


@attrs.frozen(eq=False)
class Case:
    """A model with default options on one image size.

    Args:
        model: Class of the model.
        shape: Image size (C, H, W).
        device: Device of the networks.
        images: Number of training images.
    """

    model: type[Objective]
    shape: tuple[int, int, int]
    device: torch.device = attrs.field(factory=lambda: torch.device("cpu"))
    images: int = 4 * BATCH

    @property
    def data(self) -> DataSpec:
        """Description of the data set."""
        return DataSpec("check", self.shape, tuple("0123456789"), torch.zeros(self.shape))

    def pixels(self) -> Tensor:
        """Smooth random images, uint8 (N, C, H, W), always the same."""
        generator = torch.Generator().manual_seed(0)
        coarse = torch.rand(self.images, self.shape[0], 4, 4, generator=generator) * 255
        size = self.shape[1:]
        smooth = torch.nn.functional.interpolate(coarse, size=size, mode="bilinear", align_corners=False)
        return smooth.to(torch.uint8)

    def labels(self, n: int) -> tuple[Tensor, ...]:
        """Labels of n images as a conditional model takes them; () for other models."""
        return (torch.arange(n, device=self.device) % len(self.data.classes),) if self.model.conditional else ()

    def objective(self) -> Objective:
        """The model with its default options."""
        return self.model()

    def engine(self, seed: int = 0) -> Engine:
        """New engine with new networks."""
        torch.manual_seed(seed)
        objective, labels = self.objective(), torch.arange(self.images) % 10
        networks = make_networks(objective, self.data).to(self.device)
        return Engine(objective, networks, BatchStream(self.pixels(), BATCH, seed, self.device, labels))
