"""Sessions of ``nox``: the checks of CI, each in an environment of its own. ``nox --list`` prints them.

``nox --no-venv`` runs them in the active environment, where ``pip install -e '.[dev]'`` has been run.
"""

from __future__ import annotations

import nox

nox.options.reuse_existing_virtualenvs = True


def install(session: nox.Session) -> None:
    """Install the package and everything that the checks need."""
    if session.virtualenv.is_sandboxed:
        session.install("-e", ".[dev]")


@nox.session
def lint(session: nox.Session) -> None:
    """Run ruff, mypy and the import contracts."""
    install(session)
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")
    session.run("lint-imports")


@nox.session
def tests(session: nox.Session) -> None:
    """Run the fast tests; arguments after ``--`` go to pytest."""
    install(session)
    session.run("pytest", *session.posargs)


@nox.session(default=False)
def all_tests(session: nox.Session) -> None:
    """Run all tests, the slow ones included."""
    install(session)
    session.run("pytest", "-m", "slow or not slow", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation; a warning is an error."""
    install(session)
    session.run("mkdocs", "build", "--strict", "--site-dir", session.create_tmp() + "/site")
