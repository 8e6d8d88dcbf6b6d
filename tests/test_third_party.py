"""A model from an installed package works everywhere that a bundled one does; a broken package is isolated."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import attrs
import pytest

import zoo

PROJECT = """
    [build-system]
    requires = ["setuptools"]
    build-backend = "setuptools.build_meta"

    [project]
    name = "{package}"
    version = "{version}"

    [project.entry-points.zoo]
    {entry} = "{module}"

    [tool.setuptools]
    py-modules = ["{module}"]
"""

# The whole of a model, with no import but ``zoo``.
MODEL = '''
    """A plain autoencoder with a penalty on its codes."""

    import zoo


    @zoo.frozen
    class Ridge(zoo.Autoencoder):
        """An autoencoder whose codes are held near zero."""

        paper = "Somebody, somewhere, 2026"

        ridge: float = zoo.option(0.1, "Weight of the codes' penalty.", zoo.at_least(0))

        def networks(self, data):
            return {
                "encoder": zoo.encoder(data, self.latent, self.width, norm=self.norm, posterior="point"),
                "decoder": zoo.decoder(data, self.latent, self.width, norm=self.norm),
            }

        def players(self):
            return {"encoder": {"error": 1.0, "penalty": self.ridge}, "decoder": {"error": 1.0}}

        def terms(self, net, x):
            z = net.encoder(x).mean
            return {"error": zoo.sse(net.decoder(z), x), "penalty": zoo.sse(z, 0 * z)}


    @zoo.hookimpl
    def zoo_models():
        return {"ridge-ae": Ridge}
'''
BROKEN = '''
    """Asks for what is not there."""

    from zoo_tests_no_such_dependency import magic
'''

METRIC = '''
    """The mean gray level of generated images, as a metric."""

    import torch
    import zoo


    class Brightness(zoo.Metric):
        """Mean gray level of generated images."""

        scores = (zoo.ScoreInfo("brightness", "mean gray level of generated images", higher_is_better=True),)
        needs = ("samples",)
        metric_set = "quick"
        protocol = "mean over pixels in [0, 1]"

        def __init__(self, **options):
            super().__init__(**options)
            self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
            self.add_state("count", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

        def update(self, samples):
            self.total += samples.double().sum() / 255
            self.count += samples.numel()

        def compute(self):
            return self.total / self.count


    @zoo.hookimpl
    def zoo_metrics():
        return {"brightness": Brightness}
'''


@attrs.frozen
class Home:
    """Where third parties are installed, and a folder to work in."""

    site: Path
    folder: Path

    def zoo(self, *args: object, site: bool = True) -> subprocess.CompletedProcess[str]:
        environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "ZOO_DATA")}
        environment |= {"OMP_NUM_THREADS": "1", "ZOO_CACHE": str(self.folder / "cache")}
        if site:
            environment["PYTHONPATH"] = str(self.site)
        return subprocess.run(
            [Path(sys.executable).parent / "zoo", *map(str, args)],
            env=environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=120,
        )


def _install(folder: Path, *sources: Path) -> Path:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"]
    command += ["--no-deps", "--no-build-isolation", "--target", str(folder), *map(str, sources)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def _package(folder: Path, entry: str, package: str, version: str, module: str, source: str) -> Path:
    folder.mkdir()
    project = dedent(PROJECT).format(package=package, version=version, entry=entry, module=module)
    (folder / "pyproject.toml").write_text(project, encoding="utf-8")
    (folder / f"{module}.py").write_text(dedent(source), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sources") / "model"
    return _package(folder, "ridge", "zoo-ridge", "0.3.1", "zoo_ridge", MODEL)


@pytest.fixture(scope="module")
def home(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Where the model is installed."""
    folder = tmp_path_factory.mktemp("home")
    return Home(_install(folder / "site", model), folder)


