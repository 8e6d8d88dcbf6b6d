"""Operations on codes, against values derived by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from conftest import Blind
from torch import nn

import zoo
from zoo.data import DataSpec
from zoo.run.latent import class_mean, embed, interpolate, measure_activity, prior_codes, traverse
from zoo.run.trained import wrap_trained


def test_linear_and_spherical_interpolation_by_hand():
    a, b = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 2.0]])
    t = torch.tensor([0.0, 1 / 3, 0.5, 1.0])
    assert torch.allclose(interpolate(a, b, t)[0, 2], torch.tensor([1.0, 1.0]))
    arc = interpolate(a, b, t, spherical=True)[0]
    expected = [[2, 0], [2 * math.cos(math.pi / 6), 1.0], [math.sqrt(2), math.sqrt(2)], [0, 2]]
    assert torch.allclose(arc, torch.tensor(expected), atol=1e-6)
    assert torch.allclose(arc.norm(dim=1), torch.full((4,), 2.0))


def test_a_spherical_interpolation_keeps_the_ends_of_any_codes():
    a, b = torch.randn(5, 7, generator=torch.Generator().manual_seed(0)), torch.ones(5, 7)
    found = interpolate(a, b, torch.linspace(0, 1, 3), spherical=True)
    assert found.shape == (5, 3, 7)
    assert torch.allclose(found[:, 0], a, atol=1e-6)
    assert torch.allclose(found[:, 2], b, atol=1e-6)


@pytest.mark.parametrize("factor", [1.0, 3.0, -1.0, 0.0])
def test_parallel_codes_are_interpolated_linearly(factor):
    """There is no arc between them, or any; the sine in the denominator is 0."""
    a = torch.tensor([[1.0, 2.0, 3.0]])
    t = torch.linspace(0, 1, 5)
    assert torch.allclose(interpolate(a, factor * a, t, spherical=True), interpolate(a, factor * a, t))


def test_traversals_vary_one_dimension_at_a_time():
    z = traverse(torch.tensor([7.0, 8.0, 9.0]), [2, 0], torch.tensor([-1.0, 1.0]))
    assert z.tolist() == [[7, 8, -1], [7, 8, 1], [-1, 8, 9], [1, 8, 9]]


def test_class_means():
    z, labels = torch.tensor([[1.0, 2.0], [3.0, 4.0], [10.0, 10.0]]), torch.tensor([0, 0, 1])
    assert class_mean(z, labels, 0, "from").tolist() == [2.0, 3.0]
    with pytest.raises(zoo.UsageError, match="from: no image has this class"):
        class_mean(z, labels, 2, "from")


def linear(scales: list[float]) -> zoo.TrainedModel:
    """A model whose images are the code times fixed scales, one pixel per dimension."""

    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scales = nn.Parameter(torch.tensor(scales))

        def image(self, z: torch.Tensor) -> torch.Tensor:
            return (z * self.scales).view(-1, 1, 1, len(scales))

    return wrap_trained(Blind(latent=len(scales)), zoo.Networks({"decoder": Scale()}), DataSpec("x", (1, 1, 3), ()))


def test_activity_by_hand():
    """One of three pixels differs by twice the scale: √((2s)²/3)."""
    found = measure_activity(linear([0.1, 0.0, 0.3]))
    assert found.tolist() == pytest.approx([0.2 / math.sqrt(3), 0.0, 0.6 / math.sqrt(3)], rel=1e-5)


def test_the_prior_is_drawn_beside_the_global_generator():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    a, b = (prior_codes(linear([1.0, 1.0, 1.0]), 4, seed=3) for _ in range(2))
    assert torch.equal(a, b)
    assert torch.equal(torch.get_rng_state(), before)


def test_principal_components_by_hand():
    """Points on two orthogonal axes; the signs are those with the largest coefficient positive."""
    along, across = np.array([3.0, 4.0, 0.0]) / 5, np.array([0.0, 0.0, 1.0])
    points = np.array([10 * along, -10 * along, 2 * across, -2 * across]) + 5
    assert np.allclose(embed(torch.tensor(points)), [[10, 0], [-10, 0], [0, 2], [0, -2]])
    assert np.allclose(embed(torch.tensor(points)[:, :1])[:, 1], 0)  # one dimension


def test_tsne_separates_two_clusters_and_depends_on_its_seed_alone():
    z = torch.randn(40, 5, generator=torch.Generator().manual_seed(0))
    z[20:] += 30
    first, again = embed(z, "tsne"), embed(z, "tsne")
    assert np.array_equal(first, again)
    distances = np.linalg.norm(first[:, None] - first[None], axis=-1)
    np.fill_diagonal(distances, np.inf)
    assert np.array_equal(distances.argmin(1) < 20, np.arange(40) < 20)


def test_embeddings_that_cannot_be():
    with pytest.raises(zoo.UsageError, match="2 codes are not enough"):
        embed(torch.zeros(2, 3))
    with pytest.raises(zoo.UsageError, match="pip install umap-learn"):
        embed(torch.zeros(5, 3), "umap")
