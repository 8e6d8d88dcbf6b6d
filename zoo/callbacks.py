"""Callbacks of a training run: the base class, and a list of callbacks that acts as one."""

# ruff: noqa: D102 (CallbackList inherits its docstrings)

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["Callback", "CallbackList"]


class Callback:
    """Base class of the callbacks of a training run; every method does nothing unless overridden.

    Pass callbacks to ``zoo.train(callbacks=[...])``, or return them from the hook ``zoo_callbacks`` of an installed
    package to have them called in every run. Of several processes that train together, only the first calls them.
    An exception ends the run; ``--resume`` continues it from its last checkpoint. A callback must not draw from torch's
    global random generator: the run would no longer depend on its settings alone.

    Example:
        >>> class History(Callback):
        ...     def __init__(self):
        ...         self.losses = []
        ...
        ...     def step_logged(self, step, images_seen, epoch, terms, gradients):
        ...         self.losses.append(sum(terms.values()))
        >>> history = History()
        >>> history.step_logged(1, 64, 0.05, {"nll": 2.0, "kl": 0.5}, {})
        >>> history.losses
        [2.5]
    """

    def decoded(self, images: int, total: int) -> None:
        """``images`` of ``total`` images of the data set are decoded and cached; called before :meth:`started`."""

    def started(self, settings: Mapping[str, Any], folder: Path, total_images: int, images_seen: int) -> None:
        """Training begins.

        Args:
            settings: The settings of the run as ``config.toml`` stores them; the model's options under ``options``.
            folder: The run folder.
            total_images: Number of training images of the whole run, repeats included.
            images_seen: Number of them that an interrupted run has already seen; 0 for a new run.
        """

    def progressed(self, images_seen: int, epoch: float) -> None:
        """Called every few steps, for progress displays; reads nothing from the device."""

    def step_logged(
        self,
        step: int,
        images_seen: int,
        epoch: float,
        terms: Mapping[str, float],
        gradients: Mapping[str, float],
    ) -> None:
        """A line was added to ``metrics.jsonl``: about 200 times per run, always after the last step.

        Args:
            step: Number of steps so far.
            images_seen: Number of training images so far.
            epoch: Passes over the training images so far.
            terms: Mean of each loss term since the last line, by name.
            gradients: Norm of the last gradient of each player, by the names of its networks.
        """

    def scored(self, images: int, total: int) -> None:
        """``images`` of ``total`` generated images are fed to the metrics; called after every batch of them."""

    def images(self, paths: Sequence[Path]) -> None:
        """The images of the trained model were written to the run folder, as PNG and GIF files."""

    def note(self, text: str) -> None:
        """A message for the user, such as a feature that is not available; may come before :meth:`started`."""

    def finished(self, result: Mapping[str, Any], folder: Path) -> None:
        """The run is complete.

        Args:
            result: The content of ``result.json``.
            folder: The run folder.
        """

    def stopped(self, error: BaseException) -> None:
        """The run ends without a result.

        Args:
            error: The reason; a ``KeyboardInterrupt`` if a signal stopped the run.
        """


class CallbackList(Callback):
    """Several callbacks as one; calls them in order."""

    def __init__(self, callbacks: Iterable[Callback] = ()) -> None:
        self.callbacks = list(callbacks)

    def decoded(self, images: int, total: int) -> None:
        for callback in self.callbacks:
            callback.decoded(images, total)

    def started(self, settings: Mapping[str, Any], folder: Path, total_images: int, images_seen: int) -> None:
        for callback in self.callbacks:
            callback.started(settings, folder, total_images, images_seen)

    def progressed(self, images_seen: int, epoch: float) -> None:
        for callback in self.callbacks:
            callback.progressed(images_seen, epoch)

    def step_logged(
        self,
        step: int,
        images_seen: int,
        epoch: float,
        terms: Mapping[str, float],
        gradients: Mapping[str, float],
    ) -> None:
        for callback in self.callbacks:
            callback.step_logged(step, images_seen, epoch, terms, gradients)

    def scored(self, images: int, total: int) -> None:
        for callback in self.callbacks:
            callback.scored(images, total)

    def images(self, paths: Sequence[Path]) -> None:
        for callback in self.callbacks:
            callback.images(paths)

    def note(self, text: str) -> None:
        for callback in self.callbacks:
            callback.note(text)

    def finished(self, result: Mapping[str, Any], folder: Path) -> None:
        for callback in self.callbacks:
            callback.finished(result, folder)

    def stopped(self, error: BaseException) -> None:
        for callback in self.callbacks:
            callback.stopped(error)
