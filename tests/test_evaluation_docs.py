"""The numbers in docs/evaluation.md equal the records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from zoo.registry import registry

ROOT = Path(__file__).parents[1]
DOCS = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def record() -> dict[str, Any]:
    return json.loads((ROOT / "benchmarks/records/evaluation.json").read_text(encoding="utf-8"))


def row(*cells: object) -> str:
    return "| " + " | ".join(f"{c:.3g}" if isinstance(c, float) else str(c) for c in cells) + " |"


def test_the_floor_and_the_bias_are_the_recorded_ones(record: dict[str, Any]) -> None:
    floor, bias = record["floor"]["rows"], record["bias"]["rows"]
    assert [r["n"] for r in floor] == [1000, 2000, 5000, 10_000]
    for r in floor:
        assert row(f"{r['n']:,}", r["mean"], r["std"], r["gaussian_theory"]) in DOCS
    for r in bias:
        assert row(r["d"], f"{r['n']:,}", r["truth"], r["read"], r["gaussian_theory"]) in DOCS
    means = [r["mean"] for r in floor]
    assert means == sorted(means, reverse=True)


def test_the_frechet_term_takes_no_more_than_twice_its_yardstick(record: dict[str, Any]) -> None:
    for n in ("n 10000", "n 1500"):
        assert record["frechet"][n]["ratio"] <= 2


def test_the_sensitivity_table_is_the_recorded_one() -> None:
    sensitivity = json.loads((ROOT / "benchmarks/records/sensitivity.json").read_text(encoding="utf-8"))
    assert sensitivity["not_monotone"] == []
    shown = [name for name in sensitivity["clean"] if name != "memorization ratio"]
    rows = [line for line in DOCS.splitlines() if line.startswith("| ") and line.count("|") == len(shown) + 3]
    assert len(rows) == 2 + 5 * 5  # its head, what was not damaged, and five kinds at five strengths
    for name, scores in sensitivity["scores"].items():
        for strength, values in zip(sensitivity["strengths"][name]["values"], scores, strict=True):
            (line,) = [r for r in rows if r.startswith(f"| {name} | {strength} ")]
            cells = [float(cell) for cell in line.strip("| ").split("|")[2:]]
            assert cells == pytest.approx([values[score] for score in shown], rel=0.006, abs=1e-9), line


def test_every_extractor_is_in_the_docs() -> None:
    for name, entry in registry().extractors.items():
        if entry.plugin.package == "latent-zoo":
            assert f"| `{name}` | {entry.value.features} |" in DOCS


def test_the_tables_of_metrics_and_inputs_are_the_declarations(script: Any) -> None:
    assert script("docs/metric_table.py").page(DOCS) == DOCS, "run python docs/metric_table.py"


def test_the_tables_of_image_sampling_are_the_recorded_ones() -> None:
    found = json.loads((ROOT / "benchmarks/records/image-sampling.json").read_text(encoding="utf-8"))
    names = (
        "distance",
        "error",
        "error_generated",
        "bootstrap_generated",
        "error_test_images",
        "bootstrap_test_images",
    )
    for r in found["rows"]:
        assert row(r["images"], *(r[name] for name in names)) in DOCS
        if r["distance"] > 1:  # the estimate is of first order
            assert r["error_test_images"] == pytest.approx(r["bootstrap_test_images"], rel=0.2)
            assert r["error_generated"] == pytest.approx(r["bootstrap_generated"], rel=0.2)
    for r in found["pairs"]:
        assert row(", ".join(r["pair"]), r["difference"], r["separate"]).removesuffix(" |") in DOCS
