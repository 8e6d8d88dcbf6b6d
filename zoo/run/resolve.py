"""Resolution of a run's settings and folder from arguments, a preset, a config file and an existing run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from zoo import options
from zoo.data import absolute_name
from zoo.errors import UsageError, unknown_name
from zoo.interfaces import Objective
from zoo.preset import get_presets
from zoo.registry import registry
from zoo.run.run_folder import RunFolder
from zoo.run.settings import RESULT_NEUTRAL_SETTINGS, RunSettings, differences

__all__ = ["ResolvedRun", "resolve"]


@attrs.frozen
class ResolvedRun:
    """A run before it begins: its settings, the model that they describe, and its folder."""

    settings: RunSettings
    objective: Objective
    folder: RunFolder


def resolve(
    model: str | None,
    given: Mapping[str, Any],
    *,
    config: str | Path | None,
    preset: str | None,
    out: str | Path | None,
    resume: bool,
) -> ResolvedRun:
    """Resolve the settings of a run, build its model, and find its folder.

    Explicit arguments take precedence over ``preset`` or ``config``, and those over the defaults. With ``resume``, the
    settings stored in the folder apply, and explicit arguments must agree with them.

    Args:
        model: Name of the model; None if ``config`` or the stored settings name it.
        given: Explicit settings of the run and options of the model, by name.
        config: A ``config.toml`` with settings.
        preset: Name of a preset of the model.
        out: The run folder; None for the default.
        resume: Whether to continue a run in the folder.

    Raises:
        UsageError: If a setting is unknown, not allowed, or contradicts the stored ones.
    """
    config, out = (Path(path) if path else None for path in (config, out))
    given = {k: _make_absolute(k, str(v) if isinstance(v, Path) else v) for k, v in given.items()}
    if preset is not None:
        given = {**_preset(model, preset, config, given), **given}
    base = RunSettings.from_file(config) if config else RunSettings()
    asked = {**base.options, **given} if config else dict(given)
    run_given = {k: v for k, v in given.items() if k in (*options.get_options(RunSettings), "protocol")}
    settings = _update(base, {"model": model or base.model, **run_given})
    chosen = {k: v for k, v in asked.items() if k not in run_given}
    if config and "protocol" not in given and _changes_protocol(base, attrs.evolve(settings, options=chosen)):
        settings = attrs.evolve(settings, protocol="")
    _check_path("dataset", Path(settings.dataset))
    folder = RunFolder(_check_path("out", out or settings.default_folder()))
    if resume and folder.config.is_file():
        there = folder.settings()
        merged = _update(there, {"options": {**there.options, **chosen}, **_explicit(base, config, run_given)})
        merged = attrs.evolve(merged, model=settings.model or there.model)
        if merged.precision == "auto":  # chosen when the run began
            merged = attrs.evolve(merged, precision=there.precision)
        if there.kernels == "auto":  # begun before the setting existed: by rules
            there = attrs.evolve(there, kernels="rules")
        if merged.kernels == "auto":
            merged = attrs.evolve(merged, kernels=there.kernels)
        changed = differences(there, merged)
        if changed:
            raise UsageError(
                f"resume: {folder.path} was begun with {'; '.join(changed)}; omit that, or choose another --out"
            )
        saved = {k: v for k, v in run_given.items() if k in RESULT_NEUTRAL_SETTINGS}
        return ResolvedRun(attrs.evolve(there, **saved), _build(there.model, there.options), folder)
    if not settings.model:
        raise UsageError("model: name one, as in zoo run vaegan; zoo list models shows all")
    objective = _build(settings.model, chosen)
    if not resume:
        folder.refuse_if_taken()
    return ResolvedRun(attrs.evolve(settings, options=options.option_values(objective)), objective, folder)


def _build(model: str, chosen: Mapping[str, Any]) -> Objective:
    objective: Objective = options.build(registry().model(model), chosen)
    return objective


def _check_path(name: str, path: Path) -> Path:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        # safetensors and TOML cannot hold it: the run could not be read again.
        raise UsageError(f"{name}: {str(path)!r} is not allowed; must be UTF-8") from None
    return path


def _make_absolute(name: str, value: Any) -> Any:
    # A run can be repeated from another working directory.
    if name == "data_dir" and value is not None:
        if not value:
            raise UsageError("data_dir: '' is not allowed; must be a path")
        return os.path.abspath(Path(value).expanduser())
    return absolute_name(value) if name == "dataset" and isinstance(value, str) else value


def _preset(model: str | None, name: str, config: object, given: Mapping[str, Any]) -> dict[str, Any]:
    if config is not None:
        raise UsageError(f"preset: {name!r} is not allowed together with a config file, which has every setting")
    if model is None:
        raise UsageError("model: name one, as in zoo run bigan --preset paper; zoo list models shows all")
    presets = get_presets(registry().model(model))
    if name not in presets:
        raise unknown_name(f"preset of {model}", name, presets)
    amount = {"epochs", "images"}
    left_out = amount if amount & set(given) else set()
    return {k: v for k, v in presets[name].settings.items() if k not in left_out}


def _update(settings: RunSettings, changes: Mapping[str, Any]) -> RunSettings:
    # Epochs and images exclude each other: a new value of one removes the other.
    changes = dict(changes)
    for name, other in (("epochs", "images"), ("images", "epochs")):
        if changes.get(name) is not None and changes.get(other) is None:
            changes[other] = None
    return attrs.evolve(settings, **changes)


def _changes_protocol(base: RunSettings, settings: RunSettings) -> bool:
    # A protocol covers all seeds, devices and kernels.
    return bool(differences(base, attrs.evolve(settings, seed=base.seed, device=base.device, kernels=base.kernels)))


def _explicit(base: RunSettings, config: Path | None, run_given: Mapping[str, Any]) -> dict[str, Any]:
    return {**(options.option_values(base) if config else {}), **run_given}
