"""``zoo eval`` and ``zoo compare``: score a model again, and compare the scores of two runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.markup import escape
from rich.table import Table

from zoo.cli.console import as_json, echo, make_console, print_json, progress_lines
from zoo.cli.parameters import FilePath
from zoo.errors import UsageError, ZooError
from zoo.version import __version__

if TYPE_CHECKING:
    from zoo.data import Dataset
    from zoo.evaluation import Scores

__all__ = ["compare", "evaluate"]

_SCORED = "scored {done:,} of {total:,} images"


@click.command("eval")
@click.argument("run", type=FilePath(), required=False)
@click.option("--images", type=FilePath(), help="Score images of a folder or a .npy file.")
@click.option("--dataset", metavar="NAME", help="With --images: reference data set.")
@click.option(
    "--extractor",
    metavar="NAME",
    help="Features: auto, or from `zoo list extractors`; default: those of the run.",
)
@click.option(
    "-n", "n", type=click.IntRange(2, 1_000_000), help="Number of images to score; default: that of the run, or all."
)
@click.option(
    "--metrics",
    type=click.Choice(["quick", "full"]),
    default="full",
    show_default=True,
    help="Metric set; quick: that of runs.",
)
@click.option(
    "--ais",
    type=click.IntRange(0, 64),
    default=0,
    metavar="N",
    help="Also estimate the likelihood of N ≤ 64 test images by annealed importance sampling (minutes).",
)
@click.option("--data-dir", type=FilePath(), help="Data root; default: that of the run, or $ZOO_DATA.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True, help="Device.")
@click.option("--out", type=FilePath(), help="JSON file; default: RUN/eval-EXTRACTOR.json, or none with --images.")
@click.option("--protocol", "shown", is_flag=True, help="Also print the protocol of the scores.")
@as_json
def evaluate(
    run: Path | None,
    images: Path | None,
    dataset: str | None,
    extractor: str | None,
    n: int | None,
    metrics: str,
    ais: int,
    data_dir: Path | None,
    device: str,
    out: Path | None,
    shown: bool,
    as_json: bool,
) -> None:
    """Score a trained model, or a set of images, with all metrics."""
    if (run is None) == (images is None):
        raise UsageError("eval: give either a run folder or --images with --dataset")
    if (images is None) != (dataset is None):
        raise UsageError("dataset: must be given with --images, and only then")
    if out is not None and out.suffix != ".json":
        raise UsageError(f"out: {str(out)!r} is not allowed; must end in .json")
    if ais and (run is None or metrics != "full"):
        raise UsageError("ais: requires a run and --metrics full")
    if run is not None:
        facts, scores, data, name = _score_run(run, extractor, n, metrics, ais, data_dir, device)
        target: Path | None = out or run / f"eval-{name}.json"
    else:
        assert images is not None
        assert dataset is not None
        facts, scores, data = _score_images(images, dataset, extractor or "auto", n, metrics, data_dir, device)
        target = out
    from zoo.cli.progress import scores_table

    content = _content(facts, scores, metrics)
    if as_json:
        print_json(content)
    else:
        console = make_console()
        console.print(scores_table(scores.values, scores.infos, scores.protocol.n_generated, scores.protocol.n_real))
        if shown:
            console.print(scores.protocol.describe(), markup=False, highlight=False, soft_wrap=True)
    if target is not None:
        written = _write(target, content, scores, data)
        echo(f"wrote {', '.join(written)}", err=as_json)


@click.command()
@click.argument("run_a", type=FilePath())
@click.argument("run_b", type=FilePath())
@click.option("--extractor", metavar="NAME", help="Compare the eval-NAME.json of zoo eval instead of result.json.")
@as_json
def compare(run_a: Path, run_b: Path, extractor: str | None, as_json: bool) -> None:
    """Compare the scores of two runs.

    RUN_A and RUN_B are run folders or JSON files of zoo eval, scored under the same protocol.
    """
    from zoo.cli.progress import format_score
    from zoo.evaluation import Protocol
    from zoo.metrics.score_lookup import stored_infos

    results = [_result(path, extractor) for path in (run_a, run_b)]
    protocols = [Protocol.from_dict(result["protocol"]) for result in results]
    if reasons := protocols[0].explain(protocols[1]):
        message = f"{run_a} and {run_b} were scored under different protocols: {'; '.join(reasons)}"
        if protocols[0].extractor != protocols[1].extractor:
            message += f"; zoo eval RUN --extractor {protocols[1].extractor} scores a run with another extractor"
        raise ZooError(message)
    a, b = (result["scores"] for result in results)
    stored = {**(results[1].get("score_info") or {}), **(results[0].get("score_info") or {})}
    infos = stored_infos(dict.fromkeys((*a, *b)), stored)
    better = {name: _better(a.get(name), b.get(name), info.better) for name, info in infos.items()}
    if as_json:
        runs = [
            {"path": str(path), "model": result.get("model"), "seed": result.get("seed")}
            for path, result in zip((run_a, run_b), results, strict=True)
        ]
        scores = {name: {"a": a.get(name), "b": b.get(name), "better": better[name] or None} for name in infos}
        print_json({"a": runs[0], "b": runs[1], "scores": scores})
        return
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("")
    for path, result in zip((run_a, run_b), results, strict=True):
        table.add_column(
            f"{escape(str(result.get('model', path.stem)))} [dim]{escape(path.name)}[/dim]", justify="right"
        )
    table.add_column("better")
    for name in infos:
        arrow = {"a": "←", "b": "→", "": ""}[better[name]]
        table.add_row(escape(name), format_score(a.get(name)), format_score(b.get(name)), arrow)
    make_console().print(table)
    echo("One seed each: small differences may be noise; zoo bench compares over seeds.")


def _better(a: float | None, b: float | None, better: str) -> str:
    """``a`` or ``b``, the better of two scores; empty if neither is."""
    if a is None or b is None or a == b or better == "neither":
        return ""
    return "a" if (a < b) == (better == "lower") else "b"


def _score_run(
    run: Path, extractor: str | None, n: int | None, metrics: Any, ais: int, data_dir: Path | None, device: str
) -> tuple[dict[str, Any], Scores, Dataset, str]:
    from zoo.cli.run_data import load_run_data
    from zoo.evaluation import EvaluationSettings
    from zoo.metrics import AnnealedLogLikelihood
    from zoo.run import load
    from zoo.run.scoring import Scorer
    from zoo.run.train import choose_device

    trained = load(run).to(choose_device(device))
    settings, data = load_run_data(run, data_dir)
    name = extractor or ("auto" if settings.extractor == "none" else settings.extractor)
    on_request = (AnnealedLogLikelihood(images=ais),) if ais else ()
    evaluation = EvaluationSettings(n=n or settings.samples, metric_set=metrics, on_request=on_request)
    scores = Scorer(name, data, _note, evaluation, progress_lines(_SCORED)).evaluate(trained)
    facts = {"model": settings.model, "dataset": data.name, "seed": settings.seed}
    return facts, scores, data, scores.protocol.extractor


def _score_images(
    images: Path, dataset: str, extractor: str, n: int | None, metrics: Any, data_dir: Path | None, device: str
) -> tuple[dict[str, Any], Scores, Dataset]:
    from zoo.data import DataOptions, load_dataset
    from zoo.evaluation import EvaluationSettings, read_images
    from zoo.registry import registry
    from zoo.run.scoring import Scorer
    from zoo.run.train import choose_device

    data = load_dataset(dataset, DataOptions(data_dir=data_dir), registry().sources())
    evaluation = EvaluationSettings(n=n, metric_set=metrics)
    scorer = Scorer(extractor, data, _note, evaluation, progress_lines(_SCORED))
    scores = scorer.evaluate_images(read_images(images, data.shape, data.name), choose_device(device))
    return {"images": str(images), "dataset": data.name}, scores, data


def _note(text: str) -> None:
    echo(f"note: {text}", err=True)


def _content(facts: Mapping[str, Any], scores: Scores, metrics: str) -> dict[str, Any]:
    """Content of ``eval-EXTRACTOR.json``."""
    from datetime import UTC, datetime

    import torch

    from zoo.result_file import seal
    from zoo.run.scoring import scores_to_dict

    provenance = {
        "zoo": __version__,
        "torch": torch.__version__,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return seal({"format": 1, **facts, "metrics": metrics, **scores_to_dict(scores), "provenance": provenance})


def _write(target: Path, content: Mapping[str, Any], scores: Scores, data: Dataset) -> list[str]:
    """Write the scores, and the pairs of generated and training images; returns what was written."""
    from zoo.data import take
    from zoo.files import write_atomically
    from zoo.run.image_grids import save_pairs

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ZooError(f"out: cannot write to {target.parent}: {error.strerror or error}") from None
    write_atomically(target, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())
    written = [str(target)]
    if scores.neighbors is not None:
        picture = target.with_name(f"{target.stem}-neighbors.png")
        save_pairs(scores.neighbors.images, take(data.train.images, scores.neighbors.indices), picture)
        written.append(f"{picture} (generated images above their nearest training images)")
    return written


def _result(path: Path, extractor: str | None) -> dict[str, Any]:
    from zoo.compatibility import convert_result
    from zoo.leaderboard.results import read_protocol
    from zoo.leaderboard.score_descriptions import read_score_info
    from zoo.leaderboard.untrusted import RefusedError
    from zoo.result_file import read_result_file
    from zoo.run.run_folder import RunFolder

    if path.suffix == ".json" or extractor is not None:
        file = path if path.suffix == ".json" else path / f"eval-{extractor}.json"
        try:
            found = convert_result(read_result_file(file))
        except FileNotFoundError:
            hint = f"; zoo eval {path} --extractor {extractor} writes it" if extractor and path.is_dir() else ""
            raise UsageError(f"{file} does not exist{hint}") from None
    else:
        file, found = path / "result.json", RunFolder(path).load_result()
    if not found.get("protocol"):
        raise ZooError(f"{file} has no scores (extractor none); zoo eval {path} computes them")
    try:
        read_score_info(found)
        read_protocol(found["protocol"])
    except RefusedError as error:
        raise ZooError(f"{file} cannot be read: {error}") from None
    return found
