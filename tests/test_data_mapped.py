"""Data sets beyond memory: mapped from the cache, they give the bits of resident ones, in bounded memory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import zoo
from zoo import options
from zoo.data import (
    DataOptions,
    Dataset,
    DataSpec,
    DataWarning,
    ImageFormat,
    Split,
    chunks,
    is_mapped,
    load_dataset,
    open_folder,
    parse_bytes,
    take,
)
from zoo.data import image_store as store_module
from zoo.data.conform import conform
from zoo.data.mapped import map_images
from zoo.engine import BatchStream, Engine
from zoo.engine.prefetch import Prefetcher
from zoo.errors import UsageError, ZooError
from zoo.registry import registry
from zoo.run.trained import make_networks

CPU = torch.device("cpu")
RESIDENT, MAPPED = DataOptions(memory=2**30), DataOptions(memory=0)


@pytest.fixture(autouse=True)
def private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def make_folder(root: Path, count: int = 40, classes: tuple[str, ...] = ("a", "b"), side: int = 16) -> Path:
    for i in range(count):
        path = root / classes[i % len(classes)] / f"{i:05}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(i).integers(0, 256, (side, side, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return root


def same(one: Dataset, other: Dataset) -> None:
    assert one.digest == other.digest
    assert (one.name, one.classes, one.epochs, one.shape) == (other.name, other.classes, other.epochs, other.shape)
    assert one.spec.mean is not None
    assert other.spec.mean is not None
    assert torch.equal(one.spec.mean, other.spec.mean)
    for mine, yours in ((one.train, other.train), (one.test, other.test)):
        assert torch.equal(mine.images, yours.images)
        assert (mine.labels is None) == (yours.labels is None)
        assert mine.labels is None or torch.equal(mine.labels, yours.labels)  # type: ignore[arg-type]


def write_map(path: Path, images: Tensor) -> Tensor:
    path.write_bytes(images.numpy().tobytes())
    return map_images(path, tuple(images.shape))


def random_images(count: int, *shape: int) -> Tensor:
    return torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


# --- the same data ---


@pytest.mark.parametrize("damaged", [(), ("a/00004.png", "b/00009.png", "b/00039.png")])
@pytest.mark.parametrize("splits", [False, True])
def test_a_mapped_folder_is_the_resident_one(tmp_path: Path, damaged: tuple[str, ...], splits: bool) -> None:
    root = make_folder(tmp_path / "images" / "train") if splits else make_folder(tmp_path / "images")
    if splits:
        make_folder(tmp_path / "images" / "test", 10)
    for name in damaged:  # the header is whole: decoding finds the damage
        content = (root / name).read_bytes()
        (root / name).write_bytes(content[:60] + b"\0" * 100 + content[160:])
    for first, second in ((RESIDENT, MAPPED), (MAPPED, RESIDENT)):
        os.utime(root / "a" / "00000.png", ns=(time.time_ns(), time.time_ns()))  # decoded anew
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            one, two = (open_folder(tmp_path / "images", each) for each in (first, second))
        assert [str(w.message).count("3 of ") for w in caught] == [1, 1] * bool(damaged)
        assert [is_mapped(each.train.images) for each in (one, two)] == [first is MAPPED, second is MAPPED]
        same(one, two)
        assert len(one.train) + len(one.test) == 40 + 10 * splits - len(damaged)


@pytest.mark.parametrize("form", [ImageFormat(), ImageFormat((12, 16), 3, "none")])
def test_mapped_images_of_a_registered_set_are_the_resident_ones(form: ImageFormat) -> None:
    sources = registry().sources()
    resident, mapped, again = (
        load_dataset("digits", DataOptions(format=form, memory=memory), sources) for memory in (2**30, 0, 0)
    )
    assert not is_mapped(resident.train.images)
    assert is_mapped(mapped.train.images)
    assert is_mapped(mapped.test.images)
    same(resident, mapped)
    same(resident, again)


def test_a_set_at_the_limit_stays_in_memory() -> None:
    digits = load_dataset("digits", RESIDENT, registry().sources())
    assert digits.nbytes == 1797 * 64
    assert conform(digits, DataOptions(memory=digits.nbytes)) is digits
    assert is_mapped(conform(digits, DataOptions(memory=digits.nbytes - 1)).train.images)


def test_statistics_of_mapped_images_are_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_folder(tmp_path / "images")
    first = open_folder(root, MAPPED)
    monkeypatch.setattr("zoo.data.spec.chunks", None)  # reading the images would call it
    same(first, open_folder(root, MAPPED))


# --- the same run ---

MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "one turn": ("vae", {}),
    "labels": ("aae", {"labels": 40}),
    "all labels": ("aae", {"labels": 64}),
    "five critic batches": ("wgan-gp", {}),
}


def engine(model: str, images: Tensor) -> Engine:
    name, chosen = MODELS[model]
    torch.manual_seed(0)
    objective = options.build(registry().model(name), {"family": "mlp", "width": 4, **chosen})
    networks = make_networks(objective, DataSpec("test", (1, 8, 8), tuple("0123456789"), torch.zeros(1, 8, 8)))
    return Engine(objective, networks, BatchStream(images, 16, 3, CPU, torch.arange(64) % 10), steps=30)


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("model", MODELS)
def test_steps_on_mapped_images_have_the_bits_of_resident_ones(tmp_path: Path, model: str, graph: bool) -> None:
    class Replay:
        def warm(self, step: Callable[[], None], watch: bool) -> str:
            step()
            return ""

        def record(self, step: Callable[[], None]) -> Callable[[], None]:
            return step

    images, states = random_images(64, 1, 8, 8), []
    for each in (images, write_map(tmp_path / "images", images)):
        made = engine(model, each)
        if graph:
            made._recorder = Replay()  # type: ignore[assignment]
        torch.manual_seed(2)
        for _ in range(30):
            made.step()
        states.append(made.state())
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name


def test_batches_come_in_the_order_of_the_seed_from_any_position(tmp_path: Path) -> None:
    images = random_images(50, 3, 8, 8)
    resident, mapped = (
        BatchStream(each, 8, 5, CPU, torch.arange(50), with_labels=True)
        for each in (images, write_map(tmp_path / "images", images))
    )
    for position in (0, 1, 2, 17, 18, 3, 3, 100, 0):
        one, two = (stream.load(stream.fetch(position)) for stream in (resident, mapped))
        assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True)), position


def test_a_mapped_run_is_the_resident_one_and_resumes_as_it(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"dataset": "digits", "epochs": 2, "seed": 3, "family": "mlp", "width": 4}

    class Stop(zoo.Callback):
        def progressed(self, images_seen: int, epoch: float) -> None:
            if epoch > 1:
                raise KeyboardInterrupt

    runs = {}
    for name, memory in (("resident", "1GiB"), ("mapped", "0")):
        runs[name] = zoo.train("vae", out=tmp_path / name, data_memory=memory, **settings)
    with pytest.raises(KeyboardInterrupt):
        zoo.train("vae", out=tmp_path / "cut", callbacks=[Stop()], data_memory="0", checkpoint_seconds=0.0, **settings)
    runs["resumed"] = zoo.train("vae", out=tmp_path / "cut", resume=True, data_memory="1GiB")
    results = [zoo.run.run_folder.RunFolder(tmp_path / name).load_result() for name in ("resident", "mapped", "cut")]
    assert results[0]["scores"] == results[1]["scores"] == results[2]["scores"]
    for name in ("mapped", "resumed"):
        for key, value in runs["resident"].networks.state_dict().items():
            assert torch.equal(value, runs[name].networks.state_dict()[key]), (name, key)
    images = [(tmp_path / name / "neighbors.png").read_bytes() for name in ("resident", "mapped")]
    assert images[0] == images[1]


# --- bounded memory ---


def resident_file_bytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssFile"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no RssFile")


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs Linux's /proc")
def test_reading_mapped_images_keeps_few_of_their_pages(tmp_path: Path) -> None:
    path, count = tmp_path / "images", 30_000
    with path.open("wb") as file:
        file.truncate(count * 12_288)  # 369 MB, a hole
    images = map_images(path, (count, 3, 64, 64))
    before, most = resident_file_bytes(), 0
    for _ in range(10):
        taken = take(images, torch.randint(count, (500,)))
        assert not is_mapped(taken)
        most = max(most, resident_file_bytes())
    for part in chunks(images, 1000):
        part.sum()
        most = max(most, resident_file_bytes())
    assert most - before < 200e6


def test_the_mean_image_converts_few_images_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def recorded(images: Tensor, size: int) -> Iterator[Tensor]:
        for part in torch.split(images, size):
            sizes.append(part.nbytes)
            yield part

    monkeypatch.setattr("zoo.data.spec.chunks", recorded)
    images = random_images(900, 3, 128, 128)
    found = Dataset("large", Split(images), Split(images[:2])).spec.mean
    assert max(sizes) <= 2**22
    assert found is not None
    assert torch.equal(found, (images.double().mean(0) / 127.5 - 1).float())


def test_a_map_is_never_written(tmp_path: Path) -> None:
    images = random_images(4, 1, 8, 8)
    mapped = write_map(tmp_path / "images", images)
    mapped.zero_()
    assert (tmp_path / "images").read_bytes() == images.numpy().tobytes()


def test_sizes_are_read_as_people_write_them() -> None:
    assert [parse_bytes(text, "x") for text in ("0", "1500", "2KB", "1.5 MiB")] == [0, 1500, 2000, 1_572_864]
    for text in ("", "lots", "-1", "1e9", "1GiBs", "9" * 99):
        with pytest.raises(UsageError, match=r"data_memory: .* is not allowed; must be a size such as"):
            zoo.run.settings.RunSettings(data_memory=text)


# --- decoding ---


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "BLOCK_BYTES", 8 * 3 * 16 * 16)  # eight images


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("memory", [0, 2**30])
def test_an_interrupted_decoding_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory: int) -> None:
    from zoo.data import image_folder

    root, decoded, read = make_folder(tmp_path / "images"), [], image_folder.read

    def counted(path: Path, form: ImageFormat) -> Any:
        decoded.append(path)
        return read(path, form)

    def interrupt(done: int, total: int) -> None:
        if done >= 24:
            raise KeyboardInterrupt

    monkeypatch.setattr("zoo.data.image_folder.read", counted)
    with pytest.raises(KeyboardInterrupt):
        open_folder(root, DataOptions(memory=memory, progress=interrupt))
    assert len(decoded) == 24
    steps: list[tuple[int, int]] = []
    data = open_folder(root, DataOptions(memory=memory, progress=lambda *step: steps.append(step)))
    assert len(decoded) == 40
    assert steps == [(32, 40), (40, 40)]
    assert not list((tmp_path / "cache" / "data").glob(".*.part*"))
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "other"))
    same(data, open_folder(root, DataOptions(memory=memory)))


DECODE = """
import sys, time
from pathlib import Path
from zoo.data import DataOptions, image_folder, image_store, open_folder
image_store.BLOCK_BYTES = 8 * 3 * 16 * 16
read = image_folder.read
def slow(path, form):
    time.sleep(0.01)
    with open(sys.argv[2], "a") as log:
        log.write(path.name + "\\n")
    return read(path, form)
