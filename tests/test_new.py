"""``zoo new``: the generated package installs, passes its own tests, and its model runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from zoo.cli import main


def new(*arguments: str) -> int:
    with pytest.raises(SystemExit) as status:
        main(["new", *arguments])
    return status.value.code


@pytest.mark.slow
def test_the_package_installs_passes_its_tests_and_its_model_runs(tmp_path: Path) -> None:
    package, site = tmp_path / "zoo-my-model", tmp_path / "site"
    assert new("my-model", "--out", str(package)) == 0
    assert sorted(str(p.relative_to(package)) for p in package.rglob("*") if p.is_file()) == [
        "README.md",
        "pyproject.toml",
        "tests/test_zoo_my_model.py",
        "zoo_my_model.py",
    ]
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--target",
        str(site),
    ]
    subprocess.run([*pip, str(package)], check=True, capture_output=True, timeout=600)
    environment = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}

    def python(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments], cwd=package, env=environment, capture_output=True, text=True, timeout=900
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "passed" in python("-m", "pytest", "-p", "no:cacheprovider", "-q", "--no-header")
    main_ = "import sys; from zoo.cli import main; main(sys.argv[1:])"
    assert "fool" in python("-c", main_, "show", "my-model")
    python("-c", main_, "run", "my-model", "--epochs", "1", "--width", "4", "--weight", "0.3", "--out", "run")
    assert (package / "run" / "result.json").is_file()


@pytest.mark.parametrize("name", ["My-Model", "1st", "a b", "a_b", "../x", "a-", ""])
def test_a_name_that_is_no_model_name_is_refused(name, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert new(name) == 2
    assert f"name: {name!r} is not allowed; must be lower-case words" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_name_that_is_taken_is_refused(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert new("vaegan") == 2
    assert "name: 'vaegan' is taken by a model of latent-zoo" in capsys.readouterr().err


def test_a_folder_that_is_there_is_left_alone(capsys, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("precious")
    assert new("other", "--out", str(tmp_path / "mine")) == 2
    assert "already exists" in capsys.readouterr().err
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["file"]
