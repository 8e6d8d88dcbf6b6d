"""Display of a trained model in a notebook."""

from __future__ import annotations

import base64
import io
from html import escape

from PIL import Image
from torch import Tensor

from zoo.data import DataSpec
from zoo.game import format_html
from zoo.interfaces import Networks, Objective
from zoo.run.tiles import grid

__all__ = ["model_html"]


def model_html(objective: Objective, networks: Networks, data: DataSpec, samples: Tensor) -> str:
    """HTML of a trained model: paper, data, parameters, samples and the game table.

    Args:
        objective: The model.
        networks: Its networks.
        data: Its data set.
        samples: Samples in one row, uint8 (N, C, H, W).
    """
    buffer = io.BytesIO()
    Image.fromarray(grid(samples, len(samples))).save(buffer, "PNG")
    picture = base64.b64encode(buffer.getvalue()).decode()
    sizes = {name: sum(p.numel() for p in networks[name].parameters()) for name in networks.names()}
    parameters = ", ".join(f"{escape(name)} {size:,}" for name, size in sizes.items())
    shape = "×".join(map(str, data.shape))
    return (
        f"<p><b>{escape(type(objective).__name__)}</b> {escape(objective.paper)}<br>"
        f"{escape(data.name)}, {shape}; parameters: {parameters}</p>"
        f'<img alt="samples" src="data:image/png;base64,{picture}">'
        f"{format_html(objective.turns())}"
    )
