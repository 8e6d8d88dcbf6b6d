"""A whole training step as one CUDA graph: launched once, whatever the number of its kernels."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

__all__ = ["CudaRecorder", "GraphedStep", "Recorder"]

Step = Callable[[Sequence[Tensor]], None]
"""A training step on the images at these places (each int64, (B,)): everything else it needs, it holds."""

EAGER_STEPS = 3
"""Steps before the capture, on the stream that captures: allocations, kernels' choice, optimizers' first state.

They are the run's own first steps, so nothing has to be put back after a warm-up: neither moments, nor batch
statistics, nor the random state.
"""


class Recorder(Protocol):
    """Turns a step into something to replay."""

    def warm(self, step: Callable[[], None], watch: bool) -> str:
        """Run a step as it will be recorded; if it is watched, say why it cannot be recorded, or nothing."""

    def record(self, step: Callable[[], None]) -> Callable[[], None]:
        """Record a step without running it; the result runs it."""


class CudaRecorder:
    """CUDA graphs.

    Arguments:
        device: the GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def warm(self, step: Callable[[], None], watch: bool) -> str:
        """A step on a side stream, watched for waits of the host, which no graph can hold."""
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
        waits = [w for w in caught if "synchroniz" in str(w.message)]
        for other in caught:
            if other not in waits:
                warnings.warn_explicit(other.message, other.category, other.filename, other.lineno)
        return f"the step waits for the GPU ({waits[0].filename}, line {waits[0].lineno})" if waits else ""

    def record(self, step: Callable[[], None]) -> Callable[[], None]:
        """Capture; other threads may go on using the GPU."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
            step()
        return graph.replay


class GraphedStep:
    """A step that is eager at first, then one replay; eager for good, with the reason, where it cannot be recorded.

    Arguments:
        step: it reads its batch at the places given; all else it reads and writes must stay where it is in memory.
        recorder: of the device.
    """

    def __init__(self, step: Step, recorder: Recorder) -> None:
        self._step, self._recorder = step, recorder
        self.reason = ""
        """Why it stays eager; empty where it does not."""
        self.forget()

    def forget(self) -> None:
        """Record anew: what the step reads or writes has moved in memory."""
        self._done = 0
        self._replay: Callable[[], None] | None = None
        self._places: list[Tensor] = []

    @property
    def recorded(self) -> bool:
        """Whether steps are replays now."""
        return self._replay is not None

    def __call__(self, places: Sequence[Tensor]) -> None:
        """Take one step."""
        if self.reason:
            self._step(places)
        elif self._done < EAGER_STEPS:
            self._done += 1
            # The last is watched: before it compilers, libraries and optimizers may still settle, which takes waits.
            self.reason = self._recorder.warm(lambda: self._step(places), self._done == EAGER_STEPS)
        else:
            if self._replay is None:
                self._places = [place.clone() for place in places]
                try:
                    self._replay = self._recorder.record(lambda: self._step(self._places))
                except RuntimeError as error:
                    self.reason = str(error).partition("\n")[0]
                    self._step(places)
                    return
            for mine, given in zip(self._places, places, strict=True):
                mine.copy_(given)
            self._replay()
