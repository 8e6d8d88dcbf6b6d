"""``python -m zoo``: the command line, for launchers that start modules, such as ``torchrun -m zoo run …``."""

from __future__ import annotations

from zoo.cli import main

if __name__ == "__main__":
    main()
