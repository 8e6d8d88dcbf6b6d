"""Registry of the models, data sets, extractors, families, trackers and metrics of all installed plugins."""

from __future__ import annotations

import abc
import functools
import importlib
import importlib.metadata
import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import attrs
import pluggy

from zoo import hooks, options
from zoo.callbacks import Callback
from zoo.errors import UsageError, unknown_name

if TYPE_CHECKING:
    from zoo.data import DataSource
    from zoo.evaluation import Extractor
    from zoo.interfaces import Family, Objective
    from zoo.metrics import Metric

__all__ = ["FailedPlugin", "Plugin", "PluginLoader", "Registered", "Registry", "is_bundled", "named", "registry"]

T = TypeVar("T")


@attrs.frozen
class Plugin:
    """A loaded entry point.

    Args:
        name: Name of the entry point.
        package: Name of its distribution.
        version: Version of its distribution.
    """

    name: str
    package: str
    version: str


@attrs.frozen
class FailedPlugin:
    """A plugin, or an object registered by it, that could not be loaded, and the reason."""

    plugin: str
    package: str
    reason: str

    def __str__(self) -> str:
        return f"plugin {self.plugin!r} ({self.package}): {self.reason}"


@attrs.frozen
class Registered(Generic[T]):
    """A registered object and its plugin."""

    name: str
    value: T
    plugin: Plugin


class PluginLoader(abc.ABC):
    """Loads plugins and calls their hooks. Plugins that fail are recorded in ``failures``; the others still load."""

    def __init__(self) -> None:
        self.plugins: list[Plugin] = []
        self.failures: list[FailedPlugin] = []
        self._manager = pluggy.PluginManager("zoo")
        self._manager.add_hookspecs(hooks)

    def load(self, entry: importlib.metadata.EntryPoint) -> None:
        """Import the module of an entry point and register it."""
        package = entry.dist.name if entry.dist else "unknown package"
        plugin = Plugin(entry.name, package, entry.dist.version if entry.dist else "unknown")
        try:
            module = entry.load()
        except (Exception, SystemExit) as error:  # the import of a third-party module can fail in any way
            self.failures.append(FailedPlugin(entry.name, package, _reason(error)))
            return
        self.add(module, plugin)

    def add(self, module: object, plugin: Plugin) -> None:
        """Register the objects that the hooks of a module return."""
        try:
            if self._manager.register(module, name=plugin.name) is None:
                raise ValueError("the name is blocked")
        except Exception as error:
            self.failures.append(FailedPlugin(plugin.name, plugin.package, _reason(error)))
            return
        self.plugins.append(plugin)
        self._collect(module, plugin)

    @abc.abstractmethod
    def _collect(self, module: object, plugin: Plugin) -> None:
        """Call the hooks of ``module`` and store their results."""

    def _call_hook(
        self, module: object, plugin: Plugin, hook: str, unpack: Callable[[Any], list[tuple[str, Any]]]
    ) -> list[tuple[str, Any]]:
        # One plugin at a time, to attribute exceptions to it and keep the results of the others.
        others = [p for p in self._manager.get_plugins() if p is not module]
        caller = self._manager.subset_hook_caller(hook, others)
        try:
            return [pair for value in caller() for pair in unpack(value)]
        except (Exception, SystemExit) as error:
            self.failures.append(FailedPlugin(plugin.name, plugin.package, f"{hook}: {_reason(error)}"))
            return []

    def _put(
        self,
        table: dict[str, Any],
        kind: str,
        name: str,
        value: Any,
        plugin: Plugin,
        check: Callable[[str, Any], str | None],
    ) -> None:
        try:
            problem = check(name, value)
        except Exception as error:  # problem() may be third-party code
            problem = _reason(error)
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
            problem = "the name must consist of letters, digits, '-' and '_', and begin with a letter or digit"
        elif name in table:
            problem = f"the name is taken by plugin {table[name].plugin.name!r} ({table[name].plugin.package})"
        if problem:
            self.failures.append(FailedPlugin(plugin.name, plugin.package, f"{kind} {name!r}: {problem}"))
        else:
            table[name] = Registered(name, value, plugin)


