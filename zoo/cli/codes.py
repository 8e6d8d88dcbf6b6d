"""``zoo encode``, ``decode``, ``embed`` and ``attribute``: codes of images, to files and back, in the plane, moved."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zoo.cli.console import echo
from zoo.cli.model_files import (
    class_index,
    data_dir_option,
    image_target,
    load_autoencoder,
    load_dataset,
    load_model,
    make_parent,
    out_option,
    png_path,
    run_argument,
    seed_option,
    write_images,
)
from zoo.cli.parameters import FilePath, check_picture
from zoo.errors import UsageError
from zoo.terminal import count

if TYPE_CHECKING:
    from zoo.data import Dataset

__all__ = ["attribute", "decode", "embed", "encode"]

_MEAN_IMAGES = 5000  # of a class, for the mean of their codes


@click.command()
@run_argument
@out_option("codes.npz", "File of codes and labels: .npz, or .parquet with the paths of a folder's images")
@data_dir_option
def encode(run: Path, out: Path | None, data_dir: Path | None) -> None:
    """Write the codes of training and test images.

    An .npz file has the arrays z_train and z_test and, if there are labels, labels_train and labels_test. A .parquet
    file has a row per image with the columns split, index, label and class, path (of folder: data sets) and z.
    """
    from zoo.run.code_files import write_npz, write_parquet

    target = out or run / "codes.npz"
    if target.suffix not in (".npz", ".parquet"):
        raise UsageError(f"out: {str(target)!r} is not allowed; must end in .npz or .parquet")
    trained, data = load_autoencoder(run), load_dataset(run, data_dir)
    codes = {
        name: trained.encode(split.images, trained.only_if_conditional(split.labels)).cpu()
        for name, split in (("train", data.train), ("test", data.test))
    }
    make_parent(target)
    if target.suffix == ".npz":
        shapes = write_npz(target, codes, data)
    else:
        shapes = write_parquet(target, codes, data, _paths(run, data_dir))
    echo(f"wrote {shapes} to {target}")


def _paths(run: Path, data_dir: Path | None) -> dict[str, list[str]] | None:
    """Paths of the images of a ``folder:`` data set, by split; None for any other."""
    from zoo.data import DataOptions, folder_files
    from zoo.run.run_folder import RunFolder

    settings = RunFolder(run).settings()
    if not settings.dataset.startswith("folder:"):
        return None
    root = data_dir or (Path(settings.data_dir) if settings.data_dir else None)
    options = DataOptions(data_dir=root, format=settings.image_format)
    train, test = folder_files(settings.dataset.removeprefix("folder:"), options)
    return {"train": train, "test": test}


@click.command()
@run_argument
@click.argument("codes", type=FilePath())
@click.option("--array", metavar="NAME", help="Array of an .npz file; default: z, else z_test, else z_train.")
@click.option("-n", "n", type=click.IntRange(1), help="Number of codes, the first ones; default: all.")
@out_option("decoded.png", "Grid as .png, array as .npy (uint8, N×H×W or N×H×W×3), or a folder for single PNG files")
def decode(run: Path, codes: Path, array: str | None, n: int | None, out: Path | None) -> None:
    """Decode codes from a file to images.

    CODES is an .npz file as zoo encode writes it, an .npy file of an array (N, d), or a .parquet file with a column z.
    """
    import torch

    from zoo.data import chunks, to_uint8
    from zoo.run.code_files import read_codes

    trained = load_model(run)
    z = read_codes(codes, array)[:n]
    target = image_target(out or run / "decoded.png", len(z), trained.data.shape, "n", "use a smaller -n")
    write_images(torch.cat([to_uint8(trained.decode(part)).cpu() for part in chunks(z, 500)]), target)
    echo(f"wrote {count(len(z), 'image')} to {target}")


@click.command()
@run_argument
@click.option(
    "--method",
    type=click.Choice(["pca", "tsne", "umap"]),
    default="pca",
    show_default=True,
    help="Method of embedding.",
)
@click.option("-n", "n", type=click.IntRange(3), default=1000, show_default=True, help="Number of test images.")
@out_option("embedding.png", "PNG file; the coordinates are written beside it, as .npz")
@seed_option
@data_dir_option
def embed(run: Path, method: Any, n: int, out: Path | None, seed: int, data_dir: Path | None) -> None:
    """Draw the codes of test images in the plane, colored by class.

    PCA is linear and keeps large distances; t-SNE and UMAP (which needs the package umap-learn) keep neighbors. The
    .npz file has the arrays embedding (N, 2), z (N, d) and, if there are labels, labels.
    """
    import numpy as np

    from zoo.files import write_atomically
    from zoo.run.embedding_plot import draw_embedding
    from zoo.run.latent import METHODS
    from zoo.run.latent import embed as embed_codes

    target = out or run / "embedding.png"
    if target.suffix != ".png":
        raise UsageError(f"out: {str(target)!r} is not allowed; must end in .png")
    trained, data = load_autoencoder(run), load_dataset(run, data_dir)
    y = None if data.test.labels is None else data.test.labels[:n]
    z = trained.encode(data.test.images[:n], trained.only_if_conditional(y)).cpu()
    points = embed_codes(z, method, seed=seed % 2**32)
    labels = None if data.test.labels is None else data.test.labels[: len(z)].cpu().numpy()
    png_path(target)
    write_atomically(target, draw_embedding(points, labels, data.classes, f"{METHODS[method]} of {len(z):,} codes"))
    arrays: dict[str, Any] = {"embedding": points, "z": z.numpy()}
    if labels is not None:
        arrays["labels"] = labels
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    write_atomically(target.with_suffix(".npz"), buffer.getvalue())
    echo(f"wrote {count(len(z), 'code')} to {target} and {target.with_suffix('.npz')}")


@click.command()
@run_argument
@click.option("--from", "source", required=True, metavar="CLASS", help="Class of the images that are changed.")
@click.option("--to", "goal", required=True, metavar="CLASS", help="Class whose attributes they get.")
@click.option("-n", "n", type=click.IntRange(1), default=8, show_default=True, help="Number of test images.")
@click.option("--steps", type=click.IntRange(2), default=8, show_default=True, help="Images per row.")
@click.option("--strength", type=float, default=1.0, show_default=True, help="Multiple of the vector added at the end.")
@out_option("attribute.png", "PNG file")
@data_dir_option
def attribute(
    run: Path, source: str, goal: str, n: int, steps: int, strength: float, out: Path | None, data_dir: Path | None
) -> None:
    """Add the attribute vector between two classes to the codes of images.

    The vector is the mean code of the training images of one class minus that of the other (Larsen et al., 2016,
    arXiv:1512.09300, section 4.2). Each row begins with a test image of the class --from, its reconstruction follows,
    and then images of its code plus a growing multiple of the vector. CLASS is a name or an index.
    """
    import torch

    from zoo.data import from_uint8, take, to_uint8
    from zoo.run.image_grids import save_grid
    from zoo.run.latent import class_mean, decode_all

    trained, data = load_autoencoder(run), load_dataset(run, data_dir)
    if trained.objective.conditional:
        raise UsageError(f"{run}: a conditional model is not allowed; its class is an input, see zoo sample --class")
    first, second = (_class_index(data, value, name) for value, name in ((source, "from"), (goal, "to")))
    assert data.train.labels is not None
    assert data.test.labels is not None
    means = []
    for label, name in ((first, "from"), (second, "to")):
        rows = (data.train.labels == label).nonzero()[:_MEAN_IMAGES, 0]
        z = trained.encode(take(data.train.images, rows)) if len(rows) else torch.empty(0, 1)
        means.append(class_mean(z, torch.full((len(rows),), label), label, name))
    shown = (data.test.labels == first).nonzero()[:n, 0]
    if not len(shown):
        raise UsageError(f"from: no test image has the class {source!r}; choose another")
    check_picture("steps", steps, len(shown), steps + 1, trained.data.shape, "use fewer --steps or a smaller -n")
    x = take(data.test.images, shown)
    z = trained.encode(from_uint8(x))
    amounts = torch.linspace(0, strength, steps, device=z.device)
    moved = z[:, None] + amounts[None, :, None] * (means[1] - means[0])
    images = to_uint8(decode_all(trained, moved.flatten(0, 1))).cpu().view(len(x), steps, *x.shape[1:])
    target = png_path(out or run / "attribute.png")
    save_grid(torch.cat([x.cpu()[:, None], images], dim=1).flatten(0, 1), target, steps + 1)
    echo(f"wrote {count(len(x), 'row')} from {data.classes[first]} to {data.classes[second]} to {target}")


def _class_index(data: Dataset, value: str, argument: str) -> int:
    if data.train.labels is None or data.test.labels is None:
        raise UsageError(f"{argument}: {data.name} has no classes")
    return class_index(value, data.classes, argument)
