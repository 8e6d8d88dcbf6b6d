"""Conformance checks for models, run by ``zoo check MODEL`` and by the tests for every bundled model.

Each check takes a :class:`Case`, a model on one image size, and raises :class:`CheckFailed` with the problem and its
remedy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import attrs

from zoo.conformance.case import SHAPES, Case, CheckFailed
from zoo.conformance.game import check_abilities, check_game, check_gradients, check_options, check_routing
from zoo.conformance.training import check_capture, check_learns, check_repeatable, check_resume, check_sync
from zoo.errors import ZooError
from zoo.interfaces import Objective

__all__ = ["CHECKS", "ONCE", "SHAPES", "SLOW", "Case", "CheckFailed", "CheckResult", "check_model", "run_check"]

CHECKS: Mapping[str, Callable[[Case], None]] = {
    "options": check_options,
    "game": check_game,
    "gradients": check_gradients,
    "routing": check_routing,
    "repeatable": check_repeatable,
    "resume": check_resume,
    "abilities": check_abilities,
    "sync": check_sync,
    "capture": check_capture,
    "learns": check_learns,
}
"""Checks by name. Packages rely on the names: do not change them."""

SLOW = frozenset({"learns"})
"""Checks that run only on request."""

ONCE = frozenset({"options", "learns"})
"""Checks that run on the first image size only."""


@attrs.frozen
class CheckResult:
    """Result of a check on one image size.

    Args:
        check: Name of the check.
        shape: Image size (C, H, W).
        problem: The problem found; None if the check passed.
    """

    check: str
    shape: tuple[int, int, int]
    problem: str | None


def check_model(model: type[Objective], *, slow: bool = False) -> Iterator[CheckResult]:
    """Run the checks on all image sizes.

    Args:
        model: Class of the model.
        slow: Also run the checks of :data:`SLOW`.
    """
    for shape in SHAPES:
        for name, check in CHECKS.items():
            if (name in SLOW and not slow) or (name in ONCE and shape != SHAPES[0]):
                continue
            yield CheckResult(name, shape, run_check(check, Case(model, shape)))


def run_check(check: Callable[[Case], None], case: Case) -> str | None:
    """Run a check and return the problem that it found, or None; an exception of the model is a problem too."""
    try:
        check(case)
    except (CheckFailed, ZooError) as error:
        return str(error)
    except Exception as error:
        first = (str(error).strip().splitlines() or ["(no message)"])[0]
        return f"{type(error).__name__}: {first}"
    return None
