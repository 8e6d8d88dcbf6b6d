"""Decoders of images larger than 28 pixels leave no checkerboards, which transposed convolutions do."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import zoo
from zoo.engine import BatchStream, Engine
from zoo.networks import DeconvTrunk, UpsampledConv2d
from zoo.registry import registry
from zoo.run.trained import make_networks

BOUND = 0.03


def lattice_power(images: Tensor) -> float:
    """Share of the spectral power at period 2 in rows, columns or both: 0.02 for white noise, 0.003 for photographs.

    Args:
        images: Of any type and scale.

    Shape:
        images: (B, C, H, W), with even H and W.
    """
    h, w = images.shape[2:]
    # A window, as the spectrum takes an image for periodic and a step at its border for detail.
    window = torch.hann_window(h, dtype=torch.float64)[:, None] * torch.hann_window(w, dtype=torch.float64)
    x = images.double()
    power = torch.fft.fft2((x - x.mean((2, 3), keepdim=True)) * window).abs().square().sum((0, 1))
    near_rows = (torch.arange(h)[:, None] - h // 2).abs() <= 1
    near_columns = (torch.arange(w) - w // 2).abs() <= 1
    slow_rows = torch.minimum(torch.arange(h), h - torch.arange(h))[:, None] <= 1
    slow_columns = torch.minimum(torch.arange(w), w - torch.arange(w)) <= 1
    lattice = near_rows & near_columns | near_rows & slow_columns | slow_rows & near_columns
    return float(power[lattice].sum() / power.sum())


def blobs(n: int, side: int) -> Tensor:
    """Smooth colored images, uint8 (n, 3, side, side)."""
    g = torch.Generator().manual_seed(0)
    coarse = torch.rand(n, 3, 5, 5, generator=g) * 255
    return F.interpolate(coarse, size=(side, side), mode="bicubic").clamp(0, 255).to(torch.uint8)


def fresh(family: str, side: int, channels: int, norm: str = "batch") -> Tensor:
    torch.manual_seed(0)
    decoder = zoo.decoder(zoo.DataSpec("images", (channels, side, side)), 16, 32, family=family, norm=norm)
    with torch.no_grad():
        out = decoder.image(torch.randn(200, 16))
    return out


def test_the_statistic_sees_checkerboards_and_nothing_else() -> None:
    noise = torch.randn(100, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert lattice_power(noise) == pytest.approx(27 / 1024, rel=0.1)
    photographs = blobs(100, 32).float() + 4 * noise
    assert lattice_power(photographs) < 0.003
    board = 1 - 2 * ((torch.arange(32)[:, None] + torch.arange(32)) % 2)
    stripes = (1 - 2 * (torch.arange(32) % 2)).expand(32, 32)
    for pattern in (board, stripes, stripes.T):
        assert lattice_power(photographs + 16 * pattern) > BOUND


@pytest.mark.parametrize("norm", ["batch", "group", "none"])
@pytest.mark.parametrize(("side", "channels"), [(32, 1), (32, 3), (64, 3)])
def test_an_untrained_decoder_has_no_checkerboard(side: int, channels: int, norm: str) -> None:
    assert lattice_power(fresh("conv", side, channels, norm)) < BOUND
    assert lattice_power(fresh("conv-transposed", side, channels, norm)) > 3 * BOUND, "the test sees the cause"


@pytest.mark.slow
@pytest.mark.parametrize("model", ["vae", "vaegan", "ali", "soft-introvae"])
def test_a_short_training_brings_no_checkerboard(model: str) -> None:
    found = {}
    for family in ("conv", "conv-transposed"):
        objective = registry().model(model)(width=8, family=family)  # type: ignore[call-arg]
        torch.manual_seed(0)
        images = blobs(512, 32)
        networks = make_networks(objective, zoo.DataSpec("blobs", (3, 32, 32)))
        engine = Engine(objective, networks, BatchStream(images, 32, 0, torch.device("cpu")))
        for _ in range(20):
            engine.step()
        networks.eval()
        with torch.no_grad():
            found[family] = lattice_power(objective.sample(networks, 200))  # type: ignore[attr-defined]
    assert found["conv"] < BOUND
    assert found["conv-transposed"] > 3 * BOUND


@pytest.mark.parametrize("stride", [(2, 2), (1, 2), (2, 1), (1, 1)])
def test_it_is_nearest_upsampling_and_a_convolution(stride: tuple[int, int]) -> None:
    torch.manual_seed(0)
    kernel = (stride[0] + 2, stride[1] + 2)
    layer = UpsampledConv2d(5, 4, kernel, stride, (1, 1), (0, 0)).double()
    x = torch.randn(2, 5, 6, 7, dtype=torch.float64)
    upsampled = x.repeat_interleave(stride[0], 2).repeat_interleave(stride[1], 3)
    scale = math.prod(2 / 3 if s == 2 else 1 for s in stride)
    expected = F.conv2d(upsampled, scale * layer.weight.transpose(0, 1).flip(2, 3), layer.bias, padding=1)
    torch.testing.assert_close(layer(x), expected)


def test_small_images_keep_transposed_convolutions() -> None:
    for side in (8, 28):
        assert torch.equal(fresh("conv", side, 1), fresh("conv-transposed", side, 1))
    kinds = [type(m) for m in zoo.decoder(zoo.DataSpec("x", (1, 29, 20)), 4, 2).modules()]
    assert UpsampledConv2d in kinds
    assert torch.nn.ConvTranspose2d not in kinds


@pytest.mark.parametrize("sides", [(33, 47), (9, 100), (64, 48)])
def test_odd_sides_are_met_exactly(sides: tuple[int, int]) -> None:
    trunk = DeconvTrunk((3, *sides), 2, "batch", torch.nn.ReLU, upsample=True)
    assert trunk(torch.randn(2, *trunk.in_shape)).shape == (2, 3, *sides)
