"""What ``result.json`` says of a run besides its scores: how to repeat it, what it was a run of, what it cost."""

from __future__ import annotations

import inspect
import platform
import resource
import shlex
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

import zoo
from zoo import options
from zoo.engine import Engine
from zoo.evaluation.extractors import sha256_of
from zoo.game import player_groups, term_names
from zoo.interfaces import Objective
from zoo.registry import registry
from zoo.run.run_folder import RunFolder
from zoo.run.settings import RESULT_NEUTRAL_SETTINGS, RunSettings

__all__ = ["command_of", "model_card", "plugin_of", "protocol_of", "public_settings", "record"]

_ALWAYS = ("dataset", "epochs", "images", "batch", "seed")


def public_settings(settings: RunSettings) -> dict[str, Any]:
    """The settings as a record for others holds them: without the paths of the machine that made it."""
    values = options.option_values(settings)
    values.pop("data_dir", None)
    return {**values, "dataset": _without_path(settings.dataset), "options": dict(settings.options)}


def _without_path(dataset: str) -> str:
    return f"folder:{Path(dataset.removeprefix('folder:')).name}" if dataset.startswith("folder:") else dataset


def command_of(settings: RunSettings, changed: Mapping[str, Any]) -> str:
    """The command line that repeats a run, but for where its data lie and where it writes.

    ``changed`` are the model's options that are not its defaults. What decides the amount of training is always
    there, so that another default of a later version does not make it another run.
    """
    values = public_settings(settings)
    words = ["zoo", "run", settings.model]
    for name, info in options.options_of(RunSettings).items():
        if name in RESULT_NEUTRAL_SETTINGS or name not in values:
            continue
        if name in _ALWAYS or values[name] != info.default:
            words += _flag(info, values[name])
    infos = options.options_of(registry().model(settings.model))
    for name, value in changed.items():
        words += _flag(infos[name], value)
    return shlex.join(words)


def _flag(info: options.OptionInfo, value: Any) -> list[str]:
    if info.kind is bool:
        return [info.flag if value else f"--no-{info.flag[2:]}"]
    # A value that begins with a minus would be read as a flag if it stood apart.
    return [f"{info.flag}={value}"] if str(value).startswith("-") else [info.flag, str(value)]


def model_card(objective: Objective) -> dict[str, Any]:
    """The model's card as data: what it is, its paper, its game with these settings, its deviations from the paper."""
    turns = objective.turns()
    return {
        "summary": (inspect.getdoc(type(objective)) or "").partition("\n")[0],
        "paper": objective.paper,
        "game": [
            {
                "turn": turn.name,
                "repeat": turn.repeat,
                "terms": list(term_names(turn)),
                "rows": [
                    {"networks": list(row.networks), "weights": dict(row.weights)}
                    for row in player_groups(turn.players)
                ],
            }
            for turn in turns
        ],
        "deviations": dict(objective.deviations),
    }


def plugin_of(model: str) -> dict[str, str]:
    """Who announced the model: the plugin's name, its package and that package's version."""
    plugin = registry().models[model].plugin
    return {"name": plugin.name, "package": plugin.package, "version": plugin.version}


def protocol_of(text: str) -> dict[str, Any] | None:
    """The protocol file, ``NAME@VERSION#DIGEST``, by name, version and digest; None for a run by itself."""
    name, _, rest = text.rpartition("@")
    version, _, digest = rest.partition("#")
    if not (name and version.isdigit() and digest):
        return None
    return {"name": name, "version": int(version), "digest": digest}


def record(
    settings: RunSettings,
    folder: RunFolder,
    objective: Objective,
    engine: Engine,
    dataset: str,
    scores: Mapping[str, Any],
    cost: Mapping[str, Any],
) -> dict[str, Any]:
    """The whole of ``result.json`` for a run whose networks are in ``folder`` already."""
    device = engine.stream.device
    if device.type == "cuda":
        memory, name = torch.cuda.max_memory_allocated(device), torch.cuda.get_device_name(device)
    else:
        unit = 1 if sys.platform == "darwin" else 1024
        memory, name = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit, platform.machine()
    infos = options.options_of(type(objective))
    changed = {k: v for k, v in settings.options.items() if k in infos and v != infos[k].default}
    return {
        "format": 1,
        "model": settings.model,
        "dataset": dataset,
        "seed": settings.seed,
        **scores,
        "cost": {
            **cost,
            "parameters": {n: sum(p.numel() for p in engine.networks[n].parameters()) for n in engine.networks.names()},
            "peak_memory_bytes": memory,
            "device": f"{device.type} ({name})",
            "threads": torch.get_num_threads(),
        },
        "plugin": plugin_of(settings.model),
        "protocol_file": protocol_of(settings.protocol),
        "settings": public_settings(settings),
        "options_changed": changed,
        "command": command_of(settings, changed),
        "card": model_card(objective),
        "weights_sha256": sha256_of(folder.model),
        "provenance": {
            "zoo": zoo.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        },
    }
