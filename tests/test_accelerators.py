"""Accelerated layers compute what torch's layers compute, forward and backward."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import zoo
from zoo import options
from zoo.accelerators import cpu
from zoo.accelerators.cpu import accelerate, restore
from zoo.engine import BatchStream, Engine
from zoo.registry import registry
from zoo.run.trained import make_networks

CPU = torch.device("cpu")
LINES = [
    nn.Linear(96, 40),
    nn.Linear(784, 512, bias=False),
    nn.Linear(1, 300),
]
UPSCALING = [
    nn.ConvTranspose2d(32, 1, 4, 2, 1),
    nn.ConvTranspose2d(6, 3, 5, 2, 2, 1, bias=False),
    nn.ConvTranspose2d(8, 4, 2, 2),
    nn.ConvTranspose2d(8, 1, 6, 2, 2),
    nn.ConvTranspose2d(8, 1, 4, 4),
    nn.ConvTranspose2d(8, 1, 5, 3, 1),
    nn.ConvTranspose2d(8, 1, 5, 3, 2, 2),
    nn.ConvTranspose2d(8, 4, 3, 2, 1, 1),
]
CONVOLUTIONS = [
    nn.Conv2d(16, 32, 4, 2, 1),
    nn.Conv2d(32, 16, 3, 1, 1, bias=False),
    nn.Conv2d(16, 16, 5, 3, 2),
    nn.Conv2d(16, 16, 1, 2),
    nn.Conv2d(16, 16, 2, 4, bias=False),
    nn.ConvTranspose2d(32, 16, 4, 2, 1),
    nn.ConvTranspose2d(16, 16, 5, 2, 2, 1, bias=False),
]


@pytest.fixture(autouse=True)
def any_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernels run anywhere; where they are faster is not asked here, nor from which size on."""
    for name in ("AVX512", "AMD", "BF16"):
        monkeypatch.setattr(cpu, name, True)
    monkeypatch.setattr(cpu, "MIN_MULTIPLICATIONS", 0)
    monkeypatch.setattr(cpu, "MIN_SIDE", 0)
    torch.manual_seed(0)


def apart(one: Tensor, other: Tensor) -> float:
    """Norm of the difference, relative to the other's."""
    one, other = one.detach().double(), other.detach().double()
    return float((one - other).norm() / other.norm().clamp_min(1e-300))


def batch(layer: nn.Module) -> Tensor:
    if isinstance(layer, nn.Linear):
        return torch.randn(64, layer.in_features)
    return torch.randn(4, layer.in_channels, 9, 7).contiguous(memory_format=torch.channels_last)  # type: ignore[call-overload]


def assert_as_exact(quick: Tensor, own: Tensor, truth: Tensor, unit: float = 2**-8) -> None:
    """In bfloat16: errors against the float64 result at most about torch's own, whose kernels differ by processor.

    ``unit`` is added, because torch's own result may be nearer to the truth by chance than its rounding allows.
    """
    assert apart(quick, truth) < 2 * apart(own, truth) + unit


def results(layer: nn.Module, x: Tensor, *, bf16: bool = False) -> list[Tensor]:
    """What comes out, and the gradients by the input and by each parameter."""
    x = x.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        y = layer(x)
    y_wide = y if y.dtype == torch.float64 else y.float()
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).to(y_wide.dtype)
    return [y, *torch.autograd.grad(y_wide, [x, *layer.parameters()], weights)]


def compared(layer: nn.Module, act: Callable[[], list[Tensor]], **settings: Any) -> Iterator[tuple[Tensor, Tensor]]:
    own = act()
    assert accelerate(layer, **settings) == {type(layer).__bases__[0].__name__: 1}
    quick = act()
    for i, (a, b) in enumerate(zip(own, quick, strict=True)):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        assert i > 1 or a.stride() == b.stride(), "what goes to other layers lies as torch's would"
        yield a.detach(), b.detach()


@pytest.mark.parametrize("layer", [*LINES, *UPSCALING], ids=str)
def test_float32_layers_and_their_gradients_are_torchs_but_for_rounding(layer: nn.Module) -> None:
    layer, x = copy.deepcopy(layer).to(memory_format=torch.channels_last), batch(layer)
    for own, quick in compared(layer, lambda: results(layer, x)):
        assert apart(quick, own) < 3e-6


@pytest.mark.parametrize("layer", [*UPSCALING, *CONVOLUTIONS], ids=str)
def test_bfloat16_layers_and_their_gradients_are_torchs_but_for_rounding(layer: nn.Module) -> None:
    layer, x = copy.deepcopy(layer).to(memory_format=torch.channels_last), batch(layer)
    exact = results(copy.deepcopy(layer).double(), x.double())
    pairs = compared(layer, lambda: results(layer, x, bf16=True), bf16=True)
    for (own, quick), truth in zip(pairs, exact, strict=True):
        assert_as_exact(quick, own, truth)


