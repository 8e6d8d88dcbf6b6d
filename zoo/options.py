"""Options of models: attrs fields with a help text and checks, which become flags and TOML entries.

>>> @frozen
... class Model:
...     latent: int = option(16, "Dimensions of z.", at_least(1))
>>> Model(latent=4)
Model(latent=4)
>>> Model(latent=0)
Traceback (most recent call last):
    ...
zoo.errors.UsageError: latent: 0 is not allowed; must be at least 1
"""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

import attrs

from zoo.errors import UsageError, unknown_name

__all__ = [
    "Check",
    "OptionInfo",
    "above",
    "at_least",
    "below",
    "between",
    "build",
    "frozen",
    "get_options",
    "option",
    "option_values",
    "registered",
    "set_registered_names",
    "split_names",
]

_KEY = "zoo.option"
_LARGEST_INT = 2**63 - 1  # of a tensor's size, and of TOML


@attrs.frozen
class Check:
    """A constraint on the value of an option.

    Args:
        allows: Description of the allowed values, such as ``at least 1``.
        test: Whether a value is allowed.
        names: For checks of registered names: their kind, such as ``family``, and a function that returns them.
        several: Whether a value is a list, separated by commas, of which every part must pass.
        low: Lower limit of a number; itself allowed or not.
        high: Upper limit of a number; itself allowed or not.
    """

    allows: str
    test: Callable[[Any], bool]
    names: tuple[str, Callable[[], Iterable[str]]] | None = None
    several: bool = False
    low: float = -math.inf
    high: float = math.inf


_registered_names: dict[str, Callable[[], Iterable[str]]] = {}


def set_registered_names(kind: str, names: Callable[[], Iterable[str]]) -> None:
    """Set the names that :func:`registered` allows for a kind; called by the registry."""
    _registered_names[kind] = names


def registered(kind: str, kinds: str, *, several: bool = False) -> Check:
    """Allow the registered names of a kind, looked up when a value is checked.

    Every name is allowed until the registry is loaded; building the networks then reports an unknown one.

    Args:
        kind: Kind of the names, such as ``family``.
        kinds: Its plural, as in ``zoo list families``.
        several: Allow several names, separated by commas.
    """

    def names() -> Iterable[str]:
        return _registered_names.get(kind, tuple)()

    def known(value: Any) -> bool:
        return kind not in _registered_names or value in names()

    return Check(f"a name from `zoo list {kinds}`", known, (kind, names), several)


def at_least(low: float) -> Check:
    """Allow values ≥ ``low``."""
    return Check(f"at least {low:g}", lambda v: v >= low, low=low)


def above(low: float) -> Check:
    """Allow values > ``low``."""
    return Check(f"above {low:g}", lambda v: v > low, low=low)


def below(high: float) -> Check:
    """Allow values < ``high``."""
    return Check(f"below {high:g}", lambda v: v < high, high=high)


def between(low: float, high: float, inclusive: Literal["both", "left"] = "both") -> Check:
    """Allow values in an interval.

    Args:
        low: Lower limit, allowed.
        high: Upper limit.
        inclusive: ``both`` allows ``high``; ``left`` does not.
    """
    if inclusive == "left":
        return Check(f"at least {low:g} and below {high:g}", lambda v: low <= v < high, low=low, high=high)
    return Check(f"between {low:.10g} and {high:.10g}", lambda v: low <= v <= high, low=low, high=high)


