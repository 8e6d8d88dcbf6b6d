"""`zoo export`: programs that run without zoo and agree with the model, checked by the libraries that run them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

import zoo
from zoo import options
from zoo.data import DataSpec
from zoo.registry import registry
from zoo.run.export import SUFFIXES, list_parts
from zoo.run.trained import TrainedAutoencoder, TrainedModel, make_networks, wrap_trained

DIGITS = DataSpec("digits", (1, 8, 8), ())
COLOR = DataSpec("pictures", (3, 16, 12), ())
KINDS: dict[str, tuple[str, dict[str, Any], DataSpec]] = {
    "vae conv, Gaussian posterior": ("vae", {}, DIGITS),
    "vae mlp, Gaussian posterior": ("vae", {"family": "mlp"}, DIGITS),
    "vae mlp, Bernoulli likelihood": ("vae", {"likelihood": "bernoulli", "family": "mlp"}, DIGITS),
    "vae conv, Gaussian likelihood": ("vae", {"likelihood": "gaussian"}, COLOR),
    "aae mlp, deterministic encoder": ("aae", {"family": "mlp"}, DIGITS),
    "bigan conv, critic of pairs": ("bigan", {}, DIGITS),
    "gan conv, no encoder": ("gan", {}, COLOR),
}
CASES = [
    ("vae mlp, Gaussian posterior", "encoder", "onnx"),
    ("vae mlp, Bernoulli likelihood", "decoder", "onnx"),
    ("aae mlp, deterministic encoder", "encoder", "torch-export"),
    *(
        pytest.param(kind, part, form, marks=pytest.mark.slow)
        for kind, part, form in (
            ("vae conv, Gaussian posterior", "encoder", "onnx"),
            ("vae conv, Gaussian posterior", "autoencoder", "torch-export"),
            ("vae mlp, Gaussian posterior", "autoencoder", "onnx"),
            ("vae conv, Gaussian likelihood", "decoder", "onnx"),
            ("aae mlp, deterministic encoder", "encoder", "onnx"),
            ("aae mlp, deterministic encoder", "critic", "onnx"),
            ("bigan conv, critic of pairs", "critic", "onnx"),
            ("bigan conv, critic of pairs", "critic", "torch-export"),
            ("gan conv, no encoder", "decoder", "onnx"),
            ("gan conv, no encoder", "critic", "onnx"),
        )
    ),
]


def make(model: str, values: Mapping[str, Any], data: DataSpec) -> TrainedModel:
    torch.manual_seed(0)
    objective = options.build(registry().model(model), {"width": 4, **values})
    networks = make_networks(objective, data)
    for module in networks.modules():  # statistics as after training, so that a dropped normalization is noticed
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return wrap_trained(objective, networks, data)


def run_onnx(path: Path, *inputs: Tensor) -> list[Tensor]:
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    fed = {i.name: x.numpy() for i, x in zip(session.get_inputs(), inputs, strict=True)}
    return [torch.from_numpy(value) for value in session.run(None, fed)]


def run_program(path: Path, *inputs: Tensor) -> list[Tensor]:
    return list(torch.export.load(path).module()(*inputs))


def expected(trained: TrainedModel, part: str, *inputs: Tensor) -> list[Tensor]:
    """The outputs of a part by the methods that users call."""
    net = trained.networks
    with torch.no_grad():
        if part == "decoder":
            return [trained.decode(*inputs)]
        if part == "autoencoder":
            assert isinstance(trained, TrainedAutoencoder)
            return [trained.reconstruct(*inputs)]
        if part == "encoder":
            q = net.encoder(*inputs)
            return [q.mean, q.logvar] if isinstance(q, zoo.GaussianPosterior) else [q.mean]
        return [net[part](*inputs).logits]


def inputs_of(trained: TrainedModel, part: str, n: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(7)
    codes = torch.randn(n, trained.objective.latent, generator=generator)
    images = torch.rand(n, *trained.data.shape, generator=generator) * 2 - 1
    if part in ("decoder", "encoder", "autoencoder"):
        return [codes if part == "decoder" else images]
    return [{"x": images, "z": codes}[letter] for letter in trained.networks[part].inputs]


@pytest.mark.parametrize(("kind", "part", "form"), CASES)
def test_the_program_agrees_with_the_model_for_any_batch(kind: str, part: str, form: str, tmp_path: Path) -> None:
    trained = make(*KINDS[kind])
    report = zoo.export(trained, tmp_path / f"{part}{SUFFIXES[form]}", part=part, format=form)  # type: ignore[arg-type]
    assert 0 <= report.max_error < 1e-4
    for n in (1, 5):
        given = inputs_of(trained, part, n)
        found = (run_onnx if form == "onnx" else run_program)(report.path, *given)
        wanted = expected(trained, part, *given)
        assert len(found) == len(wanted) == len(report.outputs)
        for a, b in zip(found, wanted, strict=True):
            torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_the_parts_are_those_of_the_model() -> None:
    assert list_parts(make(*KINDS["bigan conv, critic of pairs"])) == ["decoder", "encoder", "autoencoder", "critic"]
    assert list_parts(make(*KINDS["gan conv, no encoder"])) == ["decoder", "critic"]


def test_names_shapes_and_facts_are_in_the_file(tmp_path: Path) -> None:
    report = zoo.export(make(*KINDS["vae mlp, Gaussian posterior"]), tmp_path / "encoder.onnx", part="encoder")
    assert (dict(report.inputs), dict(report.outputs)) == ({"images": (1, 8, 8)}, {"mean": (16,), "logvar": (16,)})
    proto = onnx.load(report.path)
    onnx.checker.check_model(proto)
    dims = [[d.dim_param or d.dim_value for d in i.type.tensor_type.shape.dim] for i in proto.graph.input]
    assert dims == [["batch", 1, 8, 8]]
    facts = {entry.key: entry.value for entry in proto.metadata_props}
    assert facts == {
        "zoo": zoo.__version__,
        "model": "VAE",
        "part": "encoder",
        "dataset": "digits",
        "images": "float32 (B, C, H, W) in [-1, 1]",
    }


def test_the_model_is_left_as_it_was(tmp_path: Path) -> None:
    trained = make(*KINDS["vae mlp, Gaussian posterior"])
    state = torch.random.get_rng_state()
    zoo.export(trained, tmp_path / "d.pt2", format="torch-export")
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(p.requires_grad for p in trained.networks.parameters())


class Exporting(zoo.Decoder):
    """Answers an exporter other than a caller."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.line, self.factor = nn.Linear(3, 64), factor

    def forward(self, z: Tensor) -> Tensor:
        image = self.line(z).tanh().view(-1, 1, 8, 8)
        return image * self.factor if torch.compiler.is_exporting() else image


