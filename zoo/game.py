"""Turns of a training step: players (networks) and the weighted terms that each of them minimizes.

A turn is a table with a row per player and a column per term. The engine trains by it; ``zoo show`` prints it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["PlayerGroup", "Turn", "format_html", "player_groups", "term_names"]

Players = Mapping[str, Mapping[str, float]]


@attrs.frozen
class Turn:
    """Simultaneous update of several networks: terms are computed once from a batch, then every player is updated.

    Args:
        players: Weights of the terms that each network minimizes, by network and term.
        terms: Function ``terms(net, x)`` that returns scalar losses by name for images x (B, C, H, W) in [−1, 1].
        name: Name in tables and curves, unique within the model.
        repeat: Number of times that the turn is run per step, each time on a new batch (``n_critic``).
        gate: Function ``gate(terms)`` that returns boolean scalars on the device by network; False skips the update of
            that network.
        labeled_images: If above 0, batches come from a fixed, class-balanced subset of this many training images, and
            ``terms(net, x, y)`` also gets their labels y (B,).
    """

    players: Players
    terms: Callable[..., Mapping[str, Tensor]]
    name: str = "step"
    repeat: int = 1
    gate: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]] | None = None
    labeled_images: int = 0

    def _repr_html_(self) -> str:
        return format_html([self])


@attrs.frozen
class PlayerGroup:
    """Networks that minimize the same weighted sum of terms and therefore share one backward pass.

    Args:
        networks: Names of the networks.
        weights: Pairs of term and weight, sorted by term.
    """

    networks: tuple[str, ...]
    weights: tuple[tuple[str, float], ...]


def player_groups(players: Players) -> tuple[PlayerGroup, ...]:
    """Group players with equal rows, ignoring weights of zero.

    >>> player_groups({"encoder": {"nll": 1.0, "kl": 1.0}, "decoder": {"kl": 1.0, "nll": 1.0}})
    (PlayerGroup(networks=('encoder', 'decoder'), weights=(('kl', 1.0), ('nll', 1.0))),)
    """
    groups: dict[tuple[tuple[str, float], ...], list[str]] = {}
    for network, weights in players.items():
        key = tuple(sorted((term, float(weight)) for term, weight in weights.items() if weight != 0))
        groups.setdefault(key, []).append(network)
    return tuple(PlayerGroup(tuple(networks), key) for key, networks in groups.items())


def term_names(turn: Turn) -> tuple[str, ...]:
    """Names of the terms that the players of a turn minimize, in order of first use."""
    return tuple(dict.fromkeys(t for weights in turn.players.values() for t, w in weights.items() if w != 0))


def format_html(turns: Sequence[Turn]) -> str:
    """Format turns as HTML tables, which notebooks show: a row per player, a column per term.

    >>> turn = Turn({"decoder": {"nll": 1.0}}, terms=lambda net, x: {})
    >>> format_html([turn])
    '<table><tr><th></th><th>nll</th></tr><tr><th>decoder</th><td>1</td></tr></table>'
    """
    parts = []
    for turn in turns:
        if len(turns) > 1 or turn.repeat > 1:
            times = f", {turn.repeat} times per step" if turn.repeat > 1 else ""
            parts.append(f"<p>turn {escape(turn.name)}{times}</p>")
        terms = term_names(turn)
        rows = ["<th></th>" + "".join(f"<th>{escape(term)}</th>" for term in terms)]
        for group in player_groups(turn.players):
            weights = dict(group.weights)
            cells = (f"{weights[term]:g}".replace("-", "−") if term in weights else "·" for term in terms)
            names = escape(", ".join(group.networks))
            rows.append(f"<th>{names}</th>" + "".join(f"<td>{cell}</td>" for cell in cells))
        parts.append("<table>" + "".join(f"<tr>{row}</tr>" for row in rows) + "</table>")
    return "".join(parts)
