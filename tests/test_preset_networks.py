"""The networks of each ``paper`` preset against a layer table written by hand from the paper or the authors' code."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import nn

import zoo
from zoo import options
from zoo.data import DataSpec
from zoo.errors import UsageError
from zoo.preset import get_presets
from zoo.registry import registry
from zoo.run.settings import RunSettings

SHAPES = {"mnist": (1, 28, 28), "cifar10": (3, 32, 32), "celeba": (3, 64, 64)}


def spec(*shape: int) -> DataSpec:
    c, h, w = shape
    return DataSpec("test", (c, h, w), tuple("0123456789"), torch.full((c, h, w), -0.5))


def networks(model: str, preset: str = "paper") -> Any:
    """Networks of a preset by attribute."""
    cls, settings = registry().model(model), get_presets(registry().model(model))[preset].settings
    run = options.get_options(RunSettings)
    objective = options.build(cls, {k: v for k, v in settings.items() if k not in run})
    torch.manual_seed(0)
    return zoo.Networks(objective.networks(spec(*SHAPES[str(settings["dataset"])])))


def size(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def convolutions(network: nn.Module) -> list[tuple[int, int, int, int]]:
    """(in, out, kernel, stride) of each convolution, in order."""
    kinds = (nn.Conv2d, nn.ConvTranspose2d)
    return [
        (m.in_channels, m.out_channels, m.kernel_size[0], m.stride[0])
        for m in network.modules()
        if isinstance(m, kinds)
    ]


def linears(network: nn.Module) -> list[tuple[int, int]]:
    """(in, out) of each linear layer, in order."""
    return [(m.in_features, m.out_features) for m in network.modules() if isinstance(m, nn.Linear)]


def kinds(network: nn.Module, kind: type[nn.Module]) -> int:
    return sum(isinstance(m, kind) for m in network.modules())


def weights(*sizes: int, bias: bool = True) -> int:
    """Parameters of fully connected layers."""
    return sum((a + bias) * b for a, b in itertools.pairwise(sizes))


def kernels(rows: list[tuple[int, int, int, int]]) -> int:
    """Weights of convolutions without biases."""
    return sum(a * b * k * k for a, b, k, _ in rows)


def test_vae():
    """Kingma & Welling, section 5: one hidden layer of 500, tanh (appendix C); 20 dimensions in figure 2."""
    net = networks("vae")
    assert linears(net.encoder) == [(784, 500), (500, 2 * 20)]
    assert linears(net.decoder) == [(20, 500), (500, 784)]
    assert kinds(net, nn.Tanh) == 2
    assert size(net) == weights(784, 500, 40) + weights(20, 500, 784)
    # 'N(0, 0.01)', all parameters.
    values = torch.cat([p.flatten() for p in net.parameters()])
    assert float(values.detach().std()) == pytest.approx(0.1, rel=0.01)


def test_iwae_and_burdas_vae():
    """yburda/iwae, experiments.py:177-181: 784-200-200-50 and back; iwae.py:64-70: tanh, μ and σ = exp(linear)."""
    for net in (networks("iwae"), networks("vae", "burda")):
        assert linears(net.encoder) == [(784, 200), (200, 200), (200, 50), (200, 50)]
        assert linears(net.decoder) == [(50, 200), (200, 200), (200, 784)]
        assert kinds(net, nn.Tanh) == 4
        assert size(net.encoder) == weights(784, 200, 200) + 2 * weights(200, 50)
        assert size(net.decoder) == weights(50, 200, 200, 784)
        # nnet.py:28: uniform within √(6/(in + out)).
        largest = float(net.encoder.body[2].weight.detach().abs().max())
        assert 0.99 * math.sqrt(6 / 984) < largest <= math.sqrt(6 / 984)
        # iwae.py:107-108: the output bias is the log-odds of the mean image.
        with torch.no_grad():
            for p in net.decoder.parameters():
                if p.ndim == 2:
                    p.zero_()
        assert torch.allclose(net.decoder(torch.randn(3, 50)).mean, torch.full((3, 1, 28, 28), -0.5), atol=1e-5)
        h = net.encoder.body(x := torch.rand(5, 1, 28, 28))
        assert torch.allclose(net.encoder(x).std, net.encoder.log_std(h).exp())


def test_beta_vae():
    """Higgins et al., table 1, row CelebA."""
    net = networks("beta-vae")
    assert convolutions(net.encoder) == [(3, 32, 4, 2), (32, 32, 4, 2), (32, 64, 4, 2), (64, 64, 4, 2)]
    assert linears(net.encoder) == [(1024, 256), (256, 2 * 32)]
    assert linears(net.decoder) == [(32, 256), (256, 1024)]
    assert convolutions(net.decoder) == [(64, 64, 4, 2), (64, 32, 4, 2), (32, 32, 4, 2), (32, 3, 4, 2)]
    # A Gaussian of unit variance: nothing is learned beside its mean.
    assert [n for n, _ in net.decoder.named_parameters() if "std" in n] == []
    likelihood = net.decoder(torch.randn(2, 32))
    assert likelihood.log_std == 0
    x = torch.randn(2, 3, 64, 64)
    expected = -0.5 * ((x - likelihood.mean) ** 2 + math.log(2 * math.pi)).flatten(1).sum(1)
    assert torch.allclose(likelihood.log_prob(x), expected, rtol=1e-5)


def test_gan():
    """Newmu/dcgan_code, faces/train_uncond_dcgan.py:79-103 (weights), 108-124 (layers)."""
    net = networks("gan")
    up = [(1024, 512, 5, 2), (512, 256, 5, 2), (256, 128, 5, 2), (128, 3, 5, 2)]
    down = [(3, 128, 5, 2), (128, 256, 5, 2), (256, 512, 5, 2), (512, 1024, 5, 2)]
    assert linears(net.decoder) == [(100, 1024 * 4 * 4)]
    assert convolutions(net.decoder) == up
    assert convolutions(net.critic) == down
    assert linears(net.critic) == [(1024 * 4 * 4, 1)]
    norms = {"decoder": 1024 + 512 + 256 + 128, "critic": 256 + 512 + 1024}
    biases = {"decoder": 3, "critic": 128 + 1}  # declared: the authors' have none
    assert size(net.decoder) == weights(100, 16384, bias=False) + kernels(up) + 2 * norms["decoder"] + biases["decoder"]
    assert size(net.critic) == kernels(down) + 16384 + 2 * norms["critic"] + biases["critic"]
    assert {m.negative_slope for m in net.critic.modules() if isinstance(m, nn.LeakyReLU)} == {0.2}
    assert {"biases"} <= set(get_presets(registry().model("gan"))["paper"].deviations)


def test_wgan_gp():
    """igul222/improved_wgan_training, gan_mnist.py:55-101."""
    net = networks("wgan-gp")
    up, down = [(256, 128, 5, 2), (128, 64, 5, 2), (64, 1, 5, 2)], [(1, 64, 5, 2), (64, 128, 5, 2), (128, 256, 5, 2)]
    assert linears(net.decoder) == [(128, 4 * 4 * 256)]
    assert convolutions(net.decoder) == up
    assert convolutions(net.critic) == down
    assert linears(net.critic) == [(4 * 4 * 256, 1)]
    assert size(net.decoder) == weights(128, 4096) + kernels(up) + 128 + 64 + 1
    assert size(net.critic) == kernels(down) + 64 + 128 + 256 + weights(4096, 1)
    assert kinds(net, nn.BatchNorm2d) == 0
    assert torch.equal(net.critic.trunk[0](torch.tensor([-1.0, 0.0, 1.0])), torch.tensor([0.0, 0.5, 1.0]))
    # gan_mnist.py:78: a sigmoid, in our range.
    z = torch.randn(2, 128)
    logits = net.decoder.body[:-1](z)
    assert torch.allclose(net.decoder(z), 2 * logits.sigmoid() - 1, atol=1e-6)


def test_vaegan():
    """andersbll/autoencoding_beyond_pixels, architectures.py:174-241 (64 pixels: 256 channels in the middle)."""
    net = networks("vaegan")
    encoder = [(3, 64, 5, 2), (64, 128, 5, 2), (128, 256, 5, 2)]
    decoder = [(256, 256, 5, 2), (256, 128, 5, 2), (128, 32, 5, 2), (32, 3, 5, 1)]
    critic = [(3, 32, 5, 1), (32, 128, 5, 2), (128, 256, 5, 2), (256, 256, 5, 2)]
    assert convolutions(net.encoder) == encoder
    assert convolutions(net.decoder) == decoder
    assert convolutions(net.critic) == critic
    flat = 256 * 8 * 8
    assert linears(net.encoder) == [(flat, 1024), (1024, 2 * 128)]
    assert linears(net.decoder) == [(128, flat)]
    assert linears(net.critic) == [(flat, 512), (512, 1)]
    assert size(net.encoder) == kernels(encoder) + flat * 1024 + 2 * (64 + 128 + 256 + 1024) + weights(1024, 256)
    assert size(net.critic) == kernels(critic) + 32 + flat * 512 + 2 * (128 + 256 + 256 + 512) + weights(512, 1)
    # aegan.py:26 recon_depth=9: the ninth layer is the third strided convolution, before its normalization.
    verdict = net.critic(x := torch.randn(2, 3, 64, 64))
    h = x
    stages = zip(net.critic.trunk.convolutions, net.critic.trunk.norms, strict=True)
    for i, (convolution, norm) in enumerate(stages):
        h = convolution(h)
        if i == 3:
            break
        h = norm(h).relu()
    assert verdict.features.shape == (2, 256, 8, 8)
    assert torch.allclose(verdict.features, h, atol=1e-6)
    # bn_mom=0.9 keeps nine tenths: torch's momentum 0.1.
    assert {m.momentum for m in net.encoder.modules() if isinstance(m, nn.BatchNorm2d)} == {0.1}


def test_vaegans_networks_at_32_pixels_have_192_channels_in_the_middle():
    """architectures.py:138-170."""
    decoder = zoo.decoder(spec(3, 32, 32), 128, 32, family="vaegan-conv")
    critic = zoo.critic(spec(3, 32, 32), 32, family="vaegan-conv", tap=3, pre_norm=True)
    assert convolutions(decoder) == [(256, 192, 5, 2), (192, 128, 5, 2), (128, 32, 5, 2), (32, 3, 5, 1)]
    assert convolutions(critic) == [(3, 32, 5, 1), (32, 128, 5, 2), (128, 192, 5, 2), (192, 256, 5, 2)]


def test_bigan():
    """jeffdonahue/bigan, net.py:1130-1134 (E, D) and 839-858 (G); train_mnist.sh:25 (--nogain --nobias)."""
    net = networks("bigan")
    assert linears(net.encoder) == [(784, 1024), (1024, 1024), (1024, 50)]
    assert linears(net.decoder) == [(50, 1024), (1024 + 50, 1024), (1024, 784)]
    assert linears(net.critic) == [(784, 1024), (1024 + 50, 1024), (1024, 1)]
    assert size(net) == sum(a * b for part in (net.encoder, net.decoder, net.critic) for a, b in linears(part))
    values = torch.cat([p.flatten() for p in net.parameters()])
    assert float(values.detach().std()) == pytest.approx(0.02, rel=0.01)
    # data.py:348: images are in [0, 1], which matters where there is no bias.
    black = torch.full((4, 1, 28, 28), -1.0)
    assert net.encoder.encoder.body[:3](black).abs().max() == 0


def test_ali():
    """IshmaelBelghazi/ALI, experiments/ali_cifar10.py:41-95; ali/bricks.py:366-368: maxout halves the channels."""
    net = networks("ali")
    down = [(3, 32, 5, 1), (32, 64, 4, 2), (64, 128, 4, 1), (128, 256, 4, 2), (256, 512, 4, 1), (512, 512, 1, 1)]
    up = [(64, 256, 4, 1), (256, 128, 4, 2), (128, 64, 4, 1), (64, 32, 4, 2), (32, 32, 5, 1), (32, 32, 1, 1)]
    judged = [(3, 32, 5, 1), (16, 64, 4, 2), (32, 128, 4, 1), (64, 256, 4, 2), (128, 512, 4, 1)]
    assert convolutions(net.encoder) == down
    assert linears(net.encoder) == [(512, 2 * 64)]
    assert convolutions(net.decoder) == [*up, (32, 3, 1, 1)]
    assert convolutions(net.critic) == judged
    assert linears(net.critic) == [(64, 512), (256, 512), (512, 1024), (512, 1024), (512, 1)]
    assert kinds(net.critic, nn.BatchNorm2d) == kinds(net.critic, nn.BatchNorm1d) == 0
    assert kinds(net.critic, nn.LeakyReLU) == 0
    # Lines 126-136 and the paper's table: .2 on the inputs, .5 before every other layer.
    expected = [0.2, *[0.5] * 4, 0.2, 0.5, *[0.5] * 3]
    assert [m.p for m in net.critic.modules() if isinstance(m, nn.Dropout)] == expected
    codes = weights(64, 512, bias=False) + weights(256, 512, bias=False)
    joint = weights(512, 1024) * 2 + weights(512, 1)
    assert size(net.critic) == kernels(judged) + 32 + 64 + 128 + 256 + 512 + codes + joint
    assert {m.negative_slope for m in net.encoder.modules() if isinstance(m, nn.LeakyReLU)} == {0.1}
    # Line 145: population statistics take a twentieth of each batch's.
    assert {m.momentum for m in net.encoder.modules() if isinstance(m, nn.BatchNorm2d)} == {0.05}
    h = torch.tensor([[1.0, 5.0, -2.0, -3.0]])
    maxout = next(m for m in net.critic.modules() if type(m).__name__ == "Maxout")
    assert maxout(h).tolist() == [[5.0, -2.0]]
    net.encoder.eval()
    x = torch.randn(3, 3, 32, 32)
    log_std = net.encoder.head(net.encoder.body(x).flatten(1)).chunk(2, dim=1)[1]
    assert torch.allclose(net.encoder(x).std, log_std.exp())


@pytest.mark.parametrize("preset", ["paper", "labels"])
def test_aae(preset):
    """Makhzani et al., appendices A.1 and A.2.1: two layers of 1000 ReLU each, N(0, 0.01²), no normalization."""
    net = networks("aae", preset)
    codes = {"paper": 8, "labels": 10}[preset]
    full = codes + (10 if preset == "labels" else 0)
    assert linears(net.encoder) == [(784, 1000), (1000, 1000), (1000, full)]
    assert linears(net.decoder) == [(full, 1000), (1000, 1000), (1000, 784)]
    assert linears(net.critic) == [(codes, 1000), (1000, 1000), (1000, 1)]
    assert size(net.critic) == weights(codes, 1000, 1000, 1)
    assert kinds(net, nn.BatchNorm1d) == 0
    assert float(net.encoder.get_submodule(f"{'encoder.' * (preset == 'labels')}body.2").weight.std()) == pytest.approx(
        0.01, rel=0.02
    )


@pytest.mark.parametrize("model", ["wae-mmd", "wae-gan"])
def test_wae(model):
    """tolstikhin/wae, configs.py:86-99; models.py:109-122 (encoder), 208-245 (decoder), 329-339 (critic)."""
    net = networks(model)
    down = [(1, 128, 4, 2), (128, 256, 4, 2), (256, 512, 4, 2), (512, 1024, 4, 2)]
    up = [(1024, 512, 4, 2), (512, 256, 4, 2), (256, 1, 4, 1)]
    assert convolutions(net.encoder) == down
    assert linears(net.encoder) == [(2 * 2 * 1024, 8)]
    assert linears(net.decoder) == [(8, 7 * 7 * 1024)]
    assert convolutions(net.decoder) == up
    norms = 128 + 256 + 512 + 1024
    assert size(net.encoder) == kernels(down) + 2 * norms + weights(4096, 8)
    assert size(net.decoder) == weights(8, 7 * 7 * 1024) + kernels(up) + 2 * (512 + 256) + 1
    if model == "wae-gan":
        assert linears(net.critic) == [(8, 512), (512, 512), (512, 512), (512, 512), (512, 1)]
    # configs.py:67: pixels in [0, 1], a sigmoid at the end.
    z = torch.randn(2, 8)
    net.eval()
    assert torch.allclose(net.decoder(z), 2 * net.decoder.body[:-1](z).sigmoid() - 1, atol=1e-6)


def test_avb():
    """LMescheder/AdversarialVariationalBayes, avb/models/conv0_ac.py:22-67, conv0.py:54-106; decoders/conv0.py."""
    net = networks("avb")
    # 28 pixels: strides 1, 1, 2, 2 (n_down = 2), 64 channels doubled in each layer.
    down = [(1, 64, 5, 1), (64, 128, 5, 1), (128, 256, 5, 2), (256, 512, 5, 2)]
    up = [(512, 256, 5, 2), (256, 128, 5, 2), (128, 64, 5, 1), (64, 1, 5, 1)]
    flat = 512 * 7 * 7
    assert convolutions(net.encoder) == down
    assert linears(net.encoder) == [(flat, (16 + 1) * 8)]
    basis = [tuple(p.shape) for p in net.encoder.basis.weights]
    assert basis == [(16, 32, 128), (16, 128, 128), (16, 128, 128), (16, 128, 8)]
    assert convolutions(net.decoder) == up
    assert linears(net.decoder) == [(8, flat)]
    assert kinds(net.encoder, nn.BatchNorm2d) == 3
    assert kinds(net.decoder, nn.BatchNorm2d) == 0
    noise = 16 * weights(32, 128, 128, 128, 8)
    features = kernels(down) + 2 * (64 + 128 + 256) + 512 + weights(flat, 17 * 8)
    assert size(net.encoder) == features + noise
    assert size(net.decoder) == weights(8, flat) + kernels(up) + 256 + 128 + 64 + 1
    trunk = (1024, 1024, 1024)
    x_part, z_part = weights(784, *trunk), weights(8, *trunk)
    assert size(net.critic) == 2 * x_part + 2 * z_part + 2 * weights(1024, 8192) + 2 * weights(1024, 1)
    # conv0.py:100-104: T = ⟨θ, s⟩ + T_x + T_z + ½‖z‖².
    x, z = torch.rand(3, 1, 28, 28) * 2 - 1, torch.randn(3, 8)
    u = ((x + 1) / 2).flatten(1)
    with torch.no_grad():
        c = net.critic
        expected = (c.theta(u) * c.s(z)).sum(1) + c.x_only(u)[:, 0] + c.z_only(z)[:, 0] + (z**2).sum(1) / 2
        assert torch.allclose(c(x, z).logits, expected, atol=1e-4)
        # conv0_ac.py:46-49: z = z0 + Σ (elu(a − 5) + 1)·v(ε).
        net.eval()
        out = net.encoder.features(x).mean.unflatten(1, (17, 8))
        torch.manual_seed(1)
        q = net.encoder(x)
        z = q.rsample()
        torch.manual_seed(1)
        torch.randn(256, 16, 32)  # the moments'
        v = torch.randn(3, 16, 32)
        for i, (w, b) in enumerate(zip(net.encoder.basis.weights, net.encoder.basis.biases, strict=True)):
            v = torch.stack([(nn.functional.elu(v) if i else v)[:, k] @ w[k] + b[k] for k in range(16)], 1)
        a = nn.functional.elu(out[:, 1:] - 5) + 1
        assert torch.allclose(z, out[:, 0] + (a * v).sum(1), atol=1e-5)


def test_alpha_gan():
    """Rosca et al.: DCGAN's networks and a critic of codes of 750-750 without normalization."""
    net = networks("alpha-gan")
    assert convolutions(net.critic) == [(3, 128, 5, 2), (128, 256, 5, 2), (256, 512, 5, 2)]
    assert convolutions(net.encoder) == convolutions(net.critic)
    assert linears(net.decoder) == [(128, 512 * 4 * 4)]
    assert convolutions(net.decoder) == [(512, 256, 5, 2), (256, 128, 5, 2), (128, 3, 5, 2)]
    assert linears(net.code_critic) == [(128, 750), (750, 750), (750, 1)]
    assert size(net.code_critic) == weights(128, 750, 750, 1)


