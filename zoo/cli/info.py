"""``zoo list``, ``zoo show``, ``zoo check`` and ``zoo doctor``."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click
from rich.markup import escape
from rich.table import Table

from zoo.cli.completion import complete_models
from zoo.cli.console import as_json, make_console, make_table, print_json, summary_line
from zoo.cli.group import plugin_failures, warn_of_failures
from zoo.game import Turn, player_groups, term_names, turn_notes
from zoo.preset import format_settings, get_presets
from zoo.registry import Registry, registry
from zoo.version import __version__
from zoo.weights import format_weight

if TYPE_CHECKING:
    from zoo.interfaces import Objective

__all__ = ["check", "doctor", "game_table", "list_", "show"]

_COLUMNS = {
    "models": ("model", "description", "paper", "package"),
    "datasets": ("data set", "description", "C×H×W", "package"),
    "extractors": ("extractor", "description", "package"),
    "families": ("family", "description", "package"),
    "trackers": ("tracker", "description", "package"),
    "metrics": ("metric", "scores", "description", "set", "package"),
    "plugins": ("plugin", "package", "version", "state"),
}


@click.command("list")
@click.argument("kind", type=click.Choice(list(_COLUMNS)), default="models")
@as_json
def list_(kind: str, as_json: bool) -> None:
    """List models, data sets, extractors and so on.

    Extractors compute the features of Fréchet distances (--extractor); families are sets of network architectures
    (--family); trackers log runs to other tools (--tracker); metrics of the set "quick" are computed by every run,
    those of "full" by `zoo eval`.
    """
    rows = list(_rows(kind, registry()))
    if as_json:
        print_json([dict(zip(_COLUMNS[kind], row, strict=True)) for row in rows])
    else:
        table = make_table(*_COLUMNS[kind])
        for row in rows:
            table.add_row(*map(escape, row))
        make_console().print(table)
    if kind != "plugins":
        warn_of_failures(plugin_failures())


def _rows(kind: str, found: Registry) -> Iterator[tuple[str, ...]]:
    if kind == "models":
        for name, model in found.models.items():
            yield name, summary_line(model.value), model.value.paper, model.plugin.package
    elif kind == "datasets":
        for name, source in found.datasets.items():
            shape = "×".join(map(str, source.value.shape)) if source.value.shape else ""
            yield name, source.value.help, shape, source.plugin.package
        yield "folder:PATH", "a folder of images, with or without class subfolders", "any", ""
        yield "hf:NAME", "a data set of Hugging Face's datasets, by its name or path (extra hf)", "any", ""
    elif kind == "metrics":
        for name, registered in found.metrics.items():
            metric = registered.value
            scores = ", ".join(re.sub(r"\{(second_)?(FD|KID)\}", r"\2", info.name) for info in metric.scores)
            yield name, scores, summary_line(metric), metric.metric_set, registered.plugin.package
    elif kind == "plugins":
        _ = found.metrics  # collected on first use, which may fail
        for plugin in found.plugins:
            yield plugin.name, plugin.package, plugin.version, "loaded"
        for failure in plugin_failures():
            yield failure.plugin, failure.package, "", f"failed: {failure.reason}"
    else:
        tables: dict[str, dict[str, Any]] = {
            "extractors": found.extractors,
            "families": found.families,
            "trackers": found.trackers,
        }
        for name, entry in tables[kind].items():
            yield name, summary_line(entry.value), entry.plugin.package


@click.command()
@click.argument("model", shell_complete=complete_models)
@as_json
def show(model: str, as_json: bool) -> None:
    """Show a model's paper, game table, options and presets.

    In a game table, each network minimizes the weighted sum of the terms in its row.
    """
    from zoo.options import get_options

    cls = registry().model(model)
    if as_json:
        print_json(_describe(model, cls))
        return
    console = make_console()
    console.print(f"[bold]{model}[/bold]  {escape(summary_line(cls))}")
    if cls.paper:
        console.print(escape(cls.paper))
    objective = cls()
    for turn in objective.turns():
        console.print()
        console.print(game_table(objective, turn))
    console.print()
    options = make_table("option", "default", "description", "allowed values")
    for info in get_options(cls).values():
        options.add_row(info.flag, escape(str(info.default)), escape(info.help), escape(info.allows))
    console.print(options)
    for name, preset in get_presets(cls).items():
        console.print(f"\n[bold]--preset {escape(name)}[/bold]  {escape(preset.source)}")
        console.print("  " + escape(format_settings(preset.settings)))
        console.print(f"  preset {escape(name)}: {escape(preset.summary)}")
        for what, why in preset.deviations.items():
            console.print(f"    {escape(what)}: {escape(why)}")
    if cls.deviations:
        console.print("\n[bold]deviations of the defaults from the paper[/bold]")
        for what, why in cls.deviations.items():
            console.print(f"  {escape(what)}: {escape(why)}")


def _describe(name: str, model: type[Objective]) -> dict[str, Any]:
    """Content of ``zoo show MODEL --json``."""
    from zoo.options import get_options
    from zoo.run.result import describe_plugin, model_card

    infos = get_options(model).values()
    presets = get_presets(model).items()
    return {
        "model": name,
        **model_card(model()),
        "options": [
            {"flag": info.flag, "default": info.default, "description": info.help, "allowed": info.allows}
            for info in infos
        ],
        "presets": {
            key: {"source": preset.source, "settings": dict(preset.settings), "deviations": dict(preset.deviations)}
            for key, preset in presets
        },
        "plugin": describe_plugin(name),
    }


def game_table(objective: Objective, turn: Turn) -> Table:
    """Table of a turn: a row per network, a column per term, and the weights as entries."""
    names = term_names(turn)
    title = ", ".join([f"turn {turn.name!r}", *turn_notes(turn)])
    table = Table(
        title=None if turn.name == "step" else title,
        title_justify="left",
        title_style="",
        box=None,
        padding=(0, 2, 0, 0),
        header_style="bold",
    )
    table.add_column("")
    for name in names:
        table.add_column(name, justify="right")
    table.add_column("optimizer", style="dim")
    for row in player_groups(turn.players):
        weights = dict(row.weights)
        for network in row.networks:
            cells = [format_weight(weights[name]) if name in weights else "·" for name in names]
            table.add_row(network, *cells, str(objective.optimizer(network, turn.name)))
    return table


@click.command()
@click.argument("model", shell_complete=complete_models)
@click.option("--slow", is_flag=True, help="Also train on 64 images and check that the model learns.")
@as_json
def check(model: str, slow: bool, as_json: bool) -> None:
    """Run the conformance suite on a model (for plugin authors)."""
    from zoo.conformance import check_model
    from zoo.errors import ZooError

    console = make_console()
    found = []
    for result in check_model(registry().model(model), slow=slow):
        found.append({"check": result.check, "shape": list(result.shape), "problem": result.problem})
        if not as_json:
            shape = "×".join(map(str, result.shape))
            outcome = "[green]ok[/green]" if result.problem is None else f"[red]failed[/red]: {escape(result.problem)}"
            console.print(f"{result.check:12s} {shape:8s} {outcome}", soft_wrap=True)
    if as_json:
        print_json(found)
    failed = sum(entry["problem"] is not None for entry in found)
    if failed:
        raise ZooError(f"{model}: {failed} {'check' if failed == 1 else 'checks'} failed")


@click.command()
@as_json
def doctor(as_json: bool) -> None:
    """Check the installation: versions, devices, caches, plugins.

    Exits with status 1 if a plugin failed to load.
    """
    import importlib.metadata
    import os

    import torch
    from platformdirs import user_data_dir

    from zoo.accelerators import measured_speedups
    from zoo.data import cache_dir
    from zoo.errors import ZooError
    from zoo.evaluation import DINOv2, EfficientNet, Inception, PinnedClassifier

    rows: list[tuple[str, str]] = []
    rows.append(("zoo", f"{__version__}, Python {platform.python_version()} at {sys.prefix}"))
    libraries = ("torch", "torchvision", "torchmetrics", "torch-fidelity", "scikit-learn", "safetensors", "pluggy")
    rows.append(("libraries", ", ".join(f"{n} {importlib.metadata.version(n)}" for n in libraries)))
    rows.append(("cpu", f"{os.cpu_count()} cores; torch uses {torch.get_num_threads()} threads"))
    found = measured_speedups(cache_dir() / "kernels")
    kernels = ", ".join(f"{name} {ratio:.2f}" for name, ratio in found.items()) or "none available"
    rows.append(("kernels", f"{torch.backends.cpu.get_cpu_capability()}; speed relative to torch's layers: {kernels}"))
    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            rows.append((f"cuda:{i}", torch.cuda.get_device_name(i)))
    else:
        rows.append(("cuda", "no GPU; runs use the CPU"))
    cache = cache_dir()
    size = sum(f.stat().st_size for f in cache.rglob("*") if f.is_file()) if cache.is_dir() else 0
    rows.append(("cache", f"{cache} ({size / 1e6:.1f} MB; safe to delete; set ZOO_CACHE to move it)"))
    data = os.environ.get("ZOO_DATA")
    default = user_data_dir("latent-zoo", appauthor=False)
    rows.append(("data", f"ZOO_DATA={data}" if data else f"{default} (or ZOO_DATA)"))
    try:
        PinnedClassifier()
        rows.append(("classifier", "weights present"))
    except ZooError as error:
        rows.append(("classifier", str(error)))
    for name, extractor in (("efficientnet", EfficientNet()), ("inception", Inception()), ("dinov2", DINOv2())):
        missing = extractor.available()
        rows.append((name, missing.removeprefix(f"{name}: ") if missing else "weights present"))
    _ = registry().metrics  # collected on first use, which may fail
    failures = plugin_failures()
    rows.append(("plugins", f"{len(registry().plugins)} loaded, {len(failures)} failed"))
    for failure in failures:
        rows.append(("failed plugin", str(failure)))
    if as_json:
        print_json([{"subject": subject, "state": state} for subject, state in rows])
    else:
        table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
        table.add_column(no_wrap=True)
        table.add_column()
        for subject, state in rows:
            table.add_row(subject, escape(state), style="red" if subject == "failed plugin" else None)
        make_console().print(table)
    if failures:
        raise ZooError(f"plugins: {len(failures)} failed to load, see above; all others work")