class Registry(PluginLoader):
    """Models, data sets, extractors, families, trackers and metrics of all installed plugins, by name.

    Args:
        entry_points: Entry points to load; those of group ``zoo`` by default.
    """

    def __init__(self, entry_points: Iterable[importlib.metadata.EntryPoint] | None = None) -> None:
        super().__init__()
        self.models: dict[str, Registered[type[Objective]]] = {}
        self.datasets: dict[str, Registered[DataSource]] = {}
        self.extractors: dict[str, Registered[type[Extractor]]] = {}
        self.families: dict[str, Registered[type[Family]]] = {}
        self.trackers: dict[str, Registered[type[Callback]]] = {}
        self._modules: list[tuple[object, Plugin]] = []
        # Not an entry point: a checkout whose metadata are older than its code still has its core.
        self.add(importlib.import_module("zoo.builtin"), Plugin("core", "latent-zoo", _version("latent-zoo")))
        found = importlib.metadata.entry_points(group=hooks.GROUP) if entry_points is None else entry_points
        # Bundled plugins first, so that a third-party plugin cannot take their names.
        for entry in sorted(found, key=lambda e: (not is_bundled(e), e.name)):
            self.load(entry)

    def _collect(self, module: object, plugin: Plugin) -> None:
        self._modules.append((module, plugin))
        for name, model in self._call_hook(module, plugin, "zoo_models", _pairs):
            self._put(self.models, "model", name, model, plugin, _check_model)
        for name, source in self._call_hook(module, plugin, "zoo_datasets", named):
            self._put(self.datasets, "data set", name, source, plugin, _check_source)
        for name, extractor in self._call_hook(module, plugin, "zoo_extractors", _pairs):
            self._put(self.extractors, "extractor", name, extractor, plugin, _check_extractor)
        for name, family in self._call_hook(module, plugin, "zoo_families", _pairs):
            self._put(self.families, "family", name, family, plugin, _check_family)
        for name, tracker in self._call_hook(module, plugin, "zoo_trackers", _pairs):
            self._put(self.trackers, "tracker", name, tracker, plugin, _check_tracker)

    @functools.cached_property
    def metrics(self) -> dict[str, Registered[type[Metric]]]:
        """Metrics by name, collected on first use because their modules import torchmetrics."""
        found: dict[str, Registered[type[Metric]]] = {}
        for module, plugin in self._modules:
            for name, metric in self._call_hook(module, plugin, "zoo_metrics", _pairs):
                self._put(found, "metric", name, metric, plugin, functools.partial(_check_metric, found))
        return found

    def callbacks(self) -> tuple[list[Callback], list[FailedPlugin]]:
        """Create the callbacks of all plugins for a run.

        Returns:
            The callbacks, and the plugins whose hook ``zoo_callbacks`` failed.
        """
        known, found = len(self.failures), []
        for module, plugin in self._modules:
            for name, callback in self._call_hook(module, plugin, "zoo_callbacks", named):
                if isinstance(callback, Callback):
                    found.append(callback)
                else:
                    reason = f"zoo_callbacks: {name} is not a zoo.Callback"
                    self.failures.append(FailedPlugin(plugin.name, plugin.package, reason))
        failed = self.failures[known:]
        del self.failures[known:]  # called once per run: its failures would accumulate
        return found, failed

    def model(self, name: str) -> type[Objective]:
        """Get a model by name.

        Raises:
            UsageError: If there is none; names the closest one.
        """
        return self._get("model", self.models, name)

    def extractor(self, name: str) -> type[Extractor]:
        """Get an extractor by name.

        Raises:
            UsageError: If there is none; names the closest one.
        """
        return self._get("extractor", self.extractors, name)

    def family(self, name: str) -> type[Family]:
        """Get a family of networks by name.

        Raises:
            UsageError: If there is none; names the closest one.
        """
        return self._get("family", self.families, name)

    def make_trackers(self, names: Iterable[str]) -> list[Callback]:
        """Create the trackers of a run.

        Raises:
            UsageError: If a name is unknown, or the library of a tracker is not installed.
        """
        return [self._get("tracker", self.trackers, name)() for name in names]

    def sources(self) -> dict[str, DataSource]:
        """Data sets by name."""
        return {name: entry.value for name, entry in self.datasets.items()}

    def _get(self, kind: str, table: Mapping[str, Registered[T]], name: str) -> T:
        if name in table:
            return table[name].value
        error = unknown_name(kind, name, table)
        if self.failures:
            broken = "; ".join(str(f) for f in self.failures)
            raise UsageError(f"{error} Plugins that failed to load: {broken}")
        raise error


