"""``zoo new``: create a plugin package with a model and tests."""

from __future__ import annotations

import builtins
import importlib.resources
import keyword
import os
import re
import tempfile
from pathlib import Path

import click

from zoo.cli.console import echo
from zoo.cli.parameters import FilePath
from zoo.errors import UsageError, ZooError

__all__ = ["new"]

FILES = {
    "pyproject.toml": "pyproject.toml",
    "README.md": "README.md",
    "module.py": "{module}.py",
    "test_module.py": "tests/test_{module}.py",
}


@click.command()
@click.argument("name")
@click.option("--out", type=FilePath(), help="Folder of the package; default zoo-NAME.")
def new(name: str, out: Path | None) -> None:
    """Create a plugin package with a model and tests.

    The model NAME works as it is; replace it by your own.
    """
    import jinja2

    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise UsageError(
            f"name: {name!r} is not allowed; must be lower-case words joined by '-' and begin with a letter, "
            "such as my-model"
        )
    from zoo.registry import registry

    if name in registry().models:
        taken = registry().models[name].plugin
        raise UsageError(f"name: {name!r} is taken by a model of {taken.package}; choose another")
    words = name.split("-")
    values = {
        "name": name,
        "package": f"zoo-{name}",
        "module": "zoo_" + "_".join(words),
        "cls": _class_name(words),
        "title": " ".join(words).capitalize(),
    }
    target = out or Path(values["package"])
    if target.exists():
        raise UsageError(f"out: {target} already exists; choose another --out")
    templates = importlib.resources.files("zoo") / "template"
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # Written to a temporary folder, then renamed: the package is complete or absent.
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".zoo-new-") as scratch:
            package = Path(scratch) / "package"
            for source, path in FILES.items():
                file = package / path.format(**values)
                file.parent.mkdir(parents=True, exist_ok=True)
                text = (templates / f"{source}.jinja").read_text(encoding="utf-8")
                file.write_text(environment.from_string(text).render(values), encoding="utf-8")
            os.rename(package, target)
    except OSError as error:
        raise ZooError(f"out: cannot write {target}: {error.strerror or error}") from None
    echo(f"created {target}: {', '.join(path.format(**values) for path in FILES.values())}")
    echo(f"next: pip install -e '{target}[dev]' && zoo run {name} && zoo check {name}")


_TAKEN = ("Mapping", "ClassVar", "Tensor", "Case")


def _class_name(words: list[str]) -> str:
    """Class name of a model, which must not be a keyword, a built-in name, or one that the templates import."""
    name = "".join(word.capitalize() for word in words)
    return f"{name}Model" if keyword.iskeyword(name) or hasattr(builtins, name) or name in _TAKEN else name
