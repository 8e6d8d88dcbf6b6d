"""Errors that a user can act on: one clear line, and the exit status that belongs to it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["UnsupportedError", "UsageError", "ZooError", "unknown_name"]


class ZooError(Exception):
    """Something failed although it was asked for correctly. The command line exits with status 1."""

    exit_status = 1


class UsageError(ZooError):
    """Something was asked for wrongly: a name, a value, a combination. The command line exits with status 2."""

    exit_status = 2


class UnsupportedError(UsageError):
    """A family of networks has none for these images, or no such network; says what it has.

    Whoever built them by the family's name adds that name and the images' shape.
    """


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """The error for a name that is not registered, with the nearest one that is.

    >>> print(unknown_name("model", "vagan", ["vae", "vaegan"]))
    unknown model 'vagan'. Did you mean 'vaegan'? Available: vae, vaegan.
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return UsageError(f"unknown {kind} {name!r}.{hint} Available: {', '.join(names) or 'none'}.")
