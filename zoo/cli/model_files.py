"""Parameters of the commands about a trained model, loading of the model, and writing of images."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from zoo.cli.parameters import FilePath, check_memory, check_picture
from zoo.errors import UsageError, ZooError, unknown_name

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.data import Dataset
    from zoo.run import TrainedAutoencoder, TrainedModel

__all__ = [
    "class_index",
    "class_option",
    "data_dir_option",
    "find_class",
    "image_target",
    "load_autoencoder",
    "load_dataset",
    "load_model",
    "make_parent",
    "out_option",
    "png_path",
    "run_argument",
    "seed_option",
    "write_images",
]

Decorator = Callable[[Callable[..., None]], Callable[..., None]]

run_argument: Decorator = click.argument("run", type=FilePath())
seed_option: Decorator = click.option(
    "--seed", type=click.IntRange(0, 2**64 - 1), default=0, show_default=True, help="Seed."
)
class_option: Decorator = click.option(
    "--class", "class_name", metavar="CLASS", help="Class of the images, a name or an index; conditional models only."
)
data_dir_option: Decorator = click.option("--data-dir", type=FilePath(), help="Data root; default: that of the run.")


def out_option(default: str, text: str) -> Decorator:
    """The option ``--out`` with its default in the run folder."""
    return click.option("--out", type=FilePath(), metavar="PATH", help=f"{text}; default: RUN/{default}.")


def class_index(value: str, classes: Sequence[str], argument: str) -> int:
    """Index of a class, given by name or index."""
    if value in classes:
        return list(classes).index(value)
    if value.isdecimal() and int(value) < len(classes):
        return int(value)
    raise UsageError(f"{argument}: {unknown_name('class', value, list(classes))}")


def find_class(trained: TrainedModel, name: str | None) -> int | None:
    """Index of the class that ``--class`` names; None if it is not given."""
    if name is None:
        return None
    if not trained.objective.conditional:
        raise UsageError(f"class: {name!r} is not allowed; the model is not conditional")
    return class_index(name, trained.data.classes, "class")


def load_model(run: Path) -> TrainedModel:
    """The trained model of a run folder."""
    from zoo.run import load

    return load(run)


def load_autoencoder(run: Path) -> TrainedAutoencoder:
    """The trained model of a run folder; a :class:`UsageError` if it has no encoder."""
    from zoo.run import TrainedAutoencoder

    trained = load_model(run)
    if not isinstance(trained, TrainedAutoencoder):
        raise UsageError(f"{run}: the model has no encoder; this command requires an autoencoder")
    return trained


def load_dataset(run: Path, data_dir: Path | None) -> Dataset:
    """The data set of a run folder."""
    from zoo.cli.run_data import load_run_data

    return load_run_data(run, data_dir)[1]


def png_path(target: Path) -> Path:
    """Check that a file ends in .png, and create its folder."""
    if target.suffix != ".png":
        raise UsageError(f"out: {str(target)!r} is not allowed; must end in .png")
    make_parent(target)
    return target


def make_parent(target: Path) -> None:
    """Create the folder of a file."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ZooError(f"out: cannot write to {target.parent}: {error.strerror or error}") from None


def image_target(target: Path, n: int, shape: tuple[int, int, int], argument: str, hint: str) -> Path:
    """Check where to write n images before they are generated.

    Args:
        target: A .png or .npy file, or a folder.
        n: Number of images.
        shape: (C, H, W) of each.
        argument: Name of the argument that gives their number.
        hint: How to have fewer.
    """
    if target.suffix not in (".png", ".npy", ""):
        raise UsageError(f"out: {str(target)!r} is not allowed; must end in .png or .npy, or be a folder")
    # uint8 in parts, as a whole, and in the order of the file; codes, which are as large as the pixels at most
    check_memory(argument, n, math.prod(shape) * 7, hint)
    if target.suffix == ".png":
        side = max(1, round(n**0.5))
        check_picture(argument, n, -(-n // side), side, shape, f"{hint}, or --out FILE.npy")
    return target


def write_images(images: Tensor, target: Path) -> None:
    """Write uint8 images (N, C, H, W) as a grid (.png), an array (.npy), or PNG files in a folder."""
    import io

    import numpy as np
    from PIL import Image

    from zoo.files import write_atomically
    from zoo.run.image_grids import save_grid
    from zoo.run.tiles import to_image_array

    make_parent(target)
    if target.suffix == ".png":
        save_grid(images.cpu(), target, max(1, round(len(images) ** 0.5)))
    elif target.suffix == ".npy":
        buffer = io.BytesIO()
        np.save(buffer, to_image_array(images), allow_pickle=False)
        write_atomically(target, buffer.getvalue())
    elif target.exists() and not target.is_dir():
        raise ZooError(f"out: cannot write to {target}: it is not a folder; must end in .png or .npy, or be a folder")
    else:
        make_parent(target / "x")
        digits = len(str(len(images) - 1))
        for i, image in enumerate(to_image_array(images)):
            buffer = io.BytesIO()
            Image.fromarray(image).save(buffer, "PNG")
            write_atomically(target / f"{i:0{digits}d}.png", buffer.getvalue())
