"""``zoo list``, ``zoo show``, ``zoo doctor``: what there is, what it is, and whether it is well."""

from __future__ import annotations

import inspect as python_inspect
import platform
import sys
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from zoo.game import Turn, player_groups, term_names

if TYPE_CHECKING:
    from zoo.interfaces import Objective

__all__ = ["check", "doctor", "game_table", "list_", "show"]

_KINDS = ("models", "datasets", "extractors", "families", "plugins")


def _console() -> Console:
    console = Console(highlight=False)
    # A pipe has no width: cutting text at 80 columns there would only hide it from grep.
    return console if console.is_terminal else Console(highlight=False, width=200)


def _summary(thing: object) -> str:
    return (python_inspect.getdoc(thing) or "").partition("\n")[0]


@click.command("list")
@click.argument("kind", type=click.Choice(_KINDS), default="models")
def list_(kind: str) -> None:
    """List models, data sets, extractors, families of networks or plugins."""
    from zoo.registry import registry

    found = registry()
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    if kind == "models":
        for title in ("model", "what", "paper", "package"):
            table.add_column(title)
        for name, entry in found.models.items():
            table.add_row(name, escape(_summary(entry.value)), escape(entry.value.paper), escape(entry.plugin.package))
    elif kind == "datasets":
        for title in ("data set", "what", "C×H×W", "package"):
            table.add_column(title)
        for name, source in found.datasets.items():
            shape = "×".join(map(str, source.value.shape)) if source.value.shape else ""
            table.add_row(name, escape(source.value.help), shape, escape(source.plugin.package))
        table.add_row("folder:PATH", "your own images: class folders or flat, any format that Pillow reads", "any", "")
    elif kind == "extractors":
        for title in ("extractor", "what", "package"):
            table.add_column(title)
        for name, extractor in found.extractors.items():
            table.add_row(name, escape(_summary(extractor.value)), escape(extractor.plugin.package))
    elif kind == "families":
        for title in ("family of networks", "what", "package"):
            table.add_column(title)
        for name, family in found.families.items():
            table.add_row(name, escape(_summary(family.value)), escape(family.plugin.package))
    else:
        for title in ("plugin", "package", "version", "state"):
            table.add_column(title)
        for plugin in found.plugins:
            table.add_row(escape(plugin.name), escape(plugin.package), escape(plugin.version), "loaded")
        for failure in found.failures:
            table.add_row(escape(failure.plugin), escape(failure.package), "", f"failed: {escape(failure.reason)}")
    _console().print(table)
    if kind != "plugins":
        _warn_of_failures()


def _warn_of_failures() -> None:
    from zoo.registry import registry

    for failure in registry().failures:
        click.echo(f"zoo: warning: {failure}", err=True)


@click.command()
@click.argument("model")
def show(model: str) -> None:
    """Show a model's card: paper, game table, options, deviations."""
    from zoo.options import options_of
    from zoo.registry import registry

    cls = registry().model(model)
    console = _console()
    console.print(f"[bold]{model}[/bold]  {escape(_summary(cls))}")
    if cls.paper:
        console.print(escape(cls.paper))
    objective = cls()
    for turn in objective.turns():
        console.print()
        console.print(game_table(objective, turn))
    console.print()
    options = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for title in ("option", "default", "what", "allowed"):
        options.add_column(title)
    for info in options_of(cls).values():
        options.add_row(info.flag, escape(str(info.default)), escape(info.help), escape(info.allows))
    console.print(options)
    for name, preset in cls.presets.items():
        console.print(f"\n[bold]--preset {escape(name)}[/bold]")
        console.print("  " + escape(", ".join(f"{k} {str(v).lower() if v is True else v}" for k, v in preset.items())))
    if cls.deviations:
        console.print("\n[bold]deviations from the paper[/bold]")
        for what, why in cls.deviations.items():
            console.print(f"  {escape(what)}: {escape(why)}")


