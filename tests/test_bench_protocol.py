"""Protocol files of ``zoo bench``: validation and its messages, digests, and the cells that they define."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import attrs
import pytest

from zoo.bench import BenchProtocol, Grid, run_grid
from zoo.bench.bench_protocol import TrainRules
from zoo.bench.grid_status import make_cells, write_protocol
from zoo.bench.run_grid import plan, with_grid
from zoo.errors import UsageError
from zoo.registry import registry

PROTOCOLS = sorted((Path(__file__).parents[1] / "benchmarks" / "protocols").glob("*.toml"))


@pytest.mark.parametrize("path", PROTOCOLS, ids=lambda p: p.stem)
def test_every_protocol_of_the_repository_makes_a_grid(path, tmp_path):
    """Each names models, data sets and options that exist, and is called as its file is."""
    protocol = BenchProtocol.from_file(path)
    assert protocol.name == path.stem
    cells = make_cells(protocol, protocol.grid, tmp_path)
    models = [name for name, entry in registry().models.items() if entry.plugin.package == "latent-zoo"]
    assert {cell.model for cell in cells} >= set(models)
    assert len({cell.folder for cell in cells}) == len(cells) == len(registry().models) * protocol.grid.seeds


def test_the_default_protocol_is_the_one_called_quick():
    """A package that is installed has no benchmarks folder, so the default is in the code too."""
    quick = BenchProtocol.from_file(next(p for p in PROTOCOLS if p.stem == "quick"))
    assert not BenchProtocol().differences(quick)
    assert BenchProtocol().digest == quick.digest
    assert BenchProtocol().grid == quick.grid


PLAIN: dict[str, Any] = {"name": "p", "version": 1, "train": {"images": 100}}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"trian": {}}, ["unknown entry 'trian'", "Did you mean 'train'"]),
        ({"train": {"imagse": 5}}, ["unknown entry of [train] 'imagse'", "Did you mean 'images'"]),
        ({"train": {}}, ["exactly one of images and epochs"]),
        ({"train": {"images": 5, "epochs": 1}}, ["exactly one of images and epochs"]),
        ({"train": {"images": 0}}, ["train.images: 0", "at least 1"]),
        ({"train": {"images": 5, "precision": "fp16"}}, ["train.precision: 'fp16'", "fp32, bf16"]),
        ({"train": 5}, ["train: must be a table, [train]"]),
        ({"name": "two words"}, ["name: 'two words'"]),
        ({"version": "1"}, ["version: '1'", "whole number"]),
        ({"version": True}, ["version: True"]),
        ({"evaluate": {"samples": 1}}, ["evaluate.samples: 1", "between 2 and 1000000"]),
        ({"models": {"vae": 3}}, ["models.vae: must be a table"]),
        ({"grid": {"seeds": 0}}, ["grid.seeds: 0"]),
        ({"grid": {"seeds": 2.5}}, ["grid.seeds: 2.5"]),
        ({"grid": {"models": "vae"}}, ["grid.models: 'vae'", 'or "all"']),
        ({"grid": {"models": []}}, ["models: the list is empty"]),
        ({"grid": {"models": ["vae", "vae"]}}, ["contains duplicates"]),
        ({"grid": {"model": ["vae"]}}, ["unknown entry of [grid] 'model'", "Did you mean 'models'"]),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(changes, words):
    with pytest.raises(UsageError) as error:
        BenchProtocol.from_table({**PLAIN, **changes})
    for word in words:
        assert word in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"grid": {"models": ["vea"]}}, ["unknown model 'vea'", "Did you mean 'vae'"]),
        ({"grid": {"datasets": ["digit"]}}, ["unknown data set 'digit'", "Did you mean 'digits'"]),
        ({"options": {"widht": 3}}, ["unknown option 'widht'", "Did you mean 'width'"]),
        ({"options": {"width": 0}}, ["protocol p: model ", "width: 0 is not allowed"]),
        ({"models": {"vea": {}}}, ["unknown model 'vea'"]),
        ({"models": {"vae": {"gamma": 1.0}}, "grid": {"models": ["gan"]}}, ["model vae: unknown option of", "'gamma'"]),
        ({"evaluate": {"extractor": "clasifier"}}, ["unknown extractor", "Did you mean 'classifier'"]),
        ({"grid": {"datasets": ["folder:/a/x", "folder:/b/x"]}}, ["two of them share the folder"]),
    ],
)
def test_what_is_not_there_is_refused_before_anything_is_written(changes, words, tmp_path):
    protocol = BenchProtocol.from_table({**PLAIN, **changes})
    with pytest.raises(UsageError) as error:
        run_grid(tmp_path / "out", protocol)
    for word in words:
        assert word in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_none_is_told_so(tmp_path):
    (tmp_path / "half.toml").write_text("name = ")
    with pytest.raises(UsageError, match=r"half.toml is not TOML"):
        BenchProtocol.from_file(tmp_path / "half.toml")
    with pytest.raises(UsageError, match="no file"):
        BenchProtocol.from_file(tmp_path / "none.toml")


def test_the_digest_is_of_what_decides_a_result():
    """More cells and other words are the same protocol; every entry that a run depends on is not."""
    plain = BenchProtocol.from_table(PLAIN)
    same = [attrs.evolve(plain, description="words"), with_grid(plain, ["vae"], ["mnist"], 9)]
    assert {p.digest for p in same} == {plain.digest}
    other = [
        {"name": "q"},
        {"version": 2},
        {"train": {"images": 101}},
        {"train": {"images": 100, "batch": 32}},
        {"options": {"width": 4}},
        {"models": {"vae": {"width": 4}}},
        {"evaluate": {"samples": 10}},
        {"evaluate": {"extractor": "none"}},
    ]
    digests = {BenchProtocol.from_table({**PLAIN, **changes}).digest for changes in other}
    assert len(digests | {plain.digest}) == len(other) + 1
    # As it was when results were first made under it: another digest would orphan them.
    assert plain.label == "p@1#fcf1573e05d9"


def test_a_copy_says_the_same():
    """What the benchmark's folder keeps reads back as what was asked for, grid included."""
    table = {
        **PLAIN,
        "options": {"width": 4},
        "models": {"vae": {"latent": 2}},
        "grid": {"models": ["vae"], "seeds": 2},
    }
    protocol = BenchProtocol.from_table(table)
    assert BenchProtocol.from_table(tomllib.loads(protocol.to_toml())) == protocol


