"""Presets: settings of published experiments, how they are resolved, and what ``--dry-run`` says of them."""

from __future__ import annotations

import pytest
import torch

import zoo
from zoo import options
from zoo.data import DataSpec
from zoo.engine import BatchStream, Engine
from zoo.errors import UsageError
from zoo.preset import format_settings, get_presets
from zoo.registry import registry
from zoo.run.dry_run import plan_run
from zoo.run.settings import RunSettings
from zoo.run.trained import make_networks, wrap_trained

SHAPES = {"mnist": (1, 28, 28), "cifar10": (3, 32, 32), "celeba": (3, 64, 64)}
PRESETS = [(name, preset) for name, entry in registry().models.items() for preset in get_presets(entry.value)]


def spec(*shape: int) -> DataSpec:
    c, h, w = shape
    return DataSpec("test", (c, h, w), tuple("0123456789"), torch.full((c, h, w), -0.5))


def parts(model: str, preset: str = "paper") -> tuple[zoo.Generator, RunSettings]:
    cls = registry().model(model)
    given = get_presets(cls)[preset].settings
    run = {k: v for k, v in given.items() if k in options.get_options(RunSettings)}
    return options.build(cls, {k: v for k, v in given.items() if k not in run}), RunSettings(model=model, **run)


@pytest.mark.slow
@pytest.mark.parametrize(("model", "preset"), PRESETS)
def test_a_preset_is_settings_that_a_run_takes_and_a_game_that_plays(model, preset):
    objective, settings = parts(model, preset)
    shape = SHAPES[settings.dataset]
    torch.manual_seed(0)
    networks = make_networks(objective, spec(*shape))
    images = torch.randint(0, 256, (100, *shape), dtype=torch.uint8)
    stream = BatchStream(images, 4, 0, torch.device("cpu"), torch.arange(100) % 10)
    engine = Engine(objective, networks, stream, steps=2)
    engine.step()
    assert engine.read_terms()
    trained = wrap_trained(objective, networks, spec(*shape))
    made = trained.sample(2, seed=0)
    assert made.shape == (2, *shape)
    assert float(made.abs().max()) <= 1


def test_every_model_with_a_paper_of_its_own_has_the_papers_preset():
    # Two are hybrids that no paper of their own describes; two have deviations in place of their papers' networks.
    without = {"vaegan-twin", "vae-wgan-gp", "cvae", "cgan"}
    assert {n for n, e in registry().models.items() if "paper" not in e.value.presets} == without
    assert all(registry().model(name).deviations for name in ("cvae", "cgan"))


def test_flags_go_before_the_preset_and_the_preset_before_the_defaults(tmp_path):
    from zoo.run.run_folder import RunFolder

    zoo.train("bigan", preset="paper", dataset="digits", epochs=0, latent=7, extractor="none", out=tmp_path / "run")
    there = RunFolder(tmp_path / "run").settings()
    assert (there.dataset, there.epochs, there.batch) == ("digits", 0, 128)
    assert (there.options["latent"], there.options["family"], there.options["decay"]) == (7, "bigan-flat", True)


def test_an_unknown_preset_is_named_with_the_nearest():
    with pytest.raises(UsageError, match=r"unknown preset of bigan 'papr'\. Did you mean 'paper'"):
        zoo.train("bigan", preset="papr")


def test_a_preset_beside_a_config_is_refused(tmp_path):
    with pytest.raises(UsageError, match="preset: 'paper' is not allowed together with a config"):
        zoo.train("bigan", preset="paper", config=tmp_path / "config.toml")


def test_a_schedule_sets_the_rate_of_each_step():
    """BiGAN's: constant for half of the steps, then exponentially to a hundredth."""
    objective = options.build(registry().model("bigan"), {"decay": True, "family": "mlp", "width": 1, "lr": 1.0})
    networks = make_networks(objective, spec(1, 8, 8))
    images = torch.zeros(8, 1, 8, 8, dtype=torch.uint8)
    engine = Engine(objective, networks, BatchStream(images, 4, 0, torch.device("cpu")), steps=8)
    rates = []
    for _ in range(8):
        engine.step()
        (optimizer, *_) = engine.turn_steps[0].optimizers.values()
        rates += optimizer.learning_rates
    assert rates == pytest.approx([1, 1, 1, 1, 1, 0.01**0.25, 0.1, 0.01**0.75])


