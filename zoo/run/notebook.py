"""Display of a trained model in a notebook."""

from __future__ import annotations

import base64
import io
from html import escape
from typing import TYPE_CHECKING

from zoo.data import to_uint8
from zoo.game import format_html

if TYPE_CHECKING:
    from zoo.run.trained import TrainedModel

__all__ = ["model_html"]

_SAMPLES = 10


def model_html(trained: TrainedModel) -> str:
    """HTML of a trained model: paper, data, parameters, ten samples of seed 0 and the game table."""
    from PIL import Image

    from zoo.run.image_grids import grid

    buffer = io.BytesIO()
    Image.fromarray(grid(to_uint8(trained.sample(_SAMPLES, seed=0)).cpu(), _SAMPLES)).save(buffer, "PNG")
    picture = base64.b64encode(buffer.getvalue()).decode()
    networks = trained.networks
    sizes = {name: sum(p.numel() for p in networks[name].parameters()) for name in networks.names()}
    parameters = ", ".join(f"{escape(name)} {size:,}" for name, size in sizes.items())
    shape = "×".join(map(str, trained.data.shape))
    return (
        f"<p><b>{escape(type(trained.objective).__name__)}</b> {escape(trained.objective.paper)}<br>"
        f"{escape(trained.data.name)}, {shape}; parameters: {parameters}</p>"
        f'<img alt="samples" src="data:image/png;base64,{picture}">'
        f"{format_html(trained.objective.turns())}"
    )
