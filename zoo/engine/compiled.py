"""A turn's terms and gradients traced together and compiled.

Together, because what two losses share is then computed once, forward and backward, and fused across them; a compiler
that sees the terms alone must keep each loss's backward pass apart.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, fx

from zoo.engine.turn_step import Derivatives, TurnStep

__all__ = ["Compiled", "traced", "untouched"]

IN_ORDER: dict[str, bool] = {
    "fallback_random": True,
    "reorder_for_locality": False,
    "reorder_for_peak_memory": False,
}
"""Noise comes from torch's generators, and from them in the order of the eager step: so no operation is moved about."""


@contextlib.contextmanager
def untouched(play: TurnStep) -> Iterator[None]:
    """Afterwards buffers (batch statistics) and random state are what they were: a trace, or a trial, leaves none."""
    kept = [(buffer, buffer.clone()) for buffer in play.networks.buffers()]
    cuda = [play.device] if play.device.type == "cuda" else []
    with torch.random.fork_rng(cuda):
        try:
            yield
        finally:
            with torch.no_grad():
                for buffer, value in kept:
                    buffer.copy_(value)


def traced(play: TurnStep, *batch: Tensor) -> tuple[fx.GraphModule, tuple[str, ...]]:
    """Terms and gradients of a turn as one graph of tensor operations, and the terms' names.

    The graph takes batches of this one's shape and gives a list, terms first and then the gradients, in the order of
    :meth:`Play.eagerly`. Draws random numbers and moves batch statistics as one call of it would.

    Raises:
        RuntimeError: where the terms read a value back to the host, by which Python then decides.
    """
    names: tuple[str, ...] = ()

    def both(*batch: Tensor) -> list[Tensor | None]:
        nonlocal names
        terms, gradients = play.eagerly(*batch)
        names = tuple(terms)
        return [*(term.detach() for term in terms.values()), *gradients]

    from torch.fx.experimental.proxy_tensor import make_fx

    graph = make_fx(both, tracing_mode="real")(*batch)
    return graph, names


class Compiled:
    """Takes the place of a turn's eager differentiation, and falls back to it where that cannot be.

    Random numbers come from torch's own generators, so the noise is the eager step's.

    Arguments:
        play: the turn.
    """

    def __init__(self, play: TurnStep) -> None:
        self.play = play
        self.reason = ""
        """Why the turn is played eagerly all the same; empty where it is not."""
        self._names: tuple[str, ...] = ()
        self._function: object = None
        self._shapes: list[torch.Size] = []

    def __call__(self, *batch: Tensor) -> Derivatives:
        """The terms by name, and the gradients."""
        if self._function is None and not self.reason:
            self._prepare(*batch)
        if not callable(self._function) or [x.shape for x in batch] != self._shapes:
            return self.play.eagerly(*batch)
        with torch.no_grad():
            found = self._function(*batch)
        terms = len(self._names)
        return dict(zip(self._names, found[:terms], strict=True)), found[terms:]

    def _prepare(self, *batch: Tensor) -> None:
        try:
            with untouched(self.play):
                graph, self._names = traced(self.play, *batch)
                # Not by torch.compile, whose front end would look at each step whether the graph is still the same.
                from torch._inductor import compile as compiled

                with torch.no_grad():
                    function = compiled(graph, list(batch), options=IN_ORDER)
                    function(*batch)
        except Exception as error:  # whatever a compiler may raise, the eager step is there
            self.reason = f"turn {self.play.turn.name!r}: {_first_line(error)}"
        else:
            self._function, self._shapes = function, [x.shape for x in batch]


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
