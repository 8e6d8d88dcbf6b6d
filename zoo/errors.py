"""Errors that are reported to users as one line, with the exit status of the command line."""

from __future__ import annotations

import difflib
import shlex
import signal
from collections.abc import Iterable
from pathlib import Path

__all__ = ["DivergedError", "Interrupted", "UnsupportedError", "UsageError", "ZooError", "unknown_name"]


class ZooError(Exception):
    """A valid request failed. The command line exits with status 1."""

    exit_status = 1


class UsageError(ZooError):
    """A name, a value or a combination is not allowed. The command line exits with status 2."""

    exit_status = 2


class UnsupportedError(UsageError):
    """A family of networks does not support an image size or a kind of network; the message says what it supports.

    :func:`zoo.encoder`, :func:`zoo.decoder` and :func:`zoo.critic` add the name of the family and the image shape.
    """


class DivergedError(ZooError):
    """A term or a weight of a run is not finite.

    Args:
        subject: The term or the weight, such as ``term 'nll'``.
        evidence: Its value, such as ``nan by step 20``.
        step: Number of steps so far.
    """

    def __init__(self, subject: str, evidence: str, step: int) -> None:
        super().__init__(f"diverged: {subject} is {evidence}; a lower --lr or another --norm is the usual remedy")
        self.subject, self.evidence, self.step = subject, evidence, step


class Interrupted(KeyboardInterrupt):
    """A signal stopped a run. The command line exits with status 128 + the number of the signal, as a shell reports it.

    Args:
        signal_number: The signal: SIGINT, SIGTERM or SIGHUP.

    Attributes:
        folder: The run folder; None if there is nothing to resume.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal_number)
        self.signal = signal.Signals(signal_number)
        self.folder: Path | None = None

    @property
    def exit_status(self) -> int:
        """130 for SIGINT, 143 for SIGTERM, 129 for SIGHUP."""
        return 128 + self.signal

    def __str__(self) -> str:
        text = "interrupted" if self.signal == signal.SIGINT else f"interrupted by {self.signal.name}"
        if self.folder is None:
            return f"{text} before the run began"
        return f"{text}; {shlex.join(['zoo', 'run', '--resume', '--out', str(self.folder)])} continues the run"


_NEAR = 0.65
"""Least similarity of a suggested name: 'gna' is near to 'gan', 'sample' is not near to 'aae'."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """Error for an unknown name, with the closest known one.

    Args:
        kind: Kind of the named object, such as ``model``.
        name: The unknown name.
        known: All known names.

    >>> print(unknown_name("model", "vagan", ["vae", "vaegan"]))
    unknown model 'vagan'. Did you mean 'vaegan'? Available: vae, vaegan.
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=_NEAR)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return UsageError(f"unknown {kind} {name!r}.{hint} Available: {', '.join(names) or 'none'}.")
