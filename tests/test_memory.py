"""Memory: its limits are found, and large images, networks and samples are held once, or a part at a time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from torch import Tensor

import zoo
from zoo import memory
from zoo.data.mapped import map_images
from zoo.evaluation import Codes, SampleBuffer
from zoo.evaluation import sample_buffer as buffer_module
from zoo.evaluation.metric_inputs import code_inputs
from zoo.run.stored import serialize

pytestmark = pytest.mark.usefixtures("own_cache")


# --- limits ---


def make_group(folder: Path, hierarchy: Any, limit: str, used: int, files: int) -> None:
    folder.mkdir(parents=True)
    (folder / hierarchy.limit).write_text(f"{limit}\n")
    (folder / hierarchy.used).write_text(f"{used}\n")
    (folder / "memory.stat").write_text("".join(f"{name} {files}\n" for name in ("anon", *hierarchy.cached)))


@pytest.mark.parametrize("version", [2, 1])
@pytest.mark.parametrize("place", ["group", "parent", "root"])
def test_the_limit_of_a_control_group_is_found(tmp_path, monkeypatch, version, place):
    """Of the process's own group, one above it, or the root, which is its own group in a container."""
    hierarchy = memory._HIERARCHIES[2 - version]
    root = tmp_path / "root"
    (tmp_path / "membership").write_text("0::/a/b\n" if version == 2 else "7:cpu,memory:/a/b\n3:name=systemd:/x\n")
    monkeypatch.setattr(memory, "_MEMBERSHIP", tmp_path / "membership")
    monkeypatch.setattr(memory, "_HIERARCHIES", (memory.attrs.evolve(hierarchy, root=root),))
    folder = {"group": root / "a" / "b", "parent": root / "a", "root": root}[place]
    make_group(folder, hierarchy, "300000000", 120_000_000, 50_000_000)
    if place == "group":
        make_group(root / "c", hierarchy, "1000", 0, 0)  # of another process
    assert memory.total_memory() == 300_000_000
    assert memory.available_memory() == 280_000_000  # pages of files are given back


def test_a_group_without_a_limit_limits_nothing(tmp_path, monkeypatch):
    hierarchy = memory._HIERARCHIES[0]
    monkeypatch.setattr(memory, "_HIERARCHIES", (memory.attrs.evolve(hierarchy, root=tmp_path / "root"),))
    make_group(tmp_path / "root", hierarchy, "max", 1000, 0)
    before = memory.total_memory()
    assert before > 100_000_000
    monkeypatch.setattr(memory, "_HIERARCHIES", ())
    assert memory.total_memory() == before


# --- checkpoints ---


def test_a_file_of_tensors_has_the_bytes_of_safetensors():
    types = (
        *(torch.int64, torch.float64, torch.float32, torch.int32, torch.bfloat16, torch.float16),
        *(torch.int16, torch.int8, torch.uint8, torch.bool),
    )
    tensors = {f"{i}/{name}": torch.arange(5).to(t) for i, t in enumerate(types) for name in ("b", "a", 'é"\n')}
    tensors |= {"scalar": torch.tensor(1.5), "empty": torch.zeros(0, 3), "columns": torch.arange(6.0).view(2, 3).T}
    content = b"".join(serialize(tensors, "facts", {"text": 'é"\\\n', "list": [1, None]}))
    stored = safetensors.torch.load(content)
    assert all(torch.equal(stored[name], value) for name, value in tensors.items())
    header = int.from_bytes(content[:8], "little")
    metadata = __import__("json").loads(content[8 : 8 + header])["__metadata__"]
    assert content == safetensors.torch.save({k: v.contiguous() for k, v in tensors.items()}, metadata)


def test_a_checkpoint_takes_no_memory_beside_its_tensors():
    """Copies of networks and optimizers ended a run under a memory limit at its first checkpoint."""
    engine = make_engine()
    engine.step()
    state = engine.state(copy=False)
    parameters = dict(engine.networks.named_parameters())
    parts = serialize(state, "facts", {})
    addresses = {np.frombuffer(part, np.uint8).__array_interface__["data"][0] for part in parts[1:]}
    for name, value in parameters.items():
        assert state[f"net/{name}"].data_ptr() == value.data_ptr()
        assert value.data_ptr() in addresses
    moments = [value for name, value in state.items() if name.endswith("exp_avg")]
    assert len(moments) == len(parameters)
    assert all(value.data_ptr() in addresses for value in moments)


def make_engine() -> Any:
    from zoo import options
    from zoo.data import DataSpec
    from zoo.engine import BatchStream, Engine
    from zoo.registry import registry
    from zoo.run.trained import make_networks

    objective = options.build(registry().model("vae"), {"family": "mlp", "width": 2})
    networks = make_networks(objective, DataSpec("test", (1, 8, 8), (), torch.zeros(1, 8, 8)))
    images = torch.zeros(16, 1, 8, 8, dtype=torch.uint8)
    return Engine(objective, networks, BatchStream(images, 8, 0, torch.device("cpu")))


# --- evaluation ---


@pytest.mark.parametrize("spilled", [False, True])
@pytest.mark.parametrize("count", [30, 300])
def test_samples_are_stored_in_memory_or_in_a_file(monkeypatch, cache, spilled, count):
    monkeypatch.setattr(buffer_module, "MEMORY_BYTES", 0 if spilled else 2**27)
    images = torch.randint(0, 256, (count, 3, 4, 4), dtype=torch.uint8)
    features = torch.arange(count).float()[:, None]
    buffer = SampleBuffer(100)
    for part in torch.split(torch.arange(count), 7):
        buffer.add(images[part], features[part])
    found, stored = buffer.contents()
    assert len(found) == len(stored) == min(100, count)
    assert torch.equal(stored, images[found[:, 0].long()])  # each with its own features
    assert torch.equal(buffer.images(torch.tensor([5, 0, 5])), stored[[5, 0, 5]])
    assert (buffer._images._file is not None) == spilled
    assert not list(cache.glob("tmp*"))  # deleted by the system with the process


