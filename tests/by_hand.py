"""Helper of the model tests: compares a player's gradient with the gradient of a loss written out by hand."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, distributions
from torch.nn import functional as F

import zoo
from zoo.engine import BatchStream, Engine
from zoo.registry import registry

SHAPE, BATCH, LATENT = (1, 8, 8), 16, 4
Rows = Mapping[str, Tensor]


def game(model: str, *, steps: int = 0, **options: Any) -> Engine:
    """A small model on noise, after some steps: at initialization much is nearly zero."""
    objective = registry().model(model)(**{"latent": LATENT, "width": 4, **options})
    torch.manual_seed(0)
    networks = zoo.Networks(objective.networks(zoo.DataSpec("noise", SHAPE)))
    images = torch.randint(0, 256, (64, *SHAPE), dtype=torch.uint8, generator=torch.Generator().manual_seed(5))
    engine = Engine(objective, networks, BatchStream(images, BATCH, 0, torch.device("cpu"), torch.arange(64) % 3))
    for _ in range(steps):
        engine.step()
    return engine


def play(engine: Engine, turn: int = 0) -> dict[str, list[Tensor | None]]:
    """Every network's gradient in a turn, None where it has none; the noise is the same at each call."""
    engine.networks.zero_grad()
    x = engine.stream[0]
    torch.manual_seed(77)
    engine.step_turn(turn, x)
    return {n: [p.grad for p in engine.networks[n].parameters()] for n in engine.networks.names()}


def assert_rows(engine: Engine, turn: int, by_hand: Callable[[Any, Tensor], Rows]) -> None:
    """A turn gives each player the gradient of its loss as written by hand, and nobody else one."""
    net = copy.deepcopy(engine.networks)
    torch.manual_seed(77)
    losses = by_hand(net, engine.stream[0])
    wanted = {
        name: torch.autograd.grad(loss, list(net[name].parameters()), retain_graph=True, allow_unused=True)
        for name, loss in losses.items()
    }
    found = play(engine, turn)
    assert {n for n, gradients in found.items() if any(g is not None for g in gradients)} == set(losses)
    for name, gradients in wanted.items():
        # A bias before a normalization has only rounding noise for a gradient: errors are measured by the largest.
        largest = max(float(g.abs().max()) for g in gradients if g is not None)
        assert largest > 1e-7, f"{name}: a gradient of nothing would prove nothing"
        for ours, theirs in zip(found[name], gradients, strict=True):
            assert (ours is None) == (theirs is None), name
            if ours is not None and theirs is not None:
                error = float((ours - theirs).abs().max()) / largest
                assert error < 2e-5, f"{name}: off by {error:.1e}"  # float32, summed in another order


def bce(verdict: zoo.CriticOutput, label: float) -> Tensor:
    return F.binary_cross_entropy_with_logits(verdict.logits, torch.full_like(verdict.logits, label))


def kl(q: zoo.GaussianPosterior) -> Tensor:
    """KL(q ‖ N(0, I)) per image."""
    p = distributions.Normal(q.mean, (q.logvar / 2).exp())
    return distributions.kl_divergence(p, distributions.Normal(0.0, 1.0)).sum(1)


def draw(q: zoo.GaussianPosterior) -> Tensor:
    return q.mean + (q.logvar / 2).exp() * torch.randn(q.mean.shape)


def prior() -> Tensor:
    return torch.randn(BATCH, LATENT)
