"""``zoo export``: trained networks as files that need no zoo."""

from __future__ import annotations

from pathlib import Path

import click

from zoo.cli.console import as_json, echo, print_json
from zoo.cli.parameters import FilePath

__all__ = ["export"]


@click.command()
@click.argument("run", type=FilePath())
@click.option(
    "--format",
    "kind",
    type=click.Choice(["onnx", "torch-export"]),
    default="onnx",
    show_default=True,
    help="ONNX model (extra export), or program of torch.export.",
)
@click.option(
    "--part",
    default="decoder",
    show_default=True,
    metavar="NAME",
    help="Part of the model: decoder, encoder, autoencoder, or the name of a critic.",
)
@click.option("--out", type=FilePath(), metavar="FILE", help="File, .onnx or .pt2; default: RUN/PART with the suffix.")
@as_json
def export(run: Path, kind: str, part: str, out: Path | None, as_json: bool) -> None:
    """Export a part of a trained model to ONNX or torch.export.

    The file takes batches of any size. It is checked on fixed inputs before it is written: an ONNX model by
    onnxruntime, a program of torch.export after it is loaded again.
    """
    from zoo.run import load
    from zoo.run.export import SUFFIXES, check_available
    from zoo.run.export import export as export_part

    check_available(kind)
    trained = load(run)
    target = out or run / f"{part}{SUFFIXES[kind]}"
    report = export_part(trained, target, part=part, format=kind)  # type: ignore[arg-type]  # a choice
    if as_json:
        print_json(
            {
                "path": str(target),
                "inputs": report.inputs,
                "outputs": report.outputs,
                "max_error": report.max_error,
                "tolerance": report.tolerance,
            }
        )
        return
    for title, shapes in (("input", report.inputs), ("output", report.outputs)):
        for name, shape in shapes.items():
            echo(f"{title:6}  {name}, float32, batch×{'×'.join(map(str, shape)) or '1'}")
    echo(f"check   largest difference to the model {report.max_error:.2g}, allowed {report.tolerance:.2g}")
    echo(f"wrote {target}")
