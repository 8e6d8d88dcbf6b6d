"""Options of models and runs: validation, messages, and the round trip through the settings file."""

from __future__ import annotations

import math
import tomllib
from typing import Literal

import attrs
import pytest
import tomli_w

from zoo.errors import UsageError
from zoo.options import (
    above,
    at_least,
    below,
    between,
    build,
    frozen,
    get_options,
    option,
    option_values,
)


@frozen
class Base:
    latent: int = option(16, "Dimensions of z.", at_least(1))
    lr: float = option(2e-4, "Learning rate.", above(0))
    decay: float = option(0.5, "Decay.", between(0, 1, inclusive="left"))
    family: Literal["conv", "mlp"] = option("conv", "Networks.")
    raw: bool = option(False, "Raw features.")
    note: str | None = option(None, "A remark.")
    samples: int | None = option(None, "How many.", at_least(2))


@frozen
class Child(Base):
    lr: float = option(1e-3, "Learning rate of the child.", above(0), below(1))
    share: float = option(0.25, "A share.", between(0, 1))
    stages: Literal[2, 4] = option(2, "Stages.")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("latent", 1),
        ("lr", 1e-30),
        ("decay", 0.0),
        ("decay", 0.999999),
        ("family", "mlp"),
        ("raw", True),
        ("note", ""),
        ("samples", 2),
        ("samples", None),
        ("share", 0.0),
        ("share", 1.0),
        ("stages", 4),
    ],
)
def test_values_at_the_edge_of_what_is_allowed_are_taken(name: str, value: object) -> None:
    assert getattr(Child(**{name: value}), name) == value


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("latent", 0, "at least 1"),
        ("lr", 0.0, "above 0"),
        ("lr", -1.0, "above 0"),
        ("lr", 1.0, "below 1"),
        ("decay", 1.0, "at least 0 and below 1"),
        ("decay", -1e-9, "at least 0 and below 1"),
        ("share", 1.0000001, "between 0 and 1"),
        ("samples", 1, "at least 2"),
        ("family", "transformer", "one of conv, mlp"),
        ("stages", 3, "one of 2, 4"),
        # Types. True is an int to Python, but `latent = true` in a settings file is a mistake.
        ("latent", True, "type int"),
        ("latent", 4.0, "type int"),
        ("latent", "4", "type int"),
        ("latent", None, "type int"),
        ("lr", True, "type float"),
        ("lr", "1e-3", "type float"),
        ("raw", 1, "type bool"),
        ("raw", "yes", "type bool"),
        ("note", 3, "type str"),
        ("family", None, "type str"),
        ("samples", 2.0, "type int"),
        ("stages", True, "type int"),
        # NaN passes no comparison, and would also pass none of the 'not allowed' ones.
        ("lr", math.nan, "a finite number"),
        ("share", math.nan, "a finite number"),
    ],
)
def test_a_value_that_is_not_allowed_is_refused_with_its_name_and_the_remedy(
    name: str, value: object, allowed: str
) -> None:
    with pytest.raises(UsageError) as caught:
        build(Child, {name: value})
    text = str(caught.value)
    assert text.startswith(f"{name}: ")
    assert str(value) in text
    assert f"must be {allowed}" in text or f"must be of {allowed}" in text
    with pytest.raises(UsageError, match=f"^{name}: "):  # by the constructor as by build
        Child(**{name: value})


def test_whole_numbers_are_taken_for_floats_and_become_floats() -> None:
    made = Base(lr=1)
    assert made.lr == 1.0
    assert type(made.lr) is float
    assert made == Base(lr=1.0), "a run must not differ from its repetition by `1` against `1.0`"
    assert hash(made) == hash(Base(lr=1.0))


def test_a_subclass_inherits_options_and_may_give_one_another_default_help_and_check() -> None:
    assert set(get_options(Child)) == {*get_options(Base), "share", "stages"}
    assert Base().lr == 2e-4
    assert Child().lr == 1e-3
    assert get_options(Child)["lr"].help == "Learning rate of the child."
    assert get_options(Base)["lr"].help == "Learning rate."
    assert Base(lr=5.0).lr == 5.0, "the child's check must not reach the parent"
    assert Child(latent=3).latent == 3
    with pytest.raises(UsageError, match="latent: 0"):
        Child(latent=0)


