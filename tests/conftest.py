"""Fixtures for runs and the command line: one thread, a separate cache, small finished runs."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: bits depend on it, and small networks are faster so

import importlib.util
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import zoo
from zoo.registry import Plugin, Registered, registry

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell that starts its jobs in the background has them ignore Ctrl-C, and their children too: tests send it.
    signal.signal(signal.SIGINT, signal.default_int_handler)

FLAGS = """--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
    --disable-component-update --disable-sync""".split()  # noqa: SIM905
SMALL = {"family": "mlp", "width": 4}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests of the GPU are left out, not skipped, where there is none: a skipped test is one that should have run."""
    if not torch.cuda.is_available() and (left_out := [item for item in items if item.get_closest_marker("cuda")]):
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@attrs.frozen
class Outcome:
    """What a command left: its exit status, and all that it printed."""

    status: int
    out: str
    err: str

    def refused(self, status: int, *words: str) -> None:
        """One line that says why, the right status, and no traceback."""
        assert self.status == status, self.err
        assert self.err.startswith("zoo: error: ")
        assert self.err.count("\n") == 1
        assert self.err.endswith("\n")
        for word in words:
            assert word in self.err


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """``cli("run", "vae")``: the command line in this process."""
    from zoo.cli import main

    def run(*args: object) -> Outcome:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(a) for a in args])
        out, err = capsys.readouterr()
        return Outcome(ended.value.code, out, err)

    return run


@pytest.fixture(scope="session")
def script() -> Callable[[str], ModuleType]:
    """``script("docs/cards.py")``: a script of the repository as a module."""

    def load(path: str) -> ModuleType:
        file = Path(__file__).parent.parent / path
        spec = importlib.util.spec_from_file_location(f"script_{file.stem}", file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that starts empty, kept for the session: what it holds takes longer to make than most tests."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def own_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is read from the user's cache nor written there."""
    monkeypatch.setenv("ZOO_CACHE", str(cache))


class Line(zoo.Decoder):
    """One linear layer and a count of its calls, which a checkpoint keeps."""

    def __init__(self, data: zoo.DataSpec, latent: int) -> None:
        super().__init__()
        self.shape = data.shape
        self.line = nn.Linear(latent, int(np.prod(data.shape)))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, z: Tensor) -> Tensor:
        return self.line(z).tanh().view(-1, *self.shape)


@zoo.frozen
class Blind(zoo.Generator):
    """Samples, and has no encoder."""

    latent: int = zoo.option(3, "Dimensions of z.", zoo.at_least(1))

    def networks(self, data: zoo.DataSpec) -> Mapping[str, nn.Module]:
        return {"decoder": Line(data, self.latent)}

    def players(self) -> Mapping[str, Mapping[str, float]]:
        return {"decoder": {"match": 1.0}}

    def terms(self, net: zoo.Networks, x: Tensor) -> Mapping[str, Tensor]:
        return {"match": zoo.half_sse(net.decoder(self.prior(x)), x)}


@zoo.frozen
class Doomed(Blind):
    """Its term is NaN from the step after ``good`` on; with ``slope`` it is its gradient instead."""

    good: int = zoo.option(3, "Steps that go well.", zoo.at_least(0))
    slope: bool = zoo.option(False, "Only the gradient is NaN.")

    def terms(self, net: zoo.Networks, x: Tensor) -> Mapping[str, Tensor]:
        match = super().terms(net, x)["match"]
        net.decoder.calls += 1
        late = net.decoder.calls > self.good
        if self.slope:
            root = torch.where(late, 0.0, 1.0) * net.decoder.line.weight.square().sum()
            return {"match": match + root.sqrt()}  # the slope of √ at 0 is infinite, and ∞ · 0 is NaN
        return {"match": match * torch.where(late, torch.nan, 1.0)}


@zoo.frozen
class Broken(Blind):
    """A plugin with a bug."""

    def terms(self, net: zoo.Networks, x: Tensor) -> Mapping[str, Tensor]:
        raise ValueError("two lines\nof explanation")


TOYS: dict[str, type[zoo.Objective]] = {"blind": Blind, "doomed": Doomed, "broken": Broken}


def register_toys(patch: pytest.MonkeyPatch) -> None:
    """Announce the models above, as a plugin would."""
    for name, model in TOYS.items():
        patch.setitem(registry().models, name, Registered(name, model, Plugin("toys", "toy-package", "1")))


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    """The models above, for one test."""
    register_toys(monkeypatch)


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """Finished runs of one epoch: ``vae`` on digits, ``color`` (also a vae) on a folder, ``blind`` on digits."""
    root = tmp_path_factory.mktemp("runs")
    (root / "pictures").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (40, 10, 12, 3), dtype=np.uint8)
    for i, image in enumerate(pixels):
        Image.fromarray(image).save(root / "pictures" / f"{i}.png")
    small: dict[str, Any] = {**SMALL, "epochs": 1}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_CACHE", str(cache))
        zoo.train("vae", out=root / "vae", **small)
        zoo.train("vae", out=root / "color", dataset=f"folder:{root / 'pictures'}", batch=8, extractor="none", **small)
        register_toys(patch)
        zoo.train("blind", out=root / "blind", epochs=1)
    return root


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Debian's Chromium; playwright's own is a download that this suite must not need."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no Chromium: apt-get install chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install playwright")
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=found, args=FLAGS)
        yield running
        running.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """``open_page((1280, 900), PATH)``: a page in a window; at the end it must have been silent and alone."""
    contexts, said, asked, pages = [], [], [], set()

    def open_file(size: tuple[int, int], path: Path, **options: Any) -> Any:
        context = browser.new_context(viewport={"width": size[0], "height": size[1]}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: (said.append("dialog"), dialog.dismiss()))
        page.on("request", lambda request: asked.append(request.url))
        pages.add(path.as_uri())
        page.goto(path.as_uri())
        return page

    yield open_file
    for context in contexts:
        context.close()
    assert said == []
    assert {url for url in asked if not url.startswith("data:")} <= pages
