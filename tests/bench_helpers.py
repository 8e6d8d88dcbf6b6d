"""Helpers of the tests of ``zoo bench``: a package of misbehaving models, small grids, and comparisons of results."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from zoo.bench import BenchProtocol, Grid, GridStatus
from zoo.bench.bench_protocol import EvaluateRules, TrainRules
from zoo.bench.grid_status import make_cells, read_status

HERE = Path(__file__).parent
ZOO = Path(sys.executable).with_name("zoo")
STEPS = 30


def install(site: Path) -> Path:
    """Put the package ``misbehaving`` into a folder, as pip would."""
    info = site / "misbehaving-1.0.dist-info"
    info.mkdir(parents=True)
    shutil.copy(HERE / "misbehaving.py", site)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: misbehaving\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[zoo]\nmisbehaving = misbehaving\n")
    return site


def protocol(good: int = 5, **changes: Any) -> BenchProtocol:
    """A protocol under which a toy takes 30 steps, of which ``good`` go well."""
    plain = BenchProtocol(
        name="toys",
        train=TrainRules(images=STEPS * 64),
        options={"good": good},
        evaluate=EvaluateRules(samples=64),
        grid=Grid(("steady",), seeds=2),
    )
    return attrs.evolve(plain, **changes)


def board(out: Path, models: Sequence[str], seeds: int, *, retry_failed: bool = False) -> GridStatus:
    """A grid of toys that checkpoint at every step, so that a kill finds something to go on from."""
    rules = protocol()
    cells = make_cells(rules, Grid(tuple(models), ("digits",), seeds), out, "cpu")
    often = [attrs.evolve(cell, settings={**cell.settings, "checkpoint_seconds": 0.0}) for cell in cells]
    return read_status(often, retry_failed=retry_failed)


@attrs.define
class Noted:
    """A callback that records all events, and each result as first written."""

    events: list[tuple[str, str]] = attrs.field(factory=list)
    results: dict[Path, bytes] = attrs.field(factory=dict)

    def started(self, grid_status: GridStatus) -> None: ...

    def changed(self, status: Any, event: str) -> None:
        self.events.append((status.cell.name, event))
        if event == "done":
            path = status.cell.folder / "result.json"
            assert path not in self.results, "done twice"
            self.results[path] = path.read_bytes()

    def ticked(self) -> None: ...


def bench(out: Path, *args: object, env: Mapping[str, str], **more: Any) -> subprocess.Popen[str]:
    """``zoo bench`` in a process of its own."""
    command = [ZOO, "bench", "--out", out, *map(str, args)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env={**os.environ, **env}, **pipes, **more)


def facts(folder: Path) -> dict[str, Any]:
    """What of a cell must not depend on how it came about: weights, scores, log of terms."""
    result = json.loads((folder / "result.json").read_text())
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for changing in ("cost", "evaluation_seconds", "provenance", "content_sha256"):
        result.pop(changing, None)
    result["settings"].pop("checkpoint_seconds")
    return {
        "weights": (folder / "model.safetensors").read_bytes(),
        "result": result,
        "metrics": [{k: v for k, v in line.items() if k != "seconds"} for line in lines],
    }


def tensors(folder: Path) -> bytes:
    """The weights without the header that names their model."""
    whole = (folder / "model.safetensors").read_bytes()
    return whole[8 + int.from_bytes(whole[:8], "little") :]


def finishes(folder: Path) -> int:
    """How many attempts at a cell went all the way."""
    return sum(line.endswith(" done") for line in (folder / "log.txt").read_text().splitlines())


def alive(pid: int) -> bool:
    """Whether a process runs; one that is dead and not yet waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False
