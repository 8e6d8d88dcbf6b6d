"""Measurements of the networks during training: diversity of samples, active code dimensions, critics, dead units.

A probe computes what a training step computes, on the run's first batch, and updates nothing: buffers, gradients,
modes and random state are as they were.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from zoo.distributions import GaussianPosterior
from zoo.engine import Engine
from zoo.engine.turn_step import TurnStep
from zoo.health.measurements import CriticMeasurement, DeadUnits, Measurements
from zoo.interfaces import Autoencoder, Critic, Generator, Networks

__all__ = ["Probe", "preserve_networks"]

IMAGES = 128
"""Number of images and of samples whose distances and codes are measured."""
TERM_IMAGES = 64
"""Largest batch on which the terms are computed."""
SEED = 20_240_229
"""Seed of the codes and the noise of every probe: findings depend on the weights alone."""
ACTIVE_VARIANCE = 0.01
"""Burda et al., arXiv:1509.00519, section 5.2: least variance over images of the posterior mean of an active unit."""


class Probe:
    """Measures the networks of an engine on the first images of its stream.

    Args:
        engine: The engine, before its first step; it is not changed.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        stream = engine.stream
        batches = min(stream.per_epoch, -(-IMAGES * stream.ranks.size // stream.batch))
        source = stream.labeled() if engine.objective.conditional else stream
        parts = zip(*(source.load(source.fetch(i)) for i in range(batches)), strict=True)
        self._images, *self._labels = (torch.cat(part)[:IMAGES] for part in parts)
        self._spread, self._nearest = _distances(self._images)
        self._batches = [
            tuple(tensor[:TERM_IMAGES] for tensor in turn_step.batch(0)) for turn_step in engine.turn_steps
        ]

    def measure(self, step: int) -> Measurements:
        """Measure the networks as they are after ``step`` steps. Syncs."""
        engine = self._engine
        critics: dict[str, CriticMeasurement] = {}
        activity = _ReluActivity(engine.networks)
        with preserve_networks(engine.networks, engine.stream.device):
            for turn_step, batch in zip(engine.turn_steps, self._batches, strict=True):
                torch.manual_seed(SEED)
                with activity:
                    critics |= _measure_critics(turn_step, batch)
            engine.networks.eval()
            with torch.no_grad():
                torch.manual_seed(SEED)
                samples = self._measure_samples()
                codes = self._measure_codes()
        not_finite = next((name for name, found in (("samples", samples), ("codes", codes)) if found is None), "")
        return Measurements(
            step=step,
            not_finite=not_finite,
            critics=critics,
            dead_units=activity.dead_units(),
            **(samples or {}),
            **(codes or {}),
        )

    def _measure_samples(self) -> dict[str, Any] | None:
        """Measurements of samples; None if they are not finite."""
        objective = self._engine.objective
        if not isinstance(objective, Generator):
            return {}
        images = objective.sample(self._engine.networks, len(self._images), *self._labels).float()
        if not images.isfinite().all():
            return None
        spread, nearest = _distances(images)
        # Equal training images, as in a test, have no distances to compare with.
        return {
            name: value / usual
            for name, value, usual in (
                ("sample_spread", spread, self._spread),
                ("nearest_sample", nearest, self._nearest),
            )
            if usual > 0
        }

    def _measure_codes(self) -> dict[str, Any] | None:
        """Measurements of codes; None if they are not finite."""
        objective, networks = self._engine.objective, self._engine.networks
        if not isinstance(objective, Autoencoder):
            return {}
        codes = objective.encode(networks, self._images, *self._labels).float()
        prior = objective.prior(self._images, 1024).float()
        if not codes.isfinite().all():
            return None
        active = int((codes.var(0) > ACTIVE_VARIANCE * prior.var(0)).sum())
        found: dict[str, Any] = {"active_units": active, "units": codes.shape[1]}
        posterior = networks["encoder"](self._images, *self._labels) if "encoder" in networks.names() else None
        if isinstance(posterior, GaussianPosterior) and math.isfinite(kl := float(posterior.kl().mean())):
            found["kl"] = kl
        return found


def _distances(images: Tensor) -> tuple[float, float]:
    """Mean distance of pairs of images (N, C, H, W), and mean distance of each image to the nearest other one."""
    flat = images.float().flatten(1)
    distances = torch.cdist(flat, flat, compute_mode="donot_use_mm_for_euclid_dist")
    n = len(flat)
    spread = distances.sum() / (n * (n - 1))
    nearest = (distances + torch.diag(distances.new_full((n,), math.inf))).min(1).values.mean()
    return float(spread), float(nearest)


def _measure_critics(turn_step: TurnStep, batch: Sequence[Tensor]) -> dict[str, CriticMeasurement]:
    """Measure the critics that play in a turn.

    The gradient of a critic's loss with respect to its logits tells real inputs, whose logits it raises, from fake
    ones, and is zero for a critic that cannot improve.
    """
    networks, players = turn_step.networks, turn_step.turn.players
    critics = [name for name in players if isinstance(networks[name], Critic)]
    logits: dict[str, list[Tensor]] = {name: [] for name in critics}
    handles = [networks[name].register_forward_hook(_collect_logits(logits[name])) for name in critics]
    try:
        with torch.set_grad_enabled(bool(critics)):
            terms = turn_step.terms(*batch)
            losses = turn_step.losses(terms) if critics else {}
    finally:
        for handle in handles:
            handle.remove()
    found: dict[str, CriticMeasurement] = {}
    for name in critics:
        loss = losses[name]
        own = [values for values in logits[name] if values.requires_grad]
        if own and loss.requires_grad:
            slopes = torch.autograd.grad(loss, own, retain_graph=True, allow_unused=True)
            calls = [(v.detach(), g) for v, g in zip(own, slopes, strict=True) if g is not None]
            if (measured := _compare_logits(calls)) is not None:
                found[name] = measured
    return found


def _collect_logits(target: list[Tensor]) -> Any:
    def hook(module: nn.Module, inputs: Any, output: Any) -> None:
        target.append(output.logits)

    return hook


def _compare_logits(calls: Sequence[tuple[Tensor, Tensor]]) -> CriticMeasurement | None:
    """Error of a critic from the logits (B,) of each call and the gradients of its loss with respect to them.

    Returns:
        None if it has no real or no fake inputs, or its logits are not finite.
    """
    errors: dict[bool, list[Tensor]] = {True: [], False: []}
    slopes = []
    for logits, gradient in calls:
        # Per logit: a call may hold real and fake inputs in one batch.
        for is_real, chosen in ((True, gradient < 0), (False, gradient > 0)):
            if chosen.any():
                errors[is_real].append(torch.sigmoid(-logits[chosen] if is_real else logits[chosen]))
        slopes.append(gradient.abs().sum())
    if not errors[True] or not errors[False] or not all(t.isfinite().all() for call in calls for t in call):
        return None
    real, fake = (torch.cat(errors[kind]) for kind in (True, False))
    return CriticMeasurement(
        error=float((real.mean() + fake.mean()) / 2),
        accuracy=float(((real < 0.5).float().mean() + (fake < 0.5).float().mean()) / 2),
        slope=float(torch.stack(slopes).sum()),
    )


class _ReluActivity:
    """Context that records which units of the ReLU layers are above zero for any input.

    A unit is a channel of a convolutional layer, over all positions, or a feature of a fully connected one.
    """

    def __init__(self, networks: Networks) -> None:
        self._layers = {name: module for name, module in networks.named_modules() if isinstance(module, nn.ReLU)}
        self._active: dict[str, Tensor] = {}
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> None:
        for name, module in self._layers.items():
            self._handles.append(module.register_forward_hook(self._record(name)))

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _record(self, name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
            if output.dim() < 2:
                return
            units = (output.detach() > 0).transpose(0, 1).flatten(1).any(1)
            before = self._active.get(name)
            self._active[name] = units if before is None or before.shape != units.shape else before | units

        return hook

    def dead_units(self) -> dict[str, DeadUnits]:
        """The layer with the largest share of dead units of each network."""
        found: dict[str, DeadUnits] = {}
        for name, active in self._active.items():
            network, _, layer = name.partition(".")
            share = 1 - float(active.float().mean())
            if network not in found or share > found[network].share:
                found[network] = DeadUnits(layer=layer, units=len(active), share=share)
        return found


@contextlib.contextmanager
def preserve_networks(networks: nn.Module, device: torch.device) -> Iterator[None]:
    """Restore modes, buffers and random state at the end of the block; gradients of parameters are not touched."""
    modes = [(module, module.training) for module in networks.modules()]
    buffers = [
        (module, name, buffer, buffer.clone())
        for module in networks.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        try:
            yield
        finally:
            for module, mode in modes:
                module.training = mode
            with torch.no_grad():
                for module, name, buffer, value in buffers:
                    buffer.copy_(value)
                    module._buffers[name] = buffer  # a model may have replaced it
