"""Training in several processes: their shares make up the batch, and the result is that of one process."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch

from zoo.engine import BatchStream, Ranks
from zoo.errors import UsageError

# The networks have no batch statistics. What the models draw is drawn for the whole batch by every process, which then
# keeps its rows: so two processes see the very noise that one sees.
WORKER = """
import sys, torch, zoo
from torch.overrides import TorchFunctionMode
from pathlib import Path
from zoo import options
from zoo.data import DataSpec
from zoo.data.mapped import map_images
from zoo.engine import Engine, Ranks, BatchStream
from zoo.registry import registry
from zoo.run.trained import make_networks

ranks = Ranks.from_environment()

class WholeBatch(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if ranks.size > 1 and func in (torch.randn, torch.rand):
            n, *rest = args
            return func(n * ranks.size, *rest, **kwargs)[n * ranks.rank : n * (ranks.rank + 1)]
        if ranks.size > 1 and func is torch.randint:
            high, (n,) = args
            return func(high, (n * ranks.size,), **kwargs)[n * ranks.rank : n * (ranks.rank + 1)]
        if ranks.size > 1 and func is torch.randn_like:
            n, *rest = args[0].shape
            return torch.randn(n * ranks.size, *rest)[n * ranks.rank : n * (ranks.rank + 1)]
        return func(*args, **kwargs)

model, settings, out = sys.argv[1], eval(sys.argv[2]), sys.argv[3]
mapped = settings.pop("mapped", None)
torch.manual_seed(0)
objective = options.build(registry().model(model), {"norm": "none", "width": 4, **settings})
data = DataSpec("test", (1, 12, 12), tuple("0123456789"), torch.zeros(1, 12, 12))
networks = make_networks(objective, data)
images = torch.randint(0, 256, (64, 1, 12, 12), dtype=torch.uint8)
if mapped:
    images = map_images(Path(mapped), tuple(images.shape))
stream = BatchStream(images, 16, 0, torch.device("cpu"), torch.arange(64) % 10, ranks)
engine = Engine(objective, networks, stream, steps=20)
with WholeBatch():
    for _ in range(20):
        engine.step()
if ranks.is_main:
    torch.save({"net": networks.state_dict(), "terms": engine.read_terms(), "images": images}, out)
"""


def trained(folder: Path, processes: int, model: str, settings: str) -> dict[str, dict]:
    script, out = folder / "worker.py", folder / f"{processes}.pt"
    script.write_text(WORKER)
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launch, str(script), model, settings, str(out)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return torch.load(out, weights_only=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "settings"),
    [("vae", "{}"), ("vaegan", "{'equilibrium': True}"), ("aae", "{'labels': 32}")],
    ids=["vae", "vaegan with its gate", "aae with labels"],
)
def test_two_processes_with_half_a_batch_each_end_where_one_does(tmp_path, model, settings):
    one, two = (trained(tmp_path, n, model, settings) for n in (1, 2))
    for name, value in one["net"].items():
        assert torch.allclose(value, two["net"][name], rtol=0, atol=1e-5), name
    for name, value in one["terms"].items():
        assert two["terms"][name] == pytest.approx(value, rel=1e-4, abs=1e-5), name


@pytest.mark.slow
def test_two_processes_that_share_a_map_end_where_one_does_on_resident_images(tmp_path):
    file = tmp_path / "images"
    one = trained(tmp_path, 1, "aae", "{'labels': 32}")
    file.write_bytes(one.pop("images").numpy().tobytes())
    resident = trained(tmp_path, 2, "aae", "{'labels': 32}")
    mapped = trained(tmp_path, 2, "aae", f"{{'labels': 32, 'mapped': {str(file)!r}}}")
    for name, value in one["net"].items():
        assert torch.equal(mapped["net"][name], resident["net"][name]), name
        assert torch.allclose(mapped["net"][name], value, rtol=0, atol=1e-5), name


def test_the_shares_of_a_batch_make_up_the_batch():
    images = torch.arange(40, dtype=torch.uint8).view(40, 1, 1, 1).expand(40, 1, 8, 8)
    whole = BatchStream(images, 8, 3, torch.device("cpu"))
    shares = [BatchStream(images, 8, 3, torch.device("cpu"), ranks=Ranks(r, 4)) for r in range(4)]
    for position in (0, 4, 5, 11):
        assert torch.equal(torch.cat([s[position] for s in shares]), whole[position])


def test_a_batch_that_processes_cannot_share_evenly_is_refused():
    images = torch.zeros(40, 1, 8, 8, dtype=torch.uint8)
    with pytest.raises(UsageError, match="batch: 8 is not allowed with 3 processes; must be a multiple"):
        BatchStream(images, 8, 0, torch.device("cpu"), ranks=Ranks(0, 3))


def torchrun(processes: int, *arguments: str) -> subprocess.Popen[str]:
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m", "zoo"]
    return subprocess.Popen(
        [sys.executable, *launch, *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_a_run_of_two_processes_writes_one_folder_and_resumes_to_the_same_bits(tmp_path):
    run = ["run", "vae", "--family", "mlp", "--width", "8", "--epochs", "6", "--extractor", "none"]
    whole = torchrun(2, *run, "--out", str(tmp_path / "whole"))
    said, errors = whole.communicate(timeout=300)
    assert whole.returncode == 0, errors
    assert said.count("trains on") == 1

    broken = tmp_path / "broken"
    begun = torchrun(2, *run, "--checkpoint-seconds", "0", "--out", str(broken))
    while not (broken / "checkpoint").is_dir() and begun.poll() is None:
        time.sleep(0.01)
    begun.terminate()
    begun.communicate(timeout=300)
    assert not (broken / "result.json").is_file()
    resumed = torchrun(2, *run, "--resume", "--out", str(broken))
    said, errors = resumed.communicate(timeout=300)
    assert resumed.returncode == 0, errors
    ends = [safetensors.torch.load_file(tmp_path / name / "model.safetensors") for name in ("whole", "broken")]
    for name, value in ends[0].items():
        assert torch.equal(value, ends[1][name]), name


@pytest.mark.slow
def test_a_finding_stops_all_processes_at_one_step(tmp_path):
    run = [
        "run",
        "beta-vae",
        "--beta",
        "1000",
        "--family",
        "mlp",
        "--width",
        "4",
        "--images",
        "20000",
        "--extractor",
        "none",
    ]
    stopped = torchrun(2, *run, "--stop-on", "collapse", "--out", str(tmp_path / "run"))
    _, errors = stopped.communicate(timeout=300)
    assert stopped.returncode == 1
    assert "zoo: error: stopped: posterior collapse at step " in errors
    assert "zoo: error: stopped by the first process" in errors
    continued = torchrun(2, "run", "--resume", "--stop-on", "none", "--out", str(tmp_path / "run"))
    _, errors = continued.communicate(timeout=300)
    assert continued.returncode == 0, errors
    assert (tmp_path / "run" / "result.json").is_file()


@pytest.mark.slow
def test_a_run_of_two_processes_on_mapped_images_ends_in_the_bits_of_a_resident_one(tmp_path, monkeypatch):
    """Both processes need the map at the same time: one makes it, the other waits and shares it."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    run = ["run", "vae", "--family", "mlp", "--width", "4", "--epochs", "1", "--extractor", "none"]
    for name, memory in (("resident", "1GiB"), ("mapped", "0")):
        process = torchrun(2, *run, "--data-memory", memory, "--out", str(tmp_path / name))
        errors = process.communicate(timeout=300)[1]
        assert process.returncode == 0, errors
    assert len(list((tmp_path / "cache" / "data").glob("set-*.images"))) == 1
    ends = [safetensors.torch.load_file(tmp_path / name / "model.safetensors") for name in ("resident", "mapped")]
    for name, value in ends[0].items():
        assert torch.equal(value, ends[1][name]), name


@pytest.mark.slow
def test_what_is_asked_wrongly_of_two_processes_is_told_once_and_leaves_nothing(tmp_path):
    done = torchrun(2, "run", "vae", "--batch", "63", "--epochs", "1", "--out", str(tmp_path / "run"))
    errors = done.communicate(timeout=300)[1]
    assert done.returncode != 0
    assert "batch: 63 is not allowed with 2 processes; must be a multiple of their number" in errors
    assert not (tmp_path / "run").exists()
