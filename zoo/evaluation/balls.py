"""Precision, recall, density and coverage: fidelity and diversity apart, by balls around neighbors."""

from __future__ import annotations

import attrs
import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.evaluation.distances import checked, kth_neighbor, squared_blocks

__all__ = ["CAP", "NEIGHBORS", "PRDC", "prdc"]

NEIGHBORS = 5
CAP = 10_000
"""How many of each side are compared at most."""

# A distance that equals a radius but for rounding lies outside, as it would in exact arithmetic.
_TIE = 1 + 1e-9


@attrs.frozen
class PRDC:
    """Four shares; density alone may exceed 1."""

    precision: float
    """Generated vectors within the ball of some real one."""
    recall: float
    """Real vectors within the ball of some generated one."""
    density: float
    """Real balls that a generated vector lies in, a mean, over k."""
    coverage: float
    """Real vectors whose ball holds a generated one."""


def prdc(real: Tensor, generated: Tensor, *, k: int = NEIGHBORS, radii: Tensor | None = None) -> PRDC:
    """Compare two sets by the balls that reach from each vector to its k-th nearest neighbor in its own set.

    References:
        Kynkäänniemi et al., arXiv:1904.06991 (precision, recall); Naeem et al., arXiv:2002.09797, equations 3 to 6.

    Args:
        real: with shape (N, d), N above k; of any floating type, computed in float64 and in blocks.
        generated: with shape (M, d), M above k.
        k: which neighbor a ball reaches to.
        radii: the squared radii of the real ones, as `kth_neighbor` gives them; computed where not given.

    Raises:
        ZooError: where there are too few vectors, a value is not finite, or the real vectors are all the same one.
    """
    checked("real", real, k + 1)
    checked("generated", generated, k + 1)
    radii = kth_neighbor(real, k) if radii is None else radii
    if not bool((radii > 0).any()):
        raise ZooError(f"real: each vector has {k} others at distance 0, so there is nothing to compare with")
    own = kth_neighbor(generated, k)
    covered = torch.zeros(len(real), dtype=torch.bool, device=real.device)
    recalled = torch.zeros_like(covered)
    precise = inside = 0
    for rows, block in squared_blocks(generated, real):
        block = block.mul_(_TIE)
        within = block < radii
        precise += int(within.any(1).sum())
        inside += int(within.sum())
        covered |= within.any(0)
        recalled |= (block < own[rows, None]).any(0)
    return PRDC(
        precision=precise / len(generated),
        recall=float(recalled.double().mean()),
        density=inside / (k * len(generated)),
        coverage=float(covered.double().mean()),
    )