def test_a_preset_says_what_differs():
    preset = zoo.Preset({"latent": 50, "joint": True}, "section 4", {"Adam": "in place of SGD", "crop": "the middle"})
    assert preset.summary == "differs in Adam; crop"
    assert zoo.Preset({}).summary == "exact"
    assert format_settings(preset.settings) == "latent 50, joint true"


def test_plain_settings_of_older_plugins_are_a_preset():
    class Old:
        presets = {"paper": {"latent": 3}}

    assert get_presets(Old) == {"paper": zoo.Preset({"latent": 3})}


@pytest.mark.parametrize(("model", "preset"), PRESETS)
def test_every_bundled_preset_names_its_source_and_its_whole_schedule(model, preset):
    found = get_presets(registry().model(model))[preset]
    assert found.source
    assert {"dataset", "batch"} <= set(found.settings)
    assert len({"epochs", "images"} & set(found.settings)) == 1
    assert all(found.deviations.values())


def test_show_and_the_card_say_what_a_preset_differs_in(cli, script):
    for text in (cli("show", "bigan").out, script("docs/cards.py").card("bigan", registry().model("bigan"))):
        assert "preset paper: differs in 60,000 training images; statistics of batch normalization" in text
        assert "the authors' script trains on 50,000" in text


def test_a_dry_run_says_how_long_a_run_is_without_its_data_and_writes_nothing(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ZOO_DATA", str(tmp_path / "empty"))
    out = cli("run", "aae", "--preset", "labels", "--dry-run", "--out", tmp_path / "run").out
    assert 'family = "aae-flat"' in out
    assert "preset labels: differs in labeled batches" in out
    # 5000 epochs of 60,000 images in batches of 100.
    assert "3,000,000 steps, 300,000,000 images, 5,000 epochs" in out
    assert "encoder 1,806,020, decoder 1,806,784, critic 1,013,001, class_critic 1,013,001" in " ".join(out.split())
    assert "mnist, 1×28×28, 60,000 training images" in out
    assert "ms on cpu" in out
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_counts_the_batches_that_a_step_draws():
    plan = plan_run("wgan-gp", dataset="mnist", images=1_000, batch=50, n_critic=4, family="mlp", width=1)
    assert (plan.steps, plan.images) == (5, 1_000)
    assert plan.epochs == pytest.approx(1 / 60)
    assert plan.step_seconds > 0
    assert plan.seconds == pytest.approx(5 * plan.step_seconds)


def test_a_dry_run_of_a_small_set_loads_it_and_uses_its_epochs():
    plan = plan_run("vae", batch=97, family="mlp", width=1)
    assert plan.shape == (1, 8, 8)
    assert plan.settings.epochs == 100
    assert plan.steps == 100 * (plan.train_images // 97)


def test_a_dry_run_refuses_what_the_run_would_refuse(cli, tmp_path):
    cli("run", "vae", "--dry-run", "--batch", "70000", "--dataset", "mnist").refused(2, "batch: 70000", "60000")
    cli("run", "bigan", "--dry-run", "--preset", "papr").refused(2, "unknown preset of bigan 'papr'")


def test_a_dry_run_of_missing_data_of_unknown_size_says_so(tmp_path):
    with pytest.raises(zoo.ZooError):
        plan_run("vae", dataset=f"folder:{tmp_path / 'none'}")


def test_adagrad_is_torchs():
    torch.manual_seed(0)
    ours, theirs = (torch.nn.Parameter(torch.linspace(-1, 1, 5)) for _ in range(2))
    mine = zoo.Adagrad(lr=0.1, weight_decay=0.01).build([ours], torch.device("cpu"))
    reference = torch.optim.Adagrad([theirs], lr=0.1, weight_decay=0.01)
    for _ in range(3):
        gradient = torch.randn(5)
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        mine.step()
        reference.step()
    assert torch.allclose(ours, theirs, atol=1e-7)


def test_adagrads_state_is_in_the_checkpoint():
    images = torch.randint(0, 256, (64, 1, 8, 8), dtype=torch.uint8)
    objective = options.build(registry().model("vae"), {"family": "mlp", "width": 1, "adagrad": True, "lr": 0.01})

    def engine() -> Engine:
        networks = make_networks(objective, spec(1, 8, 8))
        return Engine(objective, networks, BatchStream(images, 16, 0, torch.device("cpu")))

    first, second = engine(), engine()
    first.step()
    state = first.state()
    assert any(key.endswith("/sum") for key in state)
    second.load_state(state)
    for name, value in state.items():
        assert torch.equal(second.state()[name], value), name
