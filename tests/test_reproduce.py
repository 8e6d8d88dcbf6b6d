"""Reproduction targets: bars that can fail, controls, shares of a schedule, and what the page says."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest
import torch

RECORDS = sorted((Path(__file__).parents[1] / "benchmarks" / "records" / "reproduce").glob("*.json"))


@pytest.fixture
def reproduce(script, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    return script("benchmarks/reproduce.py")


@pytest.fixture
def bars(reproduce):
    import bars

    return bars


def test_a_bar_is_met_only_by_the_published_value_and_beyond_the_controls(bars):
    bar = bars.Bar("accuracy", 97.39, 0.2, controls={"untrained": 96.84})
    controls = {"untrained": {"accuracy": 96.4}, "pixels": {"accuracy": 96.9}}

    def met(value: float) -> bool:
        return bars.is_met(bars.judge([bar], {"accuracy": value}, controls))

    assert met(97.39)
    assert met(97.20)
    assert not met(96.9)  # raw pixels
    assert not met(97.1)  # above every control, below the published value
    # The published margin over the untrained network is 0.55: a strong one here raises the bar.
    strong = {**controls, "untrained": {"accuracy": 97.2}}
    assert not bars.is_met(bars.judge([bar], {"accuracy": 97.39}, strong))
    assert bars.is_met(bars.judge([bar], {"accuracy": 97.6}, strong))


def test_where_lower_is_better(bars):
    bar = bars.Bar("error", 1.9, 0.1, "lower")
    (verdict,) = bars.judge([bar], {"error": 1.95}, {"1-NN": {"error": 30.0}})
    assert verdict["met"]
    assert verdict["controls"]["1-NN"]["margin"] == pytest.approx(28.1)
    (verdict,) = bars.judge([bar], {"error": 2.1}, {"1-NN": {"error": 30.0}})
    assert not verdict["reached"]


def test_a_measure_that_was_not_taken_or_has_no_control_is_not_met(bars):
    bar = bars.Bar("error", 1.9, 0.1, "lower")
    assert not bars.is_met(bars.judge([bar], {}, {"1-NN": {"error": 30.0}}))
    assert not bars.is_met(bars.judge([bar], {"error": 1.0}, {}))
    assert not bars.is_met([])


def test_no_tolerance_is_wide_enough_for_a_control(reproduce):
    """Of every stored record: its controls, in place of the trained model, fail each bar."""
    import bars

    assert len(RECORDS) == len(reproduce.TARGETS)
    for path in RECORDS:
        record = json.loads(path.read_text())
        target = reproduce.TARGETS[record["target"]]
        for bar, stored in zip(target.bars, record["bars"], strict=True):
            assert stored["measure"] == bar.measure
            assert "untrained network" in stored["controls"]
            for name, row in stored["controls"].items():
                values = {c: {bar.measure: r["value"]} for c, r in stored["controls"].items()}
                assert not bars.is_met(bars.judge([bar], {bar.measure: row["value"]}, values)), (path.name, name)


def test_the_ratio_of_bigan_by_hand(reproduce):
    """jeffdonahue/bigan, train_gan.py:724-743: the other image is the next one, against the same reconstruction."""
    import targets

    x = torch.tensor([[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]]).view(3, 1, 1, 2)
    again = torch.tensor([[0.0, 1.0], [3.0, 4.0], [6.0, 8.0]]).view(3, 1, 1, 2)
    (ratio,) = targets.reconstruction_ratio(x, again).values()
    own = (1 + 0 + 0) / 3
    other = ((3**2 + 3**2) ** 0.5 + 5 + 10) / 3
    assert ratio == pytest.approx(own / other)
    # A constant image is as far from any image: 1, however good it looks against a random pair of images.
    (ratio,) = targets.reconstruction_ratio(x, x.mean(0).expand_as(x)).values()
    assert ratio == pytest.approx(1.0)


def test_a_record_of_the_old_rules_is_not_met(reproduce):
    old = {
        "format": 1,
        "target": "bigan",
        "found": {"1-NN accuracy, %": 99.0, "‖x − x̂‖ / ‖x′ − x̂‖": 0.1},
        "met": True,
        "budget": 0.05,
    }
    controls = {"untrained network": {"1-NN accuracy, %": 96.0, "‖x − x̂‖ / ‖x′ − x̂‖": 1.0}}
    record = reproduce.judged(old, controls)
    assert not record["met"]
    assert record["share"] == 0.05
    assert "replaced" in record["outdated"]
    assert not reproduce.judged(record, controls)["met"]  # judged again: still so
    assert reproduce.judged({**old, "format": 2, "share": 0.05}, controls)["met"]


def test_a_share_shortens_epochs_or_images(reproduce):
    import targets

    assert reproduce.length(targets.Job("bigan"), 0.05) == {"epochs": 20}
    assert reproduce.length(targets.Job("vae"), 0.01) == {"images": 1_000_000}
    assert reproduce.length(targets.Job("vae", "burda"), 1e-9) == {"epochs": 1}


def test_every_job_names_a_preset_and_its_networks_build(reproduce):
    from zoo.data import DataSpec

    class Data:
        spec = DataSpec("mnist", (1, 28, 28), tuple("0123456789"), torch.zeros(1, 28, 28))

    for target in reproduce.TARGETS.values():
        for job in target.jobs.values():
            assert reproduce.untrained(job, Data, 0).sample(2, seed=0).shape == (2, 1, 28, 28)


def test_a_run_of_a_target_is_continued_by_the_same_command(reproduce, tmp_path):
    import targets

    settings = {"dataset": "digits", "family": "mlp", "width": 1, "epochs": 100, "batch": 64}
    job = targets.Job("vae", "burda", settings)
    arguments = argparse.Namespace(
        share=0.01, runs=str(tmp_path), seed=0, device="cpu", data_dir=None, compile=False, images=10
    )
    first, told = reproduce.train("t", "k = 1", job, arguments)
    assert told["length"] == {"epochs": 1}
    assert told["of"] == {"epochs": 100}
    assert told["preset"] == "burda"
    assert told["settings"]["batch"] == 64
    assert told["options"]["stages"] is True
    assert "data_dir" not in told["settings"]
    second, again = reproduce.train("t", "k = 1", job, arguments)
    assert again["cost"] == told["cost"]
    for a, b in zip(first.networks.parameters(), second.networks.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_page_prints_the_controls_beside_the_values_and_the_settings_that_ran(script):
    page = script("docs/cards.py").reproduction()
    for path in RECORDS:
        record = json.loads(path.read_text())
        for bar in record["bars"]:
            assert f"| {bar['measure']} | {bar['published']:.4g} ± {bar['tolerance']:g} |" in page
            for name, row in bar["controls"].items():
                assert f"{name}: {row['value']:.4g}" in page
        for job in record["runs"].values():
            assert f"family {job['options']['family']}" in page