def test_a_first_layer_has_its_weights_gradient_alone() -> None:
    layer, x = nn.Conv2d(16, 16, 4, 2, 1, bias=False), torch.randn(4, 16, 8, 8)

    def weights() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return torch.autograd.grad(layer(x).float().square().sum(), layer.weight)[0]

    own = weights()
    accelerate(layer, bf16=True)
    assert apart(weights(), own) < 2**-8


@pytest.mark.parametrize("layer", [LINES[0], UPSCALING[0], CONVOLUTIONS[0], CONVOLUTIONS[4]], ids=str)
@pytest.mark.parametrize("bf16", [False, True])
def test_gradients_of_gradients_are_torchs(layer: nn.Module, bf16: bool) -> None:
    layer, x = copy.deepcopy(layer), batch(layer)

    def penalty(layer: nn.Module, x: Tensor, *, bf16: bool) -> list[Tensor]:
        inside = x.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            y = layer(inside)
        y = (y if y.dtype == torch.float64 else y.float()).tanh().sum()
        (slope,) = torch.autograd.grad(y, inside, create_graph=True)
        return list(torch.autograd.grad(slope.square().sum(), [inside, *layer.parameters()]))

    exact = penalty(copy.deepcopy(layer).double(), x.double(), bf16=False)
    own = penalty(layer, x, bf16=bf16)
    accelerate(layer, bf16=bf16)
    for a, b, truth in zip(own, penalty(layer, x, bf16=bf16), exact, strict=True):
        if bf16:
            assert_as_exact(b, a, truth, unit=2**-6)  # products of products, each rounded
        else:
            assert apart(b, a) < 1e-4  # the gradient of a bias is a sum that nearly cancels


@pytest.mark.parametrize(
    ("x", "w"),
    [
        (torch.ones(()).expand(64, 96), torch.randn(48, 96)),
        (torch.randn(64, 1).expand(64, 96), torch.randn(96, 48).t()),
        (torch.randn(96).expand(64, 96), torch.randn(96, 100)[::2, :96]),
        (torch.randn(96, 64).t(), torch.randn(97, 100)[1:, ::2][:, :48].t()),
        (torch.randn(128, 300)[::2, 5:101], torch.randn(1, 96)),
        (torch.randn(6145)[1:].view(64, 96), torch.randn(48, 96)),
        (torch.randn(0, 96), torch.randn(48, 96)),
    ],
    ids=["one number", "a column", "a row", "transposed", "a part", "unaligned", "nothing"],
)
def test_a_product_takes_tensors_as_they_lie(x: Tensor, w: Tensor) -> None:
    bias = torch.randn(2 * len(w))[::2]
    torch.testing.assert_close(torch.ops.latent_zoo.linear(x, w, bias), x @ w.t() + bias)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("linear", (torch.randn(8, 6), torch.randn(5, 6), torch.randn(5))),
        ("linear", (torch.randn(6, 8).t(), torch.randn(5, 6), None)),
        ("upscale", (torch.randn(2, 8, 5, 7), torch.randn(8, 1, 4, 4), torch.randn(1), 2, 1, 0)),
        ("weight_gradient", (torch.randn(2, 8, 10, 14), torch.randn(2, 16, 5, 7), 4, 2, 1)),
    ],
)
def test_a_trace_knows_what_each_operation_gives(name: str, arguments: tuple[object, ...]) -> None:
    torch.library.opcheck(getattr(torch.ops.latent_zoo, name).default, arguments)


def test_only_regular_layers_of_torchs_own_are_taken() -> None:
    class Mine(nn.Linear):
        pass

    left = nn.ModuleList(
        [
            Mine(8, 8),
            nn.utils.parametrizations.spectral_norm(nn.Linear(8, 8)),
            nn.Conv2d(16, 16, 3, groups=2),
            nn.Conv2d(16, 16, 3, dilation=2),
            nn.Conv2d(16, 16, (3, 5)),
            nn.Conv2d(16, 16, 3, padding="same"),
            nn.Conv2d(16, 16, 3, padding=1, padding_mode="reflect"),
            nn.ConvTranspose2d(16, 1, (4, 2), (2, 2), (1, 0)),
        ]
    )
    kinds = [type(layer) for layer in left]
    assert accelerate(left) == accelerate(left, bf16=True) == {}
    assert [type(layer) for layer in left] == kinds
    wide, odd = nn.ConvTranspose2d(16, 16, 4, 2, 1), nn.ConvTranspose2d(16, 1, 4, 2, 0, 1)
    assert accelerate(wide) == accelerate(odd) == {}, (
        "as many outputs as a vector holds, and not twice as large: left to torch"
    )
    assert accelerate(wide, bf16=True) == {"ConvTranspose2d": 1}
    assert accelerate(nn.Linear(8, 8), bf16=True) == {}, "in bfloat16 torch takes oneDNN itself"


