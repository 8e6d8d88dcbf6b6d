"""Agreement of extractors on color photographs: the tables of docs/judge.md, *Photographs*.

    python benchmarks/judge/color.py --folder DIR --sets FOLDER --work FOLDER
    python benchmarks/judge/color.py                                 # tables from the record

``--folder`` has class folders under ``train`` and ``test``. ``--sets`` holds ``MODEL-IMAGES.npy``: uint8 samples
(N, H, W, 3) of a model after so many training images. The reference is the test split; the damaged sets are made from
training images. What is in the record is not computed again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from color_damages import DAMAGES
from color_networks import PANEL, train
from damages import damaged
from safetensors.torch import load_file, save_file
from scipy.stats import rankdata, spearmanr
from torch import Tensor

from zoo.data import DataOptions, bundled_sources, load_dataset
from zoo.evaluation import EfficientNet
from zoo.evaluation.efficientnet import load_network, prepare
from zoo.evaluation.random_features import RandomFeatures
from zoo.metrics.frechet import ReferenceMoments, frechet_distance
from zoo.metrics.moments import Moments

RECORD = Path(__file__).resolve().parents[1] / "records" / "judge-color.json"
STAGES = {
    "efficientnet": EfficientNet.STAGES,
    "stages 1-2": (0, 1),
    "stage 3": (2,),
    "stage 4": (3,),
    "stages 5, 7": (4, 6),
    "stage 6": (5,),
    "stage 7": (6,),
    "stages 2, 4, 7": (1, 3, 6),
    "stages 3, 5, 7": (2, 4, 6),
}
"""Sets of stages of EfficientNet-Lite0, from 0: the pinned ones and others."""
WIDTHS = (16, 24, 40, 80, 112, 192, 320)

Extract = Callable[[Tensor], Tensor]


def moments(extract: Extract, images: Tensor) -> Moments:
    """Mean and covariance of the features of uint8 images."""
    out = Moments()
    for part in images.split(50):
        out.update(extract(part))
    return out


def pooled_stages() -> Extract:
    """Return the channel means of the seven stages, side by side."""
    net = load_network()

    def extract(images: Tensor) -> Tensor:
        found = list(net.activations(prepare(images, EfficientNet.SIDE)))[:7]
        return torch.cat([x.mean((2, 3)) for x in found], 1)

    return extract


def part(m: Moments, stages: tuple[int, ...]) -> Moments:
    """Moments of some stages out of those of all seven."""
    ends = np.cumsum(WIDTHS)
    index = torch.cat([torch.arange(ends[s] - WIDTHS[s], ends[s]) for s in stages])
    return Moments.from_statistics(m.n, m.mean[index], m.cov[index][:, index])


def panel_extractor(name: str, x: Tensor, y: Tensor, work: Path) -> Extract:
    """Return the extractor ``name`` of the panel, trained or from the file that an earlier call left in ``work``."""
    file = work / f"{name}.safetensors"
    if not file.exists():
        with torch.enable_grad():
            tensors = train(name, x.float() / 127.5 - 1, y).state_dict()
        save_file({"none": torch.zeros(1), **tensors}, file)
    net = PANEL[name]()
    net.load_state_dict({k: v for k, v in load_file(file).items() if k != "none"})
    net.eval()
    return lambda images: net.features(images.float() / 127.5 - 1)


@torch.no_grad()
def compute(folder: Path, sets_folder: Path | None, work: Path, record: dict[str, Any]) -> Iterator[None]:
    """Add to ``record`` the distances of every set to the test split in every extractor; yields after each part."""
    sources = {source.name: source for source in bundled_sources()}
    data = load_dataset(f"folder:{folder}", DataOptions(download=False), sources)
    x, y, test = data.train.images, data.train.labels, data.test.images
    assert y is not None
    n = record["images per set"]
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    sets = damaged(x[order[:n]], y[order[:n]], DAMAGES)
    for path in sorted(sets_folder.glob("*.npy")) if sets_folder else []:
        sets[path.stem] = torch.from_numpy(np.load(path)[:n]).permute(0, 3, 1, 2)
    distances: dict[str, dict[str, float]] = record.setdefault("distances", {})

    def distance(reference: ReferenceMoments, found: Moments) -> float:
        return float(f"{frechet_distance(reference, found):.5g}")

    for name in PANEL:
        row = distances.setdefault(f"panel {name}", {})
        extract = panel_extractor(name, x, y, work)
        real = ReferenceMoments.from_moments(moments(extract, test))
        row |= {s: distance(real, moments(extract, images)) for s, images in sets.items() if s not in row}
        yield
    row = distances.setdefault("random-features", {})  # the second opinion, not a member of the panel
    second = RandomFeatures()
    real = ReferenceMoments.from_moments(moments(second, test))
    row |= {s: distance(real, moments(second, images)) for s, images in sets.items() if s not in row}
    yield
    extract = pooled_stages()
    start = time.process_time()
    file = work / "reference.safetensors"
    if not file.exists():
        found = moments(extract, test)
        record["milliseconds per image"] = round(1000 * (time.process_time() - start) / len(test), 2)
        save_file({"mean": found.mean, "cov": found.cov}, file)
    stored = load_file(file)
    all_stages = Moments.from_statistics(len(test), stored["mean"], stored["cov"])
    references = {k: ReferenceMoments.from_moments(part(all_stages, stages)) for k, stages in STAGES.items()}
    record["variance"] = {k: float(f"{float(r.moments.cov.trace()):.5g}") for k, r in references.items()}
    for s, images in sets.items():
        if s not in distances.get("efficientnet", {}):
            found = moments(extract, images)
            for name, stages in STAGES.items():
                distances.setdefault(name, {})[s] = distance(references[name], part(found, stages))
            yield
    sizes = record.setdefault("training images", {})
    if "efficientnet" not in sizes:
        running = Moments()
        for i, chosen in enumerate(order[:5000].split(500), start=1):
            running.merge(moments(extract, x[chosen]))
            if 500 * i in (500, 1000, 2000, 5000):
                for name, stages in STAGES.items():
                    sizes.setdefault(name, {})[str(500 * i)] = distance(references[name], part(running, stages))
        yield


def show(record: dict[str, Any]) -> None:
    """Print the agreement and the damages as Markdown."""
    table: dict[str, dict[str, float]] = record["distances"]
    sets = list(table["efficientnet"])
    damages = [s for s in sets if s.rpartition(" ")[0] in DAMAGES]
    samples = [s for s in sets if s != "clean" and s not in damages]
    panel = [name for name in table if name.startswith("panel ")] + ["stages 1-2", "stage 4"]

    def median(group: list[str], without: str) -> np.ndarray:
        ranks = [rankdata([table[name][s] for s in group]) for name in panel if name != without]
        return np.asarray(np.median(ranks, 0))

    print("| extractor | samples | damages | all | weakest damage / clean | clean / variance | not monotone |")
    print("|---|---|---|---|---|---|---|")
    for name, row in table.items():
        cells = []
        for group in (samples, damages, samples + damages):
            if len(group) > 2:
                cells.append(f"{spearmanr([row[s] for s in group], median(group, name)).statistic:.2f}")
            else:
                cells.append("")
        falls = []
        visible = []
        for kind in DAMAGES:
            values = [row[s] for s in sets if s == "clean" or s.rpartition(" ")[0] == kind]
            falls += [kind] if values != sorted(values) else []
            visible += [row[s] / row["clean"] for s in sets if s.rpartition(" ")[0] == kind][:1]
        variance = record["variance"].get(name)
        cells += [
            f"{np.exp(np.mean(np.log(visible))):.2f}",
            f"{100 * row['clean'] / variance:.1f} %" if variance else "",
        ]
        print(f"| {name} |", " | ".join([*cells, ", ".join(falls) or "none"]), "|")
    shown = ["efficientnet", "random-features", "stages 5, 7", "panel classifier", "panel statistics"]
    print(f"\n| images | {' | '.join(shown)} |\n|---|{'---|' * len(shown)}")
    for s in [*sorted(samples, key=table["efficientnet"].__getitem__), "clean", *damages]:
        print(f"| {s} |", " | ".join(f"{table[name][s]:.3g}" for name in shown), "|")


def main() -> None:
    """Compute the record if a folder is given; print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--sets", type=Path)
    parser.add_argument("--work", type=Path, help="folder of the panel's trained networks")
    parser.add_argument("--images", type=int, default=1000, help="images per set")
    parser.add_argument("--record", type=Path, default=RECORD)
    args = parser.parse_args()
    if args.folder:
        args.work.mkdir(parents=True, exist_ok=True)
        record = json.loads(args.record.read_text()) if args.record.exists() else {"images per set": args.images}
        record |= {"threads": torch.get_num_threads(), "torch": torch.__version__.partition("+")[0]}
        for _ in compute(args.folder, args.sets, args.work, record):
            args.record.write_text(json.dumps(record, indent=1) + "\n")
    show(json.loads(args.record.read_text()))


if __name__ == "__main__":
    main()
