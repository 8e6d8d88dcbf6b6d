"""Conditions under which a model is unwell, as functions of what was measured."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

from zoo.health.measurements import Measurements

__all__ = ["Conditions", "check_gradients", "check_measurements"]

Conditions = Mapping[tuple[str, str], str]
"""Evidence by kind and subject."""

COLLAPSED_SPREAD = 0.05
"""Mode collapse: mean distance of samples relative to training images; 0.2 to 1 for models that learn."""
COLLAPSED_NEAREST = 0.05
"""Mode collapse onto several images: mean distance to the nearest other sample, relative to training images.

0.1 for a β-VAE on digits after a fifth of a short training, which blurs, and 0.3 to 1 later.
"""
SATURATED_ERROR = 0.002
"""Critic saturation: mean probability of the wrong answer; BiGAN and ALI pass through 0.01 on their way."""
SATURATED_SLOPE = 0.01
"""Critic saturation: gradient of the critic's loss with respect to its logits; 2 for a Wasserstein critic, always."""
DEAD_SHARE = 0.5
"""Dead units: share of a layer that is zero for every input."""
EXPLODED_RATIO = 100.0
"""Exploding gradients: norm relative to the median of the run so far."""
BASELINE_LINES, EXPLODED_LINES = 10, 3
"""Least number of earlier norms, and number of successive norms that are too large."""


def check_measurements(found: Measurements) -> Conditions:
    """Conditions that hold for the measurements of a probe, likely causes before their effects.

    Samples of an autoencoder whose codes carry nothing are alike: a posterior collapse, not a mode collapse too.
    """
    conditions: dict[tuple[str, str], str] = {}
    if found.not_finite:
        conditions["nan", found.not_finite] = "some values are NaN or infinite"
    for name, dead in found.dead_units.items():
        if dead.share >= DEAD_SHARE:
            conditions["dead-units", name] = (
                f"{round(dead.share * dead.units)} of {dead.units} units of layer {dead.layer} are zero for every input"
            )
    for name, critic in found.critics.items():
        if critic.error < SATURATED_ERROR and critic.slope < SATURATED_SLOPE:
            conditions["critic-saturation", name] = (
                f"it tells real from fake with an error of {critic.error:.2g}, and its gradient vanishes"
            )
    if found.active_units == 0:
        kl = "" if found.kl is None else f", KL {found.kl:.2g} nats"
        conditions["posterior-collapse", ""] = f"none of {found.units} code dimensions depends on the image{kl}"
    elif found.sample_spread is not None and found.sample_spread < COLLAPSED_SPREAD:
        conditions["mode-collapse", ""] = (
            f"samples of different codes differ {found.sample_spread:.2g} times as much as training images do"
        )
    elif found.nearest_sample is not None and found.nearest_sample < COLLAPSED_NEAREST:
        conditions["mode-collapse", ""] = (
            f"the nearest other sample is {found.nearest_sample:.2g} times as far as among training images"
        )
    return conditions


def check_gradients(norms: Sequence[float]) -> str | None:
    """Evidence that the norms of a player's gradients have exploded by the last of them; None if they have not."""
    earlier, last = norms[:-EXPLODED_LINES], norms[-EXPLODED_LINES:]
    if len(earlier) < BASELINE_LINES or not all(map(math.isfinite, norms)):
        return None
    usual = statistics.median(earlier)
    if min(last) <= EXPLODED_RATIO * usual:
        return None
    return f"norm {last[-1]:.2g}, {last[-1] / usual:,.0f} times the median so far" if usual else f"norm {last[-1]:.2g}"