def test_what_is_small_or_narrow_stays_torchs(monkeypatch: pytest.MonkeyPatch) -> None:
    line, last = nn.Linear(80, 90), nn.ConvTranspose2d(8, 1, 4, 2, 1)
    accelerate(line)
    accelerate(last)

    def operations(layer: nn.Module, x: Tensor) -> bool:
        with Counted() as counted:  # type: ignore[no-untyped-call]
            layer(x)
        return any(name.startswith("latent_zoo.") for name in counted.exact)

    x, images = torch.randn(70, 80), torch.randn(2, 8, 5, 5)
    assert operations(line, x)
    assert operations(last, images)
    monkeypatch.setattr(cpu, "MIN_SIDE", 71)
    assert not operations(line, x)
    monkeypatch.setattr(cpu, "MIN_SIDE", 70)
    assert operations(line, x)
    for worth, through in ((70 * 80 * 90, True), (70 * 80 * 90 + 1, False)):
        monkeypatch.setattr(cpu, "MIN_MULTIPLICATIONS", worth)
        assert operations(line, x) is through
    for worth, through in ((2 * 8 * 25 * 16, True), (2 * 8 * 25 * 16 + 1, False)):
        monkeypatch.setattr(cpu, "MIN_MULTIPLICATIONS", worth)
        assert operations(last, images) is through


def test_an_output_size_that_is_asked_for_is_given() -> None:
    layer, x = nn.ConvTranspose2d(8, 1, 4, 2, 1), torch.randn(2, 8, 5, 5)
    own = layer(x, [11, 11])
    accelerate(layer)
    assert torch.equal(layer(x, [11, 11]), own)
    assert layer(x).shape[-1] == 10


@pytest.mark.parametrize("layer", [LINES[0], UPSCALING[0], CONVOLUTIONS[0]], ids=str)
def test_one_image_alone_and_more_dimensions_are_taken_too(layer: nn.Module) -> None:
    layer, x = copy.deepcopy(layer), batch(layer)
    x = x[0] if x.dim() == 4 else x.view(8, 8, -1)
    own = layer(x)
    accelerate(layer, bf16=isinstance(layer, nn.Conv2d))
    torch.testing.assert_close(layer(x), own)


def test_plainly_takes_it_back() -> None:
    networks = nn.Sequential(nn.Linear(12, 12), nn.Unflatten(1, (3, 2, 2)), nn.ConvTranspose2d(3, 1, 4, 2, 1))
    before = {name: value.data_ptr() for name, value in networks.state_dict().items()}
    kinds = [type(layer) for layer in networks]
    assert accelerate(networks) == {"Linear": 1, "ConvTranspose2d": 1}
    assert {name: value.data_ptr() for name, value in copy.copy(networks).state_dict().items()} == before
    restore(networks)
    assert [type(layer) for layer in networks] == kinds


class Counted(TorchDispatchMode):
    """Counts operations by name; those of our own as torch's that they stand for."""

    STANDS_FOR = {"latent_zoo.linear": "products", "aten.mm": "products", "aten.addmm": "products"}

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self.exact: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func.overloadpacket)
        self.exact[name] += 1
        self.counts[self.STANDS_FOR.get(name, name)] += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("model", ["vae", "vaegan", "bigan", "aae", "wgan-gp"])
@pytest.mark.parametrize("family", ["mlp", "conv"])
def test_a_game_costs_no_product_more_and_plays_alike(monkeypatch: pytest.MonkeyPatch, model: str, family: str) -> None:
    def played(quick: bool) -> tuple[list[Tensor | None], int]:
        for name in ("AVX512", "AMD", "BF16"):
            monkeypatch.setattr(cpu, name, quick)
        torch.manual_seed(0)
        objective = options.build(registry().model(model), {"family": family, "width": 8})
        networks = make_networks(objective, zoo.DataSpec("test", (1, 12, 12), tuple("01"), torch.zeros(1, 12, 12)))
        images = torch.randint(0, 256, (40, 1, 12, 12), dtype=torch.uint8)
        engine = Engine(objective, networks, BatchStream(images, 8, 0, CPU))
        assert bool(engine.accelerated_layers) == quick
        found: list[Tensor | None] = []
        with Counted() as counted:  # type: ignore[no-untyped-call]
            for turn in engine.turn_steps:
                terms, gradients = turn.eager_gradients(*turn.batch(0))
                found += [*terms.values(), *gradients]
        return found, counted.counts["products"]

    (own, wanted), (quick, count) = played(False), played(True)
    assert count == wanted, "a gradient that nobody asked for"
    # By the largest of all: the gradient of a bias before a normalization is rounding alone.
    largest = max(float(a.detach().abs().max()) for a in own if a is not None)
    for a, b in zip(own, quick, strict=True):
        assert (a is None) == (b is None)
        if a is not None and b is not None:
            torch.testing.assert_close(b.detach(), a.detach(), rtol=1e-3, atol=1e-6 * largest)


def test_a_run_leaves_torchs_own_layers_and_says_what_it_had(tmp_path) -> None:  # type: ignore[no-untyped-def]
    trained = zoo.train("vae", family="mlp", width=4, images=640, out=tmp_path / "run")
    assert {type(m) for m in trained.networks.modules()} & {cpu.Linear, cpu.ConvTranspose2d} == set()
    assert '"quick_layers": {' in (tmp_path / "run" / "result.json").read_text().replace("\n", "")
    assert torch.equal(trained.sample(4, seed=0), zoo.load(tmp_path / "run").sample(4, seed=0))
