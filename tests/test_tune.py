"""`zoo tune`: the search space, the validation split, equal trials, resuming, and results."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch

import zoo
from zoo.data import Dataset, Split, hold_out, load_dataset
from zoo.data.spec import DataOptions
from zoo.errors import UsageError, ZooError
from zoo.registry import registry
from zoo.run.settings import RunSettings
from zoo.tune import Dimension, Study, default_space, parse_search, plan_study

pytestmark = pytest.mark.usefixtures("own_cache")
SMALL: dict[str, Any] = {"images": 128, "samples": 50, "family": "mlp", "width": 2}


@zoo.frozen
class Sized(zoo.Generator):
    """Options with limits of each kind."""

    weight: float = zoo.option(0.5, "A weight.", zoo.above(0))
    share: float = zoo.option(0.2, "A share.", zoo.between(0, 1, inclusive="left"))
    off: float = zoo.option(0.0, "Off by default.", zoo.at_least(0))
    depth: int = zoo.option(2, "A depth.", zoo.at_least(1))
    joint: bool = zoo.option(False, "A switch.")


def test_dimensions_come_from_the_limits_and_defaults_of_options() -> None:
    found = {d.name: d for d in default_space(Sized)}
    assert set(found) == {"lr", "beta1", "weight", "share"}  # neither sizes of networks nor what is off
    assert found["weight"] == Dimension("weight", float, 0.05, 5.0, log=True)
    assert (found["share"].low, found["share"].high, found["share"].log) == (0, pytest.approx(0.999), False)
    assert parse_search("depth", Sized) == Dimension("depth", int, 1, 8, log=True)
    assert parse_search("joint", Sized).choices == (False, True)
    assert parse_search("norm", Sized).choices == ("batch", "group", "none")
    for text in ("lr=0.0001..0.01:log", "latent=8..64", "joint=true", "norm=batch,none", "batch=32,64", "depth=2"):
        assert str(parse_search(text, Sized)) == text
    assert parse_search("--lr=1e-4..1e-2:log", Sized) == Dimension("lr", float, 1e-4, 1e-2, log=True)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("lrr=1..2", "unknown option to search 'lrr'. Did you mean 'lr'"),
        ("epochs=1..2", "unknown option to search 'epochs'"),  # trials have equal budgets
        ("seed=1..2", "unknown option to search 'seed'"),
        ("lr=0..1", "lr: 0.0 is not allowed; must be above 0"),
        ("lr=2..1", "LOW must be below HIGH"),
        ("off=0..1:log", "above 0 with :log"),
        ("lr=1..2:square", "must be NAME, NAME=LOW..HIGH"),
        ("lr=a..b", "'a' is not allowed for lr; must be of type float"),
        ("latent=1.5,2", "'1.5' is not allowed for latent; must be of type int"),
        ("norm=batch..none", "norm is no number, so list its values"),
        ("off", "off has no limits; name them"),
        ("family", "family has no limits; list its values"),
    ],
)
def test_a_search_that_is_not_allowed_is_told_in_one_line(text: str, reason: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_search(text, Sized)
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)


def test_held_out_images_replace_the_test_split_and_are_not_trained_on() -> None:
    images = torch.arange(40, dtype=torch.uint8).view(40, 1, 1, 1).expand(40, 1, 8, 8).contiguous()
    labels = torch.arange(40) % 2
    test = Split(torch.full((5, 1, 8, 8), 255, dtype=torch.uint8), torch.zeros(5, dtype=torch.int64))
    whole = Dataset("x", Split(images, labels), test, ("a", "b"))
    data = hold_out(whole, 0.25)
    held, kept = (set(split.images[:, 0, 0, 0].tolist()) for split in (data.test, data.train))
    assert (len(held), held | kept, held & kept) == (10, set(range(40)), set())
    for split in (data.test, data.train):
        assert split.labels is not None
        assert torch.equal(split.labels, split.images[:, 0, 0, 0].long() % 2)
    assert (data.evaluation_split, whole.evaluation_split) == ("validation", "test")
    assert data.digest != whole.digest
    assert torch.equal(hold_out(whole, 0.25).test.images, data.test.images)
    with pytest.raises(UsageError, match=r"validation: 0\.01 is not allowed; x has 40 training images"):
        hold_out(whole, 0.01)


def test_images_mapped_from_disk_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data = load_dataset("digits", DataOptions(), registry().sources())
    monkeypatch.setattr("zoo.data.validation_split.is_mapped", lambda _: True)
    with pytest.raises(UsageError, match="digits is mapped from disk"):
        hold_out(data, 0.1)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Study:
    """A finished study of three trials, interrupted in the second and resumed."""
    folder = tmp_path_factory.mktemp("study")

    class Stop(zoo.Callback):
        runs = 0

        def started(self, *_: Any) -> None:
            self.runs += 1
            if self.runs == 2:
                raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_CACHE", str(cache))
        arguments: dict[str, Any] = {"search": ["lr=1e-4..1e-1:log", "latent=2..8"], "out": folder / "study"}
        found = plan_study("vae", **arguments, **SMALL)
        with pytest.raises(KeyboardInterrupt):
            found.run(3, callbacks=[Stop()])
        rows = plan_study("vae", **arguments, **SMALL).run(3, resume=True)
        again = plan_study("vae", **{**arguments, "out": folder / "again"}, **SMALL)
        assert [r.values for r in sorted(again.run(2), key=number)] == [r.values for r in sorted(rows, key=number)][:2]
    return found


def number(row: Any) -> int:
    return int(row.number)


def results(study: Study) -> list[Mapping[str, Any]]:
    return [json.loads((study.folder / f"trial-{i:04}" / "result.json").read_text()) for i in range(3)]


@pytest.mark.slow
def test_trials_have_equal_budgets_and_are_scored_on_held_out_training_images(study: Study) -> None:
    whole = load_dataset("digits", DataOptions(), registry().sources())
    for result in results(study):
        assert result["cost"]["images_seen"] == 128
        assert (result["seed"], result["settings"]["validation"]) == (0, 0.1)
        assert result["protocol"]["reference_split"] == "validation"
        assert result["protocol"]["n_real"] == round(0.1 * len(whole.train))
        assert result["protocol"]["dataset_digest"] == hold_out(whole, 0.1).digest
    assert len({result["fingerprint"] for result in results(study)}) == 1
    assert len({result["settings"]["options"]["lr"] for result in results(study)}) == 3


@pytest.mark.slow
def test_the_best_settings_are_those_of_the_best_trial_without_the_held_out_split(study: Study) -> None:
    best = min(results(study), key=lambda r: r["scores"]["FD-classifier"])
    settings = RunSettings.from_file(study.folder / "best.toml")
    assert settings.options == best["settings"]["options"]
    assert settings.validation is None
    assert attrs.evolve(settings, validation=0.1, options=study.settings.options) == study.settings
    with (study.folder / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[0]["score"]) == best["scores"]["FD-classifier"]
    assert sorted(int(row["trial"]) for row in rows) == [0, 1, 2]
    assert all(2 <= int(row["latent"]) <= 8 and 1e-4 <= float(row["lr"]) <= 1e-1 for row in rows)


@pytest.mark.slow
def test_another_study_is_refused(study: Study, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds a study; --resume continues it"):
        study.run(3)
    other = attrs.evolve(study, space=study.space[:1])
    with pytest.raises(UsageError, match="was begun with another search; give the same arguments"):
        other.run(3, resume=True)
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(UsageError, match="is not empty and not a study"):
        attrs.evolve(study, folder=tmp_path).run(1)


def test_a_study_without_a_success_ends(tmp_path: Path, toys: None) -> None:
    found = plan_study("doomed", search=["lr=0.1,0.2"], out=tmp_path / "study", images=640)
    with pytest.raises(ZooError, match=r"no trial of .* succeeded; the last one: diverged"):
        found.run(1)
    assert (tmp_path / "study" / "trials.csv").read_text().splitlines()[1].startswith("0,,")
    assert not (tmp_path / "study" / "best.toml").exists()


def test_the_command_shows_the_space_and_refuses_what_makes_no_sense(cli: Any, tmp_path: Path) -> None:
    out = tmp_path / "study"
    done = cli("tune", "vae", "--epochs", "1", "--search", "lr", "--out", out, "--dry-run")
    assert done.status == 0, done.err
    assert "searches lr=2e-05..0.002:log" in done.out or "searches lr=" in done.out
    assert "validation = 0.1" in done.out
    assert not out.exists()
    done = cli("tune", "vae", "--epochs", "1", "--search", "lr=1e-4,1e-3", "--dry-run", "--json")
    assert json.loads(done.out)["search"] == ["lr=0.0001,0.001"]
    cli("tune", "vae", "--extractor", "none").refused(2, "extractor: 'none' is not allowed")
    cli("tune", "vae", "--batch", "32", "--search", "batch=32,64").refused(2, "batch is also set for all trials")
    cli("tune", "vae", "--search", "lr", "--search", "lr").refused(2, "lr is named twice")
    cli("tune").refused(2, "model: name one")
    cli("tune", "vae", "--width", "4").refused(2, "is fixed for all trials by one value: --search width=VALUE")
    cli("tune", "vae", "--trails", "4").refused(2, "unknown option of zoo tune '--trails'. Did you mean '--trials'?")