def game_table(objective: Objective, turn: Turn) -> Table:
    """One turn of a game: a row a network, a column a term, the weight with which it minimizes it."""
    names = term_names(turn)
    title = f"turn {turn.name!r}" + (f", {turn.repeat} times a step" if turn.repeat > 1 else "")
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
            cells = [f"{weights[name]:g}".replace("-", "−") if name in weights else "·" for name in names]
            table.add_row(network, *cells, str(objective.optimizer(network, turn.name)))
    return table


@click.command()
@click.argument("model")
@click.option("--slow", is_flag=True, help="Also train on 64 images, to see that it learns.")
def check(model: str, slow: bool) -> None:
    """Run the conformance suite on a model, for plugin authors."""
    from zoo.conformance import check_model
    from zoo.errors import ZooError
    from zoo.registry import registry

    console = _console()
    failed = 0
    for outcome in check_model(registry().model(model), slow=slow):
        shape = "×".join(map(str, outcome.shape))
        verdict = "[green]ok[/green]" if outcome.problem is None else f"[red]failed[/red]: {escape(outcome.problem)}"
        console.print(f"{outcome.check:12s} {shape:8s} {verdict}", soft_wrap=True)
        failed += outcome.problem is not None
    if failed:
        raise ZooError(f"{model}: {failed} checks failed")


@click.command()
def doctor() -> None:
    """Report the environment, devices, caches, and plugins that failed to load and why."""
    import importlib.metadata
    import os

    import torch

    import zoo
    from zoo.accelerators import cpu
    from zoo.data import cache_dir
    from zoo.evaluation import DINOv2, Inception, PinnedClassifier
    from zoo.registry import registry

    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column()
    table.add_row("zoo", f"{zoo.__version__}, Python {platform.python_version()} at {sys.prefix}")
    libraries = ("torch", "torchvision", "torchmetrics", "torch-fidelity", "scikit-learn", "safetensors", "pluggy")
    table.add_row("libraries", ", ".join(f"{n} {importlib.metadata.version(n)}" for n in libraries))
    table.add_row("cpu", f"{os.cpu_count()} processors, torch uses {torch.get_num_threads()} threads")
    quick = {"float32 products by oneDNN": cpu.AMD, "last deconvolutions as convolutions": cpu.AVX512}
    quick["bfloat16 weight gradients as products"] = cpu.BF16
    names = [what for what, here in quick.items() if here] or ["torch's own layers"]
    table.add_row("steps", f"{torch.backends.cpu.get_cpu_capability()}; {', '.join(names)}")
    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            table.add_row(f"cuda:{i}", torch.cuda.get_device_name(i))
    else:
        table.add_row("cuda", "none available; --device cpu is used")
    cache = cache_dir()
    size = sum(f.stat().st_size for f in cache.rglob("*") if f.is_file()) if cache.is_dir() else 0
    table.add_row("cache", f"{cache} ({size / 1e6:.1f} MB; ZOO_CACHE moves it; it can be deleted)")
    data = os.environ.get("ZOO_DATA")
    table.add_row("data", f"ZOO_DATA={data}" if data else "ZOO_DATA is not set; --data-dir names a torchvision root")
    try:
        PinnedClassifier()
        table.add_row("classifier", "the pinned classifier's weights are whole")
    except zoo.ZooError as error:
        table.add_row("classifier", f"[red]{escape(str(error))}[/red]")
    for name, extractor in (("inception", Inception()), ("dinov2", DINOv2())):
        missing = extractor.available()
        table.add_row(name, escape(missing.removeprefix(f"{name}: ")) if missing else "weights are here")
    found = registry()
    table.add_row("plugins", f"{len(found.plugins)} loaded, {len(found.failures)} failed")
    for failure in found.failures:
        table.add_row("", f"[red]{escape(str(failure))}[/red]")
    _console().print(table)
    if found.failures:
        raise zoo.ZooError(f"{len(found.failures)} plugin problem(s), named above; the others work")
