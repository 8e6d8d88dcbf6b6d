"""Signals that stop a run: SIGINT, SIGTERM and SIGHUP."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any, Self

from zoo.errors import Interrupted

__all__ = ["Interrupts"]

_DEFAULTS: dict[signal.Signals, Any] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
    **({signal.SIGHUP: signal.SIG_DFL} if hasattr(signal, "SIGHUP") else {}),
}


class Interrupts:
    """Context in which SIGINT, SIGTERM and SIGHUP raise :class:`~zoo.errors.Interrupted`, at once or :meth:`deferred`.

    Only default handlers are replaced: those of the caller stay, and an ignored signal stays ignored. Outside the main
    thread nothing changes.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        """The first signal that arrived in :meth:`deferred`."""
        self._deferring = False
        self._replaced: list[signal.Signals] = []

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._replaced = [s for s, default in _DEFAULTS.items() if signal.getsignal(s) is default]
            for number in self._replaced:
                signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number in self._replaced:
            signal.signal(number, _DEFAULTS[number])

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Store the first signal in ``received`` and raise it at the end; a second one raises at once.

        Within a training step some networks are updated and others are not, so a run stops between two steps.
        """
        self._deferring = True
        try:
            yield
        finally:
            self._deferring = False
        if self.received is not None:
            raise Interrupted(self.received)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._deferring and self.received is None:
            self.received = signal.Signals(number)
        else:
            raise Interrupted(number)
