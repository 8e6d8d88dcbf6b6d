"""Hooks of plugins. A plugin is a module that implements some of them, declared by an entry point in group ``zoo``."""

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
    """Models for ``zoo run NAME``, by name."""


@hookspec
def zoo_datasets() -> Iterable[DataSource]:  # type: ignore[empty-body]
    """Data sets for ``--dataset NAME``."""


@hookspec
def zoo_extractors() -> Mapping[str, type[Extractor]]:  # type: ignore[empty-body]
    """Feature extractors for ``--extractor NAME``, by name; instantiated without arguments on first use."""


@hookspec
def zoo_families() -> Mapping[str, type[Family]]:  # type: ignore[empty-body]
    """Families of networks for ``--family NAME``, by name; instantiated without arguments when used."""


@hookspec
def zoo_metrics() -> Mapping[str, type[Metric]]:  # type: ignore[empty-body]
    """Metrics that evaluations compute, by name. The names of a metric's scores begin with its own name.

    Called before the first evaluation, not on startup: import the module of the metrics inside the hook.
    """


@hookspec
def zoo_commands() -> Iterable[click.Command]:  # type: ignore[empty-body]
    """Additional commands of ``zoo``. Built-in commands cannot be replaced.

    ``zoo --help`` imports the plugin's module, so import torch and other large libraries inside the command.
    """


@hookspec
def zoo_trackers() -> Mapping[str, type[Callback]]:  # type: ignore[empty-body]
    """Trackers for ``--tracker NAME``, by name: callbacks, instantiated without arguments for each run that names them.

    A tracker's constructor raises :class:`zoo.UsageError` if its library is not installed. It writes its files to the
    folder ``trackers`` of the run folder. Import large libraries inside its methods.
    """


@hookspec
def zoo_callbacks() -> Iterable[Callback]:  # type: ignore[empty-body]
    """Callbacks of training runs. Called once per run: return new objects each time."""
