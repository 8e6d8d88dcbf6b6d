"""``zoo sample``, ``reconstruct``, ``interpolate`` and ``traverse``: images of a trained model."""

from __future__ import annotations

from pathlib import Path

import click

from zoo.cli.console import echo, progress_lines
from zoo.cli.model_files import (
    class_option,
    data_dir_option,
    find_class,
    image_target,
    load_autoencoder,
    load_dataset,
    load_model,
    out_option,
    png_path,
    run_argument,
    seed_option,
    write_images,
)
from zoo.cli.parameters import check_picture
from zoo.terminal import count

__all__ = ["interpolate", "reconstruct", "sample", "traverse"]


@click.command()
@run_argument
@click.option("-n", "n", type=click.IntRange(1), default=64, show_default=True, help="Number of images.")
@out_option("grid.png", "Grid as .png, array as .npy (uint8, N×H×W or N×H×W×3), or a folder for single PNG files")
@class_option
@seed_option
def sample(run: Path, n: int, out: Path | None, class_name: str | None, seed: int) -> None:
    """Sample images from a trained model.

    Those of a conditional model are of all classes in turn, unless --class names one.
    """
    import torch

    from zoo.data import to_uint8

    trained = load_model(run)
    hint = "use a smaller -n; another --seed makes further images"
    target = image_target(out or run / "grid.png", n, trained.data.shape, "n", hint)
    y = find_class(trained, class_name)
    parts, progress = [], progress_lines("generated {done:,} of {total:,} images")
    for part in trained.sample_parts(n, y=y, seed=seed):
        parts.append(to_uint8(part).cpu())
        progress(sum(map(len, parts)), n)
    write_images(torch.cat(parts), target)
    echo(f"wrote {count(n, 'image')} to {target}")


@click.command()
@run_argument
@click.option("-n", "n", type=click.IntRange(1), default=50, show_default=True, help="Number of test images.")
@out_option("reconstructions.png", "PNG file")
@data_dir_option
def reconstruct(run: Path, n: int, out: Path | None, data_dir: Path | None) -> None:
    """Draw test images with their reconstructions below."""
    from zoo.data import from_uint8, to_uint8
    from zoo.run.image_grids import save_pairs

    trained = load_autoencoder(run)
    test = load_dataset(run, data_dir).test
    x, y = test.images[:n], None if test.labels is None else test.labels[:n]
    check_picture("n", n, 2 * -(-len(x) // 10), 10, trained.data.shape, "use a smaller -n")
    target = png_path(out or run / "reconstructions.png")
    made = trained.reconstruct(from_uint8(x), trained.only_if_conditional(y))
    save_pairs(x, to_uint8(made).cpu(), target)
    echo(f"wrote {count(len(x), 'pair')} to {target}")


@click.command()
@run_argument
@click.option("--rows", type=click.IntRange(1), default=8, show_default=True, help="Number of interpolations.")
@click.option("--steps", type=click.IntRange(3), default=10, show_default=True, help="Images per interpolation.")
@click.option(
    "--method",
    type=click.Choice(["linear", "slerp"]),
    default="linear",
    show_default=True,
    help="Straight line, or spherical interpolation: the arc on which the norm of Gaussian codes is kept.",
)
@out_option("interpolations.png", "PNG file")
@seed_option
@data_dir_option
def interpolate(
    run: Path, rows: int, steps: int, method: str, out: Path | None, seed: int, data_dir: Path | None
) -> None:
    """Draw interpolations between codes.

    The codes are those of test images, or of the prior for models without an encoder. Each row of a conditional model
    is of one class.
    """
    import torch

    from zoo.data import from_uint8, to_uint8
    from zoo.run import TrainedAutoencoder
    from zoo.run.image_grids import save_grid
    from zoo.run.latent import decode_all, prior_codes
    from zoo.run.latent import interpolate as interpolate_codes

    trained = load_model(run)
    if isinstance(trained, TrainedAutoencoder):
        test = load_dataset(run, data_dir).test
        images = test.images
        rows = min(rows, len(images) // 2)
        check_picture("rows", rows, rows, steps, trained.data.shape, "use fewer --rows or --steps")
        chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))[: 2 * rows]
        y = None if test.labels is None else test.labels[chosen]
        z = trained.encode(from_uint8(images[chosen]), trained.only_if_conditional(y))
    else:
        check_picture("rows", rows, rows, steps, trained.data.shape, "use fewer --rows or --steps")
        z = prior_codes(trained, 2 * rows, seed)
    t = torch.linspace(0, 1, steps, device=z.device)
    codes = interpolate_codes(z[:rows], z[rows : 2 * rows], t, spherical=method == "slerp")
    target = png_path(out or run / "interpolations.png")
    classes = (torch.arange(rows) % max(1, len(trained.data.classes))).repeat_interleave(steps)
    save_grid(to_uint8(decode_all(trained, codes.flatten(0, 1), classes)).cpu(), target, steps)
    echo(f"wrote {count(rows, 'interpolation')} to {target}")


@click.command()
@run_argument
@click.option("--dims", type=click.IntRange(1), default=10, show_default=True, help="Number of dimensions of z.")
@click.option("--steps", type=click.IntRange(3), default=11, show_default=True, help="Number of values per dimension.")
@click.option(
    "--order",
    type=click.Choice(["activity", "index"]),
    default="activity",
    show_default=True,
    help="First the dimensions that change the images most, or those with the smallest index.",
)
@out_option("traversals.png", "PNG file")
@class_option
@seed_option
def traverse(run: Path, dims: int, steps: int, order: str, out: Path | None, class_name: str | None, seed: int) -> None:
    """Draw traversals of the code dimensions.

    Each row varies one dimension from −3 to 3 with the others fixed.
    """
    import torch

    from zoo.data import to_uint8
    from zoo.run.image_grids import save_grid
    from zoo.run.latent import decode_all, measure_activity, prior_codes
    from zoo.run.latent import traverse as traverse_codes

    trained = load_model(run)
    y = find_class(trained, class_name) or 0
    z = prior_codes(trained, 1, seed)[0]
    dims = min(dims, len(z))
    check_picture("steps", steps, dims, steps, trained.data.shape, "use fewer --steps or --dims")
    activity = measure_activity(trained, seed=seed)
    chosen = activity.argsort(descending=True)[:dims] if order == "activity" else torch.arange(dims)
    values = torch.linspace(-3, 3, steps, device=z.device)
    target = png_path(out or run / "traversals.png")
    save_grid(to_uint8(decode_all(trained, traverse_codes(z, chosen, values), y)).cpu(), target, steps)
    shown = ", ".join(f"{int(d)} ({activity[d]:.2g})" for d in chosen)
    echo(f"wrote {count(dims, 'traversal')} to {target}; dimension (activity) of each row: {shown}")
