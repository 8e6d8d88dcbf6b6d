"""The registry: every model, data set and extractor that an installed plugin announces, and who announced it."""

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
    """A loaded entry point and the package that brought it."""

    name: str
    package: str
    version: str


@attrs.frozen
class FailedPlugin:
    """A plugin, or one thing that it announced, which could not be taken in, and why."""

    plugin: str
    package: str
    reason: str

    def __str__(self) -> str:
        return f"plugin {self.plugin!r} ({self.package}): {self.reason}"


@attrs.frozen
class Registered(Generic[T]):
    """A named thing and the plugin that announced it."""

    name: str
    value: T
    plugin: Plugin


class PluginLoader(abc.ABC):
    """Loads plugins and calls their hooks. A plugin that fails is recorded in ``failures``; the others still load."""

    def __init__(self) -> None:
        self.plugins: list[Plugin] = []
        self.failures: list[FailedPlugin] = []
        self._manager = pluggy.PluginManager("zoo")
        self._manager.add_hookspecs(hooks)

    def load(self, entry: importlib.metadata.EntryPoint) -> None:
        """Import the module of an entry point and add it."""
        package = entry.dist.name if entry.dist else "unknown package"
        plugin = Plugin(entry.name, package, entry.dist.version if entry.dist else "unknown")
        try:
            module = entry.load()
        except (Exception, SystemExit) as error:  # the import of a third-party module can fail in any way
            self.failures.append(FailedPlugin(entry.name, package, _reason(error)))
            return
        self.add(module, plugin)

    def add(self, module: object, plugin: Plugin) -> None:
        """Register what the hooks of one module return."""
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
        """Call the hooks of ``module`` and store what they return."""

    def _announced(
        self, module: object, plugin: Plugin, hook: str, unpack: Callable[[Any], list[tuple[str, Any]]]
    ) -> list[tuple[str, Any]]:
        # One plugin at a time, so that an exception has a culprit and the other plugins still count.
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
        except Exception as error:  # a model's own ``problem`` is a third party's code too
            problem = _reason(error)
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
            problem = "a name has letters, digits, '-' and '_' only, and begins with a letter or digit"
        elif name in table:
            problem = f"the name is taken by plugin {table[name].plugin.name!r} ({table[name].plugin.package})"
        if problem:
            self.failures.append(FailedPlugin(plugin.name, plugin.package, f"{kind} {name!r}: {problem}"))
        else:
            table[name] = Registered(name, value, plugin)


class Registry(PluginLoader):
    """The models, data sets, extractors and families of all installed plugins."""

    def __init__(self, entry_points: Iterable[importlib.metadata.EntryPoint] | None = None) -> None:
        super().__init__()
        self.models: dict[str, Registered[type[Objective]]] = {}
        self.datasets: dict[str, Registered[DataSource]] = {}
        self.extractors: dict[str, Registered[type[Extractor]]] = {}
        self.families: dict[str, Registered[type[Family]]] = {}
        self._modules: list[tuple[object, Plugin]] = []
        # By name, not by an entry point: a checkout whose metadata are older than its code still has its core.
        self.add(importlib.import_module("zoo.builtin"), Plugin("core", "latent-zoo", _version("latent-zoo")))
        found = importlib.metadata.entry_points(group=hooks.GROUP) if entry_points is None else entry_points
        # Bundled models first, so that a third-party plugin cannot take over the name of one.
        for entry in sorted(found, key=lambda e: (not is_bundled(e), e.name)):
            self.load(entry)

    def _collect(self, module: object, plugin: Plugin) -> None:
        self._modules.append((module, plugin))
        for name, model in self._announced(module, plugin, "zoo_models", _pairs):
            self._put(self.models, "model", name, model, plugin, _check_model)
        for name, source in self._announced(module, plugin, "zoo_datasets", named):
            self._put(self.datasets, "data set", name, source, plugin, _check_source)
        for name, extractor in self._announced(module, plugin, "zoo_extractors", _pairs):
            self._put(self.extractors, "extractor", name, extractor, plugin, _check_extractor)
        for name, family in self._announced(module, plugin, "zoo_families", _pairs):
            self._put(self.families, "family", name, family, plugin, _check_family)

    @functools.cached_property
    def metrics(self) -> dict[str, Registered[type[Metric]]]:
        """The metrics by name, collected on first use: their modules import torchmetrics."""
        found: dict[str, Registered[type[Metric]]] = {}
        for module, plugin in self._modules:
            for name, metric in self._announced(module, plugin, "zoo_metrics", _pairs):
                self._put(found, "metric", name, metric, plugin, functools.partial(_check_metric, found))
        return found

    def callbacks(self) -> tuple[list[Callback], list[FailedPlugin]]:
        """New callbacks of all plugins, for one run, and the plugins whose hook ``zoo_callbacks`` failed."""
        known, found = len(self.failures), []
        for module, plugin in self._modules:
            for name, callback in self._announced(module, plugin, "zoo_callbacks", named):
                if isinstance(callback, Callback):
                    found.append(callback)
                else:
                    reason = f"zoo_callbacks: {name} is not a zoo.Callback"
                    self.failures.append(FailedPlugin(plugin.name, plugin.package, reason))
        failed = self.failures[known:]
        del self.failures[known:]  # the hook is called in every run: its failures would pile up
        return found, failed

    def model(self, name: str) -> type[Objective]:
        """The model called ``name``; a :class:`UsageError` with the nearest name where there is none."""
        return self._get("model", self.models, name)

    def extractor(self, name: str) -> type[Extractor]:
        """The extractor called ``name``; a :class:`UsageError` with the nearest name where there is none."""
        return self._get("extractor", self.extractors, name)

    def family(self, name: str) -> type[Family]:
        """The family of networks called ``name``; a :class:`UsageError` with the nearest name where there is none."""
        return self._get("family", self.families, name)

    def sources(self) -> dict[str, DataSource]:
        """The data sets by name."""
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
    """Pairs of name and object; an object without a name goes by its class, for the error that reports it."""
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
    # Its distance is named FD-NAME, and a table would then speak of something that --extractor does not know.
    return None if extractor.name == name else f"its own name is {extractor.name!r}; the two must be the same"


def _check_family(name: str, family: Any) -> str | None:
    from zoo.interfaces import Family

    return None if isinstance(family, type) and issubclass(family, Family) else "not a subclass of zoo.Family"


def _check_metric(others: Mapping[str, Registered[type[Metric]]], name: str, metric: Any) -> str | None:
    from zoo.metrics import Metric, find_score

    if not (isinstance(metric, type) and issubclass(metric, Metric)):
        return "not a subclass of zoo.Metric"
    if (problem := metric.problem()) or metric.__module__.startswith("zoo.metrics."):
        return problem
    for info in metric.scores:
        # Results of different packages are compared by these names, and the protocol by the metric's name.
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
    """The registry of this process, filled from the installed entry points on first use."""
    return Registry()


options.set_registered_names("family", lambda: registry().families)
