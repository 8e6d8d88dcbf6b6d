"""Snapshots of a run: samples from fixed codes at a few moments of training, and an animation of them."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator
from pathlib import Path

from zoo.data import to_uint8
from zoo.engine import Engine
from zoo.engine.ema import WeightEMA
from zoo.errors import ZooError
from zoo.files import write_atomically
from zoo.interfaces import Networks
from zoo.reading import read_bytes
from zoo.run.image_grids import save_grid
from zoo.run.run_folder import RunFolder
from zoo.run.trained import TrainedModel

__all__ = ["Snapshots", "draw_animation", "evaluation_mode", "snapshot_files", "snapshot_steps"]

_SEED = 0
_SIDE, _PIXELS = 8, 384
"""A snapshot has at most 8 × 8 images, and at most about 384 × 384 pixels before small images are enlarged."""
_FRAME, _LAST_FRAME = 400, 2000  # milliseconds
_MAX_BYTES = 32 << 20


def snapshot_steps(steps: int, count: int) -> list[int]:
    """The steps after which snapshots are taken: the first is 0, the last is the end, and their gaps grow.

    Args:
        steps: Number of steps of the run.
        count: Number of snapshots; short runs have fewer.

    >>> snapshot_steps(1000, 8), snapshot_steps(3, 8), snapshot_steps(1000, 0)
    ([0, 3, 23, 79, 187, 364, 630, 1000], [0, 1, 2, 3], [])
    """
    if count < 2:
        return [steps] * count
    return sorted({round(steps * (i / (count - 1)) ** 3) for i in range(count)})


@contextlib.contextmanager
def evaluation_mode(networks: Networks, ema: WeightEMA | None = None) -> Iterator[None]:
    """Context with networks in evaluation mode and, if there is one, with the average of their weights.

    Afterwards every module has its mode again and every weight its bits.

    Args:
        networks: The networks.
        ema: The average of their weights; None for the weights themselves.
    """
    modes = [(module, module.training) for module in networks.modules()]
    weights = None if ema is None else {name: value.clone() for name, value in networks.state_dict().items()}
    networks.eval()
    try:
        if ema is not None:
            ema.copy_to(networks)
        yield
    finally:
        if weights is not None:
            networks.load_state_dict(weights)
        for module, training in modes:
            module.training = training


class Snapshots:
    """Takes the snapshots of a run; they draw nothing from the random state of the training.

    Args:
        folder: The run folder.
        trained: The networks in training, wrapped.
        engine: Their engine. Only the first of several processes takes snapshots.
        steps: Number of steps of the run.
        count: Number of snapshots.
    """

    def __init__(self, folder: RunFolder, trained: TrainedModel, engine: Engine, steps: int, count: int) -> None:
        self.folder, self.trained, self.engine = folder, trained, engine
        self.steps = frozenset(snapshot_steps(steps, count) if engine.ranks.is_main else ())

    def take(self) -> None:
        """Write ``snapshots/step-N.png`` if a snapshot is due after the current step.

        Raises:
            ZooError: If the file cannot be written.
        """
        step = self.engine.step_count
        if step not in self.steps:
            return
        side = min(_SIDE, max(2, _PIXELS // max(self.trained.data.shape[1:])))
        with evaluation_mode(self.trained.networks, self.engine.ema):
            images = self.trained.sample(side * side, seed=_SEED)
        if not images.isfinite().all():
            return  # the training has diverged, and will say so
        try:
            self.folder.snapshots.mkdir(exist_ok=True)
        except OSError as error:
            raise ZooError(f"cannot write {self.folder.snapshots}: {error.strerror or error}") from None
        save_grid(to_uint8(images).cpu(), self.folder.snapshots / f"step-{step:09}.png", side)


def snapshot_files(folder: Path) -> dict[int, Path]:
    """The snapshots in a run folder, by step, in order."""
    found = {}
    for path in sorted((folder / "snapshots").glob("step-*.png")):
        if match := re.fullmatch(r"step-(\d{9})\.png", path.name):
            found[int(match[1])] = path
    return found


def draw_animation(folder: RunFolder) -> list[Path]:
    """Write ``samples.gif`` from the snapshots of a run. Returns the files written."""
    from PIL import Image

    frames = []
    for path in snapshot_files(folder.path).values():
        with Image.open(io.BytesIO(read_bytes(path, _MAX_BYTES)), formats=["PNG"]) as image:
            frames.append(image.copy() if image.mode == "L" else image.convert("RGB").quantize(256))
    if len(frames) < 2:
        return []
    buffer = io.BytesIO()
    durations = [_FRAME] * (len(frames) - 1) + [_LAST_FRAME]
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0)
    path = folder.path / "samples.gif"
    write_atomically(path, buffer.getvalue())
    return [path]
