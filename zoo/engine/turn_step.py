"""One turn of a game: terms of a batch, the gradient of each player's loss, then all updates.

Gradients come from :func:`torch.autograd.grad` with respect to the parameters of one group of players at a time, never
from ``.backward()``: a loss cannot reach a network that does not minimize it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence

import attrs
import torch
from torch import Tensor, nn

from zoo.engine.batch_stream import BatchStream
from zoo.engine.gated_optimizer import GatedOptimizer, match_layout
from zoo.errors import ZooError
from zoo.game import Turn, player_groups
from zoo.interfaces import Networks, Objective
from zoo.optimizers import Optimization
from zoo.weights import AnyWeight, ScheduledWeight, Weight, gradient_ratio

__all__ = ["GradientFunction", "TermsAndGradients", "TurnStep", "clip_gradients"]

TermsAndGradients = tuple[Mapping[str, Tensor], Sequence[Tensor | None]]
GradientFunction = Callable[..., TermsAndGradients]
"""Maps a batch to the terms by name and one gradient for each of :attr:`TurnStep.parameters`."""


@attrs.frozen
class _Group:
    """Networks that minimize one loss."""

    networks: tuple[str, ...]
    weights: tuple[tuple[str, AnyWeight], ...]
    parameters: list[nn.Parameter]


class TurnStep:
    """A turn with its optimizers and the running sums of its terms.

    Args:
        objective: the model; it defines the optimizers.
        turn: the turn.
        networks: networks of the model, on the stream's device.
        stream: training images.
        bf16: run the networks under bfloat16 autocast.
        optimization: settings of the run that replace or extend the model's optimization.
        lender: the turn whose optimizers this one uses, if the turn ``shares`` them.
        borrowers: turns that use optimizers of this one.

    Raises:
        ZooError: if a player of the turn is not a network of the model, or does not play in the turn of ``shares``.
    """

    def __init__(
        self,
        objective: Objective,
        turn: Turn,
        networks: Networks,
        stream: BatchStream,
        bf16: bool = False,
        optimization: Optimization | None = None,
        *,
        lender: TurnStep | None = None,
        borrowers: Sequence[Turn] = (),
    ) -> None:
        self.turn, self.networks, self.bf16 = turn, networks, bf16
        self.optimization = optimization or Optimization()
        self.stream = stream.subset(turn.labeled_images) if turn.labeled_images else stream
        self.device, self.ranks = stream.device, stream.ranks
        names = networks.names()
        for name in turn.players:
            if name not in names:
                raise ZooError(f"turn {turn.name!r}: player {name!r} is no network of the model ({', '.join(names)})")
        self._groups = [
            _Group(g.networks, g.weights, [p for n in g.networks for p in networks[n].parameters()])
            for g in player_groups(turn.players)
        ]
        self.parameters = [p for group in self._groups for p in group.parameters]
        self._player_slices: list[slice] = []
        """Position of each player's parameters in :attr:`parameters`."""
        for network in self.networks_in_order:
            start = self._player_slices[-1].stop if self._player_slices else 0
            self._player_slices.append(slice(start, start + len(list(networks[network].parameters()))))
        self._strides = [p.stride() for p in self.parameters]
        own = {id(p) for p in self.parameters}
        self._other_parameters = [p for p in networks.parameters() if p.requires_grad and id(p) not in own]
        self.optimizers = self._borrow(lender) if lender else self._build_optimizers(objective, borrowers)
        self.owns_optimizers = lender is None
        """Whether the optimizers' state is this turn's, not that of the turn of ``shares``."""
        self._scheduled = {
            weight: torch.ones((), device=self.device)
            for group in self._groups
            for _, weight in group.weights
            if isinstance(weight, ScheduledWeight)
        }
        """Current values of scheduled weights, at fixed addresses, which compiled and captured steps read."""
        self.set_weights(1.0)
        self.gradient_function: GradientFunction = self.eager_gradients
        self.term_names: tuple[str, ...] = ()
        self.term_sums: Tensor | None = None
        self.last_gradients: Sequence[Tensor | None] = ()
        """Gradients of the last step, before clipping, in the order of :attr:`parameters`."""

    def _build_optimizers(self, objective: Objective, borrowers: Sequence[Turn]) -> dict[str, GatedOptimizer]:
        # Networks with equal settings share one fused kernel, unless a gate or another turn may update one alone.
        apart = bool(self.turn.gate) or any(turn.gate for turn in borrowers)
        shared: dict[object, list[str]] = {}
        for name in self.turn.players:
            settings = objective.optimizer(name, self.turn.name)
            users = tuple(turn.name for turn in borrowers if name in turn.players)
            shared.setdefault((settings, name if apart else users), []).append(name)
        optimizers: dict[str, GatedOptimizer] = {}
        for (settings, _), names in shared.items():  # type: ignore[misc]
            parameters = {f"{n}.{k}": p for n in names for k, p in self.networks[n].named_parameters()}
            schedule = self.optimization.schedule(settings)
            optimizers["+".join(names)] = GatedOptimizer(settings, parameters, self.device, schedule)
        return optimizers

    def _borrow(self, lender: TurnStep) -> dict[str, GatedOptimizer]:
        for name in self.turn.players:
            if name not in lender.turn.players:
                players = ", ".join(lender.turn.players)
                raise ZooError(
                    f"turn {self.turn.name!r}: {name!r} has no optimizer to share in turn {lender.turn.name!r}; its "
                    f"players are {players}"
                )
        return {key: o for key, o in lender.optimizers.items() if key.split("+")[0] in self.turn.players}

    @property
    def networks_in_order(self) -> list[str]:
        """Names of the players in the order of :attr:`parameters`."""
        return [name for group in self._groups for name in group.networks]

    def batch(self, position: int) -> tuple[Tensor, ...]:
        """Batch at a position of the turn's stream: (x,), or (x, y) if the turn has labels."""
        return self.stream.load(self.stream.fetch(position))

    def set_learning_rates(self, progress: float) -> None:
        """Apply the learning-rate schedules.

        Args:
            progress: completed steps divided by the steps of the run.
        """
        for optimizer in self.optimizers.values():
            optimizer.set_learning_rate(progress)

    def set_weights(self, progress: float) -> None:
        """Set the weights that are functions of training progress.

        Args:
            progress: completed steps divided by the steps of the run.
        """
        for weight, value in self._scheduled.items():
            value.fill_(weight.value(progress))

    def step(self, *batch: Tensor) -> None:
        """Update every player once.

        Args:
            batch: images x, and labels y if the turn has labels.
        """
        # Freed first, so that the new gradients take the same memory, which is still in the processor's cache.
        self.last_gradients = ()
        for parameter in self.parameters:
            parameter.grad = None
        terms, gradients = self.gradient_function(*batch)
        with torch.no_grad():
            if self.ranks.size > 1:
                terms = self._average_over_processes(terms, gradients)
            gates = self._gates(terms)
            self._add_to_sums(terms)  # before any update: a term may be a parameter itself
            # All gradients are computed before any parameter changes: players move simultaneously.
            self._set_gradients(gradients)
            for names, optimizer in self.optimizers.items():
                optimizer.step(gates.get(names))
            if self.turn.after is not None:
                self.turn.after(self.networks, terms)
        self.last_gradients = gradients

    def terms(self, *batch: Tensor) -> Mapping[str, Tensor]:
        """Terms of a batch, at the precision of the run."""
        autocast = torch.autocast(self.device.type, torch.bfloat16) if self.bf16 else contextlib.nullcontext()
        with autocast:
            return self.turn.terms(self.networks, *batch)

    def eager_gradients(self, *batch: Tensor) -> TermsAndGradients:
        """Terms and gradients, one operation at a time: the reference for faster ways."""
        for parameter in self._other_parameters:  # not differentiated here: saves their part of the graph
            parameter.requires_grad_(False)
        try:
            terms = self.terms(*batch)
        finally:
            for parameter in self._other_parameters:
                parameter.requires_grad_(True)
        gradients: list[Tensor | None] = []
        last = self._groups[-1]
        for group in self._groups:
            loss = self._loss(group, terms)
            gradients += torch.autograd.grad(loss, group.parameters, retain_graph=group is not last, allow_unused=True)
        return terms, gradients

    def losses(self, terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Loss of each player: the weighted sum of its terms."""
        return {name: self._loss(group, terms) for group in self._groups for name in group.networks}

    def _loss(self, group: _Group, terms: Mapping[str, Tensor]) -> Tensor:
        """Weighted sum of the group's terms."""
        total: Tensor | None = None
        for name, weight in group.weights:
            if name not in terms:
                raise ZooError(f"turn {self.turn.name!r}: no term {name!r} for its players; terms: {', '.join(terms)}")
            part = terms[name] if weight == 1 else self._factor(weight, terms) * terms[name]
            total = part if total is None else total + part
        if total is None:
            raise ZooError(f"turn {self.turn.name!r}: a player has no term to minimize")
        if not total.requires_grad:
            names = " + ".join(repr(name) for name, _ in group.weights)
            raise ZooError(f"turn {self.turn.name!r}: {names} depends on no parameter of a player")
        return total

    def _factor(self, weight: AnyWeight, terms: Mapping[str, Tensor]) -> float | Tensor:
        """Current value of a weight."""
        if not isinstance(weight, Weight):
            return weight
        factor = self._scheduled[weight] if isinstance(weight, ScheduledWeight) else 1.0
        ratio = gradient_ratio(weight)
        if ratio is None and not isinstance(weight, ScheduledWeight):
            raise ZooError(f"turn {self.turn.name!r}: weight {weight} is neither a ScheduledWeight nor a GradientRatio")
        return factor if ratio is None else factor * ratio.compute(terms, self.networks)

    def _average_over_processes(
        self, terms: Mapping[str, Tensor], gradients: Sequence[Tensor | None]
    ) -> Mapping[str, Tensor]:
        # One message for gradients and terms. Gates are computed from the averaged terms, so all processes agree.
        means = {name: term.detach().clone() for name, term in terms.items()}
        self.ranks.all_reduce_mean_([*(g for g in gradients if g is not None), *means.values()])
        return means

    def _gates(self, terms: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        gates = self.turn.gate(terms) if self.turn.gate else {}
        for name in gates:
            if name not in self.turn.players:
                players = ", ".join(self.turn.players)
                raise ZooError(f"turn {self.turn.name!r}: gate for {name!r}, which does not play in it ({players})")
        return gates

    def _set_gradients(self, gradients: Sequence[Tensor | None]) -> None:
        if self.optimization.clip_grad_norm is not None:
            clipped = list(gradients)
            for player in self._player_slices:
                clipped[player] = clip_gradients(gradients[player], self.optimization.clip_grad_norm)
            gradients = clipped
        for parameter, stride, gradient in zip(self.parameters, self._strides, gradients, strict=True):
            same_layout = gradient is None or gradient.stride() == stride
            parameter.grad = gradient if same_layout else match_layout(parameter, gradient)

    def _add_to_sums(self, terms: Mapping[str, Tensor]) -> None:
        scalars = {name: term.detach() for name, term in terms.items() if term.ndim == 0}
        values = torch.stack(list(scalars.values()))
        if not self.term_names:
            self.term_names = tuple(scalars)
        if self.term_sums is None:
            self.term_sums = torch.zeros_like(values, dtype=torch.float32)
        self.term_sums.add_(values)

    def gradient_norms(self) -> dict[str, float]:
        """Norm of the last gradient, before clipping, by the ``+``-joined names of the group's networks. Syncs."""
        norms: dict[str, float] = {}
        start = 0
        for group in self._groups:
            own = self.last_gradients[start : start + len(group.parameters)]
            start += len(group.parameters)
            if present := [g for g in own if g is not None]:
                norms["+".join(group.networks)] = float(torch.stack(torch._foreach_norm(present)).norm())
        return norms


def clip_gradients(gradients: Sequence[Tensor | None], max_norm: float) -> list[Tensor | None]:
    """Scale gradients down so that their joint norm is at most ``max_norm``; returns new tensors, without a host sync.

    The numbers are those of :func:`torch.nn.utils.clip_grad_norm_`. Gradients from :func:`torch.autograd.grad` may
    share memory, so they must not be scaled in place.
    """
    present = [g for g in gradients if g is not None]
    if not present:
        return list(gradients)
    norm = torch.nn.utils.get_total_norm(present)
    scaled = iter(torch._foreach_mul(present, (max_norm / (norm + 1e-6)).clamp(max=1.0)))
    return [None if g is None else next(scaled) for g in gradients]
