"""The hooks that a plugin may implement. A plugin is a module with these and one entry point in group ``zoo``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    import click

    from zoo.callbacks import Callback
    from zoo.data import DataSource
    from zoo.evaluation import Extractor
    from zoo.interfaces import Family, Objective
    from zoo.metrics import Metric

__all__ = ["GROUP", "hookimpl", "hookspec"]

GROUP = "zoo"

hookspec = pluggy.HookspecMarker("zoo")
hookimpl = pluggy.HookimplMarker("zoo")


@hookspec
def zoo_models() -> Mapping[str, type[Objective]]:  # type: ignore[empty-body]
    """Models by the name under which ``zoo run NAME`` finds them."""


@hookspec
def zoo_datasets() -> Iterable[DataSource]:  # type: ignore[empty-body]
    """Data sets that ``--dataset NAME`` can name."""


@hookspec
def zoo_extractors() -> Mapping[str, type[Extractor]]:  # type: ignore[empty-body]
    """Feature extractors that ``--extractor NAME`` can name, built without arguments when first used."""


@hookspec
def zoo_families() -> Mapping[str, type[Family]]:  # type: ignore[empty-body]
    """Families of networks that ``--family NAME`` can name, built without arguments when used."""


@hookspec
def zoo_metrics() -> Mapping[str, type[Metric]]:  # type: ignore[empty-body]
    """Metrics that evaluations compute, by name. The names of a metric's scores begin with its own name.

    Called before the first evaluation, not on startup: import the module of the metrics inside the hook.
    """


@hookspec
def zoo_commands() -> Iterable[click.Command]:  # type: ignore[empty-body]
    """Commands of the program ``zoo``, by their own names; a built-in command cannot be replaced.

    ``zoo --help`` imports the plugin's module, so import torch and other large libraries inside the command.
    """


@hookspec
def zoo_callbacks() -> Iterable[Callback]:  # type: ignore[empty-body]
    """Callbacks of training runs. Called once per run: return new objects each time."""
