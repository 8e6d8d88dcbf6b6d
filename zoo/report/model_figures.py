"""Figures of a report that need the trained model: traversals of its code, and its codes in the plane."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import attrs
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from zoo.data import Dataset, to_uint8
from zoo.run.image_grids import grid
from zoo.run.latent import METHODS, EmbeddingMethod, decode_all, embed, measure_activity, prior_codes, traverse
from zoo.run.trained import TrainedAutoencoder, TrainedModel

__all__ = ["Embedding", "Traversals", "draw_traversals", "embed_codes"]

_DIMS, _STEPS, _RANGE = 10, 11, 3.0
_POINTS = 1000
_SIZE = 1000  # of an embedding, in SVG units


@attrs.frozen
class Traversals:
    """Traversals of the most active dimensions.

    Attributes:
        png: Their images, a row per dimension.
        dims: The dimensions, in order of the rows.
        latent: Number of dimensions of the code.
    """

    png: bytes
    dims: tuple[int, ...]
    latent: int


@attrs.frozen
class Embedding:
    """Codes of test images in the plane.

    Attributes:
        points: Number of codes.
        classes: Names of the classes; a single empty name without labels.
        plots: Per method its name and an SVG path per class, with points as segments of length zero.
    """

    points: int
    classes: tuple[str, ...]
    plots: tuple[tuple[str, tuple[str, ...]], ...]


def draw_traversals(trained: TrainedModel) -> Traversals:
    """Draw a row per dimension, the most active ones first, from −3 to 3 around a code of the prior."""
    order = measure_activity(trained).argsort(descending=True)
    dims = [int(d) for d in order[:_DIMS]]
    z = prior_codes(trained, 1, 0)[0]
    values = torch.linspace(-_RANGE, _RANGE, _STEPS, device=z.device)
    images = to_uint8(decode_all(trained, traverse(z, dims, values))).cpu()
    buffer = io.BytesIO()
    Image.fromarray(grid(images, _STEPS)).save(buffer, "PNG")
    return Traversals(buffer.getvalue(), tuple(dims), len(order))


def embed_codes(trained: TrainedModel, data: Dataset, methods: Sequence[EmbeddingMethod]) -> Embedding | None:
    """Embed the codes of the first test images; None if the model has no encoder, or there are too few images."""
    x = data.test.images[:_POINTS]
    if not isinstance(trained, TrainedAutoencoder) or len(x) < 3:
        return None
    z = trained.encode(x, trained.only_if_conditional(None if data.test.labels is None else data.test.labels[: len(x)]))
    if not z.isfinite().all():
        return None
    labels = data.test.labels
    classes = tuple(data.classes) if labels is not None else ("",)
    labels = torch.zeros(len(x), dtype=torch.int64) if labels is None else labels[: len(x)].cpu()
    plots = tuple((METHODS[method], _paths(embed(z, method), labels, len(classes))) for method in methods)
    return Embedding(len(x), classes, plots)


def _paths(points: NDArray[Any], labels: Tensor, classes: int) -> tuple[str, ...]:
    low, span = points.min(0), np.ptp(points, axis=0).max() or 1.0  # one scale for both axes
    scaled = np.rint((points - low) / span * _SIZE).astype(int)
    scaled += (_SIZE - scaled.max(0)) // 2
    scaled[:, 1] = _SIZE - scaled[:, 1]
    found = []
    for k in range(classes):
        chosen = scaled[(labels == k).numpy()]
        found.append("".join(f"M{x} {y}h0" for x, y in chosen))
    return tuple(found)
