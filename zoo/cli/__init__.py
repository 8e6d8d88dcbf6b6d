"""The command line: ``zoo``. Nothing here imports torch until a command needs it."""

from __future__ import annotations

from zoo.cli.main import main

__all__ = ["main"]
