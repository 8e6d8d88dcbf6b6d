"""``zoo bench --rescore``: scores are renewed from the weights, the training part stays, nothing is done twice."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from zoo.bench.rescore_grid import rescore_grid
from zoo.errors import UsageError, ZooError
from zoo.run.rescoring import rescore

TRAINING = ("model", "dataset", "seed", "cost", "plugin", "settings", "options_changed", "command", "card")


@pytest.fixture(autouse=True)
def _own_cache(own_cache: None) -> None:
    """No test reads or fills the user's cache."""


@pytest.fixture
def run(runs: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(runs / "vae", tmp_path / "bench/digits/vae/seed0"))


def read(folder: Path) -> Any:
    return json.loads((folder / "result.json").read_text())


def as_an_older_zoo_wrote_it(folder: Path) -> Any:
    """Without the scores and the protocol entries of metrics that came later."""
    found = read(folder)
    for name in ("PSNR", "SSIM", "FD-autoencoder (second opinion)", "FD-autoencoder (second opinion) floor"):
        del found["scores"][name], found["score_info"][name]
    del found["protocol"]["separate_metrics"], found["content_sha256"]
    found["scores"]["FD-classifier"] = 1e6  # not what it would be today
    (folder / "result.json").write_text(json.dumps(found))
    return found


def test_scores_are_renewed_and_the_training_part_stays(run: Path) -> None:
    whole = read(run)
    before = as_an_older_zoo_wrote_it(run)
    assert rescore(run)
    after = read(run)
    assert list(after["scores"]) == list(whole["scores"])
    for name, value in whole["scores"].items():
        assert after["scores"][name] == (None if value is None else pytest.approx(value, rel=1e-4, abs=1e-9)), name
    assert after["protocol"] == whole["protocol"]
    assert after["fingerprint"] == before["fingerprint"]  # later metrics do not separate the tables
    assert {k: after[k] for k in TRAINING} == {k: before[k] for k in TRAINING}
    assert after["weights_sha256"] == before["weights_sha256"]
    rescored = after["provenance"].pop("rescored")
    assert rescored["finished"] >= before["provenance"]["finished"]
    assert after["provenance"] == before["provenance"]


def test_a_current_result_is_left_alone(run: Path) -> None:
    before = (run / "result.json").read_bytes()
    assert not rescore(run)
    assert (run / "result.json").read_bytes() == before
    assert rescore(run, again=True)


def test_other_images_a_locked_and_an_unscored_run_are_refused(run: Path, runs: Path) -> None:
    found = as_an_older_zoo_wrote_it(run)
    with FileLock(run / ".lock"), pytest.raises(ZooError, match="another process"):
        rescore(run)
    other = {**found, "protocol": {**found["protocol"], "dataset_digest": "0" * 64}}
    (run / "result.json").write_text(json.dumps(other))
    with pytest.raises(ZooError, match="other images"):
        rescore(run)
    with pytest.raises(ZooError, match="extractor none"):
        rescore(runs / "color")


def test_a_write_that_fails_leaves_the_old_result(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    as_an_older_zoo_wrote_it(run)
    before = (run / "result.json").read_bytes()

    def full(path: Path, content: bytes) -> None:
        raise ZooError("No space left on device")

    monkeypatch.setattr("zoo.run.run_folder.write_atomically", full)
    with pytest.raises(ZooError, match="No space"):
        rescore(run)
    assert (run / "result.json").read_bytes() == before


@pytest.mark.slow
def test_a_grid_is_rescored_by_one_command_and_then_has_nothing_to_do(run: Path, cli: Any) -> None:
    bench = run.parents[2]
    as_an_older_zoo_wrote_it(run)
    broken = Path(shutil.copytree(run, bench / "digits/vae/seed1"))
    (broken / "model.safetensors").write_bytes(b"nothing")
    done = cli("bench", "--rescore", "--out", str(bench), "--jobs", "1", "--threads", "1")
    assert "digits/vae/seed0: scored" in done.out
    done.refused(1, "1 of 2 runs were not scored, digits/vae/seed1 first")
    shutil.rmtree(broken)
    (outcome,) = rescore_grid(bench, jobs=1)
    assert (outcome.folder, outcome.outcome) == ("digits/vae/seed0", "current")


def test_flags_of_training_are_refused(tmp_path: Path, cli: Any) -> None:
    cli("bench", "--rescore", "--seeds", "2", "--out", str(tmp_path)).refused(2, "rescore: only")
    with pytest.raises(UsageError, match="no finished run"):
        rescore_grid(tmp_path)
