"""Terms and gradients of a turn, traced together and compiled.

Tracing forward and backward passes as one graph lets the compiler share and fuse work between the losses of several
players; compiling the terms alone would keep their backward passes apart.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import cast

import torch
from torch import Tensor, fx

from zoo.engine.turn_step import TermsAndGradients, TurnStep

__all__ = ["CompiledGradients", "preserve_state", "trace_gradients"]

INDUCTOR_OPTIONS: dict[str, bool] = {
    "fallback_random": True,
    "reorder_for_locality": False,
    "reorder_for_peak_memory": False,
}
"""Random numbers come from torch's generators in the order of the eager step: no operation may be moved."""


@contextlib.contextmanager
def preserve_state(turn_step: TurnStep) -> Iterator[None]:
    """Restore buffers (batch statistics) and random state at the end of the block."""
    saved = [(buffer, buffer.clone()) for buffer in turn_step.networks.buffers()]
    cuda = [turn_step.device] if turn_step.device.type == "cuda" else []
    with torch.random.fork_rng(cuda):
        try:
            yield
        finally:
            with torch.no_grad():
                for buffer, value in saved:
                    buffer.copy_(value)


def trace_gradients(turn_step: TurnStep, *batch: Tensor) -> tuple[fx.GraphModule, tuple[str, ...]]:
    """Trace a turn's terms and gradients as one graph of tensor operations.

    Tracing runs the turn once: it draws random numbers and updates batch statistics.

    Returns:
        The graph, which maps batches of the same shape to a list of terms followed by gradients in the order of
        :attr:`TurnStep.parameters`; and the names of the terms.

    Raises:
        RuntimeError: if the terms depend on a tensor's value in Python.
    """
    names: tuple[str, ...] = ()

    def terms_and_gradients(*batch: Tensor) -> list[Tensor | None]:
        nonlocal names
        terms, gradients = turn_step.eager_gradients(*batch)
        names = tuple(terms)
        return [*(term.detach() for term in terms.values()), *gradients]

    from torch.fx.experimental.proxy_tensor import make_fx

    graph = make_fx(terms_and_gradients, tracing_mode="real")(*batch)
    return graph, names


class CompiledGradients:
    """Compiled replacement of :meth:`TurnStep.eager_gradients`; falls back to it if compilation fails.

    Random numbers come from torch's own generators, so the noise is that of the eager step.

    Args:
        turn_step: the turn.
    """

    def __init__(self, turn_step: TurnStep) -> None:
        self.turn_step = turn_step
        self.reason = ""
        """Reason for the fallback; empty without one."""
        self._term_names: tuple[str, ...] = ()
        self._function: Callable[..., Sequence[Tensor]] | None = None
        self._shapes: list[torch.Size] = []

    def __call__(self, *batch: Tensor) -> TermsAndGradients:
        """Terms by name, and gradients."""
        if self._function is None and not self.reason:
            self._compile(*batch)
        if self._function is None or [x.shape for x in batch] != self._shapes:
            return self.turn_step.eager_gradients(*batch)
        with torch.no_grad():
            outputs = self._function(*batch)
        terms = len(self._term_names)
        return dict(zip(self._term_names, outputs[:terms], strict=True)), outputs[terms:]

    def _compile(self, *batch: Tensor) -> None:
        try:
            with preserve_state(self.turn_step):
                graph, self._term_names = trace_gradients(self.turn_step, *batch)
                # Not torch.compile: its front end would check at each step whether the graph is still valid.
                from torch._inductor import compile as compile_graph

                with torch.no_grad():
                    function = compile_graph(graph, list(batch), options=INDUCTOR_OPTIONS)
                    function(*batch)
        except Exception as error:  # a compiler may raise anything; the eager step remains
            self.reason = f"turn {self.turn_step.turn.name!r}: {_first_line(error)}"
        else:
            self._function = cast("Callable[..., Sequence[Tensor]]", function)
            self._shapes = [x.shape for x in batch]


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
