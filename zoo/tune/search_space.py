"""Search spaces: a dimension per option, from its declared limits or from text such as ``lr=1e-4..1e-2:log``."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import attrs

from zoo.errors import UsageError, unknown_name
from zoo.interfaces import Objective
from zoo.options import OptionInfo, get_options
from zoo.run.settings import RunSettings

if TYPE_CHECKING:
    import optuna

__all__ = ["Dimension", "default_space", "parse_search", "parse_space", "searchable"]

_SETTINGS = (
    "batch",
    "lr_schedule",
    "lr_milestones",
    "lr_gamma",
    "lr_warmup",
    "clip_grad_norm",
    "ema_decay",
)
"""Settings of a run that can be searched; the others change data, budget or scores, and trials would not be equal."""
_FLOAT_FACTOR, _INT_FACTOR = 10, 4
_SYNTAX = "NAME, NAME=LOW..HIGH, NAME=LOW..HIGH:log or NAME=A,B,C"


@attrs.frozen
class Dimension:
    """The values of one option that trials try: an interval, or choices.

    Args:
        name: Name of the option.
        kind: ``int``, ``float``, ``bool`` or ``str``.
        low: Smallest value of an interval.
        high: Largest value of an interval.
        log: Whether the interval is sampled uniformly in the logarithm.
        choices: The values, if it is no interval.
    """

    name: str
    kind: type
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    choices: tuple[Any, ...] = ()

    def __str__(self) -> str:
        if self.choices:
            return f"{self.name}={','.join(map(_text, self.choices))}"
        return f"{self.name}={_text(self.low)}..{_text(self.high)}{':log' if self.log else ''}"

    def distribution(self) -> optuna.distributions.BaseDistribution:
        """The distribution of Optuna."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.choices:
            return CategoricalDistribution(self.choices)
        if self.kind is int:
            return IntDistribution(int(self.low), int(self.high), log=self.log)
        return FloatDistribution(self.low, self.high, log=self.log)


def searchable(model: type[Objective]) -> dict[str, OptionInfo]:
    """Options of a model and settings of a run that trials can vary, by name."""
    settings = get_options(RunSettings)
    return {**{name: settings[name] for name in _SETTINGS}, **get_options(model)}


def parse_space(texts: Iterable[str], model: type[Objective]) -> tuple[Dimension, ...]:
    """Parse several texts of ``--search``; without any, :func:`default_space`.

    Raises:
        UsageError: If a text is not allowed, or two are of one option.
    """
    found: dict[str, Dimension] = {}
    for text in texts:
        dimension = parse_search(text, model)
        if dimension.name in found:
            raise UsageError(f"search: {dimension.name} is named twice")
        found[dimension.name] = dimension
    return tuple(found.values()) or default_space(model)


def parse_search(text: str, model: type[Objective]) -> Dimension:
    """Parse ``NAME``, ``NAME=LOW..HIGH``, ``NAME=LOW..HIGH:log`` or ``NAME=A,B,C``.

    ``NAME`` alone takes the interval from the limits and the default of the option, see :func:`default_space`.

    Raises:
        UsageError: If the name is unknown, or a value is not allowed.
    """
    name, equals, rest = text.partition("=")
    name, infos = name.strip().removeprefix("--").replace("-", "_"), searchable(model)
    if name not in infos:
        raise unknown_name("option to search", name, infos)
    info = infos[name]
    if not equals:
        return _derive(info)
    if ".." not in rest:
        return Dimension(name, info.kind, choices=tuple(dict.fromkeys(_value(info, part) for part in rest.split(","))))
    if info.kind not in (int, float):
        raise UsageError(f"search: {text!r} is not allowed; {name} is no number, so list its values: {name}=A,B")
    bounds, colon, scale = rest.partition(":")
    low, high = (_value(info, part) for part in bounds.split("..", 1))
    if colon and scale != "log":
        raise UsageError(f"search: {text!r} is not allowed; must be {_SYNTAX}")
    if not low < high or (scale == "log" and low <= 0):
        raise UsageError(f"search: {text!r} is not allowed; LOW must be below HIGH, and above 0 with :log")
    return Dimension(name, info.kind, low, high, bool(scale))


def default_space(model: type[Objective]) -> tuple[Dimension, ...]:
    """The float options of a model whose default is above 0, which change neither its networks nor its budget.

    An option with two finite limits is searched between them; any other from a tenth of its default to ten times its
    default, in the logarithm and within its limits.

    Raises:
        UsageError: If the model has none.
    """
    chosen = [i for i in get_options(model).values() if i.kind is float and not i.choices and (i.default or 0) > 0]
    if not chosen:
        raise UsageError("search: the model has no float option with a default above 0; name options with --search")
    return tuple(_derive(info) for info in chosen)


def _derive(info: OptionInfo) -> Dimension:
    if info.choices or info.kind is bool:
        return Dimension(info.name, info.kind, choices=info.choices or (False, True))
    low, high = info.limits
    if info.kind not in (int, float):
        raise UsageError(f"search: {info.name} has no limits; list its values: --search {info.name}=A,B")
    if math.isfinite(low) and math.isfinite(high):
        return _allowed(info, low, high, log=False)
    if not info.default or info.default <= 0:
        raise UsageError(f"search: {info.name} has no limits; name them: --search {info.name}=LOW..HIGH")
    factor = _INT_FACTOR if info.kind is int else _FLOAT_FACTOR
    return _allowed(info, max(low, info.default / factor), min(high, info.default * factor), log=True)


def _allowed(info: OptionInfo, low: float, high: float, *, log: bool) -> Dimension:
    """The interval without those of its ends that the option does not allow."""
    if info.kind is int:
        low, high = math.ceil(low), math.floor(high)
        low, high = low + (not _is_allowed(info, low)), high - (not _is_allowed(info, high))
        return Dimension(info.name, int, low, high, log and low > 0)
    margin = 1e-3 * (high - low)
    low = low if _is_allowed(info, low) else low + margin
    high = high if _is_allowed(info, high) else high - margin
    return Dimension(info.name, float, low, high, log)


def _is_allowed(info: OptionInfo, value: float) -> bool:
    try:
        info.validate(value)
    except UsageError:
        return False
    return True


def _value(info: OptionInfo, text: str) -> Any:
    text = text.strip()
    words: Mapping[str, bool] = {"true": True, "false": False}
    try:
        value: Any = words[text.lower()] if info.kind is bool else info.kind(text)
    except (KeyError, ValueError):
        raise UsageError(
            f"search: {text!r} is not allowed for {info.name}; must be of type {info.kind.__name__}, as in {_SYNTAX}"
        ) from None
    return info.validate(value)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:.6g}" if isinstance(value, float) else str(value)
