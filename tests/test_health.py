"""Health of runs: provoked failures and what is found, no effect on the training, resumption, ``--stop-on``."""

from __future__ import annotations

import importlib
import json
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import SMALL, Outcome, register_toys
from torch import Tensor, nn
from zoo_plugins.models.vae import VAE

import zoo
from zoo.conformance.case import Case
from zoo.health import Finding, HealthMonitor, Measurements, Probe, parse_stop_on, probe_steps
from zoo.health.measurements import CriticMeasurement, DeadUnits
from zoo.health.probe import _compare_logits
from zoo.health.rules import check_gradients, check_measurements
from zoo.registry import Plugin, Registered, registry
from zoo.run.run_folder import RunFolder

pytestmark = pytest.mark.usefixtures("own_cache", "no_pictures")

SHORT = {**SMALL, "images": 200 * 64, "extractor": "none"}
"""Two of the four probes of 200 steps count, the last two."""


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs draw no images, which take longer than the runs."""
    train = importlib.import_module("zoo.run.train")
    monkeypatch.setattr(train, "draw_curves", lambda folder: [])
    monkeypatch.setattr(train, "draw_images", lambda *args: [])


class Notes(zoo.Callback):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        self.texts.append(text)


def found_in(folder: Path) -> list[tuple[str, str]]:
    table = json.loads((folder / "health.json").read_text())
    return [(entry["kind"], entry["subject"]) for entry in table["findings"]]


# Provoked failures


@zoo.frozen
class Forgetful(zoo.Autoencoder):
    """Its encoder is trained to give every image the same code."""

    def networks(self, data: zoo.DataSpec) -> Mapping[str, nn.Module]:
        encoder = zoo.encoder(data, self.latent, posterior="point", **self.network_options)
        return {"encoder": encoder, "decoder": zoo.decoder(data, self.latent, **self.network_options)}

    def players(self) -> Mapping[str, Mapping[str, float]]:
        return {"encoder": {"norm": 1.0}, "decoder": {"rec": 1.0}}

    def terms(self, net: zoo.Networks, x: Tensor) -> Mapping[str, Tensor]:
        z = net.encoder(x).rsample()
        return {"norm": z.square().sum(1).mean(), "rec": zoo.half_sse(net.decoder(z), x)}


@zoo.frozen
class Deaf(zoo.Generator):
    """Its decoder ignores the codes."""

    def networks(self, data: zoo.DataSpec) -> Mapping[str, nn.Module]:
        return {"decoder": Scaled(zoo.decoder(data, self.latent, **self.network_options), 0.0)}

    def players(self) -> Mapping[str, Mapping[str, float]]:
        return {"decoder": {"match": 1.0}}

    def terms(self, net: zoo.Networks, x: Tensor) -> Mapping[str, Tensor]:
        return {"match": zoo.half_sse(net.decoder(self.prior(x)), x)}


class Scaled(zoo.Decoder):
    def __init__(self, decoder: zoo.Decoder, scale: float) -> None:
        super().__init__()
        self.decoder, self.scale = decoder, scale
        self.shift = nn.Parameter(torch.zeros(()))

    def forward(self, z: Tensor) -> Tensor:
        return self.decoder.image(z) * self.scale + self.shift


@zoo.frozen
class Stencil(Deaf):
    """Its decoder has three images, far apart."""

    def networks(self, data: zoo.DataSpec) -> Mapping[str, nn.Module]:
        return {"decoder": ThreeImages(data)}


class ThreeImages(zoo.Decoder):
    def __init__(self, data: zoo.DataSpec) -> None:
        super().__init__()
        self.images = nn.Parameter(torch.randn(3, *data.shape))

    def forward(self, z: Tensor) -> Tensor:
        return self.images[z[:, :3].argmax(1)].tanh()


@zoo.frozen
class Overwhelmed(zoo.Generator):
    """A GAN whose critic learns a million times as fast as its decoder."""

    def networks(self, data: zoo.DataSpec) -> Mapping[str, nn.Module]:
        critic = zoo.critic(data, **self.network_options)
        return {"decoder": zoo.decoder(data, self.latent, **self.network_options), "critic": critic}

    def players(self) -> Mapping[str, Mapping[str, float]]:
        return {"decoder": {"fool": 1.0}, "critic": {"gan": 1.0}}

    def terms(self, net: zoo.Networks, x: Tensor) -> Mapping[str, Tensor]:
        real, fake = net.critic(x), net.critic(net.decoder(self.prior(x)))
        return {"gan": zoo.real_loss(real) + zoo.fake_loss(fake), "fool": zoo.real_loss(fake)}

    def optimizer(self, network: str, turn: str) -> zoo.Optimizer:
        return zoo.Adam(lr=3e-2 if network == "critic" else 3e-8)


@zoo.frozen
class Buried(VAE):
    """A VAE whose first hidden layer of the decoder has biases of −100."""

    def networks(self, data: zoo.DataSpec) -> Mapping[str, nn.Module]:
        networks = super().networks(data)
        first = next(m for m in networks["decoder"].modules() if isinstance(m, nn.Linear))
        with torch.no_grad():
            first.bias.fill_(-100.0)
        return networks


@zoo.frozen
class Runaway(zoo.Generator):
    """Gradient descent with four times the largest stable step: its gradient triples with each step."""

    def networks(self, data: zoo.DataSpec) -> Mapping[str, nn.Module]:
        return {"decoder": ThreeImages(data)}

    def players(self) -> Mapping[str, Mapping[str, float]]:
        return {"decoder": {"size": 1.0}}

    def terms(self, net: zoo.Networks, x: Tensor) -> Mapping[str, Tensor]:
        return {"size": 0.5 * net.decoder.images.square().sum()}

    def optimizer(self, network: str, turn: str) -> zoo.Optimizer:
        return zoo.SGD(lr=4.0)


@zoo.frozen
class Masked(Deaf):
    """Well in training mode; its samples, in evaluation mode, are NaN."""

    def networks(self, data: zoo.DataSpec) -> Mapping[str, nn.Module]:
        return {"decoder": OnlyInTraining(zoo.decoder(data, self.latent, **self.network_options), 1.0)}


class OnlyInTraining(Scaled):
    def forward(self, z: Tensor) -> Tensor:
        return super().forward(z) * (1.0 if self.training else torch.nan)


SICK = {
    "forgetful": Forgetful,
    "deaf": Deaf,
    "stencil": Stencil,
    "overwhelmed": Overwhelmed,
    "buried": Buried,
    "runaway": Runaway,
    "masked": Masked,
}


@pytest.fixture
def sick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The models above, as a plugin would announce them."""
    register_toys(monkeypatch)
    for name, model in SICK.items():
        entry = Registered(name, model, Plugin("sick", "sick-package", "1"))
        monkeypatch.setitem(registry().models, name, entry)


