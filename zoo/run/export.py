"""Export of trained networks to ONNX or torch.export, checked against the model before a file is written."""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import attrs
import torch
from torch import Tensor, nn

from zoo.distributions import GaussianPosterior
from zoo.errors import UsageError, ZooError, unknown_name
from zoo.files import write_atomically
from zoo.interfaces import Autoencoder, Critic, Generator, Networks
from zoo.run.trained import TrainedAutoencoder, TrainedModel
from zoo.version import __version__

__all__ = ["FORMATS", "SUFFIXES", "ExportReport", "check_available", "export", "list_parts"]

Format = Literal["onnx", "torch-export"]
FORMATS: tuple[Format, ...] = get_args(Format)
SUFFIXES: Mapping[str, str] = {"onnx": ".onnx", "torch-export": ".pt2"}
_LIBRARIES = ("onnx", "onnxscript", "onnxruntime")
_TOLERANCE = 1e-4
"""Largest error, relative to the largest output or to 1: float32 kernels of other libraries sum in another order."""
_CHECKED_BATCHES = (1, 3, 16)
_Run = Callable[[list[Tensor]], list[Tensor]]


@attrs.frozen
class ExportReport:
    """Description of an exported file, and its largest difference from the model.

    Args:
        path: The file.
        inputs: Shapes of the inputs by name, the batch dimension excluded.
        outputs: Shapes of the outputs by name, the batch dimension excluded.
        max_error: Largest absolute difference to the outputs of the model, over fixed inputs.
        tolerance: Largest difference that is allowed.
    """

    path: Path
    inputs: Mapping[str, tuple[int, ...]]
    outputs: Mapping[str, tuple[int, ...]]
    max_error: float
    tolerance: float


def export(
    trained: TrainedModel, path: str | Path, *, part: str = "decoder", format: Literal["onnx", "torch-export"] = "onnx"
) -> ExportReport:
    """Export a part of a trained model to a file that needs no zoo, with any batch size.

    The written program is run on fixed inputs, an ONNX model by onnxruntime and a torch.export program after it is
    loaded again. A program that differs from the model is not written.

    Args:
        trained: The model, see :func:`zoo.load`.
        path: The file, ``.onnx`` or ``.pt2``.
        part: ``decoder`` (codes to mean images), ``encoder`` (images to posterior means, and to log variances if the
            posterior is Gaussian), ``autoencoder`` (images to reconstructions) or the name of a critic (to logits).
        format: ``onnx`` (extra ``export``) or ``torch-export``.

    Raises:
        UsageError: If the model has no such part, the part draws random numbers, or a library is not installed.
        ZooError: If the part cannot be exported, or the program differs from the model.
    """
    path = Path(path)
    if format not in FORMATS:
        raise unknown_name("format", format, FORMATS)
    if path.suffix != SUFFIXES[format]:
        raise UsageError(f"path: {str(path)!r} is not allowed; must end in {SUFFIXES[format]} for {format}")
    check_available(format)
    module, inputs = _make_part(trained, part)
    reference = module(*inputs.values())
    if not all(map(torch.equal, reference, module(*inputs.values()))):
        raise UsageError(f"part: {part!r} draws random numbers, so that an exported program cannot be checked")
    facts = {
        "zoo": __version__,
        "model": type(trained.objective).__name__,
        "part": part,
        "dataset": trained.data.name,
        "images": "float32 (B, C, H, W) in [-1, 1]",
    }
    outputs = dict(zip(module.outputs, reference, strict=True))
    content, run = _convert(module, inputs, list(outputs), format, facts, part)
    tolerance = _TOLERANCE * max(1.0, *(float(value.abs().max()) for value in reference))
    error = _max_error(run, list(inputs.values()), reference)
    if not error <= tolerance:  # NaN, too
        raise ZooError(
            f"{path} was not written: the {format} program differs from the model by {error:.2g}, "
            f"more than {tolerance:.2g}"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as failure:
        raise ZooError(f"path: cannot write to {path.parent}: {failure.strerror or failure}") from None
    write_atomically(path, content)
    return ExportReport(path, _shapes(inputs), _shapes(outputs), error, tolerance)


def _shapes(values: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape[1:]) for name, value in values.items()}


def check_available(format: str) -> None:
    """Raise a :class:`UsageError` if a library that a format needs is not installed."""
    missing = [name for name in _LIBRARIES if importlib.util.find_spec(name) is None] if format == "onnx" else []
    if missing:
        raise UsageError(f"format: onnx needs {', '.join(missing)}; pip install 'latent-zoo[export]'")


def list_parts(trained: TrainedModel) -> list[str]:
    """Names of the parts of a model that :func:`export` accepts."""
    parts = ["decoder", *(["encoder", "autoencoder"] if isinstance(trained, TrainedAutoencoder) else [])]
    names = trained.networks.names()
    return [*parts, *(n for n in names if n not in parts and isinstance(trained.networks[n], Critic))]