def test_age():
    """DmitryUlyanov/AGE, models/dcgan64px.py:13-35 (E) and 44-70 (G): 4×4, 64 to 512 channels."""
    net = networks("age")
    down = [(3, 64, 4, 2), (64, 128, 4, 2), (128, 256, 4, 2), (256, 512, 4, 2), (512, 64, 4, 1)]
    up = [(64, 512, 4, 1), (512, 256, 4, 2), (256, 128, 4, 2), (128, 64, 4, 2), (64, 3, 4, 2)]
    assert convolutions(net.encoder) == down
    assert convolutions(net.decoder) == up
    assert linears(net) == []
    assert size(net.encoder) == kernels(down) + 2 * (128 + 256 + 512) + 64
    assert size(net.decoder) == kernels(up) + 2 * (512 + 256 + 128 + 64)
    assert net.encoder(torch.randn(2, 3, 64, 64)).mean.shape == (2, 64)
    assert net.decoder(torch.randn(2, 64)).shape == (2, 3, 64, 64)


def test_ages_networks_at_32_pixels():
    """models/dcgan32px.py:13-28 and 42-62."""
    encoder = zoo.encoder(spec(3, 32, 32), 128, 32, family="age-conv", posterior="point")
    decoder = zoo.decoder(spec(3, 32, 32), 128, 32, family="age-conv")
    assert convolutions(encoder) == [(3, 64, 4, 2), (64, 128, 4, 2), (128, 256, 4, 2), (256, 128, 4, 2)]
    assert kinds(encoder, nn.AvgPool2d) == 1
    up = [(128, 512, 4, 1), (512, 256, 4, 2), (256, 128, 4, 2), (128, 128, 4, 2), (128, 3, 1, 1)]
    assert convolutions(decoder) == up
    assert encoder(torch.randn(2, 3, 32, 32)).mean.shape == (2, 128)


