"""Who is told how a run goes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from zoo.run.settings import RunSettings

__all__ = ["NoCallback", "RunCallback"]


class RunCallback(Protocol):
    """Who is told how a run goes."""

    def started(self, settings: RunSettings, folder: Path, total_images: int, begin: int) -> None:
        """Training begins, at image ``begin`` of ``total_images``."""

    def progressed(self, images: int, epoch: float, terms: Mapping[str, float] | None) -> None:
        """So many images were seen; ``terms`` are their means when they were just read."""

    def note(self, text: str) -> None:
        """Something that the user should know."""

    def finished(self, result: Mapping[str, Any], folder: Path) -> None:
        """The run is done."""


class NoCallback:
    """Tells nobody."""

    def started(self, settings: RunSettings, folder: Path, total_images: int, begin: int) -> None: ...

    def progressed(self, images: int, epoch: float, terms: Mapping[str, float] | None) -> None: ...

    def note(self, text: str) -> None: ...

    def finished(self, result: Mapping[str, Any], folder: Path) -> None: ...
