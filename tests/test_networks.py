"""Networks fit every image size, and every weight receives a gradient."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import zoo
from zoo.distributions import BernoulliLikelihood, GaussianLikelihood, GaussianPosterior, PointPosterior
from zoo.errors import UsageError
from zoo.networks.blocks import halvings

SIDES = [(8, 8), (28, 28), (32, 32), (64, 48), (17, 33), (9, 100), (128, 128)]
LATENT, BATCH = 3, 2
FAMILIES = ["conv", "mlp"]
NORMS = ["batch", "group", "none"]


def _data(sides: tuple[int, int], channels: int = 1) -> zoo.DataSpec:
    return zoo.DataSpec("noise", (channels, *sides))


def _x(data: zoo.DataSpec, b: int = BATCH) -> Tensor:
    return torch.rand(b, *data.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1


def _width(family: str, norm: str = "batch") -> int:
    # All of two channels can be dead where nothing normalizes them.
    return (4 if norm == "none" else 2) if family == "conv" else 1


def _assert_learns(network: nn.Module, loss: Tensor) -> None:
    """Every parameter is reached by the loss, every weight with a gradient that is not zero throughout."""
    loss.backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, f"{name} is not reached"
        assert parameter.grad.isfinite().all(), name
        if parameter.ndim > 1:
            assert parameter.grad.abs().max() > 0, name


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


sweep = pytest.mark.parametrize(
    ("sides", "channels", "family", "norm"),
    [(s, c, f, n) for s in SIDES for c in (1, 3) for f in FAMILIES for n in NORMS],
    ids=lambda v: "x".join(map(str, v)) if isinstance(v, tuple) else str(v),
)


@sweep
def test_networks_fit_every_image_size(sides: tuple[int, int], channels: int, family: Any, norm: str) -> None:
    data = _data(sides, channels)
    x = _x(data)
    style: dict[str, Any] = {"width": _width(family, norm), "family": family, "norm": norm}

    encoder = zoo.encoder(data, LATENT, **style)
    q = encoder(x)
    assert isinstance(q, GaussianPosterior)
    assert q.mean.shape == q.logvar.shape == (BATCH, LATENT)
    _assert_learns(encoder, (q.rsample() ** 2).sum() + q.logvar.sum())

    decoder = zoo.decoder(data, LATENT, **style)
    out = decoder(torch.randn(BATCH, LATENT))
    assert isinstance(out, Tensor)
    assert out.shape == (BATCH, *data.shape), "exactly the data set's"
    assert out.isfinite().all()
    assert -1 <= out.detach().min() < out.detach().max() <= 1
    _assert_learns(decoder, ((out - x) ** 2).sum())

    critic = zoo.critic(data, inputs="x", **style)
    verdict = critic(x)
    assert verdict.logits.shape == (BATCH,)
    assert verdict.features.shape[0] == BATCH
    assert verdict.logits.isfinite().all()
    assert verdict.features.isfinite().all()
    _assert_learns(critic, (verdict.logits * torch.tensor([1.0, -2.0])).sum())


@pytest.mark.parametrize("sides", SIDES, ids=lambda v: "x".join(map(str, v)))
def test_a_decoder_stays_in_range_however_far_its_codes_lie(sides: tuple[int, int]) -> None:
    decoder = zoo.decoder(_data(sides, 3), LATENT, 2, norm="none")
    out = decoder.image(1e6 * torch.randn(BATCH, LATENT))
    assert out.isfinite().all()
    assert out.abs().max() <= 1


@pytest.mark.parametrize("sides", [*SIDES, (8, 128), (11, 8), (127, 65)], ids=lambda v: "x".join(map(str, v)))
def test_halvings_end_small_and_keep_the_short_side(sides: tuple[int, int]) -> None:
    sizes = halvings(*sides)
    assert sizes[0] == sides
    assert len(sizes) >= 3
    assert max(sizes[-1]) < 8
    assert min(sizes[-1]) >= 2
    for (h, w), (h2, w2) in itertools.pairwise(sizes):
        assert h2 in (h, h // 2)
        assert w2 in (w, w // 2)
        assert (h2, w2) != (h, w)


@pytest.mark.parametrize("pre_norm", [False, True])
@pytest.mark.parametrize("tap", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("sides", [(8, 8), (28, 28), (9, 100), (128, 128)], ids=lambda v: "x".join(map(str, v)))
def test_features_are_those_of_the_tapped_stage(sides: tuple[int, int], tap: int, pre_norm: bool) -> None:
    data = _data(sides, 3)
    critic = zoo.critic(data, 2, tap=tap, pre_norm=pre_norm)
    sizes = halvings(*sides)
    stage = min(tap, len(sizes) - 1)  # the last where the trunk has fewer
    caught: list[Tensor] = []
    trunk = critic.trunk  # type: ignore[attr-defined]
    module = (trunk.convolutions if pre_norm else trunk.norms)[stage - 1]
    module.register_forward_hook(lambda m, i, out: caught.append(out.detach().clone()))
    x = _x(data)
    verdict = critic(x)
    assert verdict.features.shape == (BATCH, 2 * 2 ** (stage - 1), *sizes[stage])
    assert torch.equal(verdict.features, caught[0]), "as they were: nothing above has changed them in place"
    # Before the activation: a rectified map would have no, or hardly any, negative half.
    assert (verdict.features < 0).float().mean() > 0.1
    # Their gradient stops at the tapped stage.
    reached = {k for k, p in critic.named_parameters() if _reaches(verdict.features.square().sum(), p)}
    expected = {f"trunk.convolutions.{i}" for i in range(stage)} | {
        f"trunk.norms.{i}" for i in range(1, stage - pre_norm)
    }
    assert {k.rpartition(".")[0] for k in reached} == expected


def _reaches(loss: Tensor, parameter: nn.Parameter) -> bool:
    return torch.autograd.grad(loss, parameter, retain_graph=True, allow_unused=True)[0] is not None


@pytest.mark.parametrize("norm", NORMS)
def test_by_default_the_last_stage_is_tapped(norm: str) -> None:
    data = _data((28, 28))
    sizes = halvings(28, 28)
    last = (BATCH, 2 * 2 ** (len(sizes) - 2), *sizes[-1])
    assert zoo.critic(data, 2, norm=norm)(_x(data)).features.shape == last


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("inputs", ["x", "z", "xz"])
def test_a_critic_judges_what_it_sees_and_all_of_it(inputs: Any, norm: str, family: Any) -> None:
    data = _data((17, 33), 3)
    critic = zoo.critic(data, 2, inputs=inputs, latent=None if inputs == "x" else LATENT, family=family, norm=norm)
    assert critic.inputs == inputs
    x, z = _x(data, 4).requires_grad_(), torch.randn(4, LATENT, requires_grad=True)
    seen = [v for name, v in (("x", x), ("z", z)) if name in inputs]
    verdict = critic(*seen)
    assert verdict.logits.shape == (4,)
    for part in torch.autograd.grad((verdict.logits * torch.arange(1, 5)).sum(), seen):
        assert part.flatten(1).abs().sum(1).gt(0).all(), "every part of what it sees counts"
    # The verdict is a logit: of both signs, not a probability. Far outside [0, 1] when weights are large.
    with torch.no_grad():
        for parameter in critic.head.parameters():  # type: ignore[attr-defined]
            parameter.mul_(1000)
    logits = critic(*seen).logits
    assert logits.max() - logits.min() > 1
    _assert_learns(critic, (logits * torch.arange(1, 5)).sum())


@pytest.mark.parametrize(
    ("inputs", "latent"), [("x", 3), ("z", None), ("xz", None)], ids=["x with", "z without", "xz without"]
)
def test_a_critics_latent_is_given_exactly_where_it_sees_codes(inputs: Any, latent: int | None) -> None:
    with pytest.raises(UsageError, match=r"latent: .* not allowed for a critic with inputs="):
        zoo.critic(_data((8, 8)), 2, inputs=inputs, latent=latent)


@pytest.mark.parametrize("family", FAMILIES)
def test_posteriors(family: Any) -> None:
    data = _data((28, 28))
    x = _x(data)
    point = zoo.encoder(data, LATENT, 2, family=family, posterior="point")
    q = point(x)
    assert isinstance(q, PointPosterior)
    assert q.mean.shape == (BATCH, LATENT)
    _assert_learns(point, q.rsample().square().sum())
    gaussian = zoo.encoder(data, LATENT, 2, family=family)(x)
    assert isinstance(gaussian, GaussianPosterior)
    assert not torch.equal(gaussian.mean, gaussian.logvar)
    assert gaussian.log_prob(torch.zeros(BATCH, LATENT)).shape == gaussian.kl().shape == (BATCH,)


@pytest.mark.parametrize("family", FAMILIES)
def test_likelihoods(family: Any) -> None:
    data = _data((9, 100), 3)
    x, z = _x(data), torch.randn(BATCH, LATENT)
    for likelihood, kind in (("bernoulli", BernoulliLikelihood), ("gaussian", GaussianLikelihood)):
        decoder = zoo.decoder(data, LATENT, 2, family=family, likelihood=likelihood)  # type: ignore[arg-type]
        p = decoder(z)
        assert isinstance(p, kind)
        assert p.log_prob(x).shape == (BATCH,)
        assert decoder.image(z).shape == (BATCH, *data.shape)
        assert decoder.image(z).abs().max() <= 1
        _assert_learns(decoder, -p.log_prob(x).sum())
        assert ("log_std" in dict(decoder.named_parameters())) == (likelihood == "gaussian")
    bare = zoo.decoder(data, LATENT, 2, family=family)
    assert torch.equal(bare.image(z), bare(z))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("norm", NORMS)
def test_norms_are_what_they_are_called(norm: str, family: Any) -> None:
    data = _data((28, 28))
    style: dict[str, Any] = {"width": 8, "family": family, "norm": norm}
    for network in (zoo.encoder(data, LATENT, **style), zoo.decoder(data, LATENT, **style), zoo.critic(data, **style)):
        kinds = {type(m) for m in network.modules() if "Norm" in type(m).__name__}
        flat = {"batch": {nn.BatchNorm1d}, "group": {nn.GroupNorm}, "none": set()}[norm]
        assert kinds == (flat if family == "mlp" else {nn.BatchNorm2d} if norm == "batch" else flat)


def test_without_batch_statistics_an_images_verdict_does_not_depend_on_its_company() -> None:
    data = _data((28, 28))
    x = _x(data, 6)
    for norm, alone in (("group", True), ("none", True), ("batch", False)):
        critic = zoo.critic(data, 4, norm=norm)
        with torch.no_grad():
            same = torch.allclose(critic(x).logits[:2], critic(x[:2]).logits, rtol=1e-4, atol=1e-6)
        assert same == alone, norm


@pytest.mark.parametrize(
    "make",
    [
        lambda d: zoo.encoder(d, 2, 2, norm="layer"),
        lambda d: zoo.encoder(d, 2, 2, family="resnet"),
        lambda d: zoo.encoder(d, 2, 2, posterior="points"),
        lambda d: zoo.decoder(d, 2, 2, norm="layer"),
        lambda d: zoo.decoder(d, 2, 2, family="resnet"),
        lambda d: zoo.decoder(d, 2, 2, likelihood="binary"),
        lambda d: zoo.critic(d, 2, norm="layer"),
        lambda d: zoo.critic(d, 2, family="resnet"),
        lambda d: zoo.critic(d, 2, inputs="zx", latent=2),
        lambda d: zoo.critic(d, 2, tap=0),
    ],
)
def test_a_misspelt_kind_is_refused_not_silently_another(make: Any) -> None:
    with pytest.raises(UsageError, match=r"is not allowed; must be|unknown family 'resnet'. Available: "):
        make(_data((8, 8)))


def test_weights_start_as_dcgans_where_a_normalization_restores_the_scale() -> None:
    critic = zoo.critic(_data((64, 64), 3), 32)
    weights = [p for n, p in critic.named_parameters() if n.startswith("trunk.convolutions") and p.ndim == 4]
    for w in weights:
        assert float(w.detach().std()) == pytest.approx(0.02, rel=0.1)
        assert abs(float(w.detach().mean())) < 0.002
    scales = torch.cat([p.detach() for n, p in critic.named_parameters() if "norms" in n and n.endswith("weight")])
    assert float(scales.mean()) == pytest.approx(1, abs=0.01)
    assert 0.01 < float(scales.std()) < 0.03
    bare = zoo.critic(_data((64, 64), 3), 32, norm="none")
    x = _x(_data((64, 64), 3), 8)
    assert float(bare(x).features.detach().std()) > 1e-3, "without a norm, 0.02 would make signals vanish"