def test_a_cell_gets_the_options_that_its_model_has(tmp_path):
    """``[options]`` reaches who has the option; ``[models.NAME]`` goes before it, and reaches nobody else."""
    protocol = BenchProtocol(
        train=TrainRules(epochs=2),
        options={"width": 4, "gamma": 0.5},
        models={"vae": {"width": 8}},
        grid=Grid(("vae", "vaegan"), ("digits", "folder:/somewhere/faces"), 2),
    )
    cells = {cell.folder.relative_to(tmp_path).as_posix(): cell.settings for cell in plan_cells(tmp_path, protocol)}
    assert len(cells) == 8
    vae, vaegan = cells["digits/vae/seed1"], cells["folder-faces/vaegan/seed0"]
    assert (vae["width"], "gamma" in vae, vae["seed"], vae["epochs"]) == (8, False, 1, 2)
    assert (vaegan["width"], vaegan["gamma"], vaegan["dataset"]) == (4, 0.5, "folder:/somewhere/faces")
    assert vae["protocol"] == vaegan["protocol"] == protocol.label
    assert "data_dir" not in vae


def plan_cells(out: Path, protocol: BenchProtocol) -> list[Any]:
    return [status.cell for status in plan(out, protocol).cells]


def test_the_command_line_refuses_what_cannot_be_meant(cli, tmp_path):
    """One line, status 2, nothing written."""
    out = tmp_path / "out"
    cli("bench", "--models", "vea", "--out", out).refused(2, "unknown model 'vea'", "Did you mean 'vae'")
    cli("bench", "--models", "vae,,gan", "--out", out).refused(2, "models: 'vae,,gan'")
    cli("bench", "--seeds", "0", "--out", out).refused(2, "seeds: 0")
    cli("bench", "--jobs", "0", "--out", out).refused(2, "jobs: 0")
    cli("bench", "--gpu-fraction", "0", "--out", out).refused(2, "gpu_fraction: 0")
    cli("bench", "--time-limit", "soon", "--out", out).refused(2, "time_limit: 'soon'", "30m")
    cli("bench", "--slurm", "partition=gpu", "--out", out).refused(2, "--executor submitit")
    cli("bench", "--executor", "submitit", "--slurm", "gpu", "--out", out).refused(2, "KEY=VALUE")
    cli("bench", "--protocol", tmp_path / "none.toml", "--out", out).refused(2, "no file")
    cli("bench").refused(2, "--out")
    assert not out.exists()


def test_a_dry_run_shows_the_grid_and_writes_nothing(cli, tmp_path):
    outcome = cli("bench", "--models", "vae,gan", "--seeds", "2", "--out", tmp_path / "out", "--dry-run")
    assert outcome.status == 0, outcome.err
    assert f"protocol {BenchProtocol().label}; 4 cells: 4 waiting" in outcome.out
    assert [line.split()[0] for line in outcome.out.splitlines()[:3]] == ["digits", "vae", "gan"]
    assert not (tmp_path / "out").exists()


def test_a_missing_data_set_is_told_once_and_breaks_no_cell(cli, tmp_path):
    """Ninety cells that fail for want of one download would each have to be mended."""
    out, empty = tmp_path / "out", tmp_path / "empty"
    cli("bench", "--models", "vae", "--data-dir", empty, "--out", out).refused(2, "data_dir: no folder")
    assert not out.exists()
    (tmp_path / "faces").mkdir()
    faces = f"folder:{tmp_path / 'faces'}"
    outcome = cli("bench", "--models", "vae", "--datasets", faces, "--out", out)
    assert outcome.status in (1, 2)
    assert outcome.err.count("\n") == 1
    assert "faces" in outcome.err
    assert not list(out.glob("*/*/*"))


def test_a_folder_that_another_call_is_just_making_is_no_stranger(tmp_path):
    """Two calls at once on a new folder: the second finds a file half written, and must not be put off by it."""
    (tmp_path / ".protocol.toml.x1.tmp").write_text("name")
    (tmp_path / ".protocol.lock").touch()
    write_protocol(tmp_path, BenchProtocol())
    write_protocol(tmp_path, BenchProtocol())
    with pytest.raises(UsageError, match=r"a different protocol: version 1, here 2; choose another --out"):
        write_protocol(tmp_path, attrs.evolve(BenchProtocol(), version=2))
    assert BenchProtocol.from_file(tmp_path / "protocol.toml").version == 1
