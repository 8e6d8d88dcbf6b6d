"""The 25-Gaussians toy runs on the engine as it is, and counts modes as it says."""

from __future__ import annotations

import argparse

import pytest
import torch


@pytest.fixture(scope="module")
def toy25(script):
    return script("benchmarks/toy25.py")


@pytest.mark.parametrize("model", ["gan", "bigan", "ali", "alice", "vaegan", "aae"])
def test_every_game_takes_steps(toy25, model):
    arguments = argparse.Namespace(hidden=4, lr=1e-3, cycle=1.0, batch=16, steps=2)
    row = toy25.run(model, 0, arguments)
    assert 0 <= row["modes"] <= 25
    assert 0 <= row["good"] <= 1
    assert (row["mse"] is None) == (model == "gan")


def test_points_on_the_modes_cover_them(toy25):
    found = toy25.coverage(toy25.draw(10_000, torch.Generator().manual_seed(0)).flatten(1))
    assert found["modes"] == 25
    assert found["good"] == pytest.approx(1 - 2.718281828 ** (-4.5), abs=0.005)  # within 3σ in the plane
    assert toy25.coverage(toy25.centres()[:3].repeat(20, 1))["modes"] == 3


def test_batches_depend_on_seed_and_position_alone(toy25):
    a, b = toy25.Points(8, 1), toy25.Points(8, 1)
    b.fetch(0)
    assert torch.equal(a.fetch(5)[0], b.fetch(5)[0])
    assert not torch.equal(a.fetch(5)[0], a.fetch(6)[0])
