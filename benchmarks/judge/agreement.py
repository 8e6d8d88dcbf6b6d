"""Agreement of extractors with a panel: the tables of docs/judge.md from the record of ``compare.py``.

python benchmarks/judge/agreement.py            # reads benchmarks/records/judge-mnist.json, prints Markdown
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from scipy.stats import rankdata, spearmanr

RECORD = Path(__file__).resolve().parents[1] / "records" / "judge-mnist.json"
LEVELS = ("blur", "erosion", "dilation", "noise", "jagged", "dots", "pixelate", "contrast", "erase", "elastic")
LEVELS += ("dropped classes", "repeated images", "superposed")


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", type=Path, nargs="?", default=RECORD)
    table: dict[str, dict[str, float]] = json.loads(parser.parse_args().record.read_text())
    sets = list(table["panel_a"])
    late, early = ([s for s in sets if s.endswith(f"-{n}")] for n in (120000, 12000))
    damages = [s for s in sets if s.rpartition(" ")[0] in LEVELS]
    panel = [name for name in table if name.startswith("panel_")]

    def median(group: list[str], without: str) -> np.ndarray:
        ranks = [rankdata([table[name][s] for s in group]) for name in panel if name != without]
        return np.asarray(np.median(ranks, 0))

    def agreement(name: str, group: list[str], other: np.ndarray) -> str:
        return f"{spearmanr([table[name][s] for s in group], other).statistic:.2f}"

    print("| extractor | A | B | C | D | panel | A | B | C | D | panel | damages | not monotone |")
    print("|---|---|---|---|---|---|---|---|---|---|---|---|---|")
    for name in table:
        cells = []
        for group in (late, early):
            cells += [agreement(name, group, np.array([table[f"panel_{p}"][s] for s in group])) for p in "abcd"]
            cells.append(agreement(name, group, median(group, name)))
        cells.append(agreement(name, damages, median(damages, name)))
        rows = {
            k: [table[name][s] for s in ["clean", *sets] if s == "clean" or s.rpartition(" ")[0] == k] for k in LEVELS
        }
        cells.append(", ".join(k for k, row in rows.items() if row != sorted(row)))
        print(f"| {name.replace('_', ' ')} |", " | ".join(cells), "|")
    shown = ["panel_a", "panel_d", "panel_c", "classifier-v1", "classifier"]
    print("\n| samples |", " | ".join(name.replace("_", " ") for name in shown), "|")
    print("|---|" + "---|" * len(shown))
    for s in [*sorted(late, key=table["panel_a"].__getitem__), "clean", *damages]:
        print(f"| {s.removesuffix('-120000')} |", " | ".join(f"{table[name][s]:.3g}" for name in shown), "|")


if __name__ == "__main__":
    main()
