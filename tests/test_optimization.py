"""Settings of a run that change the optimization of any model: schedule, warm-up, clipping, average of the weights."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

import zoo
from zoo.engine import BatchStream, Engine
from zoo.optimizers import Optimization, make_schedule
from zoo.registry import registry
from zoo.run.trained import make_networks


def build_engine(model: str, optimization: Optimization | None, steps: int = 8) -> Engine:
    objective = zoo.options.build(registry().model(model), {"latent": 4, "width": 4})
    torch.manual_seed(0)
    data = zoo.DataSpec("digits", (1, 8, 8), tuple("0123456789"), torch.zeros(1, 8, 8))
    networks = make_networks(objective, data)
    images = torch.randint(0, 256, (64, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(64) % 10
    stream = BatchStream(images, 16, 0, torch.device("cpu"), labels)
    return Engine(objective, networks.train(), stream, steps=steps, optimization=optimization)


def learning_rates(engine: Engine) -> list[float]:
    return [
        float(group["lr"])
        for turn_step in engine.turn_steps
        for optimizer in turn_step.optimizers.values()
        for group in optimizer._optimizer.param_groups
    ]


@pytest.mark.parametrize("model", ["vae", "vaegan", "wgan-gp", "avb"])
def test_one_schedule_sets_the_learning_rates_of_every_player(model: str) -> None:
    plain = build_engine(model, None)
    plain.step()
    initial = learning_rates(plain)
    engine = build_engine(model, Optimization(make_schedule("linear")))
    for factor in (1.0, 0.875, 0.75):
        engine.step()
        assert learning_rates(engine) == pytest.approx([factor * lr for lr in initial])


def test_warmup_multiplies_the_schedule() -> None:
    engine = build_engine("gan", Optimization(make_schedule("cosine"), lr_warmup=0.5))
    rates = []
    for _ in range(8):
        engine.step()
        rates.append(learning_rates(engine)[0])
    peak = 2e-4
    expected = [min(1, t / 4) * (1 + torch.cos(torch.tensor(torch.pi * t / 8)).item()) / 2 * peak for t in range(8)]
    assert rates == pytest.approx(expected)


def test_clipped_gradients_have_the_given_norm_and_keep_their_direction() -> None:
    plain, clipped = build_engine("vae", None), build_engine("vae", Optimization(clip_grad_norm=0.1))
    for engine in (plain, clipped):
        torch.manual_seed(1)
        engine.step()
    for name, network in plain.networks.named_children():
        own = [(p, q) for p, q in zip(network.parameters(), getattr(clipped.networks, name).parameters(), strict=True)]
        norm = torch.stack([p.grad.norm() for p, _ in own if p.grad is not None]).norm()
        assert norm > 0.1, "the bound must matter"
        for p, q in own:
            if p.grad is not None:
                torch.testing.assert_close(q.grad, p.grad * (0.1 / norm), rtol=1e-4, atol=1e-7)
    assert max(clipped.gradient_norms().values()) == pytest.approx(max(plain.gradient_norms().values())), "as measured"


def test_the_average_is_that_of_the_weights_after_each_step() -> None:
    engine = build_engine("vaegan", Optimization(ema_decay=0.9))
    assert engine.ema is not None
    expected = {k: v.clone() for k, v in engine.networks.state_dict().items()}
    parameters = dict(engine.networks.named_parameters())
    for _ in range(4):
        engine.step()
        for name, value in engine.networks.state_dict().items():
            expected[name] = 0.9 * expected[name] + 0.1 * value if name in parameters else value.clone()
    for name, value in engine.ema.state().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-7)
    moved = [n for n, p in parameters.items() if not torch.equal(p, engine.ema.state()[n])]
    assert len(moved) > len(parameters) / 2


def test_without_these_settings_training_keeps_its_bits() -> None:
    engines = [build_engine("vaegan", given) for given in (None, Optimization())]
    for engine, _ in itertools.product(engines, range(3)):
        torch.manual_seed(engine.step_count)
        engine.step()
    for a, b in zip(engines[0].networks.parameters(), engines[1].networks.parameters(), strict=True):
        assert torch.equal(a, b)


def train(folder: Path, **given: Any) -> None:
    zoo.train("gan", dataset="digits", width=4, latent=4, batch=32, extractor="none", out=folder, **given)


def test_a_run_saves_the_average_and_the_flags_set_the_same(tmp_path: Path, cli: Any) -> None:
    settings = {"ema_decay": 0.95, "lr_schedule": "multistep", "lr_milestones": "0.5,0.75", "clip_grad_norm": 1.0}
    for name in ("raw", "whole"):
        train(tmp_path / name, images=640, **(settings if name == "whole" else {}))
    whole = safetensors.torch.load_file(tmp_path / "whole" / "model.safetensors")
    state = safetensors.torch.load_file(tmp_path / "whole" / "checkpoint" / "state.safetensors")
    for name, value in whole.items():
        assert torch.equal(value, state[f"ema/{name}"])
    assert any(not torch.equal(whole[n], state[f"net/{n}"]) for n in whole)
    flags = [f"--{k.replace('_', '-')}={v}" for k, v in settings.items()]
    command = ["run", "gan", "--width=4", "--latent=4", "--batch=32", "--extractor=none", "--images=640", *flags]
    outcome = cli(*command, "--out", tmp_path / "told")
    assert outcome.status == 0, outcome.err
    told = safetensors.torch.load_file(tmp_path / "told" / "model.safetensors")
    assert all(torch.equal(told[n], whole[n]) for n in whole)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"lr_schedule": "multistep"}, "lr_milestones: '' is not allowed; must be ascending fractions"),
        ({"lr_schedule": "multistep", "lr_milestones": "0.7,0.5"}, "lr_milestones: '0.7,0.5' is not allowed"),
        ({"lr_schedule": "multistep", "lr_milestones": "half"}, "lr_milestones: 'half' is not allowed"),
        ({"lr_milestones": "0.5"}, "lr_milestones: has no effect without lr_schedule multistep"),
        ({"ema_decay": 1.0}, "ema_decay: 1.0 is not allowed; must be below 1"),
        ({"clip_grad_norm": 0.0}, "clip_grad_norm: 0.0 is not allowed; must be above 0"),
        ({"lr_schedule": "cos"}, "lr_schedule: 'cos' is not allowed; must be one of model, constant"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_a_folder_exists(
    tmp_path: Path, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(zoo.UsageError) as error:
        train(tmp_path / "run", images=64, **given)
    assert str(error.value).startswith(message)
    assert not (tmp_path / "run").exists()
