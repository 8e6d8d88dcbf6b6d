"""Content of ``result.json`` besides the scores: command, settings, model card, cost and provenance."""

from __future__ import annotations

import inspect
import platform
import resource
import shlex
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import torch

from zoo import options
from zoo.engine import Engine
from zoo.evaluation.extractors import sha256_of
from zoo.game import player_groups, term_names, turn_notes
from zoo.interfaces import Objective
from zoo.registry import registry
from zoo.run.run_folder import RunFolder
from zoo.run.settings import RESULT_NEUTRAL_SETTINGS, RunSettings, public_settings
from zoo.version import __version__
from zoo.weights import AnyWeight, Weight

__all__ = ["build_command", "build_result", "describe_plugin", "model_card", "parse_protocol"]

_ALWAYS = ("dataset", "epochs", "images", "batch", "seed")


def build_command(settings: RunSettings, changed: Mapping[str, Any]) -> str:
    """Build the command line that repeats a run, without the paths of its data and its folder.

    Args:
        settings: Settings of the run.
        changed: The model's options that differ from their defaults.

    Returns:
        The command. It always states data set, seed and amount of training, whose defaults may change.
    """
    values = public_settings(settings)
    words = ["zoo", "run", settings.model]
    for name, info in options.get_options(RunSettings).items():
        if name in RESULT_NEUTRAL_SETTINGS or name not in values:
            continue
        if name in _ALWAYS or values[name] != info.default:
            words += _flag(info, values[name])
    infos = options.get_options(registry().model(settings.model))
    for name, value in changed.items():
        words += _flag(infos[name], value)
    return shlex.join(words)


def _flag(info: options.OptionInfo, value: Any) -> list[str]:
    if info.kind is bool:
        return [info.flag if value else f"--no-{info.flag[2:]}"]
    # After a space, a value with a leading minus would be parsed as a flag.
    return [f"{info.flag}={value}"] if str(value).startswith("-") else [info.flag, str(value)]


def model_card(objective: Objective) -> dict[str, Any]:
    """The model card: summary, paper, game table under these settings, and deviations from the paper."""
    turns = objective.turns()
    return {
        "summary": (inspect.getdoc(type(objective)) or "").partition("\n")[0],
        "paper": objective.paper,
        "game": [
            {
                "turn": turn.name,
                "repeat": turn.repeat,
                "notes": turn_notes(turn),
                "terms": list(term_names(turn)),
                "rows": [
                    {"networks": list(row.networks), "weights": {t: _plain(w) for t, w in row.weights}}
                    for row in player_groups(turn.players)
                ],
            }
            for turn in turns
        ],
        "deviations": dict(objective.deviations),
    }


def _plain(weight: AnyWeight) -> float | str:
    return str(weight) if isinstance(weight, Weight) else weight


def describe_plugin(model: str) -> dict[str, str]:
    """Plugin of a model: its name, its package and the version of the package."""
    plugin = registry().models[model].plugin
    return {"name": plugin.name, "package": plugin.package, "version": plugin.version}


def parse_protocol(text: str) -> dict[str, Any] | None:
    """Split ``NAME@VERSION#DIGEST``, the reference of a protocol file; None for a run without one."""
    name, _, rest = text.rpartition("@")
    version, _, digest = rest.partition("#")
    if not (name and version.isdigit() and digest):
        return None
    return {"name": name, "version": int(version), "digest": digest}


def build_result(
    settings: RunSettings,
    folder: RunFolder,
    objective: Objective,
    engine: Engine,
    dataset: str,
    scores: Mapping[str, Any],
    cost: Mapping[str, Any],
    health: Mapping[str, Any],
) -> dict[str, Any]:
    """Build the content of ``result.json``; the trained networks must be in ``folder``."""
    device = engine.stream.device
    if device.type == "cuda":
        memory, name = torch.cuda.max_memory_allocated(device), torch.cuda.get_device_name(device)
    else:
        unit = 1 if sys.platform == "darwin" else 1024
        memory, name = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit, platform.machine()
    infos = options.get_options(type(objective))
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
        "health": dict(health),
        "plugin": describe_plugin(settings.model),
        "protocol_file": parse_protocol(settings.protocol),
        "settings": public_settings(settings),
        "options_changed": changed,
        "command": build_command(settings, changed),
        "card": model_card(objective),
        "weights_sha256": sha256_of(folder.model),
        "provenance": {
            "zoo": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        },
    }
