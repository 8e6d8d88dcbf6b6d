"""The papers' networks, counted by hand, and the presets that use them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import zoo
from zoo import options
from zoo.data import DataSpec
from zoo.engine import BatchStream, Engine
from zoo.errors import UsageError
from zoo.registry import registry
from zoo.run.settings import RunSettings
from zoo.run.trained import make_networks, wrap_trained

SHAPES = {"mnist": (1, 28, 28), "cifar10": (3, 32, 32), "celeba": (3, 64, 64)}
PRESETS = [(name, preset) for name, entry in registry().models.items() for preset in entry.value.presets]


def spec(*shape: int) -> DataSpec:
    c, h, w = shape
    return DataSpec("test", (c, h, w), tuple("0123456789"), torch.full((c, h, w), -0.5))


def size(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def parts(model: str, preset: str = "paper") -> tuple[zoo.Generator, RunSettings]:
    cls = registry().model(model)
    given = cls.presets[preset]
    run = {k: v for k, v in given.items() if k in options.options_of(RunSettings)}
    return options.build(cls, {k: v for k, v in given.items() if k not in run}), RunSettings(model=model, **run)


@pytest.mark.parametrize(("model", "preset"), PRESETS)
def test_a_preset_is_settings_that_a_run_takes_and_a_game_that_plays(model, preset):
    objective, settings = parts(model, preset)
    shape = SHAPES[settings.dataset]
    torch.manual_seed(0)
    networks = make_networks(objective, spec(*shape))
    images = torch.randint(0, 256, (8, *shape), dtype=torch.uint8)
    stream = BatchStream(images, 4, 0, torch.device("cpu"), torch.arange(8))
    engine = Engine(objective, networks, stream, steps=2)
    engine.step()
    assert engine.read_terms()
    trained = wrap_trained(objective, networks, spec(*shape))
    made = trained.sample(2, seed=0)
    assert made.shape == (2, *shape)
    assert float(made.abs().max()) <= 1


def test_every_model_with_a_paper_of_its_own_has_the_papers_preset():
    # Two are hybrids that no paper of their own describes.
    assert {n for n, e in registry().models.items() if "paper" not in e.value.presets} == {"vaegan-twin", "vae-wgan-gp"}


def test_networks_of_iwae():
    """784-200-200 → 50 and back (Burda et al., section 5)."""
    data = spec(1, 28, 28)
    encoder = zoo.encoder(data, 50, 32, family="iwae-flat")
    decoder = zoo.decoder(data, 50, 32, family="iwae-flat", likelihood="bernoulli")
    assert size(encoder) == (784 * 200 + 200) + (200 * 200 + 200) + 2 * (200 * 50 + 50)
    assert size(decoder) == (50 * 200 + 200) + (200 * 200 + 200) + (200 * 784 + 784)
    # At the beginning the weights say nothing about an image's pixels, and the bias says the mean of the data.
    with torch.no_grad():
        for p in decoder.parameters():
            if p.ndim == 2:
                p.zero_()
    assert torch.allclose(decoder(torch.randn(3, 50)).mean, torch.full((3, 1, 28, 28), -0.5), atol=1e-5)


def test_iwaes_encoder_gives_log_sigma_not_log_variance():
    data = spec(1, 28, 28)
    torch.manual_seed(0)
    encoder = zoo.encoder(data, 2, 32, family="iwae-flat")
    h = encoder.body(x := torch.rand(5, 1, 28, 28))
    assert torch.allclose(encoder(x).std, encoder.log_std(h).exp())


def test_networks_of_bigan():
    """Section 4.1 of Donahue et al.: three layers of 1024, nothing but matrices, z fed to the second layer."""
    data = spec(1, 28, 28)
    style = {"family": "bigan-flat"}
    encoder = zoo.encoder(data, 50, 32, posterior="point", **style)
    decoder = zoo.decoder(data, 50, 32, **style)
    critic = zoo.critic(data, 32, inputs="xz", latent=50, **style)
    assert size(encoder) == 784 * 1024 + 1024 * 1024 + 1024 * 50
    assert size(decoder) == 50 * 1024 + (1024 + 50) * 1024 + 1024 * 784
    assert size(critic) == 784 * 1024 + (1024 + 50) * 1024 + 1024
    for network in (encoder, decoder, critic):
        assert all(p.ndim == 2 for p in network.parameters())


def test_networks_of_aae():
    """Appendix A.1 of Makhzani et al.: two layers of 1000 ReLU each, no normalization before codes are judged."""
    data = spec(1, 28, 28)
    hidden = 1000 * 1000 + 1000
    assert size(zoo.encoder(data, 8, 32, family="aae-flat", posterior="point")) == 785 * 1000 + hidden + 1001 * 8
    assert size(zoo.decoder(data, 8, 32, family="aae-flat")) == 9 * 1000 + hidden + 1001 * 784
    critic = zoo.critic(data, 32, inputs="z", latent=8, family="aae-flat")
    assert size(critic) == 9 * 1000 + hidden + 1001
    assert not any(isinstance(m, nn.BatchNorm1d) for m in critic.modules())


def convolutions(network: nn.Module) -> list[tuple[int, int, int, int]]:
    """(in, out, kernel, stride) of each convolution, in order."""
    kinds = (nn.Conv2d, nn.ConvTranspose2d)
    return [
        (m.in_channels, m.out_channels, m.kernel_size[0], m.stride[0])
        for m in network.modules()
        if isinstance(m, kinds)
    ]


def test_networks_of_vaegan():
    """The authors' code at 32 pixels: encoder 64-128-256, decoder 192-128-32, critic 32-128-192-256, all 5×5."""
    data = spec(3, 32, 32)
    encoder = zoo.encoder(data, 128, 32, family="vaegan-conv")
    decoder = zoo.decoder(data, 128, 32, family="vaegan-conv")
    critic = zoo.critic(data, 32, family="vaegan-conv", tap=3, pre_norm=True)
    assert convolutions(encoder) == [(3, 64, 5, 2), (64, 128, 5, 2), (128, 256, 5, 2)]
    assert convolutions(decoder) == [(256, 192, 5, 2), (192, 128, 5, 2), (128, 32, 5, 2), (32, 3, 5, 1)]
    assert convolutions(critic) == [(3, 32, 5, 1), (32, 128, 5, 2), (128, 192, 5, 2), (192, 256, 5, 2)]
    verdict = critic(torch.randn(2, 3, 32, 32))
    assert verdict.features.shape == (2, 192, 8, 8)
    assert {m.momentum for m in encoder.modules() if isinstance(m, nn.BatchNorm2d)} == {0.1}


