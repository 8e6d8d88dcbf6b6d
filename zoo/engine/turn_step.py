"""One turn of a game, made ready to be played: terms once, each row's gradient, then every update.

No ``.backward()``: a row's gradient is taken by :func:`torch.autograd.grad` with respect to that row's parameters only,
so a loss cannot reach a network that does not play for it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence

import attrs
import torch
from torch import Tensor, nn

from zoo.engine.gated_optimizer import GatedOptimizer, match_layout
from zoo.engine.ranks import Ranks
from zoo.engine.stream import Stream
from zoo.errors import ZooError
from zoo.game import Turn, player_groups
from zoo.interfaces import Networks, Objective

__all__ = ["Differentiate", "TurnStep"]

Derivatives = tuple[Mapping[str, Tensor], Sequence[Tensor | None]]
Differentiate = Callable[..., Derivatives]
"""From a batch to the terms by name, and each of :attr:`Play.parameters`' gradient of its own row's loss."""


@attrs.frozen
class _Row:
    weights: tuple[tuple[str, float], ...]
    parameters: list[nn.Parameter]

    @property
    def said(self) -> str:
        """Its terms' names."""
        return " + ".join(repr(name) for name, _ in self.weights)


class TurnStep:
    """A turn with its optimizers and the running sums of its terms.

    Arguments:
        objective: the model, for its optimizers.
        turn: what is played.
        networks: the model's.
        stream: the training images.
        bf16: whether the networks run under autocast.

    Raises:
        ZooError: where the turn's players are no networks.
    """

    def __init__(self, objective: Objective, turn: Turn, networks: Networks, stream: Stream, bf16: bool) -> None:
        self.turn, self.networks, self.bf16 = turn, networks, bf16
        known = networks.names()
        for name in turn.players:
            if name not in known:
                raise ZooError(f"turn {turn.name!r}: player {name!r} is no network of the model ({', '.join(known)})")
        self.rows = player_groups(turn.players)
        self._rows = [_Row(r.weights, [p for n in r.networks for p in networks[n].parameters()]) for r in self.rows]
        self.parameters = [p for row in self._rows for p in row.parameters]
        mine = {id(p) for p in self.parameters}
        self._still = [p for p in networks.parameters() if p.requires_grad and id(p) not in mine]
        self._strides = [p.stride() for p in self.parameters]
        held = set(turn.players) if turn.gate else set()
        groups: dict[object, list[str]] = {}
        for name in turn.players:
            settings = objective.optimizer(name, turn.name)
            # Networks with equal settings share one fused kernel, unless a gate may hold one of them alone.
            groups.setdefault((settings, name if name in held else ""), []).append(name)
        self.updates: dict[str, GatedOptimizer] = {}
        for (settings, _), names in groups.items():  # type: ignore[misc]
            parameters = {f"{n}.{k}": p for n in names for k, p in networks[n].named_parameters()}
            self.updates["+".join(names)] = GatedOptimizer(settings, parameters, stream.device)
        self.stream = stream.subset(turn.labelled) if turn.labelled else stream
        self.device, self.ranks = stream.device, stream.ranks
        self.differentiate: Differentiate = self.eagerly
        self.names: tuple[str, ...] = ()
        self.sums: Tensor | None = None
        self._gradients: Sequence[Tensor | None] = ()

    def batch(self, position: int) -> tuple[Tensor, ...]:
        """What the turn is played on at a position of its stream: x, and y where it is labelled."""
        return self.stream.batch_at(self.stream.places(position), labels=bool(self.turn.labelled))

    def terms(self, *batch: Tensor) -> Mapping[str, Tensor]:
        """The turn's terms on a batch, under the run's precision."""
        cast = torch.autocast(self.device.type, torch.bfloat16) if self.bf16 else contextlib.nullcontext()
        with cast:
            return self.turn.terms(self.networks, *batch)

    def eagerly(self, *batch: Tensor) -> Derivatives:
        """Terms and gradients, operation by operation: what every faster way must equal."""
        for parameter in self._still:  # nobody asks for the gradient of who does not play: it keeps no graph
            parameter.requires_grad_(False)
        try:
            terms = self.terms(*batch)
        finally:
            for parameter in self._still:
                parameter.requires_grad_(True)
        gradients: list[Tensor | None] = []
        last = self._rows[-1]
        for row in self._rows:
            loss = self._weighted(row, terms)
            if not loss.requires_grad:
                raise ZooError(f"turn {self.turn.name!r}: {row.said} depends on no parameter of a player")
            gradients += torch.autograd.grad(loss, row.parameters, retain_graph=row is not last, allow_unused=True)
        return terms, gradients

    def play(self, *batch: Tensor) -> None:
        """Move every player once, on a batch: x, and y where the turn is labelled."""
        # The last gradients go first, so that the new ones take their place, which the processor's cache still holds.
        self._gradients = ()
        for parameter in self.parameters:
            parameter.grad = None
        terms, gradients = self.differentiate(*batch)
        with torch.no_grad():
            if self.ranks.size > 1:
                terms = self._together(terms, gradients, self.ranks)
            gates = self.turn.gate(terms) if self.turn.gate else {}
            for name in gates:
                if name not in self.turn.players:
                    players = ", ".join(self.turn.players)
                    raise ZooError(f"turn {self.turn.name!r}: gate for {name!r}, which does not play in it ({players})")
            self._count(terms)  # before any update: a term may be a parameter itself
            # Every gradient is taken before any parameter moves: the turn is simultaneous.
            for parameter, stride, gradient in zip(self.parameters, self._strides, gradients, strict=True):
                laid_out = gradient is None or gradient.stride() == stride
                parameter.grad = gradient if laid_out else match_layout(parameter, gradient)
            for name, update in self.updates.items():
                update.step(gates.get(name))
        self._gradients = gradients

    def _weighted(self, row: _Row, terms: Mapping[str, Tensor]) -> Tensor:
        total: Tensor | None = None
        for name, weight in row.weights:
            if name not in terms:
                raise ZooError(f"turn {self.turn.name!r}: no term {name!r} for its players; terms: {', '.join(terms)}")
            part = terms[name] if weight == 1 else weight * terms[name]
            total = part if total is None else total + part
        if total is None:
            raise ZooError(f"turn {self.turn.name!r}: a player has no term to minimize")
        return total

    @staticmethod
    def _together(terms: Mapping[str, Tensor], gradients: Sequence[Tensor | None], ranks: Ranks) -> dict[str, Tensor]:
        # One message: gradients, and terms, by which a gate must decide alike everywhere.
        values = {name: term.detach().clone() for name, term in terms.items()}
        ranks.mean_([*(g for g in gradients if g is not None), *values.values()])
        return values

    def _count(self, terms: Mapping[str, Tensor]) -> None:
        values = torch.stack([t.detach() for t in terms.values()])
        if not self.names:
            self.names = tuple(terms)
        if self.sums is None:
            self.sums = torch.zeros_like(values, dtype=torch.float32)
        self.sums.add_(values)

    def gradient_norms(self) -> dict[str, float]:
        """Norm of the last gradient of each row's networks, by their names joined with ``+``. Syncs."""
        norms: dict[str, float] = {}
        at = 0
        for row, spec in zip(self._rows, self.rows, strict=True):
            mine = self._gradients[at : at + len(row.parameters)]
            at += len(row.parameters)
            if found := [g for g in mine if g is not None]:
                norms["+".join(spec.networks)] = float(torch.stack(torch._foreach_norm(found)).norm())
        return norms