PROVOKED: list[tuple[str, dict[str, Any], list[tuple[str, str]]]] = [
    ("beta-vae", {"beta": 1000.0}, [("posterior-collapse", "")]),
    ("forgetful", {"lr": 0.01}, [("posterior-collapse", "")]),
    ("deaf", {}, [("mode-collapse", "")]),
    ("stencil", {}, [("mode-collapse", "")]),
    ("gan", {"lr": 0.02}, [("mode-collapse", "")]),
    ("overwhelmed", {"norm": "none"}, [("critic-saturation", "critic")]),
    ("buried", {"norm": "none"}, [("dead-units", "decoder"), ("posterior-collapse", "")]),  # cause and effect
    ("vae", {"norm": "none", "lr": 0.03}, [("dead-units", "decoder")]),
    ("masked", {}, [("nan", "samples")]),
]


@pytest.mark.usefixtures("sick")
@pytest.mark.parametrize(("model", "options", "wanted"), PROVOKED, ids=lambda value: str(value))
def test_a_provoked_failure_is_found_and_named(
    model: str, options: dict[str, Any], wanted: list[tuple[str, str]], tmp_path: Path
) -> None:
    out, notes = tmp_path / "run", Notes()
    zoo.train(model, out=out, callbacks=[notes], **{**SHORT, **options})
    assert found_in(out) == wanted
    findings = json.loads((out / "result.json").read_text())["health"]["findings"]
    assert [finding["message"] for finding in findings] == notes.texts
    assert all(text.endswith("usual remedy") for text in notes.texts)
    assert not any(finding["ended"] for finding in findings)


