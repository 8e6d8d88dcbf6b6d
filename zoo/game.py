"""A game as a table: who plays, which weighted terms each player minimizes, and in what turns.

The engine reads this table to train; ``zoo show`` and the model cards print it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["PlayerGroup", "Turn", "player_groups", "term_names"]

Players = Mapping[str, Mapping[str, float]]


@attrs.frozen
class Turn:
    """One simultaneous move: terms computed once from a batch, then one update of every player.

    Arguments:
        players: for each network that moves, the terms it minimizes and their weights.
        terms: ``terms(net, x)`` → the named scalar losses of a batch x (B, C, H, W) in [−1, 1].
        name: how tables and curves call it.
        repeat: how many times it is played in a step, each time on a fresh batch (n-critic).
        gate: ``gate(terms)`` → for some networks a boolean scalar on the device: False holds that network's update.
        labelled: above 0, batches come from a fixed, class-balanced subset of so many labelled training images, and
            ``terms(net, x, y)`` gets their labels y (B,) too.
    """

    players: Players
    terms: Callable[..., Mapping[str, Tensor]]
    name: str = "step"
    repeat: int = 1
    gate: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]] | None = None
    labelled: int = 0


@attrs.frozen
class PlayerGroup:
    """Networks that minimize the same weighted sum of terms, and therefore share one backward pass."""

    networks: tuple[str, ...]
    weights: tuple[tuple[str, float], ...]


def player_groups(players: Players) -> tuple[PlayerGroup, ...]:
    """Group players with equal rows; a weight of zero is no entry.

    >>> player_groups({"encoder": {"nll": 1.0, "kl": 1.0}, "decoder": {"kl": 1.0, "nll": 1.0}})
    (PlayerGroup(networks=('encoder', 'decoder'), weights=(('kl', 1.0), ('nll', 1.0))),)
    """
    groups: dict[tuple[tuple[str, float], ...], list[str]] = {}
    for network, weights in players.items():
        key = tuple(sorted((term, float(weight)) for term, weight in weights.items() if weight != 0))
        groups.setdefault(key, []).append(network)
    return tuple(PlayerGroup(tuple(networks), key) for key, networks in groups.items())


def term_names(turn: Turn) -> tuple[str, ...]:
    """The terms that somebody in this turn minimizes, in order of first mention."""
    return tuple(dict.fromkeys(t for weights in turn.players.values() for t, w in weights.items() if w != 0))