def test_soft_introvae():
    """taldatech/soft-intro-vae-pytorch, train_soft_intro_vae.py:45-75 (block), 88-109, 139-159, 434-438 (64, 128)."""
    net = networks("soft-introvae")
    encoder = [
        *[(1, 64, 5, 1), (64, 128, 1, 1), (64, 128, 3, 1), (128, 128, 3, 1)],
        *[(128, 128, 3, 1), (128, 128, 3, 1)],
    ]
    decoder = [
        *[(128, 128, 3, 1), (128, 128, 3, 1)],
        *[(128, 64, 1, 1), (128, 64, 3, 1), (64, 64, 3, 1)],
        *[(64, 64, 3, 1), (64, 64, 3, 1), (64, 1, 5, 1)],
    ]
    assert sorted(convolutions(net.encoder)) == sorted(encoder)
    assert sorted(convolutions(net.decoder)) == sorted(decoder)
    assert linears(net.encoder) == [(128 * 7 * 7, 2 * 32)]
    assert linears(net.decoder) == [(32, 128 * 7 * 7)]
    assert size(net.encoder) == kernels(encoder) + 2 * (64 + 4 * 128) + weights(6272, 64)
    assert size(net.decoder) == weights(32, 6272) + kernels(decoder) + 2 * (2 * 128 + 4 * 64) + 1
    # Lines 42 and 73-74: the branch is normalized, not the sum.
    block = net.encoder.body[5]
    assert type(block).__name__ == "Residual"
    net.eval()
    x = torch.randn(2, 64, 14, 14)
    conv1, norm1, _, conv2, norm2 = block.branch
    branch = norm2(conv2(nn.functional.leaky_relu(norm1(conv1(x)), 0.2)))
    assert torch.allclose(block(x), nn.functional.leaky_relu(branch + block.shortcut(x), 0.2), atol=1e-6)
    # Line 159: no activation at the end; samples are clipped.
    z = 30 * torch.randn(4, 32)
    net.train()
    assert net.decoder(z).abs().max() > 1
    net.eval()
    assert torch.allclose(net.decoder(z), (2 * net.decoder.body(z) - 1).clamp(-1, 1))