@pytest.mark.usefixtures("sick")
@pytest.mark.parametrize(
    ("model", "options", "wanted"),
    [
        ("vae", {"norm": "none", "lr": 10.0}, [("nan", "term 'nll'")]),
        ("doomed", {"good": 60}, [("nan", "term 'match'")]),
        ("doomed", {"good": 60, "slope": True}, [("nan", "gradient of decoder"), ("nan", "term 'match'")]),
        ("runaway", {}, [("exploding-gradients", "decoder"), ("nan", "term 'size'")]),
    ],
    ids=["vae", "term", "gradient", "explosion"],
)
def test_a_run_that_diverges_leaves_its_findings(
    model: str, options: dict[str, Any], wanted: list[tuple[str, str]], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with pytest.raises(zoo.ZooError, match=r"^diverged: term .* is (nan|inf) by step"):
        zoo.train(model, out=out, **{**SHORT, **options})
    assert found_in(out) == wanted


@pytest.mark.parametrize("model", ["vae", "gan", "wgan-gp", "aae"])
def test_nothing_is_found_where_nothing_is_wrong(model: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    zoo.train(model, out=out, **{**SHORT, "width": 8})
    health = json.loads((out / "result.json").read_text())["health"]
    assert health["probes"] >= 2
    assert health["findings"] == []


# Rules


def test_the_first_fifth_and_single_probes_do_not_count() -> None:
    monitor = HealthMonitor(2000)
    collapsed, well = ({"sample_spread": spread, "nearest_sample": 1.0} for spread in (0.01, 0.9))
    for step in (125, 250, 375):
        assert monitor.add_measurements(Measurements(step=step, **collapsed)) == []
    assert monitor.add_measurements(Measurements(step=500, **collapsed)) == []
    assert monitor.add_measurements(Measurements(step=625, **well)) == []
    assert monitor.add_measurements(Measurements(step=750, **collapsed)) == []
    (finding,) = monitor.add_measurements(Measurements(step=875, **collapsed))
    assert (finding.kind, finding.step, finding.ended) == ("mode-collapse", 875, False)
    assert monitor.add_measurements(Measurements(step=1000, **collapsed)) == []
    assert monitor.add_measurements(Measurements(step=1125, **well)) == []
    (finding,) = monitor.findings
    assert (finding.step, finding.last_step, finding.ended) == (875, 1000, True)
    assert "at step 875 until step 1,000:" in str(finding)


def test_conditions_at_their_limits() -> None:
    def kinds(**values: Any) -> list[str]:
        return [kind for kind, _ in check_measurements(Measurements(step=1, **values))]

    assert kinds(sample_spread=0.049, nearest_sample=0.5) == ["mode-collapse"]
    assert kinds(sample_spread=0.5, nearest_sample=0.049) == ["mode-collapse"]
    assert kinds(sample_spread=0.051, nearest_sample=0.051) == []
    assert kinds(active_units=0, units=8, sample_spread=0.0) == ["posterior-collapse"]
    assert kinds(active_units=1, units=8) == []
    assert kinds(critics={"critic": CriticMeasurement(error=0.001, accuracy=1.0, slope=0.002)}) == ["critic-saturation"]
    assert kinds(critics={"critic": CriticMeasurement(error=0.001, accuracy=1.0, slope=2.0)}) == []  # Wasserstein
    assert kinds(dead_units={"decoder": DeadUnits("body.1", 64, 0.5)}) == ["dead-units"]
    assert kinds(dead_units={"decoder": DeadUnits("body.1", 64, 0.48)}) == []
    assert kinds() == []


def test_a_gradient_explodes_if_it_stays_a_hundred_times_above_its_median() -> None:
    usual = [1.0] * 10
    assert check_gradients([*usual, 101.0, 150.0, 101.0])
    assert check_gradients([*usual, 101.0, 150.0, 99.0]) is None
    assert check_gradients([*usual[:9], 101.0, 150.0, 101.0]) is None  # too few to compare with


def test_a_critic_is_measured_by_the_gradient_of_its_own_loss() -> None:
    real, fake = torch.tensor([2.0, 2.0]), torch.tensor([-3.0, 1.0])
    logits = [t.requires_grad_() for t in (real, fake)]
    loss = zoo.real_loss(zoo.CriticOutput(real, real)) + zoo.fake_loss(zoo.CriticOutput(fake, fake))
    slopes = torch.autograd.grad(loss, logits)
    measured = _compare_logits([(v.detach(), g) for v, g in zip(logits, slopes, strict=True)])
    assert measured is not None
    wrong = [torch.sigmoid(torch.tensor(v)) for v in (-2.0, -2.0, -3.0, 1.0)]
    assert measured.error == pytest.approx(float(sum(wrong)) / 4)
    assert measured.accuracy == 0.75
    assert measured.slope == pytest.approx(float(sum(wrong)) / 2)


def test_probes_are_taken_at_logged_steps_and_after_the_last() -> None:
    for steps, every in ((2000, 10), (2001, 10), (999, 4), (60, 1), (100_003, 500)):
        moments = probe_steps(steps, every)
        assert max(moments) == steps
        assert len(moments) == min(12, steps // 50)
        assert all(step % every == 0 for step in moments - {steps})
    assert probe_steps(49, 1) == frozenset()


def test_measurements_survive_json() -> None:
    critics = {"critic": CriticMeasurement(0.1, 0.9, 0.2)}
    found = Measurements(step=5, sample_spread=0.5, active_units=3, units=8, kl=1.25, critics=critics)
    assert Measurements.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    for damage in ({"step": "5"}, {"kl": float("nan")}, {"critics": [1]}, {"extra": 1}, {"units": True}):
        with pytest.raises(ValueError, match=r"."):
            Measurements.from_dict({**found.to_dict(), **damage})


# Training is not affected


@pytest.mark.parametrize("model", sorted(registry().models))
def test_a_probe_changes_nothing(model: str) -> None:
    case = Case(registry().models[model].value, (1, 8, 8))
    states = []
    for probed in (False, True):
        engine = case.engine()
        engine.networks.train()
        probe = Probe(engine) if probed else None
        for step in range(4):
            if probe is not None:
                measured = [probe.measure(step) for _ in range(2)]
                assert measured[0] == measured[1]
            engine.step()
        assert all(module.training for module in engine.networks.modules())
        states.append(engine.state())
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name


def test_runs_with_and_without_health_have_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zoo.train("vaegan", out=tmp_path / "with", **SHORT)
    monkeypatch.setattr("zoo.run.run_health.probe_steps", lambda steps, every: frozenset())
    zoo.train("vaegan", out=tmp_path / "without", **SHORT)
    assert not (tmp_path / "without" / "health.json").exists()
    a, b = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("with", "without"))
    assert a == b


@pytest.mark.cuda
def test_a_probe_between_replays_of_a_cuda_graph_changes_nothing() -> None:
    states = []
    for probed in (False, True):
        engine = Case(registry().models["vaegan"].value, (1, 8, 8), torch.device("cuda")).engine()
        engine.networks.train()
        probe = Probe(engine) if probed else None
        for step in range(12):
            engine.step()
            if probe is not None:
                probe.measure(step)
        assert engine.mode == "graph"
        states.append(engine.state())
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name


def test_a_model_that_fails_in_a_probe_only_is_not_measured(
    tmp_path: Path, sick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: zoo.Generator, net: zoo.Networks, n: int) -> Tensor:
        raise RuntimeError("no samples today\nat all")

    monkeypatch.setattr(Deaf, "sample", fail)
    out, notes = tmp_path / "run", Notes()
    zoo.train("deaf", out=out, callbacks=[notes], snapshots=0, **SHORT)
    assert notes.texts == ["health is not measured further: no samples today"]
    assert json.loads((out / "result.json").read_text())["health"] == {"probes": 0, "findings": []}


# Resumed runs


class Stopper(zoo.Callback):
    def __init__(self, at: int) -> None:
        self.at = at

    def step_logged(self, step: int, *_: Any) -> None:
        if step == self.at:
            signal.raise_signal(signal.SIGINT)  # the run saves this step and stops


@pytest.mark.parametrize("at", [99, 151, 200])
def test_a_resumed_run_finds_what_an_uninterrupted_one_does(at: int, tmp_path: Path) -> None:
    collapsing: dict[str, Any] = {**SHORT, "beta": 1000.0}
    zoo.train("beta-vae", out=tmp_path / "whole", **collapsing)
    out = tmp_path / "cut"
    with pytest.raises(KeyboardInterrupt):
        zoo.train("beta-vae", out=out, callbacks=[Stopper(at)], **collapsing)
    checkpoint = RunFolder(out).checkpoint
    saved = checkpoint.read_bytes()
    zoo.train("beta-vae", out=out, resume=True, **collapsing)
    whole = (tmp_path / "whole" / "health.json").read_bytes()
    assert (out / "health.json").read_bytes() == whole
    assert found_in(out) == [("posterior-collapse", "")]
    # Killed long after its last checkpoint: the file is ahead of it.
    checkpoint.write_bytes(saved)
    (out / "result.json").unlink()
    (out / "model.safetensors").unlink()
    zoo.train("beta-vae", out=out, resume=True, **collapsing)
    assert (out / "health.json").read_bytes() == whole


def test_a_damaged_health_file_is_a_note(tmp_path: Path) -> None:
    out, notes = tmp_path / "run", Notes()
    with pytest.raises(KeyboardInterrupt):
        zoo.train("vae", out=out, callbacks=[Stopper(120)], **SHORT)
    (out / "health.json").write_text('{"probes": [{"step": 50}]}')
    zoo.train("vae", out=out, resume=True, callbacks=[notes], **SHORT)
    assert len(notes.texts) == 1
    assert "health.json cannot be read" in notes.texts[0]
    assert [found.step for found in RunFolder(out).load_health()] == [150, 200]


# --stop-on


def test_a_finding_ends_the_run_saved(tmp_path: Path, cli) -> None:
    out = tmp_path / "run"
    words = ["run", "beta-vae", "--family", "mlp", "--width", "4", "--beta", "1000", "--extractor", "none"]
    stopped: Outcome = cli(*words, "--images", 260 * 64, "--stop-on", "collapse", "--out", out)
    stopped.refused(1, "stopped: posterior collapse at step 208", f"zoo run --resume --out {out} --stop-on none")
    assert not (out / "result.json").exists()
    assert RunFolder(out).checkpoint_facts()["steps"] == 260
    assert RunFolder(out).logged()[-1]["step"] == 208
    again: Outcome = cli("run", "--resume", "--out", out)
    again.refused(1, "stopped: posterior collapse at step 208")
    done: Outcome = cli("run", "--resume", "--out", out, "--stop-on", "none")
    assert done.status == 0, done.err
    assert "health: posterior collapse at step 208" in done.out
    zoo.train("beta-vae", out=tmp_path / "whole", **{**SHORT, "images": 260 * 64, "beta": 1000.0})
    assert (out / "model.safetensors").read_bytes() == (tmp_path / "whole" / "model.safetensors").read_bytes()


def test_names_of_findings_are_checked() -> None:
    assert parse_stop_on("any") >= {"nan", "dead-units"}
    assert parse_stop_on(" nan , mode-collapse") == {"nan", "mode-collapse"}
    assert parse_stop_on("none") == parse_stop_on(None) == frozenset()
    with pytest.raises(zoo.UsageError, match=r"stop_on: unknown kind of finding 'colapse'\. Did you mean 'collapse'"):
        parse_stop_on("colapse")


def test_a_message_names_kind_subject_step_evidence_and_remedy() -> None:
    finding = Finding(kind="dead-units", subject="decoder", step=1250, last_step=1250, evidence="all are zero")
    assert str(finding) == (
        "dead units (decoder) at step 1,250: all are zero; a lower --lr or --norm batch is the usual remedy"
    )
