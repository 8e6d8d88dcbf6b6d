"""Options: an attrs field with a help text and a check becomes a validated setting, a flag and a TOML entry.

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
    "option",
    "option_values",
    "options_of",
    "registered",
    "set_registered_names",
]

_KEY = "zoo.option"


@attrs.frozen
class Check:
    """A predicate on a value, and the words for what it allows."""

    allows: str
    test: Callable[[Any], bool]
    names: tuple[str, Callable[[], Iterable[str]]] | None = None
    """Where names of registered things are allowed: what they name, and the names."""


_registered_names: dict[str, Callable[[], Iterable[str]]] = {}


def set_registered_names(kind: str, names: Callable[[], Iterable[str]]) -> None:
    """Let :func:`registered` look up the names of a kind. The registry calls it; options know no registry."""
    _registered_names[kind] = names


def registered(kind: str, kinds: str) -> Check:
    """Allows the registered names of a kind (``"family", "families"``), looked up when a value is checked.

    Allows every name while no registry is loaded; building the networks then reports an unknown one.
    """

    def names() -> Iterable[str]:
        return _registered_names.get(kind, tuple)()

    def known(value: Any) -> bool:
        return kind not in _registered_names or value in names()

    return Check(f"a name from `zoo list {kinds}`", known, (kind, names))


def at_least(low: float) -> Check:
    """Allows values ≥ ``low``."""
    return Check(f"at least {low:g}", lambda v: v >= low)


def above(low: float) -> Check:
    """Allows values > ``low``."""
    return Check(f"above {low:g}", lambda v: v > low)


def below(high: float) -> Check:
    """Allows values < ``high``."""
    return Check(f"below {high:g}", lambda v: v < high)


def between(low: float, high: float, inclusive: Literal["both", "left"] = "both") -> Check:
    """Allows ``low`` ≤ value ≤ ``high``; with ``inclusive="left"``, ``low`` ≤ value < ``high``."""
    if inclusive == "left":
        return Check(f"at least {low:g} and below {high:g}", lambda v: low <= v < high)
    return Check(f"between {low:.10g} and {high:.10g}", lambda v: low <= v <= high)


@attrs.frozen
class OptionInfo:
    """What the command line, the docs and the settings file need to know of one option."""

    name: str
    kind: type
    default: Any
    help: str
    choices: tuple[Any, ...] = ()
    optional: bool = False
    checks: tuple[Check, ...] = ()

    @property
    def flag(self) -> str:
        """The flag of ``zoo run``: ``--latent``."""
        return "--" + self.name.replace("_", "-")

    @property
    def allows(self) -> str:
        """What values are allowed, in words; empty when any value of the type is."""
        if self.choices:
            return "one of " + ", ".join(str(c) for c in self.choices)
        return " and ".join(c.allows for c in self.checks)

    def validate(self, value: Any) -> Any:
        """Return ``value`` as this option's type, or raise a :class:`UsageError` that says what is allowed."""
        if value is None and self.optional:
            return None
        if self.kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, self.kind) or (isinstance(value, bool) and self.kind is not bool):
            raise UsageError(f"{self.name}: {value!r} is not allowed; must be of type {self.kind.__name__}")
        if isinstance(value, float) and not math.isfinite(value):
            raise UsageError(f"{self.name}: {value} is not allowed; must be a finite number")
        if self.choices and value not in self.choices:
            raise UsageError(f"{self.name}: {value!r} is not allowed; must be {self.allows}")
        for check in self.checks:
            if not check.test(value):
                if check.names:
                    kind, names = check.names
                    raise unknown_name(kind, str(value), names())
                raise UsageError(f"{self.name}: {value!r} is not allowed; must be {check.allows}")
        return value


def option(default: Any, help: str, *checks: Check) -> Any:
    """A field of a model's settings: its default, one line of help, and what values it allows.

    The annotation gives the type: ``int``, ``float``, ``bool``, ``str``, ``Literal[...]`` for choices, or one of
    them ``| None``.
    """
    return attrs.field(default=default, kw_only=True, metadata={_KEY: (help, checks)}, validator=_validate_field)


def _validate_field(instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    checked = options_of(type(instance))[attribute.name].validate(value)
    if checked is not value:
        object.__setattr__(instance, attribute.name, checked)


if TYPE_CHECKING:
    from attrs import frozen
else:

    def frozen(cls: type) -> type:
        """``attrs.frozen`` for settings: immutable, keyword-only, compared by value."""
        return attrs.frozen(cls, kw_only=True, slots=False)


def options_of(cls: type) -> Mapping[str, OptionInfo]:
    """The options of a settings class, in the order of declaration."""
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
            raise TypeError(f"option {name}: one type, optionally None, is possible, not {hint}")
        hint = inner[0]
    choices: tuple[Any, ...] = ()
    if get_origin(hint) is Literal:
        choices = get_args(hint)
        hint = type(choices[0])
    if hint not in (int, float, bool, str):
        raise TypeError(f"option {name}: int, float, bool, str or Literal is possible, not {hint}")
    return OptionInfo(name, hint, default, text, choices, optional, checks)


def option_values(instance: Any) -> dict[str, Any]:
    """Every option's value by name, as TOML can hold it; an option that is None is left out."""
    values = {name: getattr(instance, name) for name in options_of(type(instance))}
    return {name: value for name, value in values.items() if value is not None}


def build(cls: type, values: Mapping[str, Any]) -> Any:
    """Make an instance of ``cls`` from settings by name.

    Raises:
        UsageError: for a name that is no option of ``cls``, and for a value that is not allowed.
    """
    known = options_of(cls)
    for name in values:
        if name not in known:
            raise unknown_name(f"option of {cls.__name__}", name, known)
    return cls(**values)
