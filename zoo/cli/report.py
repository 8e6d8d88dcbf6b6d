"""``zoo report``: the page of a run; ``zoo run`` writes it at its end."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from zoo.cli.console import echo
from zoo.cli.parameters import FilePath
from zoo.errors import UsageError, ZooError

if TYPE_CHECKING:
    from zoo.cli.progress import PlainProgress
    from zoo.run import TrainedModel

__all__ = ["report", "report_run"]


@click.command()
@click.argument("run", type=FilePath())
@click.option("--out", type=FilePath(), metavar="FILE", help="HTML file; default: RUN/report.html.")
@click.option("--tsne", is_flag=True, help="Also embed the codes by t-SNE, which takes seconds.")
@click.option("--data-dir", type=FilePath(), help="Data root; default: that of the run.")
def report(run: Path, out: Path | None, tsne: bool, data_dir: Path | None) -> None:
    """Write a page about a run: scores, curves, samples over time, codes, settings.

    The page is one HTML file that needs nothing else. An unfinished run has one too, without scores.
    """
    if out is not None and out.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"out: {str(out)!r} is not allowed; must end in .html")
    from zoo.cli.run_data import load_run_data
    from zoo.report import write_report
    from zoo.run import TrainedAutoencoder, load
    from zoo.run.run_folder import RunFolder

    folder = RunFolder(run)
    folder.settings()  # refuses what is not a run
    trained, data, notes = None, None, []
    if folder.model.is_file():
        try:
            trained = load(run)
        except ZooError as error:
            notes.append(f"Without traversals and codes, since the model cannot be loaded: {error}")
    if isinstance(trained, TrainedAutoencoder):
        try:
            data = load_run_data(run, data_dir)[1]
        except ZooError as error:
            notes.append(f"Without codes, since the data set cannot be loaded: {error}")
    for text in notes:
        echo(f"note: {text}", err=True)
    if out is not None:
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ZooError(f"out: cannot write to {out.parent}: {error.strerror or error}") from None
    path = write_report(run, trained, data, out=out, methods=("pca", "tsne") if tsne else ("pca",), notes=notes)
    echo(f"wrote {path}")


def report_run(folder: Path, trained: TrainedModel, progress: PlainProgress) -> None:
    """Write the report of a run that has just finished, and say where; a failure is a warning."""
    from zoo.report import write_report
    from zoo.run import TrainedAutoencoder
    from zoo.run.run_folder import RunFolder
    from zoo.run.train import load_data

    try:
        data = load_data(RunFolder(folder).settings()) if isinstance(trained, TrainedAutoencoder) else None
        path = write_report(folder, trained, data)
    except Exception as error:  # the run is complete, whatever a plugin raises here
        reason = " ".join(str(error).split()) or type(error).__name__
        echo(f"zoo: warning: report not written: {reason}", err=True)
    else:
        progress.wrote_report(path)