def test_the_parents_options_are_not_handed_to_a_child_whose_own_were_asked_for_later() -> None:
    @frozen
    class Parent:
        one: int = option(1, "One.")

    assert set(get_options(Parent)) == {"one"}

    @frozen
    class Late(Parent):
        two: int = option(2, "Two.")

    assert set(get_options(Late)) == {"one", "two"}


def test_what_the_command_line_needs_to_know_of_an_option() -> None:
    @frozen
    class Model:
        n_critic: Literal[1, 5] = option(5, "Critic steps.")
        clip: float | None = option(None, "Clip.", above(0), at_least(0.5))

    info = get_options(Model)
    assert list(info) == ["n_critic", "clip"], "in the order of declaration"
    n, clip = info.values()
    assert (n.flag, n.kind, n.choices, n.default, n.optional) == ("--n-critic", int, (1, 5), 5, False)
    assert n.allows == "one of 1, 5"
    assert (clip.kind, clip.optional, clip.allows) == (float, True, "above 0 and at least 0.5")


def test_settings_are_immutable_keyword_only_and_compared_by_value() -> None:
    made = Base(latent=4)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        made.latent = 5  # type: ignore[misc]
    with pytest.raises(TypeError):
        Base(4)  # type: ignore[misc]
    assert made == Base(latent=4) != Base(latent=5)


def test_a_default_that_its_own_check_refuses_is_found_at_once() -> None:
    @frozen
    class Wrong:
        latent: int = option(0, "Dimensions.", at_least(1))

    with pytest.raises(UsageError, match="latent: 0"):
        Wrong()


@pytest.mark.parametrize("hint", [list, int | str, "int | str | None", dict])
def test_an_annotation_that_no_flag_can_express_is_the_authors_error(hint: object) -> None:
    def body(namespace: dict[str, object]) -> None:
        namespace["__annotations__"] = {"thing": hint}
        namespace["thing"] = option(None, "A thing.")

    import types

    cls = frozen(types.new_class("Odd", (), {}, body))
    with pytest.raises(TypeError, match="option thing"):
        get_options(cls)


AWKWARD = {
    "latent": 2**40,
    "lr": 1e-300,
    "decay": 0.1 + 0.2,  # 0.30000000000000004: every digit counts
    "family": "mlp",
    "raw": True,
    "note": 'a "quote", a \\ and\nγ in two lines',
    "samples": 7,
    "share": 1 / 3,
    "stages": 4,
}


@pytest.mark.parametrize("values", [{}, AWKWARD, {"lr": 0.5, "share": 1}])
def test_settings_survive_toml_exactly(values: dict[str, object]) -> None:
    made = build(Child, values)
    read = tomllib.loads(tomli_w.dumps({"options": option_values(made)}))["options"]
    again = build(Child, read)
    assert again == made
    for name in get_options(Child):
        assert type(getattr(again, name)) is type(getattr(made, name))


def test_an_option_that_is_none_is_left_out_because_toml_has_no_null() -> None:
    assert "note" not in option_values(Base())
    assert option_values(Base(note="x"))["note"] == "x"
    assert set(option_values(Base())) == {"latent", "lr", "decay", "family", "raw"}


def test_fields_that_are_no_options_are_neither_settings_nor_flags() -> None:
    @frozen
    class Mixed:
        latent: int = option(2, "Dimensions.")
        model: str = ""

    assert set(get_options(Mixed)) == set(option_values(Mixed(model="vae"))) == {"latent"}
    with pytest.raises(UsageError, match="unknown option of Mixed 'model'"):
        build(Mixed, {"model": "vae"})


@pytest.mark.parametrize(("typed", "meant"), [("latnet", "latent"), ("sample", "samples"), ("LR", None)])
def test_an_unknown_option_is_named_with_the_nearest_and_all_that_there_are(typed: str, meant: str | None) -> None:
    with pytest.raises(UsageError) as caught:
        build(Child, {"latent": 3, typed: 4})
    text = str(caught.value)
    assert f"unknown option of Child {typed!r}." in text
    assert (f"Did you mean {meant!r}?" in text) if meant else ("Did you mean" not in text)
    for name in get_options(Child):
        assert name in text
