"""Helpers of the leaderboard tests: hand-made results in the format of runs, without training and without torch."""

from __future__ import annotations

import copy
import json
import struct
import zlib
from pathlib import Path
from typing import Any

from zoo.evaluation.protocol import Protocol

CARD = {
    "summary": "A model made up for a test.",
    "paper": "Nobody, 2020",
    "game": [
        {
            "turn": "step",
            "repeat": 1,
            "terms": ["rec", "gan"],
            "rows": [
                {"networks": ["decoder"], "weights": {"rec": 0.01, "gan": -1.0}},
                {"networks": ["critic"], "weights": {"gan": 1.0}},
            ],
        }
    ],
    "deviations": {"norm": "none in the critic."},
}

SCORE_INFO = {
    "FD-classifier": {"description": "Fréchet distance", "higher_is_better": False, "unit": "", "column": True},
    "FD-classifier (train)": {"description": "to training images", "higher_is_better": False, "column": False},
    "reconstruction MSE": {"description": "mean squared error", "higher_is_better": False},
    "smallest class share": {"description": "smallest share of a class", "higher_is_better": True},
}


def protocol(dataset: str = "digits", **changes: Any) -> Protocol:
    entries: dict[str, Any] = {
        "extractor": "classifier",
        "extractor_digest": "e" * 64,
        "resize": "as is",
        "channels": "as is",
        "dataset": dataset,
        "dataset_digest": (dataset * 64)[:64],
        "n_real": 500,
        "n_generated": 1000,
        "libraries": {"torch": "2.11.0"},
    }
    return Protocol(**{**entries, **changes})


def result(
    model: str = "vae",
    seed: int = 0,
    score: float | None = 10.0,
    *,
    measured: Protocol | None = None,
    options: dict[str, Any] | None = None,
    smallest: float | None = 0.08,
    floor: float = 0.5,
    epochs: int = 3,
    **changes: Any,
) -> dict[str, Any]:
    measured = measured or protocol()
    chosen = {"latent": 16, "width": 32, **(options or {})}
    found = {
        "format": 1,
        "model": model,
        "dataset": measured.dataset,
        "seed": seed,
        "scores": {
            "FD-classifier": score,
            "FD-classifier (train)": None if score is None else score + 1,
            "FD-classifier floor": floor,
            "reconstruction MSE": 0.02 + seed / 1000,
            "smallest class share": smallest,
        },
        "score_info": copy.deepcopy(SCORE_INFO),
        "protocol": measured.to_dict(),
        "fingerprint": measured.fingerprint,
        "class_shares": None,
        "evaluation_seconds": 1.5,
        "cost": {
            "seconds": 20.0 + seed,
            "images_seen": 3840,
            "images_per_second": 192.0,
            "parameters": {"encoder": 1000, "decoder": 2000},
            "peak_memory_bytes": 800_000_000,
            "device": "cpu (x86_64)",
            "threads": 1,
        },
        "plugin": {"name": "vae", "package": "latent-zoo", "version": "0.1.0"},
        "settings": {
            "dataset": measured.dataset,
            "epochs": epochs,
            "batch": 64,
            "seed": seed,
            "precision": "fp32",
            "extractor": "auto",
            "options": chosen,
        },
        "options_changed": dict(options or {}),
        "command": f"zoo run {model} --dataset {measured.dataset} --epochs {epochs} --seed {seed}",
        "card": copy.deepcopy(CARD),
        "weights_sha256": f"{seed:064x}",
        "provenance": {"zoo": "0.1.0", "finished": f"2026-01-01T00:00:{seed:02d}+00:00"},
    }
    return {**found, **changes}


def failure(model: str = "vae", seed: int = 0, kind: str = "diverged", **changes: Any) -> dict[str, Any]:
    found = result(model, seed)
    kept = {k: found[k] for k in ("format", "model", "dataset", "seed", "plugin", "settings")}
    added = {"kind": kind, "reason": "the loss is NaN", "attempts": 2, "finished": "2026-01-01T00:00:00+00:00"}
    return {**kept, **added, **changes}


def write(folder: Path, found: dict[str, Any]) -> Path:
    """A run's folder with this result, or this failure, in it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ("result.json" if "scores" in found else "failed.json")).write_text(json.dumps(found))
    return folder


def write_rows(root: Path, rows: dict[str, list[float]], **changes: Any) -> Path:
    """Rows by model: a score a seed."""
    for model, scores in rows.items():
        for seed, score in enumerate(scores):
            write(root / model / f"seed{seed}", result(model, seed, score, **changes))
    return root


def png(path: Path, width: int = 60, height: int = 40, *, text: str = "") -> Path:
    """A gray gradient, with a comment in it."""
    raw = b"".join(b"\0" + bytes((x * 4 + y) % 256 for x in range(width)) for y in range(height))
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)), (b"tEXt", b"Comment\0" + text.encode())]
    chunks += [(b"IDAT", zlib.compress(raw)), (b"IEND", b"")]
    body = b"".join(struct.pack(">I", len(b)) + k + b + struct.pack(">I", zlib.crc32(k + b)) for k, b in chunks)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


def metrics(path: Path, lines: int = 200, terms: tuple[str, ...] = ("rec", "gan")) -> Path:
    rows = [
        {"step": i, "images": 64 * i, "seconds": i / 10, "terms": {t: 100.0 / (i + k + 1) for k, t in enumerate(terms)}}
        for i in range(1, lines + 1)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_many(root: Path, count: int, *, seeds: int = 5) -> Path:
    """Many results: every model with some seeds on three data sets, pictures and curves beside each."""
    root.mkdir(exist_ok=True)
    sets = [protocol(name) for name in ("digits", "mnist", "faces")]
    picture = png(root / "picture.png", 582, 582).read_bytes()
    log = metrics(root / "metrics.jsonl").read_bytes()
    for i in range(count):
        row, seed = divmod(i, seeds)
        score = 5 + (row * 7919 % 10007) / 100 + seed * 0.1
        found = result(f"model-{row // 3}", seed, score, measured=sets[row % 3], options={"latent": 4 + row % 5})
        folder = write(root / str(row % 3) / f"m{row // 3}" / f"seed{seed}", found)
        if row < 600:
            (folder / "samples.png").write_bytes(picture)
            (folder / "metrics.jsonl").write_bytes(log)
    return root
