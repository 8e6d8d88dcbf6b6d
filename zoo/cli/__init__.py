"""The command line ``zoo``. Importing it does not import torch; commands that need torch do."""

from __future__ import annotations

from zoo.cli.main import main

__all__ = ["main"]