class Noisy(Exporting):
    """Draws random numbers."""

    def forward(self, z: Tensor) -> Tensor:
        return super().forward(z) + torch.rand(1)


class Branching(Exporting):
    """Branches on a value, which cannot be traced."""

    def forward(self, z: Tensor) -> Tensor:
        return super().forward(z) * (2.0 if float(z.sum()) > 0 else 1.0)


def with_decoder(decoder: zoo.Decoder) -> TrainedModel:
    objective = options.build(registry().model("gan"), {"latent": 3})
    return wrap_trained(objective, zoo.Networks({"decoder": decoder}), DIGITS)


@pytest.mark.parametrize("kind", ["onnx", "torch-export"])
@pytest.mark.parametrize("factor", [1.01, float("nan")])
def test_a_program_that_differs_is_not_written(kind: str, factor: float, tmp_path: Path) -> None:
    path = tmp_path / f"decoder{SUFFIXES[kind]}"
    path.write_bytes(b"before")
    with pytest.raises(zoo.ZooError, match=r"was not written: the .* program differs from the model by"):
        zoo.export(with_decoder(Exporting(factor)), path, format=kind)
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_exported_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gan = with_decoder(Exporting(1.0))
    with pytest.raises(zoo.UsageError, match=r"unknown part 'encoder'.*Available: decoder\."):
        zoo.export(gan, tmp_path / "e.onnx", part="encoder")
    with pytest.raises(zoo.UsageError, match=r"must end in \.onnx for onnx"):
        zoo.export(gan, tmp_path / "e.pt2")
    with pytest.raises(zoo.UsageError, match="unknown format 'tflite'"):
        zoo.export(gan, tmp_path / "e.tflite", format="tflite")  # type: ignore[arg-type]
    with pytest.raises(zoo.UsageError, match="'decoder' draws random numbers"):
        zoo.export(with_decoder(Noisy(1.0)), tmp_path / "e.onnx")
    with pytest.raises(zoo.UsageError, match="'encoder' draws random numbers"):
        zoo.export(make("avb", {"family": "mlp"}, DIGITS), tmp_path / "e.onnx", part="encoder")
    with pytest.raises(zoo.ZooError, match=r"^part: 'decoder' cannot be exported to torch-export: [^\n]+$"):
        zoo.export(with_decoder(Branching(1.0)), tmp_path / "e.pt2", format="torch-export")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        zoo.UsageError, match=r"needs onnx, onnxscript, onnxruntime; pip install 'latent-zoo\[export\]'"
    ):
        zoo.export(gan, tmp_path / "e.onnx")


@pytest.mark.usefixtures("toys")
def test_the_command_prints_shapes_and_error(runs: Path, cli: Any, tmp_path: Path) -> None:
    done = cli("export", runs / "vae", "--part", "encoder", "--out", tmp_path / "deep" / "encoder.onnx")
    assert (done.status, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[:3] == [
        "input   images, float32, batch×1×8×8",
        "output  mean, float32, batch×16",
        "output  logvar, float32, batch×16",
    ]
    assert lines[3].startswith("check   largest difference to the model ")
    assert (tmp_path / "deep" / "encoder.onnx").is_file()
    done = cli("export", runs / "vae", "--format", "torch-export", "--out", tmp_path / "d.pt2", "--json")
    assert json.loads(done.out)["outputs"] == {"images": [1, 8, 8]}
    cli("export", runs / "blind", "--part", "encoder").refused(2, "unknown part 'encoder'", "Available: decoder")
    cli("export", runs / "vae", "--out", tmp_path / "a.bin").refused(2, "must end in .onnx")
    link = tmp_path / "link.onnx"
    link.symlink_to(tmp_path / "elsewhere")
    cli("export", runs / "vae", "--out", link).refused(1, "symbolic link")


def test_facts_are_in_a_program_of_torch_export(tmp_path: Path) -> None:
    report = zoo.export(with_decoder(Exporting(1.0)), tmp_path / "d.pt2", format="torch-export")
    extra = {"zoo.json": ""}
    torch.export.load(report.path, extra_files=extra)
    assert json.loads(extra["zoo.json"])["part"] == "decoder"
