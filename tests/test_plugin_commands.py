"""Commands of packages outside the repository: listed, run, and isolated if they fail."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

HEAD = "import click\nimport zoo\n"
COMMANDS = """
    @click.command()
    @click.argument("names", nargs=-1)
    @click.option("--loud", is_flag=True, help="In capitals.")
    def greet(names, loud):
        \"\"\"Greet somebody.\"\"\"
        if not names:
            raise zoo.UsageError("names: at least one is needed")
        text = f"hello {' and '.join(names)}"
        click.echo(text.upper() if loud else text)

    @zoo.hookimpl
    def zoo_commands():
        return [greet]
"""
Zoo = Callable[..., subprocess.CompletedProcess[str]]


def install(site: Path, name: str, source: str) -> None:
    """Put a package of one module into ``site``, as pip does."""
    info = site / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (site / f"{name}.py").write_text(HEAD + dedent(source))
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[zoo]\n{name} = {name}\n")


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder on Python's path with a package that contributes the command ``greet``."""
    install(tmp_path / "site", "greeter", COMMANDS)
    return tmp_path / "site"


@pytest.fixture
def zoo(site: Path) -> Zoo:
    """``zoo("greet", "you")``: the command line in a process of its own that finds the package."""

    def run(*args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [Path(sys.executable).with_name("zoo"), *args],
            env={**os.environ, "PYTHONPATH": str(site)},
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run


def test_a_packages_command_is_listed_and_runs(zoo: Zoo) -> None:
    shown = zoo("--help")
    assert (shown.returncode, shown.stderr) == (0, "")
    builtin, _, plugins = shown.stdout.partition("Commands from plugins:")
    assert "  run " in builtin
    assert plugins.split() == ["greet", "Greet", "somebody."]
    done = zoo("greet", "Ada", "Alan", "--loud")
    assert (done.returncode, done.stdout, done.stderr) == (0, "HELLO ADA AND ALAN\n", "")
    assert zoo("greet", "--help").stdout.startswith("Usage: zoo greet [OPTIONS] [NAMES]...")


def test_errors_of_a_packages_command_are_one_line(zoo: Zoo) -> None:
    done = zoo("greet")
    assert (done.returncode, done.stderr) == (2, "zoo: error: names: at least one is needed\n")
    done = zoo("gret")
    assert done.returncode == 2
    assert "unknown command 'gret'. Did you mean 'greet'?" in done.stderr


def test_help_imports_neither_torch_nor_the_bundled_plugins(site: Path) -> None:
    code = (
        "import sys; from zoo.cli import main\ntry: main(['--help'])\n"
        "finally: print(sorted({'torch', 'zoo_plugins', 'greeter'} & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout.endswith("['greeter']\n"), done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import no_such_module_of_zoo_tests", "ModuleNotFoundError: No module named 'no_such_module_of_zoo_tests'"),
        ("raise SystemExit('bye')", "SystemExit: bye"),
        ("@zoo.hookimpl\ndef zoo_commands():\n    raise ValueError('two\\nlines')", "zoo_commands: ValueError: two"),
        ("@zoo.hookimpl\ndef zoo_commands():\n    return [print]", "not a click.Command"),
        ("@zoo.hookimpl\ndef zoo_commands():\n    return 3", "zoo_commands: TypeError"),
        ("@zoo.hookimpl\ndef zoo_commands():\n    return [click.Command('run')]", "belongs to a built-in command"),
        ("@zoo.hookimpl\ndef zoo_commands():\n    return [click.Command('greet')]", "taken by plugin 'greeter'"),
        ("@zoo.hookimpl\ndef zoo_commands():\n    return [click.Command('a b')]", "'a b': the name must consist of"),
    ],
    ids=["import", "exit", "exception", "no command", "no list", "built-in name", "taken name", "bad name"],
)
def test_a_failing_plugin_is_one_warning_and_harms_nothing(zoo: Zoo, site: Path, source: str, reason: str) -> None:
    install(site, "troubled", source)
    shown = zoo("--help")
    assert shown.returncode == 0
    assert shown.stderr.startswith("zoo: warning: plugin 'troubled' (troubled): ")
    assert reason in shown.stderr
    assert shown.stderr.count("\n") == 1
    assert "Train a model" in shown.stdout
    assert "Greet somebody." in shown.stdout
    assert zoo("greet", "you").stdout == "hello you\n"


@pytest.mark.slow
def test_a_failing_command_is_reported_by_list_and_doctor(zoo: Zoo, site: Path) -> None:
    install(site, "troubled", "@zoo.hookimpl\ndef zoo_commands():\n    return [click.Command('run')]")
    (row,) = [line for line in zoo("list", "plugins").stdout.splitlines() if "failed" in line]
    assert row.split()[0] == "troubled"
    assert "command 'run': the name belongs to a built-in command" in row
    assert zoo("run", "--help").stdout.startswith("Usage: zoo run [SETTINGS]")
    done = zoo("doctor")
    assert done.returncode == 1
    assert "command 'run': the name belongs to a built-in command" in " ".join(done.stdout.split())
