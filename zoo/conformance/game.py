"""Checks of a model's declarations, game and abilities."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from zoo.conformance.case import Case, CheckFailed
from zoo.game import term_names
from zoo.interfaces import Autoencoder, Generator
from zoo.options import get_options
from zoo.run.trained import TrainedAutoencoder, make_networks, wrap_trained

__all__ = ["check_abilities", "check_game", "check_gradients", "check_options", "check_routing"]


def check_options(case: Case) -> None:
    """Every option has a help text and an allowed default; the class has a docstring and a paper."""
    for info in get_options(case.model).values():
        if not info.help.strip():
            raise CheckFailed(f"option {info.name} has no help text")
        info.validate(info.default)
    if not (case.model.__doc__ or "").strip() or (case.model.__doc__ or "").startswith("Method generated"):
        raise CheckFailed("the class has no docstring; zoo list shows its first line")
    if not case.model.paper:
        raise CheckFailed('the class names no paper; set paper = "authors, venue, arXiv number"')


def check_game(case: Case) -> None:
    """Players are networks of the model; their terms exist and are finite scalars."""
    engine = case.engine()
    names = engine.networks.names()
    players: set[str] = set()
    for turn in engine.objective.turns():
        for network in turn.players:
            if network not in names:
                raise CheckFailed(
                    f"turn {turn.name!r}: player {network!r} is not a network; networks: {', '.join(names)}"
                )
        players |= set(turn.players)
        terms = engine.terms(turn, *engine.first_batch(turn))
        for name in term_names(turn):
            if name not in terms:
                raise CheckFailed(f"turn {turn.name!r}: no term {name!r}; terms() returns {', '.join(terms)}")
        minimized, for_hooks = term_names(turn), turn.gate is not None or turn.after is not None
        for name, value in terms.items():
            if for_hooks and name not in minimized and isinstance(value, Tensor) and value.ndim:
                continue
            if not isinstance(value, Tensor) or value.ndim != 0:
                raise CheckFailed(
                    f"turn {turn.name!r}: term {name!r} is not a scalar tensor; take the mean over the batch"
                )
            if not math.isfinite(float(value.detach())):
                raise CheckFailed(
                    f"turn {turn.name!r}: term {name!r} is {float(value.detach())} for newly initialized networks"
                )
    idle = [n for n in names if n not in players and any(p.requires_grad for p in engine.networks[n].parameters())]
    if idle:
        raise CheckFailed(f"network {idle[0]!r} is a player of no turn and would never be trained")


def check_gradients(case: Case) -> None:
    """Every parameter gets a gradient from the terms of its player in some turn; terms change no parameter."""
    engine = case.engine()
    with_gradient: set[str] = set()
    for turn_step in engine.turn_steps:
        turn = turn_step.turn
        before = {k: v.clone() for k, v in engine.networks.named_parameters()}
        _, gradients = turn_step.eager_gradients(*engine.first_batch(turn))
        names = [f"{n}.{k}" for n in turn_step.networks_in_order for k, _ in engine.networks[n].named_parameters()]
        with_gradient |= {name for name, g in zip(names, gradients, strict=True) if g is not None}
        for name, value in engine.networks.named_parameters():
            if not torch.equal(value, before[name]):
                raise CheckFailed(
                    f"turn {turn.name!r}: computing the terms changed {name}; only the engine may update parameters"
                )
    for name, parameter in engine.networks.named_parameters():
        if parameter.requires_grad and name not in with_gradient:
            raise CheckFailed(
                f"{name} gets no gradient from the terms of its player in any turn and would never be trained"
            )


def check_routing(case: Case) -> None:
    """A turn updates its players and no other network."""
    engine = case.engine()
    for index, turn in enumerate(engine.objective.turns()):
        before = {k: v.clone() for k, v in engine.networks.named_parameters()}
        engine.step_turn(index, *engine.first_batch(turn))
        changed = {k.partition(".")[0] for k, v in engine.networks.named_parameters() if not torch.equal(v, before[k])}
        gated: set[str] = set() if turn.gate is None else set(turn.players)
        if changed - set(turn.players):
            raise CheckFailed(
                f"turn {turn.name!r} updated {sorted(changed - set(turn.players))}, which are not its players"
            )
        if set(turn.players) - changed - gated:
            raise CheckFailed(f"turn {turn.name!r} did not update {sorted(set(turn.players) - changed)}")


def check_abilities(case: Case) -> None:
    """Samples and reconstructions have the image size and lie in [−1, 1]; codes have the dimension of the prior."""
    objective = case.objective()
    if not isinstance(objective, Generator):
        raise CheckFailed("the model is not a zoo.Generator or zoo.Autoencoder; derive it from one of them")
    torch.manual_seed(0)
    trained = wrap_trained(objective, make_networks(objective, case.data).to(case.device), case.data)
    _image("sample", trained.sample(5, seed=0), (5, *case.shape))
    if not torch.equal(trained.sample(5, seed=0), trained.sample(5, seed=0)):
        raise CheckFailed("sample gives different images for the same seed; sample with torch's generators only")
    z = objective.prior(torch.empty(0, device=case.device), 5)
    _image("decode", trained.decode(z), (5, *case.shape))
    if isinstance(trained, TrainedAutoencoder):
        x, y = case.pixels()[:5], case.labels(5)
        code = trained.encode(x, *y)
        if code.shape != z.shape:
            raise CheckFailed(
                f"encode returns {tuple(code.shape)}, but the prior gives codes of shape {tuple(z.shape)}"
            )
        _image("reconstruct", trained.reconstruct(x, *y), (5, *case.shape))
    elif isinstance(objective, Autoencoder):
        raise CheckFailed("an Autoencoder must be able to reconstruct")


def _image(what: str, images: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(images.shape) != shape:
        raise CheckFailed(f"{what} returns {tuple(images.shape)}, not {shape}")
    if not bool(images.isfinite().all()) or float(images.abs().max()) > 1 + 1e-5:
        raise CheckFailed(f"{what} returns values outside [−1, 1]; end the decoder with tanh, or return a Likelihood")