class _Part(nn.Module):
    """A function of a model as a module with tensors as inputs and a tuple of tensors as outputs.

    Args:
        networks: The networks that the function uses.
        function: The function.
        outputs: Names of its outputs.
    """

    def __init__(
        self, networks: nn.Module, function: Callable[..., tuple[Tensor, ...]], outputs: tuple[str, ...]
    ) -> None:
        super().__init__()
        self.networks, self.function, self.outputs = networks, function, outputs

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return self.function(*inputs)


@torch.no_grad()
def _make_part(trained: TrainedModel, part: str) -> tuple[_Part, dict[str, Tensor]]:
    """The part on the CPU, and fixed inputs by name."""
    if part not in list_parts(trained):
        raise unknown_name("part", part, list_parts(trained))
    if trained.objective.conditional:
        raise UsageError("run: a conditional model is not allowed; its parts cannot be exported yet")
    networks = copy.deepcopy(trained.networks).cpu().eval().requires_grad_(False)
    objective = trained.objective
    codes, images = _fixed_inputs(objective, networks, trained.data.shape)
    if part == "decoder":
        return _Part(networks, lambda z: (objective.decode(networks, z).float(),), ("images",)), {"codes": codes}
    if part in ("encoder", "autoencoder"):
        assert isinstance(objective, Autoencoder)
        autoencoder = objective
        if part == "autoencoder":
            return _Part(networks, lambda x: (autoencoder.reconstruct(networks, x).float(),), ("reconstructions",)), {
                "images": images
            }
        own = type(objective).encode is not Autoencoder.encode
        if own or not isinstance(networks["encoder"](images), GaussianPosterior):
            return _Part(networks, lambda x: (autoencoder.encode(networks, x).float(),), ("mean",)), {"images": images}

        def posterior(x: Tensor) -> tuple[Tensor, ...]:
            found = networks.encoder(x)
            return found.mean, found.logvar

        return _Part(networks, posterior, ("mean", "logvar")), {"images": images}
    critic = networks[part]
    assert isinstance(critic, Critic)
    known = {"x": ("images", images), "z": ("codes", codes)}
    return _Part(critic, lambda *v: (critic(*v).logits,), ("logits",)), dict(known[letter] for letter in critic.inputs)


def _fixed_inputs(objective: Generator, networks: Networks, shape: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """Codes from the prior, and images: one half decoded, the other uniform noise."""
    n = max(_CHECKED_BATCHES)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        codes = objective.prior(torch.empty(0), n)
        decoded = objective.decode(networks, codes[: n // 2]).float()
        return codes, torch.cat([decoded, torch.rand(n - n // 2, *shape) * 2 - 1])


def _convert(
    module: _Part, inputs: Mapping[str, Tensor], outputs: list[str], format: str, facts: Mapping[str, str], part: str
) -> tuple[bytes, _Run]:
    """The content of the file, and a function that runs it."""
    batch = torch.export.Dim("batch")
    try:
        with _quiet():
            # *inputs of forward is one argument to torch.export: a tuple of tensors.
            program = torch.export.export(module, tuple(inputs.values()), dynamic_shapes=(({0: batch},) * len(inputs),))
            if format == "onnx":
                return _to_onnx(program, list(inputs), outputs, facts)
            buffer = io.BytesIO()
            torch.export.save(program, buffer, extra_files={"zoo.json": json.dumps(facts)})
            loaded = torch.export.load(io.BytesIO(buffer.getvalue())).module()
            return buffer.getvalue(), lambda values: list(loaded(*values))
    except Exception as error:  # of the exporters, of any kind
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ZooError(f"part: {part!r} cannot be exported to {format}: {reason}") from error


def _to_onnx(
    program: torch.export.ExportedProgram, inputs: list[str], outputs: list[str], facts: Mapping[str, str]
) -> tuple[bytes, _Run]:
    import onnxruntime

    converted = torch.onnx.export(program, dynamo=True, verbose=False, input_names=inputs, output_names=outputs)
    assert converted is not None
    proto = converted.model_proto
    graph = proto.graph
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    for key, text in facts.items():
        entry = proto.metadata_props.add()
        entry.key, entry.value = key, text
    content = proto.SerializeToString()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def run(values: list[Tensor]) -> list[Tensor]:
        fed = {name: value.numpy() for name, value in zip(inputs, values, strict=True)}
        return [torch.from_numpy(value) for value in session.run(outputs, fed)]

    return content, run


@torch.no_grad()
def _max_error(run: _Run, inputs: list[Tensor], reference: tuple[Tensor, ...]) -> float:
    """Largest absolute difference over several batch sizes; NaN if an output is NaN."""
    errors = []
    for size in _CHECKED_BATCHES:
        found = run([value[:size].contiguous() for value in inputs])
        errors += [(a - b[:size]).abs().max() for a, b in zip(found, reference, strict=True)]
    return float(torch.stack(errors).max())


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Context without the progress, warnings and logs of the exporters, whose result is checked."""
    loggers: list[Any] = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