@attrs.frozen
class OptionInfo:
    """Description of an option, for the command line, the docs and settings files.

    Args:
        name: Name of the field.
        kind: ``int``, ``float``, ``bool`` or ``str``.
        default: Default value.
        help: Help text.
        choices: Allowed values of a ``Literal``.
        optional: Whether None is allowed.
        checks: Constraints on the value.
    """

    name: str
    kind: type
    default: Any
    help: str
    choices: tuple[Any, ...] = ()
    optional: bool = False
    checks: tuple[Check, ...] = ()

    @property
    def flag(self) -> str:
        """Flag of ``zoo run``, such as ``--latent``."""
        return "--" + self.name.replace("_", "-")

    @property
    def limits(self) -> tuple[float, float]:
        """Lower and upper limit of a number, infinite without one; the limits themselves may not be allowed."""
        return max((c.low for c in self.checks), default=-math.inf), min(
            (c.high for c in self.checks), default=math.inf
        )

    @property
    def several(self) -> bool:
        """Whether the value is a list separated by commas; its flag can be repeated."""
        return any(check.several for check in self.checks)

    @property
    def allows(self) -> str:
        """Description of the allowed values; empty if all values of the type are allowed."""
        if self.choices:
            return "one of " + ", ".join(str(c) for c in self.choices)
        return " and ".join(c.allows for c in self.checks)

    def validate(self, value: Any) -> Any:
        """Check a value and convert it to the type of the option.

        Raises:
            UsageError: If the value is not allowed.
        """
        if value is None and self.optional:
            return None
        if self.kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, self.kind) or (isinstance(value, bool) and self.kind is not bool):
            raise UsageError(f"{self.name}: {value!r} is not allowed; must be of type {self.kind.__name__}")
        if isinstance(value, int) and abs(value) > _LARGEST_INT:
            raise UsageError(f"{self.name}: {value} is not allowed; must be between {-_LARGEST_INT} and {_LARGEST_INT}")
        if isinstance(value, float) and not math.isfinite(value):
            raise UsageError(f"{self.name}: {value} is not allowed; must be a finite number")
        if self.choices and value not in self.choices:
            raise UsageError(f"{self.name}: {value!r} is not allowed; must be {self.allows}")
        for check in self.checks:
            for part in split_names(str(value)) if check.several else (value,):
                if not check.test(part):
                    if check.names:
                        kind, names = check.names
                        raise unknown_name(kind, str(part), names())
                    raise UsageError(f"{self.name}: {part!r} is not allowed; must be {check.allows}")
        return value


def split_names(text: str | None) -> tuple[str, ...]:
    """Names separated by commas, each once.

    >>> split_names("mlflow, wandb,mlflow"), split_names(None)
    (('mlflow', 'wandb'), ())
    """
    return tuple(dict.fromkeys(part.strip() for part in text.split(","))) if text else ()


def option(default: Any, help: str, *checks: Check) -> Any:
    """Field of a model's settings.

    Its annotation is ``int``, ``float``, ``bool``, ``str`` or ``Literal[...]``, or one of these ``| None``.

    Args:
        default: Default value.
        help: Help text, one sentence.
        *checks: Constraints on the value, such as :func:`zoo.at_least`.
    """
    return attrs.field(default=default, kw_only=True, metadata={_KEY: (help, checks)}, validator=_validate_field)


def _validate_field(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    checked = get_options(type(instance))[attribute.name].validate(value)
    if checked is not value:
        object.__setattr__(instance, attribute.name, checked)


if TYPE_CHECKING:
    from attrs import frozen
else:

    def frozen(cls: type) -> type:
        """``attrs.frozen`` for settings: immutable, keyword-only, compared by value."""
        return attrs.frozen(cls, kw_only=True, slots=False)


def get_options(cls: type) -> Mapping[str, OptionInfo]:
    """Options of a settings class by name, in the order of declaration."""
    cached = cls.__dict__.get("_zoo_options")
    if cached is not None:
        return typing.cast("Mapping[str, OptionInfo]", cached)
    hints = typing.get_type_hints(cls)
    found: dict[str, OptionInfo] = {}
    for field in attrs.fields(cls):
        if _KEY in field.metadata:
            text, checks = field.metadata[_KEY]
            found[field.name] = _info(field.name, hints[field.name], field.default, text, checks)
    cls._zoo_options = found  # type: ignore[attr-defined]
    return found


def _info(name: str, hint: Any, default: Any, text: str, checks: tuple[Check, ...]) -> OptionInfo:
    optional = False
    if get_origin(hint) in (Union, types.UnionType):
        inner = [a for a in get_args(hint) if a is not type(None)]
        optional = len(inner) < len(get_args(hint))
        if len(inner) != 1:
            raise TypeError(f"option {name}: {hint} is not allowed; must be one type, optionally `| None`")
        hint = inner[0]
    choices: tuple[Any, ...] = ()
    if get_origin(hint) is Literal:
        choices = get_args(hint)
        hint = type(choices[0])
    if hint not in (int, float, bool, str):
        raise TypeError(f"option {name}: {hint} is not allowed; must be int, float, bool, str or Literal")
    return OptionInfo(name, hint, default, text, choices, optional, checks)


def option_values(instance: Any) -> dict[str, Any]:
    """Values of all options by name, except None, which TOML does not have."""
    values = {name: getattr(instance, name) for name in get_options(type(instance))}
    return {name: value for name, value in values.items() if value is not None}


def build(cls: type, values: Mapping[str, Any]) -> Any:
    """Create an instance of a settings class.

    Args:
        cls: The class.
        values: Values of options by name.

    Raises:
        UsageError: If a name is not an option of ``cls``, or a value is not allowed.
    """
    known = get_options(cls)
    for name in values:
        if name not in known:
            raise unknown_name(f"option of {cls.__name__}", name, known)
    return cls(**values)
