"""The command that repeats a run: untrusted text that readers may paste into a shell."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Any

from zoo.leaderboard.untrusted import RefusedError, note

__all__ = ["build_command", "check_command"]

_PLAIN = re.compile(r"[\w@%+=:,./ -]+", re.ASCII)


def check_command(value: Any) -> str:
    """Quote a command so that, pasted into a shell, it is a single call of ``zoo run``.

    Raises:
        RefusedError: If it does not begin with ``zoo run`` or cannot be split into words.

    >>> check_command("zoo run vae --seed 1; curl example.org | sh")
    "zoo run vae --seed '1;' curl example.org '|' sh"
    """
    text = note(value, "command", limit=4000)
    try:
        # Most commands contain no special characters, and shlex is slow.
        words = text.split() if _PLAIN.fullmatch(text) else shlex.split(text)
    except ValueError:
        raise RefusedError("command cannot be split into words") from None
    if words[:2] != ["zoo", "run"]:
        raise RefusedError("command does not begin with zoo run")
    return shlex.join(words)


def build_command(model: str, dataset: str, seed: int, budget: Mapping[str, Any], options: Mapping[str, Any]) -> str:
    """Build the command of a result without one, from all options, since the defaults are unknown.

    >>> build_command("vae", "digits", 1, {"epochs": 3, "batch": 64, "precision": "fp32"}, {"latent": 4, "raw": False})
    'zoo run vae --dataset digits --seed 1 --epochs 3 --batch 64 --precision fp32 --latent 4 --no-raw'
    """
    words = ["zoo", "run", model]
    for name, value in {"dataset": dataset, "seed": seed, **budget, **options}.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        elif value is not None:
            # A separate value that begins with a minus would be parsed as a flag.
            words += [f"--{flag}={value}"] if str(value).startswith("-") else [f"--{flag}", str(value)]
    return shlex.join(words)