@pytest.mark.parametrize(
    ("family", "shape"),
    [
        ("dcgan", (1, 28, 28)),
        ("ali-conv", (1, 28, 28)),
        ("wgan-gp-conv", (3, 32, 32)),
        ("vaegan-conv", (1, 28, 28)),
        ("age-conv", (1, 28, 28)),
        ("avb-conv", (3, 32, 32)),
    ],
)
def test_networks_that_do_not_fit_an_image_say_which_they_fit(family, shape):
    for build in (lambda d: zoo.encoder(d, 4, 8, family=family), lambda d: zoo.decoder(d, 4, 8, family=family)):
        with pytest.raises(UsageError, match=rf"family: '{family}' is not allowed for images .* --family conv fits"):
            build(spec(*shape))


@pytest.mark.parametrize(
    ("family", "inputs", "reason"),
    [
        ("iwae-flat", "x", "it has no critic of x"),
        ("beta-vae-conv", "z", "it has no critic of z"),
        ("wgan-gp-conv", "xz", "it has a critic of images only"),
        ("wae-conv", "x", "it has a critic of codes only"),
        ("avb-conv", "x", "it has a critic of pairs only"),
        ("alpha-gan-conv", "x", "sides must be 16, 32, 64 or 128 pixels, both the same"),
    ],
)
def test_a_critic_that_a_family_has_not_is_named_with_the_family(family, inputs, reason):
    with pytest.raises(
        UsageError, match=rf"family: '{family}' is not allowed for images of 1×28×28; {reason}; --family"
    ):
        zoo.critic(spec(1, 28, 28), 8, inputs=inputs, latent=None if inputs == "x" else 4, family=family)
