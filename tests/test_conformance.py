"""The conformance suite on every registered model, and broken models that the suite must detect."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import zoo
from zoo.conformance import CHECKS, ONCE, SHAPES, SLOW, Case, run_check
from zoo.registry import registry

MODELS = sorted(registry().models)


def model_checks():
    """Every check of every model; those that train several times are slow for all models but two."""
    for model in MODELS:
        for check in (c for c in CHECKS if c not in SLOW):
            slow = check in ("capture", "repeatable", "resume") and model not in ("vae", "vaegan")
            yield pytest.param(model, check, marks=[pytest.mark.slow] if slow else [])


@pytest.mark.parametrize(("model", "check"), list(model_checks()))
def test_model_conforms(model, check):
    for shape in SHAPES[: 1 if check in ONCE else None]:
        assert run_check(CHECKS[check], Case(registry().models[model].value, shape)) is None, shape


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_model_learns_64_images(model):
    assert run_check(CHECKS["learns"], Case(registry().models[model].value, (1, 16, 16))) is None


@zoo.frozen
class Good(zoo.Autoencoder):
    """A small autoencoder that each broken one below spoils in one way."""

    paper = "none"
    width: int = zoo.option(4, "Width.")

    def networks(self, data):
        return {
            "encoder": zoo.encoder(data, self.latent, posterior="point", **self.network_options),
            "decoder": zoo.decoder(data, self.latent, **self.network_options),
        }

    def players(self):
        return {"encoder": {"rec": 1.0}, "decoder": {"rec": 1.0}}

    def terms(self, net, x):
        return {"rec": zoo.half_sse(net.decoder(net.encoder(x).rsample()), x)}


@zoo.frozen
class UntrainedEncoder(Good):
    def players(self):
        return {"decoder": {"rec": 1.0}}


@zoo.frozen
class EncoderWithoutGradient(Good):
    def terms(self, net, x):
        return {"rec": zoo.half_sse(net.decoder(net.encoder(x).rsample().detach()), x)}


@zoo.frozen
class MissingTerm(Good):
    def players(self):
        return {"encoder": {"recc": 1.0}, "decoder": {"rec": 1.0}}


@zoo.frozen
class NotScalar(Good):
    def terms(self, net, x):
        return {"rec": (net.decoder(net.encoder(x).rsample()) - x).square().flatten(1).sum(1)}


@zoo.frozen
class Infinite(Good):
    def terms(self, net, x):
        return {"rec": super().terms(net, x)["rec"] / 0}


@zoo.frozen
class MovesByItself(Good):
    def terms(self, net, x):
        with torch.no_grad():
            next(net.decoder.parameters()).add_(1.0)
        return super().terms(net, x)


@zoo.frozen
class OwnRandomness(Good):
    def terms(self, net, x):
        noise = torch.rand(1, generator=torch.Generator().manual_seed(torch.seed() % 1000)).item()
        return {"rec": super().terms(net, x)["rec"] * (1 + noise)}


class Counter(nn.Module):
    """State that no checkpoint sees."""

    def __init__(self):
        super().__init__()
        self.calls = 0


@zoo.frozen
class HiddenState(Good):
    def networks(self, data):
        nets = super().networks(data)
        nets["encoder"].counter = Counter()
        return nets

    def terms(self, net, x):
        net.encoder.counter.calls += 1
        return {"rec": super().terms(net, x)["rec"] * net.encoder.counter.calls}


@zoo.frozen
class ReadsBack(Good):
    def terms(self, net, x):
        loss = super().terms(net, x)["rec"]
        return {"rec": loss * (2.0 if loss.item() > 1 else 1.0)}


@zoo.frozen
class Loud(Good):
    def decode(self, net, z):
        return 2 + super().decode(net, z)


@zoo.frozen
class WrongSize(Good):
    def sample(self, net, n):
        return super().sample(net, n)[..., 1:]


@zoo.frozen
class NoHelp(Good):
    beta: float = zoo.option(1.0, "")


@zoo.frozen
class StandsStill(Good):
    lr: float = zoo.option(1e-12, "Learning rate.")
    norm: str = zoo.option("none", "No statistics either: nothing changes at all.")


def test_a_good_model_passes_every_check():
    for check in CHECKS:
        assert run_check(CHECKS[check], Case(Good, (1, 16, 16))) is None, check


@pytest.mark.parametrize(
    ("model", "check", "message"),
    [
        (UntrainedEncoder, "game", "'encoder' is a player of no turn"),
        (EncoderWithoutGradient, "gradients", "encoder"),
        (MissingTerm, "game", "no term 'recc'"),
        (NotScalar, "game", "not a scalar"),
        (Infinite, "game", "'rec' is inf"),
        (MovesByItself, "gradients", "changed decoder"),
        (OwnRandomness, "repeatable", "differ"),
        (HiddenState, "resume", "changes the attribute"),
        (ReadsBack, "sync", "reads a value back"),
        (ReadsBack, "capture", "branches in Python"),
        (HiddenState, "capture", "computed once in Python"),
        (Loud, "abilities", "outside"),
        (WrongSize, "abilities", "not (5, 1, 16, 16)"),
        (NoHelp, "options", "beta has no help"),
        (StandsStill, "learns", "do not improve the model"),
    ],
)
def test_each_check_finds_what_it_is_for(model, check, message):
    problem = run_check(CHECKS[check], Case(model, (1, 16, 16)))
    assert problem is not None
    assert message in problem


@pytest.mark.parametrize("check", [c for c in CHECKS if c not in SLOW | ONCE])
def test_the_semi_supervised_aae_conforms_too(check):
    aae = registry().models["aae"].value

    @zoo.frozen
    class SemiSupervised(aae):
        labels: int = zoo.option(10, "Labelled images.")

    assert run_check(CHECKS[check], Case(SemiSupervised, SHAPES[0])) is None