def test_networks_of_ali():
    """Dumoulin et al., table of CIFAR-10: 32 → 28 → 13 → 10 → 4 → 1 → 1, and back."""
    data = spec(3, 32, 32)
    encoder = zoo.encoder(data, 64, 32, family="ali-conv")
    down = [(3, 32, 5, 1), (32, 64, 4, 2), (64, 128, 4, 1), (128, 256, 4, 2), (256, 512, 4, 1), (512, 512, 1, 1)]
    assert convolutions(encoder) == down
    decoder = zoo.decoder(data, 64, 32, family="ali-conv")
    up = [(64, 256, 4, 1), (256, 128, 4, 2), (128, 64, 4, 1), (64, 32, 4, 2), (32, 32, 5, 1), (32, 32, 1, 1)]
    assert convolutions(decoder) == [*up, (32, 3, 1, 1)]
    critic = zoo.critic(data, 32, inputs="xz", latent=64, family="ali-conv")
    assert [m.p for m in critic.modules() if isinstance(m, nn.Dropout)] == [0.2, 0.2, 0.5, 0.5, 0.5, 0.5]


def test_networks_of_wae():
    """Tolstikhin et al.: 28 → 14 → 7 → 4 → 2 pixels, 7×7×1024 → 512 → 256 → 1; codes judged by 4 × 512."""
    data = spec(1, 28, 28)
    encoder = zoo.encoder(data, 8, 32, family="wae-conv", posterior="point")
    decoder = zoo.decoder(data, 8, 32, family="wae-conv")
    assert convolutions(encoder) == [(1, 128, 4, 2), (128, 256, 4, 2), (256, 512, 4, 2), (512, 1024, 4, 2)]
    assert encoder.head.in_features == 2 * 2 * 1024
    assert convolutions(decoder) == [(1024, 512, 4, 2), (512, 256, 4, 2), (256, 1, 4, 1)]
    critic = zoo.critic(data, 32, inputs="z", latent=8, family="wae-conv")
    assert size(critic) == 9 * 512 + 3 * 513 * 512 + 513


def test_networks_of_dcgan():
    """Radford et al., figure 1: 100 → 4×4×1024 → 512 → 256 → 128 → 64×64×3."""
    decoder = zoo.decoder(spec(3, 64, 64), 100, 32, family="dcgan")
    assert convolutions(decoder) == [(1024, 512, 5, 2), (512, 256, 5, 2), (256, 128, 5, 2), (128, 3, 5, 2)]
    critic = zoo.critic(spec(3, 64, 64), 32, family="dcgan")
    assert convolutions(critic) == [(3, 128, 5, 2), (128, 256, 5, 2), (256, 512, 5, 2), (512, 1024, 5, 2)]


@pytest.mark.parametrize(
    ("family", "shape"),
    [("dcgan", (1, 28, 28)), ("ali-conv", (1, 28, 28)), ("wgan-gp-conv", (3, 32, 32)), ("vaegan-conv", (1, 28, 28))],
)
def test_networks_that_do_not_fit_an_image_say_which_they_fit(family, shape):
    for build in (lambda d: zoo.encoder(d, 4, 8, family=family), lambda d: zoo.decoder(d, 4, 8, family=family)):
        with pytest.raises(UsageError, match=rf"family: '{family}' is not allowed for images .* --family conv fits"):
            build(spec(*shape))


@pytest.mark.parametrize(
    ("family", "inputs", "reason"),
    [
        ("iwae-flat", "x", r"it has no critic \(of x\)"),
        ("beta-vae-conv", "z", r"it has no critic \(of z\)"),
        ("wgan-gp-conv", "xz", "it has a critic of images only"),
        ("wae-conv", "x", "it has a critic of codes only"),
        ("alpha-gan-conv", "x", "sides must be 16, 32, 64 or 128 pixels, both the same"),
    ],
)
def test_a_critic_that_a_family_has_not_is_named_with_the_family(family, inputs, reason):
    with pytest.raises(
        UsageError, match=rf"family: '{family}' is not allowed for images of 1×28×28; {reason}; --family"
    ):
        zoo.critic(spec(1, 28, 28), 8, inputs=inputs, latent=None if inputs == "x" else 4, family=family)


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
