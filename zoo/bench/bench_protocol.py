"""Protocol files: the settings common to all runs of a benchmark."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import attrs
import tomli_w

from zoo import options
from zoo.data.dataset_names import is_registered_name
from zoo.errors import UsageError, unknown_name
from zoo.options import at_least, between, frozen, option
from zoo.reading import read_toml
from zoo.run.settings import ImageOptions

__all__ = ["BenchProtocol", "EvaluateRules", "Grid", "TrainRules"]

_MAX_SEEDS = 1000  # of every model: beyond any statistical need, and a grid that can be listed
_TABLES = ("train", "options", "models", "evaluate", "grid")


@frozen
class TrainRules(ImageOptions):
    """``[train]``: training settings of every run."""

    images: int | None = option(None, "Budget in training images seen.", at_least(1))
    epochs: int | None = option(None, "Budget in epochs, instead of images.", at_least(0))
    batch: int = option(64, "Batch size.", at_least(2))
    precision: Literal["fp32", "bf16"] = option("fp32", "Precision of the networks; losses are computed in float32.")


@frozen
class EvaluateRules:
    """``[evaluate]``: evaluation settings of every run."""

    extractor: str = option("auto", "Feature extractor: auto, none, or one of `zoo list extractors`.")
    samples: int | None = option(
        None,
        "Number of images to score; default: 10,000, or the number of training images if fewer.",
        between(2, 1_000_000),
    )


@attrs.frozen
class Grid:
    """``[grid]``: the models, data sets and seeds to run. Not part of the digest.

    Attributes:
        models: Names; None for all registered models.
        datasets: Names, ``folder:PATH`` or ``hf:NAME``.
        seeds: Number of seeds K, used as 0, …, K − 1.

    Raises:
        UsageError: If a list is empty or has duplicates, or the number of seeds is below 1.
    """

    models: tuple[str, ...] | None = None
    datasets: tuple[str, ...] = ("digits",)
    seeds: int = 3

    def __attrs_post_init__(self) -> None:
        if isinstance(self.seeds, bool) or not isinstance(self.seeds, int) or self.seeds < 1:
            raise UsageError(f"seeds: {self.seeds!r} is not allowed; must be a whole number, at least 1")
        if self.seeds > _MAX_SEEDS:
            raise UsageError(f"seeds: {self.seeds:.4g} is not allowed; must be at most {_MAX_SEEDS:,}")
        for name, given in (("models", self.models), ("datasets", self.datasets)):
            if given is not None and not given:
                raise UsageError(f"{name}: the list is empty; name at least one")
            if given is not None and len(set(given)) < len(given):
                raise UsageError(f"{name}: {', '.join(given)} contains duplicates")


@attrs.frozen
class BenchProtocol:
    """A versioned protocol. Only results with equal digests are compared.

    Attributes:
        name: Name of the protocol.
        version: Version, to be increased with every change of an entry.
        description: Free text, not part of the digest.
        train: Budget, batch size, precision, image format.
        options: Options of all models that have an option of that name.
        models: Options per model, which take precedence over ``options``.
        evaluate: Extractor and number of samples.
        grid: Models, data sets and seeds.
    """

    name: str = "quick"
    version: int = 1
    description: str = ""
    train: TrainRules = attrs.field(factory=lambda: TrainRules(images=60_000))
    options: Mapping[str, Any] = attrs.field(factory=lambda: {"width": 32, "latent": 16})
    models: Mapping[str, Mapping[str, Any]] = attrs.field(factory=dict)
    evaluate: EvaluateRules = attrs.field(factory=EvaluateRules)
    grid: Grid = attrs.field(factory=Grid)

    @classmethod
    def from_file(cls, path: Path) -> BenchProtocol:
        """Read a protocol file.

        Raises:
            UsageError: If the file is missing, is not TOML, or has an unknown entry or a value that is not allowed.
        """
        table = read_toml(path, "protocol")
        try:
            return cls.from_table(table)
        except UsageError as error:
            raise UsageError(f"protocol: {path}: {error}") from None

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> BenchProtocol:
        """Create a protocol from a mapping, the inverse of :meth:`to_table`.

        Raises:
            UsageError: If an entry is unknown or a value is not allowed.
        """
        for key in table:
            if key not in ("name", "version", "description", *_TABLES):
                raise unknown_name("entry", key, ("name", "version", "description", *_TABLES))
        for key in _TABLES:
            if not isinstance(table.get(key, {}), Mapping):
                raise UsageError(f"{key}: must be a table, [{key}]")
        name, version = table.get("name"), table.get("version")
        if not isinstance(name, str) or not name.replace("-", "").replace("_", "").isalnum():
            raise UsageError(f"name: {name!r} is not allowed; must be letters, digits, '-' and '_'")
        if not isinstance(version, int) or isinstance(version, bool) or version < 1:
            raise UsageError(f"version: {version!r} is not allowed; must be a whole number, at least 1")
        description = table.get("description", "")
        if not isinstance(description, str):
            raise UsageError(f"description: {description!r} is not allowed; must be text")
        train = _parse_rules(TrainRules, "train", table.get("train", {}))
        if (train.images is None) == (train.epochs is None):
            raise UsageError("train: exactly one of images and epochs must be set")
        per_model = table.get("models", {})
        for model, chosen in per_model.items():
            if not isinstance(chosen, Mapping):
                raise UsageError(f"models.{model}: must be a table, [models.{model}]")
        return cls(
            name=name,
            version=version,
            description=description,
            train=train,
            options=dict(table.get("options", {})),
            models={model: dict(chosen) for model, chosen in per_model.items()},
            evaluate=_parse_rules(EvaluateRules, "evaluate", table.get("evaluate", {})),
            grid=_parse_grid(table.get("grid", {})),
        )

    def to_table(self) -> dict[str, Any]:
        """Return all entries as values that TOML and JSON can represent."""
        grid: dict[str, Any] = {"datasets": list(self.grid.datasets), "seeds": self.grid.seeds}
        return {
            "name": self.name,
            "version": self.version,
            "description": self.description,
            "train": options.option_values(self.train),
            "options": dict(self.options),
            "models": {model: dict(chosen) for model, chosen in self.models.items()},
            "evaluate": options.option_values(self.evaluate),
            "grid": {"models": "all" if self.grid.models is None else list(self.grid.models), **grid},
        }

    def to_toml(self) -> str:
        """Return the content of a protocol file for :meth:`from_file`."""
        note = f"# {self.label}\n# Written by zoo bench: the protocol of all results in this folder.\n"
        return note + tomli_w.dumps(self.to_table())

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of all entries except the description and the grid."""
        table = {k: v for k, v in self.to_table().items() if k not in ("description", "grid")}
        return hashlib.sha256(json.dumps(table, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    @property
    def label(self) -> str:
        """``NAME@VERSION#DIGEST`` with the first 12 digits of the digest, as stored in the settings of a run."""
        return f"{self.name}@{self.version}#{self.digest[:12]}"

    def differences(self, other: BenchProtocol) -> list[str]:
        """Describe the entries in which two protocols differ, apart from the description and the grid."""
        a, b = (
            _flatten({k: v for k, v in p.to_table().items() if k not in ("description", "grid")}) for p in (self, other)
        )
        return [f"{k} {a.get(k)!r}, here {b.get(k)!r}" for k in {**a, **b} if a.get(k) != b.get(k)]

    def settings_for(self, dataset: str, seed: int) -> dict[str, Any]:
        """Return the arguments of ``zoo.train`` for a cell, apart from the model and its options."""
        train = options.option_values(self.train)
        if is_registered_name(dataset):
            train = {k: v for k, v in train.items() if k not in options.get_options(ImageOptions)}
        return {
            "dataset": dataset,
            "seed": seed,
            **train,
            **options.option_values(self.evaluate),
            "protocol": self.label,
        }

    def options_for(self, model: str, known: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options set by the protocol for a model that has the options ``known``."""
        return {k: v for k, v in self.options.items() if k in known} | dict(self.models.get(model, {}))


def _parse_rules(cls: type, where: str, table: Mapping[str, Any]) -> Any:
    known = options.get_options(cls)
    for name in table:
        if name not in known:
            raise unknown_name(f"entry of [{where}]", name, known)
    try:
        return cls(**table)
    except UsageError as error:
        raise UsageError(f"{where}.{error}") from None


def _parse_grid(table: Mapping[str, Any]) -> Grid:
    for name in table:
        if name not in ("models", "datasets", "seeds"):
            raise unknown_name("entry of [grid]", name, ("models", "datasets", "seeds"))
    chosen: dict[str, Any] = {}
    for name in ("models", "datasets"):
        value = table.get(name)
        if value is None or (name == "models" and value == "all"):
            continue
        if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
            allowed = 'a list of names, or "all"' if name == "models" else "a list of names"
            raise UsageError(f"grid.{name}: {value!r} is not allowed; must be {allowed}")
        chosen[name] = tuple(value)
    try:
        return Grid(**chosen, **({"seeds": table["seeds"]} if "seeds" in table else {}))
    except UsageError as error:
        raise UsageError(f"grid.{error}") from None


def _flatten(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