def test_samples_stay_in_memory_where_no_file_can_be_written(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr(buffer_module, "MEMORY_BYTES", 0)
    buffer = SampleBuffer(4)
    buffer.add(torch.ones(2, 1, 2, 2, dtype=torch.uint8), torch.ones(2, 1))
    assert buffer.contents()[1].sum() == 8


def test_codes_of_mapped_images_are_computed_a_batch_at_a_time(tmp_path, monkeypatch):
    """Ten thousand training images of the probe would not fit."""
    images = torch.randint(0, 256, (60, 1, 4, 4), dtype=torch.uint8)
    (tmp_path / "images").write_bytes(images.numpy().tobytes())
    taken: list[int] = []
    original = zoo.evaluation.metric_inputs.take  # type: ignore[attr-defined]

    def recorded(x: Tensor, indices: Tensor) -> Tensor:
        taken.append(len(indices))
        return original(x, indices)

    monkeypatch.setattr("zoo.evaluation.metric_inputs.take", recorded)
    codes = Codes(
        encode=lambda x, y: x.flatten(1)[:, :2].float(),
        decode=lambda z, y: torch.zeros(len(z), 1, 4, 4, dtype=torch.uint8),
        prior=lambda n: torch.randn(n, 2),
        sample=lambda x, y: x.flatten(1)[:, :2].float(),
    )
    found = []
    for x in (images, map_images(tmp_path / "images", (60, 1, 4, 4))):
        split = zoo.Split(x, torch.arange(60) % 2)
        found.append(code_inputs(codes, zoo.Dataset("test", split, split, ("a", "b")), 8, 0))
    assert max(taken) == 8
    assert torch.equal(found[0]["train_codes"], images.flatten(1)[:, :2].float())
    for name, value in found[0].items():
        assert torch.equal(value, found[1][name]), name


def test_large_images_are_generated_and_reconstructed_in_small_batches(runs, monkeypatch):
    trained = zoo.load(runs / "vae")
    assert trained._default_batch == 500
    sizes: list[int] = []
    decode, objective = type(trained.objective).decode, type(trained.objective)
    monkeypatch.setattr(objective, "decode", lambda self, net, z: sizes.append(len(z)) or decode(self, net, z))
    z = trained.encode(torch.zeros(50, 1, 8, 8))
    expected = trained.sample(50, seed=0), trained.decode(z)
    monkeypatch.setattr("zoo.run.trained._BATCH_VALUES", 20 * 64)
    sizes.clear()
    assert torch.allclose(trained.sample(50, seed=0), expected[0], atol=1e-6)
    assert torch.allclose(trained.decode(z), expected[1], atol=1e-6)
    assert sizes == [20, 20, 10] * 2


@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_compared_a_few_at_a_time(monkeypatch, channels):
    """The floats of SSIM take 60 times the memory of the images."""
    from zoo.metrics import image_similarity, reconstruction

    images, others = torch.randint(0, 256, (2, 50, channels, 40, 36), dtype=torch.uint8)

    def found() -> list[Tensor]:
        error = reconstruction.ReconstructionError()
        error.update(images, others)
        functions = (image_similarity.peak_signal_noise_ratio, image_similarity.structural_similarity)
        return [*(function(images, others) for function in functions), error.compute()]

    whole = found()
    for module in (image_similarity, reconstruction):
        monkeypatch.setattr(module, "_PART_BYTES", 7 * 40 * 36 * channels)
    for a, b in zip(whole, found(), strict=True):
        assert torch.allclose(a, b, rtol=1e-6)
    assert len(whole[0]) == len(whole[1]) == 50


# --- a whole run ---

RUN = """
import sys
from zoo.cli import main
from zoo.data import mapped
mapped.RELEASE_BYTES = 2**24  # not 128 MB, so that the data set may be small
main(sys.argv[1:])
"""


def peak_memory(out: Path, cache: Path, images: Path) -> int:
    """Bytes that a run on a mapped data set took at most: decoding, training, checkpoints, scores and images."""
    args = ["run", "vae", "--dataset", f"folder:{images}", "--data-memory", "0", "--family", "mlp", "--images", "64"]
    args += ["--width", "4", "--batch", "16", "--checkpoint-seconds", "0", "--samples", "100", "--out", str(out)]
    environment = {**os.environ, "ZOO_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-c", RUN, *args], env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    assert (out / "result.json").is_file()
    assert (out / "checkpoint" / "state.safetensors").is_file()
    return usage.ru_maxrss * 1024


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss has another unit elsewhere")
def test_the_peak_memory_of_a_run_does_not_grow_with_a_mapped_data_set(tmp_path):
    """At full size, 4 GB under 1.5 GB: benchmarks/mapped_data.py."""
    for i in range(11_000):
        folder = tmp_path / ("few" if i < 1000 else "many") / f"class{i % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        if i < 20:
            coarse = Image.fromarray(np.random.default_rng(i).integers(0, 256, (6, 6), dtype=np.uint8))
            coarse.resize((128, 128)).save(folder / f"{i}.bmp")
        else:
            os.link(tmp_path / "few" / f"class{i % 2}" / f"{i % 20}.bmp", folder / f"{i}.bmp")
    few, many = (peak_memory(tmp_path / f"run-{n}", tmp_path / f"cache-{n}", tmp_path / n) for n in ("few", "many"))
    assert many - few < 150e6, f"{few / 1e6:.0f} MB for 16 MB of pixels, {many / 1e6:.0f} MB for 164 MB"