image_folder.read = slow
print(open_folder(sys.argv[1], DataOptions(memory=0)).digest)
"""


def decoder(root: Path, log: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", DECODE, str(root), str(log)], stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_processes_that_need_the_same_images_decode_them_once_and_share_them(tmp_path: Path) -> None:
    root, log = make_folder(tmp_path / "images"), tmp_path / "log"
    processes = [decoder(root, log) for _ in range(3)]
    digests = {process.communicate(timeout=120)[0] for process in processes}
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert digests == {open_folder(root, RESIDENT).digest + "\n"}
    assert len(log.read_text().splitlines()) == 40
    assert len(list((tmp_path / "cache" / "data").glob("*.images"))) == 1


@pytest.mark.slow
def test_a_killed_decoding_is_continued_to_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, log = make_folder(tmp_path / "images", 96), tmp_path / "log"
    kills = 0
    for lines in (10, 40, 70):  # killed once it has decoded so many
        process = decoder(root, log)
        while process.poll() is None and (not log.is_file() or len(log.read_text().splitlines()) < lines):
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += process.returncode == -signal.SIGKILL
    assert kills >= 2
    data = open_folder(root, MAPPED)
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "other"))
    same(data, open_folder(root, MAPPED))


def test_images_beyond_memory_need_a_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, file = make_folder(tmp_path / "images"), tmp_path / "file"
    file.touch()
    monkeypatch.setenv("ZOO_CACHE", str(file))
    with pytest.warns(DataWarning, match="set ZOO_CACHE"):
        assert len(open_folder(root, RESIDENT).train) > 0
    with pytest.raises(ZooError, match=r"exceed the memory limit .* set ZOO_CACHE"):
        open_folder(root, MAPPED)


def test_a_full_disk_is_found_before_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        free = 1000

    root = make_folder(tmp_path / "images")
    monkeypatch.setattr("shutil.disk_usage", lambda path: Full)
    with pytest.raises(ZooError, match=r"exceed the memory limit .* 0\.0 GB are free"):
        open_folder(root, MAPPED)


# --- reading ahead ---


def test_batches_are_read_ahead_once_and_an_error_reaches_the_step() -> None:
    read: list[int] = []

    def load(position: int) -> tuple[Tensor, ...]:
        if position == 9:
            raise OSError("the disk is gone")
        read.append(position)
        return (torch.tensor(position),)

    ahead = Prefetcher(load, pin=False)
    assert [int(ahead[i][0]) for i in range(6)] == list(range(6))
    assert read[:6] == list(range(6))
    assert int(ahead[2][0]) == 2
    assert [int(ahead[i][0]) for i in range(2, 9)] == list(range(2, 9))
    with pytest.raises(OSError, match="the disk is gone"):
        ahead[9]
