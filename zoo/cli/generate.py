"""``zoo sample``, ``reconstruct``, ``interpolate``, ``traverse`` and ``encode``: output of a trained model."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.cli.console import echo, progress_lines
from zoo.cli.parameters import FilePath, check_memory, check_picture
from zoo.errors import UsageError, ZooError
from zoo.terminal import count

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.data import Dataset
    from zoo.run import TrainedAutoencoder, TrainedModel

__all__ = ["encode", "interpolate", "reconstruct", "sample", "traverse"]

_Decorator = Callable[[Callable[..., None]], Callable[..., None]]

_run: _Decorator = click.argument("run", type=FilePath())
_seed: _Decorator = click.option(
    "--seed", type=click.IntRange(0, 2**64 - 1), default=0, show_default=True, help="Seed."
)
_data_dir: _Decorator = click.option("--data-dir", type=FilePath(), help="Data root; default: that of the run.")


def _out(default: str, text: str) -> _Decorator:
    kind = FilePath()
    return click.option("--out", type=kind, metavar="PATH", help=f"{text}; default: RUN/{default}.")


@click.command()
@_run
@click.option("-n", "n", type=click.IntRange(1), default=64, show_default=True, help="Number of images.")
@_out("grid.png", "Grid as .png, array as .npy (uint8, N×H×W or N×H×W×3), or a folder for single PNG files")
@_seed
def sample(run: Path, n: int, out: Path | None, seed: int) -> None:
    """Sample images from a trained model."""
    import torch

    from zoo.data import to_uint8

    trained = _load(run)
    target = out or run / "grid.png"
    if target.suffix not in (".png", ".npy", ""):
        raise UsageError(f"out: {str(target)!r} is not allowed; must end in .png or .npy, or be a folder")
    pixels = math.prod(trained.data.shape)
    # uint8 in parts, as a whole, and in the order of the file; codes, which are as large as the pixels at most
    check_memory("n", n, pixels * 7, "use a smaller -n; another --seed makes further images")
    if target.suffix == ".png":
        side = max(1, round(n**0.5))
        check_picture("n", n, -(-n // side), side, trained.data.shape, "use a smaller -n, or --out samples.npy")
    parts, progress = [], progress_lines("generated {done:,} of {total:,} images")
    for part in trained.sample_parts(n, seed=seed):
        parts.append(to_uint8(part).cpu())
        progress(sum(map(len, parts)), n)
    _write_images(torch.cat(parts), target)
    echo(f"wrote {count(n, 'image')} to {target}")


@click.command()
@_run
@click.option("-n", "n", type=click.IntRange(1), default=50, show_default=True, help="Number of test images.")
@_out("reconstructions.png", "PNG file")
@_data_dir
def reconstruct(run: Path, n: int, out: Path | None, data_dir: Path | None) -> None:
    """Draw test images with their reconstructions below."""
    from zoo.data import from_uint8, to_uint8
    from zoo.run.image_grids import save_pairs

    trained = _autoencoder(run)
    x = _dataset(run, data_dir).test.images[:n]
    check_picture("n", n, 2 * -(-len(x) // 10), 10, trained.data.shape, "use a smaller -n")
    target = _png(out or run / "reconstructions.png")
    save_pairs(x, to_uint8(trained.reconstruct(from_uint8(x))).cpu(), target)
    echo(f"wrote {count(len(x), 'pair')} to {target}")


@click.command()
@_run
@click.option("--rows", type=click.IntRange(1), default=8, show_default=True, help="Number of interpolations.")
@click.option("--steps", type=click.IntRange(3), default=10, show_default=True, help="Images per interpolation.")
@_out("interpolations.png", "PNG file")
@_seed
@_data_dir
def interpolate(run: Path, rows: int, steps: int, out: Path | None, seed: int, data_dir: Path | None) -> None:
    """Draw interpolations between codes.

    The codes are those of test images, or of the prior for models without an encoder.
    """
    import torch

    from zoo.data import from_uint8, to_uint8
    from zoo.run import TrainedAutoencoder
    from zoo.run.image_grids import save_grid

    trained = _load(run)
    if isinstance(trained, TrainedAutoencoder):
        images = _dataset(run, data_dir).test.images
        rows = min(rows, len(images) // 2)
        check_picture("rows", rows, rows, steps, trained.data.shape, "use fewer --rows or --steps")
        chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))[: 2 * rows]
        z = trained.encode(from_uint8(images[chosen]))
    else:
        check_picture("rows", rows, rows, steps, trained.data.shape, "use fewer --rows or --steps")
        z = _codes(trained, 2 * rows, seed)
    a, b = z[:rows, None], z[rows : 2 * rows, None]
    t = torch.linspace(0, 1, steps, device=z.device)[None, :, None]
    target = _png(out or run / "interpolations.png")
    save_grid(to_uint8(trained.decode(torch.lerp(a, b, t).flatten(0, 1))).cpu(), target, steps)
    echo(f"wrote {count(rows, 'interpolation')} to {target}")


@click.command()
@_run
@click.option("--dims", type=click.IntRange(1), default=10, show_default=True, help="Number of dimensions of z.")
@click.option("--steps", type=click.IntRange(3), default=11, show_default=True, help="Number of values per dimension.")
@_out("traversals.png", "PNG file")
@_seed
def traverse(run: Path, dims: int, steps: int, out: Path | None, seed: int) -> None:
    """Draw traversals of the code dimensions.

    Each row varies one dimension from −3 to 3 with the others fixed.
    """
    import torch

    from zoo.data import to_uint8
    from zoo.run.image_grids import save_grid

    trained = _load(run)
    latent = trained.objective.latent
    dims = min(dims, latent)
    check_picture("steps", steps, dims, steps, trained.data.shape, "use fewer --steps or --dims")
    z = _codes(trained, 1, seed).repeat(dims * steps, 1)
    values = torch.linspace(-3, 3, steps, device=z.device)
    for d in range(dims):
        z[d * steps : (d + 1) * steps, d] = values
    target = _png(out or run / "traversals.png")
    save_grid(to_uint8(trained.decode(z)).cpu(), target, steps)
    echo(f"wrote {count(dims, 'traversal')} to {target}")


@click.command()
@_run
@_out("codes.npz", "File of codes and labels (.npz)")
@_data_dir
def encode(run: Path, out: Path | None, data_dir: Path | None) -> None:
    """Write the codes of training and test images.

    The file has the arrays z_train and z_test and, if there are labels, labels_train and labels_test.
    """
    import io

    import numpy as np

    from zoo.files import write_atomically

    target = out or run / "codes.npz"
    if target.suffix != ".npz":
        raise UsageError(f"out: {str(target)!r} is not allowed; must end in .npz")
    trained, data = _autoencoder(run), _dataset(run, data_dir)
    arrays: dict[str, Any] = {}
    for name, split in (("train", data.train), ("test", data.test)):
        arrays[f"z_{name}"] = trained.encode(split.images).cpu().numpy()
        if split.labels is not None:
            arrays[f"labels_{name}"] = split.labels.numpy()
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    _make_parent(target)
    write_atomically(target, buffer.getvalue())
    shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
    echo(f"wrote {shapes} to {target}")


def _load(run: Path) -> TrainedModel:
    from zoo.run import load

    return load(run)


def _autoencoder(run: Path) -> TrainedAutoencoder:
    from zoo.run import TrainedAutoencoder

    trained = _load(run)
    if not isinstance(trained, TrainedAutoencoder):
        raise UsageError(f"{run}: the model has no encoder; this command requires an autoencoder")
    return trained


def _dataset(run: Path, data_dir: Path | None) -> Dataset:
    from zoo.cli.run_data import load_run_data

    return load_run_data(run, data_dir)[1]


def _codes(trained: TrainedModel, n: int, seed: int) -> Tensor:
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return trained.objective.prior(torch.empty(0, device=trained.device), n)


def _png(target: Path) -> Path:
    if target.suffix != ".png":
        raise UsageError(f"out: {str(target)!r} is not allowed; must end in .png")
    _make_parent(target)
    return target


def _make_parent(target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ZooError(f"out: cannot write to {target.parent}: {error.strerror or error}") from None


def _write_images(images: Tensor, target: Path) -> None:
    import io

    import numpy as np
    from PIL import Image

    from zoo.files import write_atomically
    from zoo.run.image_grids import save_grid
    from zoo.run.trained import to_image_array

    _make_parent(target)
    if target.suffix == ".png":
        save_grid(images.cpu(), target, max(1, round(len(images) ** 0.5)))
    elif target.suffix == ".npy":
        buffer = io.BytesIO()
        np.save(buffer, to_image_array(images), allow_pickle=False)
        write_atomically(target, buffer.getvalue())
    elif target.exists() and not target.is_dir():
        raise ZooError(f"out: cannot write to {target}: it is not a folder; must end in .png or .npy, or be a folder")
    else:
        _make_parent(target / "x")
        digits = len(str(len(images) - 1))
        for i, image in enumerate(to_image_array(images)):
            buffer = io.BytesIO()
            Image.fromarray(image).save(buffer, "PNG")
            write_atomically(target / f"{i:0{digits}d}.png", buffer.getvalue())
