"""Tracker that writes event files of TensorBoard to the run folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import zoo

from .tracker import Status, Tracker, flatten

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class TensorBoard(Tracker):
    """TensorBoard: event files in ``trackers/tensorboard`` of the run folder."""

    name = "tensorboard"
    library = "tensorboard"
    _writer: SummaryWriter

    def begin(self, settings: Mapping[str, Any], folder: Path, run: str, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # Steps after the checkpoint are logged again: TensorBoard drops those that the stopped run logged.
        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1, flush_secs=10)
        rows = "\n".join(f"| {name} | `{value}` |" for name, value in flatten(settings).items())
        self._writer.add_text("settings", f"| setting | value |\n|---|---|\n{rows}", step + 1)

    def log_scalars(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def log_image(self, name: str, path: Path, step: int) -> None:
        if path.suffix != ".png":
            return
        import numpy as np
        from PIL import Image

        with Image.open(path) as image:
            self._writer.add_image(name, np.asarray(image.convert("RGB")), step, dataformats="HWC")

    def end(self, status: Status) -> None:
        self._writer.close()


@zoo.hookimpl
def zoo_trackers() -> Mapping[str, type[zoo.Callback]]:
    return {"tensorboard": TensorBoard}
