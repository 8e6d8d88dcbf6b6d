"""A picture of codes in the plane."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

__all__ = ["draw_embedding"]

_LEGEND_CLASSES = 30


def draw_embedding(points: NDArray[Any], labels: NDArray[Any] | None, classes: Sequence[str], title: str) -> bytes:
    """Draw points (n, 2), colored by class.

    Args:
        points: Coordinates.
        labels: Class of each point; None for one color.
        classes: Names of the classes; more than 30 have no legend.
        title: Title of the picture.

    Returns:
        A PNG.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 6.5), layout="constrained")
    axis = figure.subplots()
    if labels is None:
        axis.scatter(points[:, 0], points[:, 1], s=8, alpha=0.7, linewidths=0)
    else:
        colors = colormaps["tab10" if len(classes) <= 10 else "tab20" if len(classes) <= 20 else "turbo"]
        for k, name in enumerate(classes):
            chosen = points[labels == k]
            color = colors(k) if len(classes) <= 20 else colors(k / (len(classes) - 1))
            # A label that begins with an underscore has no entry in a legend, and $ begins a formula.
            text = ("\u200b" if name.startswith("_") else "") + name.replace("$", r"\$")
            axis.scatter(chosen[:, 0], chosen[:, 1], s=8, alpha=0.7, linewidths=0, color=color, label=text)
        if len(classes) <= _LEGEND_CLASSES:
            axis.legend(markerscale=2.5, fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    axis.set_title(title, fontsize=10, loc="left")
    axis.set_aspect("equal", "datalim")
    axis.set_xticks([])
    axis.set_yticks([])
    axis.spines[:].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=120)
    return buffer.getvalue()
