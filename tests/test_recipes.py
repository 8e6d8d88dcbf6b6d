"""The recipes of docs/: their commands and Python run as printed, with less training."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("own_cache")]
DOCS = Path(__file__).parents[1] / "docs"
LESS = {"run": ["--images", "128", "--samples", "50"], "tune": ["--images", "128", "--samples", "50"]}
TRIALS = {"20": "2", "40": "3"}


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), flags=re.DOTALL)


def commands(page: str) -> list[list[str]]:
    """The ``zoo`` commands of the first block, their training shortened."""
    found = []
    lines = blocks(page, "sh")[0].splitlines()
    assert len(lines) <= 5, page
    for line in lines:
        words = shlex.split(line, comments=True)
        if words[0] == "zoo" and words[1] != "push":  # needs the Hub: tests/test_hub.py
            found.append([TRIALS.get(word, word) for word in words[1:]] + LESS.get(words[1], []))
    return found


@pytest.mark.parametrize("page", ["export.md", "trackers.md", "hub.md", "tune.md"])
def test_the_recipe_of_a_page_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Any) -> None:
    monkeypatch.chdir(tmp_path)
    for command in commands(page):
        done = cli(*command)
        assert done.status == 0, (command, done.err)
    if page == "export.md":
        names: dict[str, Any] = {}
        exec(compile(blocks(page, "python")[0], page, "exec"), names)
        assert names["images"].shape == (64, 1, 8, 8)
        assert abs(names["images"]).max() <= 1
    if page == "trackers.md":
        assert list((tmp_path / "runs").glob("*/trackers/tensorboard/events.out.tfevents.*"))