def _pairs(value: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return list(value.items())


def named(value: Iterable[Any]) -> list[tuple[str, Any]]:
    """Pairs of name and object; objects without a name get that of their class, for error messages."""
    names = [(getattr(source, "name", None), source) for source in value]
    return [(name if isinstance(name, str) else type(source).__name__, source) for name, source in names]


def _check_source(name: str, source: Any) -> str | None:
    from zoo.data import DataSource

    if not isinstance(source, DataSource):
        return f"a {type(source).__name__}, not a zoo.DataSource"
    return None if callable(source.load) else f"load: {source.load!r} cannot be called"


def _check_extractor(name: str, extractor: Any) -> str | None:
    from zoo.evaluation import Extractor

    if not (isinstance(extractor, type) and issubclass(extractor, Extractor)):
        return "not a subclass of zoo.Extractor"
    if problem := extractor.problem():
        return problem
    # Scores are named after the extractor (FD-NAME), which must be a name that --extractor accepts.
    return None if extractor.name == name else f"its own name is {extractor.name!r}; the two must be the same"


def _check_family(name: str, family: Any) -> str | None:
    from zoo.interfaces import Family

    return None if isinstance(family, type) and issubclass(family, Family) else "not a subclass of zoo.Family"


def _check_tracker(name: str, tracker: Any) -> str | None:
    return None if isinstance(tracker, type) and issubclass(tracker, Callback) else "not a subclass of zoo.Callback"


def _check_metric(others: Mapping[str, Registered[type[Metric]]], name: str, metric: Any) -> str | None:
    from zoo.metrics import Metric, find_score

    if not (isinstance(metric, type) and issubclass(metric, Metric)):
        return "not a subclass of zoo.Metric"
    if (problem := metric.problem()) or metric.__module__.startswith("zoo.metrics."):
        return problem
    for info in metric.scores:
        # Results of different packages are compared by the names of scores, protocols by the name of the metric.
        if info.name != name and not info.name.startswith(f"{name} "):
            return f"score {info.name!r}: must be {name!r}, or begin with it and a space"
        if find_score(info.name, (entry.value for entry in others.values())):
            return f"score {info.name!r}: the name is taken"
    return None


def _check_model(name: str, model: Any) -> str | None:
    from zoo.interfaces import Objective

    if not (isinstance(model, type) and issubclass(model, Objective)):
        return "not a subclass of zoo.Objective"
    return model.problem()


def is_bundled(entry: importlib.metadata.EntryPoint) -> bool:
    """Whether an entry point belongs to zoo's own distribution."""
    return entry.module.partition(".")[0] == "zoo_plugins"


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _reason(error: BaseException) -> str:
    first = str(error).strip().splitlines()
    return f"{type(error).__name__}: {first[0] if first else '(no message)'}"


@functools.cache
def registry() -> Registry:
    """Registry of the installed plugins, loaded on first use."""
    return Registry()


options.set_registered_names("family", lambda: registry().families)
options.set_registered_names("tracker", lambda: registry().trackers)
