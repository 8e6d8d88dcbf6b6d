"""Losses: what they compute, and what they refuse."""

from __future__ import annotations

import pytest
import torch

import zoo


def test_losses_sum_over_an_image_and_average_over_images():
    a = torch.tensor([[[[0.0, 1.0]]], [[[1.0, -1.0]]]])
    b = torch.tensor([[[[1.0, 3.0]]], [[[1.0, 0.0]]]])
    assert float(zoo.sse(a, b)) == pytest.approx((1 + 4 + 0 + 1) / 2)
    assert float(zoo.half_sse(a, b)) == pytest.approx((1 + 4 + 0 + 1) / 4)
    assert float(zoo.l1_loss(a, b)) == pytest.approx((1 + 2 + 0 + 1) / 2)


@pytest.mark.parametrize("loss", [zoo.sse, zoo.half_sse, zoo.l1_loss])
def test_losses_refuse_to_broadcast(loss):
    with pytest.raises(ValueError, match=r"\(2, 1, 4, 4\) and \(2, 3, 4, 4\) differ"):
        loss(torch.zeros(2, 1, 4, 4), torch.zeros(2, 3, 4, 4))