@pytest.fixture(scope="module")
def shared_home(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Where the model is installed together with a package that cannot be imported."""
    folder = tmp_path_factory.mktemp("shared")
    broken = _package(folder / "broken", "aaa-broken", "zoo-broken", "9.9", "zoo_broken", BROKEN)
    return Home(_install(folder / "site", model, broken), folder)


def test_a_packages_model_is_small_and_imports_zoo_alone() -> None:
    lines = [line for line in dedent(MODEL).splitlines() if line.strip()]
    assert len(lines) <= 30
    assert [line for line in lines if "import" in line] == ["import zoo"]


def test_an_installed_model_is_listed_with_its_package_and_nothing_is_amiss(home: Home) -> None:
    done = home.zoo("list", "models")
    assert (done.returncode, done.stderr) == (0, "")
    (row,) = [line for line in done.stdout.splitlines() if line.startswith("ridge-ae ")]
    assert row.split()[-1] == "zoo-ridge"
    assert "An autoencoder whose codes are held near zero." in row
    assert "Somebody, somewhere, 2026" in row
    (bundled,) = [line for line in done.stdout.splitlines() if line.startswith("vaegan ")]
    assert bundled.split()[-1] == "latent-zoo"
    # Where it is not installed it is not known: the row above came from the package.
    missing = home.zoo("show", "ridge-ae", site=False)
    assert missing.returncode == 2
    assert "unknown model 'ridge-ae'" in missing.stderr


def test_its_card_shows_its_game_and_its_options(home: Home) -> None:
    done = home.zoo("show", "ridge-ae")
    assert (done.returncode, done.stderr) == (0, "")
    rows = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines() if line.strip()}
    assert rows["encoder"][:2] == ["1", "0.1"]
    assert rows["decoder"][:2] == ["1", "·"]
    assert "--ridge" in rows
    assert "--latent" in rows


@pytest.mark.slow
def test_its_run_is_scored_by_the_same_protocol_as_a_bundled_models(
    shared_home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # And beside a broken package: that one is no obstacle to a run.
    done = shared_home.zoo("run", "ridge-ae", "--epochs", 1, "--width", 2, "--ridge", 0.5, "--out", tmp_path / "theirs")
    assert done.returncode == 0, done.stderr
    theirs = json.loads((tmp_path / "theirs" / "result.json").read_text(encoding="utf-8"))
    assert theirs["plugin"] == {"name": "ridge", "package": "zoo-ridge", "version": "0.3.1"}
    assert theirs["settings"]["options"]["ridge"] == 0.5

    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    zoo.train("vae", epochs=0, width=2, device="cpu", out=tmp_path / "ours")
    ours = json.loads((tmp_path / "ours" / "result.json").read_text(encoding="utf-8"))
    assert ours["plugin"]["package"] == "latent-zoo"
    assert theirs["fingerprint"] == ours["fingerprint"]
    assert theirs["protocol"] == ours["protocol"]
    assert theirs["scores"].keys() == ours["scores"].keys()
    assert len(theirs["fingerprint"]) >= 8
    assert theirs["scores"]


@pytest.mark.slow
def test_a_package_that_cannot_be_imported_is_named_with_its_reason(shared_home: Home) -> None:
    reason = "ModuleNotFoundError: No module named 'zoo_tests_no_such_dependency'"
    plugins = shared_home.zoo("list", "plugins")
    assert plugins.returncode == 0
    (row,) = [line for line in plugins.stdout.splitlines() if line.startswith("aaa-broken ")]
    assert "zoo-broken" in row
    assert f"failed: {reason}" in row
    (good,) = [line for line in plugins.stdout.splitlines() if line.startswith("ridge ")]
    assert good.split() == ["ridge", "zoo-ridge", "0.3.1", "loaded"]

    doctor = shared_home.zoo("doctor")
    assert doctor.returncode == 1, "a script that asks whether all is well must hear that it is not"
    assert f"plugin 'aaa-broken' (zoo-broken): {reason}" in " ".join(doctor.stdout.split())
    assert "Traceback" not in doctor.stderr


def test_beside_a_broken_package_everything_else_is_listed(shared_home: Home) -> None:
    listed = shared_home.zoo("list")
    assert listed.returncode == 0
    warning = "zoo: warning: plugin 'aaa-broken' (zoo-broken): ModuleNotFoundError"
    assert [line.startswith(warning) for line in listed.stderr.splitlines()] == [True]
    names = {line.split()[0] for line in listed.stdout.splitlines()}
    assert {"vae", "vaegan", "ridge-ae"} <= names


def test_who_asks_for_a_broken_packages_model_learns_that_it_failed(shared_home: Home) -> None:
    done = shared_home.zoo("run", "brokengan")
    assert done.returncode == 2
    assert "unknown model 'brokengan'" in done.stderr
    assert "plugin 'aaa-broken' (zoo-broken): ModuleNotFoundError" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.fixture(scope="module")
def metric_home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Where a package with a metric is installed."""
    folder = tmp_path_factory.mktemp("metric")
    package = _package(folder / "source", "bright", "zoo-bright", "0.2", "zoo_bright", METRIC)
    return Home(_install(folder / "site", package), folder)


@pytest.mark.slow
def test_an_installed_metric_is_in_results_tables_and_the_leaderboard(metric_home: Home, tmp_path: Path) -> None:
    listed = metric_home.zoo("list", "metrics")
    assert (listed.returncode, listed.stderr) == (0, "")
    (row,) = [line for line in listed.stdout.splitlines() if line.startswith("brightness ")]
    assert row.split()[-2:] == ["quick", "zoo-bright"]
    run = ("run", "gan", "--epochs", 1, "--width", 2)
    with_it = metric_home.zoo(*run, "--seed", 1, "--out", tmp_path / "runs" / "with")
    without = metric_home.zoo(*run, "--seed", 2, "--out", tmp_path / "runs" / "without", site=False)
    assert (with_it.returncode, without.returncode) == (0, 0), with_it.stderr + without.stderr
    assert "mean gray level of generated images" in " ".join(with_it.stdout.split())

    more, plain = (
        json.loads((tmp_path / "runs" / n / "result.json").read_text(encoding="utf-8")) for n in ("with", "without")
    )
    assert 0 < more["scores"]["brightness"] < 1
    assert list(more["scores"]) == [*plain["scores"], "brightness"]
    assert more["score_info"]["brightness"]["description"] == "mean gray level of generated images"
    assert more["protocol"]["contributed_metrics"] == {"brightness": "mean over pixels in [0, 1] (zoo-bright 0.2)"}
    assert more["fingerprint"] == plain["fingerprint"], "a metric package must not separate the leaderboard"

    shown = metric_home.zoo("eval", tmp_path / "runs" / "with", "--metrics", "quick", "--protocol")
    assert shown.returncode == 0, shown.stderr
    assert "brightness" in shown.stdout
    assert "mean over pixels in [0, 1] (zoo-bright 0.2)" in shown.stdout

    # The machine that makes the leaderboard need not have the package.
    board = metric_home.zoo("leaderboard", tmp_path / "runs", "--format", "json", site=False)
    assert board.returncode == 0, board.stderr
    (group,) = json.loads(board.stdout)["groups"]
    column = {"name": "brightness", "better": "higher", "help": "mean gray level of generated images"}
    assert column in group["metrics"]
    (row,) = group["rows"]
    assert row["metrics"]["brightness"]["n"] == 1
    page = metric_home.zoo("leaderboard", tmp_path / "runs", "--format", "html", site=False)
    assert 'title="mean gray level of generated images"' in page.stdout
