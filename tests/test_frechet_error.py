"""The standard error of a Fréchet distance against repeated draws and closed forms."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.metrics import Moments, frechet_distance, frechet_standard_errors


def gaussian(n: int, d: int, generator: torch.Generator, shift: float = 0.0, spread: float = 1.0) -> Tensor:
    scale = torch.linspace(0.5, 1.5, d, dtype=torch.float64)
    return shift + spread * scale * torch.randn(n, d, generator=generator, dtype=torch.float64)


def distance(real: Tensor, generated: Tensor) -> float:
    moments = [Moments(), Moments()]
    for m, x in zip(moments, (real, generated), strict=True):
        m.update(x)
    return frechet_distance(*moments)


@pytest.mark.parametrize(("shift", "spread"), [(0.5, 1.0), (0.0, 1.6), (0.3, 0.6)])
def test_the_error_is_the_spread_over_repeated_draws(shift: float, spread: float) -> None:
    g = torch.Generator().manual_seed(0)
    n, m, repeats = 400, 250, 300
    real = gaussian(m, 6, g)
    generated = gaussian(n, 6, g, shift, spread)
    by_samples = torch.tensor([distance(real, gaussian(n, 6, g, shift, spread)) for _ in range(repeats)]).std()
    by_images = torch.tensor([distance(gaussian(m, 6, g), generated) for _ in range(repeats)]).std()
    errors = [frechet_standard_errors(gaussian(m, 6, g), gaussian(n, 6, g, shift, spread)) for _ in range(20)]
    found = torch.tensor(errors).mean(0)
    assert found[0].item() == pytest.approx(by_samples.item(), rel=0.15)
    assert found[1].item() == pytest.approx(by_images.item(), rel=0.15)


def test_it_falls_with_the_root_of_the_number_of_images() -> None:
    g = torch.Generator().manual_seed(1)
    small, large = (frechet_standard_errors(gaussian(n, 4, g), gaussian(n, 4, g, 0.5)) for n in (2000, 32_000))
    assert small[0] / large[0] == pytest.approx(4, rel=0.1)
    assert small[1] / large[1] == pytest.approx(4, rel=0.1)


def test_one_feature_by_hand() -> None:
    # In one dimension the distance is (μ₁ − μ₂)² + (σ₁ − σ₂)², and A = σ₁ / σ₂.
    real, generated = torch.tensor([[-1.0], [1.0], [3.0]]), torch.tensor([[0.0], [1.0], [5.0]])
    x = generated.double() - 2
    ratio = (4 / x.square().sum() * 2).sqrt()
    influence = 2 * x * (2 - 1) + (1 - ratio) * x.square()
    assert frechet_standard_errors(real, generated)[0] == pytest.approx(float((influence.var() / 3).sqrt()))


def test_collapsed_and_repeated_images_have_an_error() -> None:
    g = torch.Generator().manual_seed(2)
    real = gaussian(50, 8, g)
    one = real[:1].expand(40, -1)
    generated, by_images = frechet_standard_errors(real, one)
    assert generated < 1e-12  # other samples of a constant generator are the same
    assert by_images > 0
    few = frechet_standard_errors(real, gaussian(5, 8, g))  # fewer samples than features
    assert all(0 < error < float("inf") for error in few)
    with pytest.raises(ZooError, match="too few"):
        frechet_standard_errors(real, real[:1])
