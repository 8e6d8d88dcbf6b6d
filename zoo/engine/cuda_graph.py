"""A whole training step as one CUDA graph, launched at once."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

__all__ = ["CudaRecorder", "GraphedStep", "Recorder"]

Step = Callable[[Sequence[Sequence[Tensor]]], None]
"""A training step; its argument is, for each batch, what ``BatchStream.fetch`` returns."""

EAGER_STEPS = 3
"""Eager steps before the capture, for allocations, the choice of kernels and the creation of optimizer state.

They are the first steps of the run itself, so no state has to be restored after a warm-up.
"""


class Recorder(Protocol):
    """Captures a step for replay."""

    def warm(self, step: Callable[[], None], watch: bool) -> str:
        """Run a step under the conditions of a capture; with ``watch``, return why it cannot be captured, or ''."""

    def record(self, step: Callable[[], None]) -> Callable[[], None]:
        """Capture a step without running it; returns a function that replays it."""


class CudaRecorder:
    """Recorder of CUDA graphs.

    Args:
        device: the GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def warm(self, step: Callable[[], None], watch: bool) -> str:
        """Run a step on the capturing stream; with ``watch``, report host syncs, which a graph cannot contain."""
        before = torch.cuda.get_sync_debug_mode()
        mode = "warn" if watch else before
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with warnings.catch_warnings(record=True) as caught, torch.cuda.stream(self._stream):
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode(mode)
            try:
                step()
            finally:
                torch.cuda.set_sync_debug_mode(before)
        torch.cuda.current_stream(self._device).wait_stream(self._stream)
        syncs = [w for w in caught if "synchroniz" in str(w.message)]
        for other in caught:
            if other not in syncs:
                warnings.warn_explicit(other.message, other.category, other.filename, other.lineno)
        return f"the step waits for the GPU ({syncs[0].filename}, line {syncs[0].lineno})" if syncs else ""

    def record(self, step: Callable[[], None]) -> Callable[[], None]:
        """Capture a CUDA graph; other threads may use the GPU meanwhile."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
            step()
        return graph.replay


class GraphedStep:
    """A step that is eager at first and then replayed; stays eager if it cannot be captured.

    Args:
        step: the step; all tensors that it reads and writes, except its argument, must keep their memory addresses.
        recorder: recorder of the device.
    """

    def __init__(self, step: Step, recorder: Recorder) -> None:
        self._step, self._recorder = step, recorder
        self.reason = ""
        """Reason for staying eager; empty without one."""
        self.reset()

    def reset(self) -> None:
        """Discard the capture, because tensors have new memory addresses."""
        self._eager_steps = 0
        self._replay: Callable[[], None] | None = None
        self._inputs: list[list[Tensor]] = []

    @property
    def recorded(self) -> bool:
        """Whether steps are replays."""
        return self._replay is not None

    def __call__(self, inputs: Sequence[Sequence[Tensor]]) -> None:
        """Run one step."""
        if self.reason:
            self._step(inputs)
        elif self._eager_steps < EAGER_STEPS:
            self._eager_steps += 1
            # Only the last is watched: compilers, libraries and optimizers may sync while they set up.
            self.reason = self._recorder.warm(lambda: self._step(inputs), self._eager_steps == EAGER_STEPS)
        else:
            if self._replay is None:
                self._inputs = [[tensor.clone() for tensor in batch] for batch in inputs]
                try:
                    self._replay = self._recorder.record(lambda: self._step(self._inputs))
                except RuntimeError as error:
                    self.reason = str(error).partition("\n")[0]
                    self._step(inputs)
                    return
            for captured, given in zip(self._inputs, inputs, strict=True):
                for tensor, value in zip(captured, given, strict=True):
                    tensor.copy_(value)
            self._replay()
