"""Turns of a training step: players (networks) and the weighted terms that each of them minimizes.

A turn is a table with a row per player and a column per term. The engine trains by it; ``zoo show`` prints it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import attrs

from zoo.weights import format_weight

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.weights import AnyWeight

__all__ = ["PlayerGroup", "Players", "Turn", "format_html", "player_groups", "term_names", "turn_notes"]

Players = Mapping[str, Mapping[str, "AnyWeight"]]
"""Weights of the terms that each network minimizes, by network and term."""


@attrs.frozen
class Turn:
    """Simultaneous update of several networks: terms are computed once from a batch, then every player is updated.

    Args:
        players: Weights of the terms that each network minimizes, by network and term: numbers, or weights that change
            in training (:class:`zoo.Ramp`, :class:`zoo.Cycle`, :class:`zoo.Switch`, :class:`zoo.GradientRatio`).
        terms: Function ``terms(net, x)`` that returns scalar losses by name for images x (B, C, H, W) in [−1, 1]. It
            may also return tensors of other shapes for ``gate`` and ``after``; they are neither minimized nor logged.
        name: Name in tables and curves, unique within the model.
        repeat: Number of times that the turn is run per step, each time on a new batch (``n_critic``).
        gate: Function ``gate(terms)`` that returns boolean scalars on the device by network; False skips the update of
            that network.
        labeled_images: If above 0, batches come from a fixed, class-balanced subset of this many training images, and
            ``terms(net, x, y)`` also gets their labels y (B,). The turns of a conditional model get all labels anyway.
        every: The turn is run at steps 0, n, 2n, … only (lazy regularization).
        shares: Name of a turn whose optimizers this turn uses for the same networks, instead of optimizers of its own.
        after: Function ``after(net, terms)`` that updates state which no gradient makes, such as moving averages; the
            state must be in buffers of the networks. It is called after the update, without gradients. In training by
            several processes the terms are means over the processes, so that their states stay equal.
    """

    players: Players
    terms: Callable[..., Mapping[str, Tensor]]
    name: str = "step"
    repeat: int = 1
    gate: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]] | None = None
    labeled_images: int = 0
    every: int = attrs.field(default=1, validator=attrs.validators.ge(1))
    shares: str | None = None
    after: Callable[[Any, Mapping[str, Tensor]], None] | None = None

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
    weights: tuple[tuple[str, AnyWeight], ...]


def player_groups(players: Players) -> tuple[PlayerGroup, ...]:
    """Group players with equal rows, ignoring weights of zero.

    >>> player_groups({"encoder": {"nll": 1.0, "kl": 1.0}, "decoder": {"kl": 1.0, "nll": 1.0}})
    (PlayerGroup(networks=('encoder', 'decoder'), weights=(('kl', 1.0), ('nll', 1.0))),)
    """
    groups: dict[tuple[tuple[str, AnyWeight], ...], list[str]] = {}
    for network, weights in players.items():
        row = {term: float(w) if isinstance(w, int | float) else w for term, w in weights.items() if w != 0}
        key = tuple(sorted(row.items(), key=lambda entry: entry[0]))
        groups.setdefault(key, []).append(network)
    return tuple(PlayerGroup(tuple(networks), key) for key, networks in groups.items())


def turn_notes(turn: Turn) -> list[str]:
    """Notes on a turn that its table does not have: how often it is run, and whose optimizers it uses.

    >>> turn_notes(Turn({}, dict, every=16, shares="critic"))
    ['every 16 steps', "with the optimizers of 'critic'"]
    """
    notes = {
        f"{turn.repeat} times per step": turn.repeat > 1,
        f"every {turn.every} steps": turn.every > 1,
        f"with the optimizers of {turn.shares!r}": turn.shares is not None,
    }
    return [note for note, applies in notes.items() if applies]


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
        if len(turns) > 1 or turn_notes(turn):
            parts.append(f"<p>{escape(', '.join([f'turn {turn.name}', *turn_notes(turn)]))}</p>")
        terms = term_names(turn)
        rows = ["<th></th>" + "".join(f"<th>{escape(term)}</th>" for term in terms)]
        for group in player_groups(turn.players):
            weights = dict(group.weights)
            cells = (escape(format_weight(weights[term])) if term in weights else "·" for term in terms)
            names = escape(", ".join(group.networks))
            rows.append(f"<th>{names}</th>" + "".join(f"<td>{cell}</td>" for cell in cells))
        parts.append("<table>" + "".join(f"<tr>{row}</tr>" for row in rows) + "</table>")
    return "".join(parts)
