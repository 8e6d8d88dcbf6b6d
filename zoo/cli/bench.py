"""``zoo bench``: a grid of models, data sets and seeds under one protocol."""

from __future__ import annotations

from pathlib import Path

import click

from zoo.bench.executors import EXECUTORS
from zoo.cli.console import as_json, echo, make_console, print_json
from zoo.cli.parameters import FilePath
from zoo.errors import UsageError, ZooError

__all__ = ["bench"]


@click.command()
@click.option("--models", metavar="A,B", help="Models, or all; default: those of the protocol.")
@click.option("--datasets", metavar="A,B", help="Data sets; default: those of the protocol.")
@click.option("--seeds", type=int, metavar="K", help="Number of seeds, 0 to K − 1; default: that of the protocol.")
@click.option("--protocol", "file", type=FilePath(), help="Protocol file; default: that of --out, or quick.")
@click.option(
    "--executor",
    type=click.Choice(EXECUTORS),
    default="local",
    show_default=True,
    help="Local processes, a Ray cluster or SLURM.",
)
@click.option(
    "--jobs",
    type=int,
    metavar="N",
    help="Number of concurrent runs; default: one per core, or as many as the GPUs allow.",
)
@click.option("--threads", type=int, metavar="N", help="CPU threads per run; default: an equal share of the cores.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True, help="Device.")
@click.option("--gpu-fraction", type=float, default=1.0, show_default=True, help="Share of a GPU per run, at most 1.")
@click.option("--data-dir", type=FilePath(), help="Torchvision-style data root; default: $ZOO_DATA.")
@click.option("--time-limit", metavar="TIME", help="Time limit per run: 90 (seconds), 30m or 2h.")
@click.option("--retry-failed", is_flag=True, help="Also run cells again that failed before.")
@click.option("--rescore", is_flag=True, help="Score finished runs again from their weights, without training.")
@click.option(
    "--slurm",
    multiple=True,
    metavar="KEY=VALUE",
    help="For submitit: a SLURM option, such as partition=gpu; repeatable.",
)
@click.option("--dry-run", is_flag=True, help="Show the grid without running anything.")
@click.option("--quiet", is_flag=True, help="Print the last line and errors only.")
@as_json
@click.option("--out", required=True, type=FilePath(), help="Folder of the benchmark.")
def bench(
    models: str | None,
    datasets: str | None,
    seeds: int | None,
    file: Path | None,
    executor: str,
    jobs: int | None,
    threads: int | None,
    device: str,
    gpu_fraction: float,
    data_dir: Path | None,
    time_limit: str | None,
    retry_failed: bool,
    rescore: bool,
    slurm: tuple[str, ...],
    dry_run: bool,
    quiet: bool,
    as_json: bool,
    out: Path,
) -> None:
    """Run a grid of models, data sets and seeds under one protocol.

    Finished cells are not run again and interrupted cells resume from their checkpoints: repeat the command after an
    interruption.
    """
    from zoo.bench.bench_protocol import BenchProtocol
    from zoo.bench.executors import Resources
    from zoo.bench.run_grid import read_protocol, run_grid, with_grid

    if rescore:
        others = (executor != "local", slurm, retry_failed, file, models, datasets, seeds is not None, time_limit)
        if any(others):
            raise UsageError("rescore: only --out, --jobs, --threads, --device, --data-dir and --dry-run go with it")
        _rescore(out, jobs, threads, device, data_dir, dry_run)
        return
    seconds = None if time_limit is None else _seconds(time_limit)
    if slurm and executor != "submitit":
        raise UsageError("slurm: requires --executor submitit")
    resources = Resources(jobs, threads, device, gpu_fraction, dict(_pair(text) for text in slurm))
    protocol = BenchProtocol.from_file(file) if file else read_protocol(out) or BenchProtocol()
    protocol = with_grid(protocol, _names("models", models), _names("datasets", datasets), seeds)
    if dry_run:
        _print_plan(out, protocol, retry_failed, as_json)
        return
    from zoo.bench.display import QuietDisplay, create_display

    with QuietDisplay() if quiet or as_json else create_display() as callback:
        grid_status = run_grid(
            out,
            protocol,
            executor=executor,
            resources=resources,
            data_dir=data_dir,
            time_limit=seconds,
            retry_failed=retry_failed,
            callback=callback,
        )
    _report(grid_status, out, as_json)


def _rescore(
    out: Path, jobs: int | None, threads: int | None, device: str, data_dir: Path | None, dry_run: bool
) -> None:
    from zoo.bench.rescore_grid import Rescored, finished_runs, rescore_grid

    if dry_run:
        echo(f"{len(finished_runs(out))} finished runs in {out}")
        return

    def report(outcome: Rescored) -> None:
        echo(f"{outcome.folder}: {outcome.reason or outcome.outcome}")

    found = rescore_grid(out, jobs=jobs, threads=threads, device=device, data_dir=data_dir, report=report)
    counts = {kind: sum(outcome.outcome == kind for outcome in found) for kind in ("scored", "current", "failed")}
    echo(f"{counts['scored']} scored, {counts['current']} had all scores already, {counts['failed']} failed")
    if failed := [outcome for outcome in found if outcome.outcome == "failed"]:
        first = f"{failed[0].folder} first: {failed[0].reason}"
        raise ZooError(f"{len(failed)} of {len(found)} runs were not scored, {first}")


def _print_plan(out: Path, protocol: object, retry_failed: bool, as_json: bool) -> None:
    from zoo.bench.bench_protocol import BenchProtocol
    from zoo.bench.display import render_grid, summary
    from zoo.bench.run_grid import plan

    assert isinstance(protocol, BenchProtocol)
    grid_status = plan(out, protocol, retry_failed=retry_failed)
    if as_json:
        print_json(grid_status.to_dict())
        return
    console = make_console()
    console.print(render_grid(grid_status))
    console.print(f"protocol {protocol.label}; {summary(grid_status)}", markup=False, soft_wrap=True)


def _report(grid_status: object, out: Path, as_json: bool) -> None:
    from zoo.bench.display import summary
    from zoo.bench.grid_status import CellState, GridStatus

    assert isinstance(grid_status, GridStatus)
    if as_json:
        print_json(grid_status.to_dict())
    else:
        echo(summary(grid_status))
    failed = [s.cell.name for s in grid_status.cells if s.state is CellState.FAILED]
    unfinished = [s for s in grid_status.cells if s.state is CellState.OPEN]
    if failed:
        shown = ", ".join(failed[:5]) + (f" and {len(failed) - 5} more" if len(failed) > 5 else "")
        raise ZooError(
            f"{len(failed)} of {len(grid_status.cells)} cells failed: {shown}; see failed.json and log.txt in their "
            f"folders under {out}; --retry-failed runs them again"
        )
    if unfinished:
        raise ZooError(
            f"{len(unfinished)} of {len(grid_status.cells)} cells are not finished; {unfinished[0].cell.name}: "
            f"{unfinished[0].reason}; repeat the command to continue"
        )


def _names(flag: str, text: str | None) -> list[str] | None:
    if text is None:
        return None
    names = [part.strip() for part in text.split(",")]
    if not all(names):
        raise UsageError(f"{flag}: {text!r} is not allowed; must be names separated by commas")
    return names


def _seconds(text: str) -> float:
    """Parse ``90``, ``90s``, ``30m`` or ``2h`` as seconds."""
    number, unit = (text[:-1], text[-1]) if text[-1:] in ("s", "m", "h") else (text, "s")
    try:
        seconds = float(number) * {"s": 1, "m": 60, "h": 3600}[unit]
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e9:
        raise UsageError(f"time_limit: {text!r} is not allowed; must be a time such as 90, 30m or 2h")
    return seconds


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (key and equals and value):
        raise UsageError(f"slurm: {text!r} is not allowed; must be KEY=VALUE, such as partition=gpu")
    return key, value
