"""Named parameters in the notation NAME:parameter=value, as properties, and the registry of names."""

from __future__ import annotations

import math
import re
from dataclasses import fields
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from equilib_torch import InputError, TrainOptions
from equilib_torch.methods import METHODS
from equilib_torch.parameters import Parameter, format_spec, read_parameters, split_spec
from equilib_torch.registry import Registry

NAMES = st.from_regex(r"[a-z]+(_[a-z]+)*", fullmatch=True)
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters=":"), max_size=8)
DECLARED = [(method, parameter) for method in METHODS.values() for parameter in method.parameters]
IDS = [f"{method.name}:{parameter.written}" for method, parameter in DECLARED]


@st.composite
def numbers(draw):
    """A parameter that is a number, and a value that it allows."""
    kind = draw(st.sampled_from([int, float]))
    low, value, high = sorted(draw(st.lists(st.integers(-(10**6), 10**6), min_size=3, max_size=3, unique=True)))
    if kind is float:
        value += draw(st.floats(-0.4, 0.4))
    parameter = Parameter(draw(NAMES), kind, kind(value), "x", low=low, high=high, above=draw(st.booleans()))
    return parameter, kind(value)


@st.composite
def parameters_with_values(draw):
    """A parameter of any type, and a value that it allows."""
    kind = draw(st.sampled_from([bool, str, float]))
    if kind is float:
        return draw(numbers())
    value = draw(st.booleans() if kind is bool else TEXTS)
    return Parameter(draw(NAMES), kind, value, "x"), value


def assert_refused(parameter, value):
    with pytest.raises(InputError) as refusal:
        parameter.read(value, "method joint")
    message = str(refusal.value)
    assert message.isprintable()  # hence one line
    assert message.startswith(f"method joint: {parameter.written} must be {parameter.rule}, got ")
    shown = message.rpartition(", got ")[2]
    assert shown in (str(value), repr(value))
    assert shown


# --- the notation ----------------------------------------------------------------------------------------------------


@given(name=NAMES, written=st.dictionaries(NAMES, TEXTS))
def test_a_spec_is_split_into_what_it_was_made_of(name, written):
    assert split_spec(format_spec(name, written)) == (name, written)


@given(st.lists(parameters_with_values(), unique_by=lambda pair: pair[0].name))
def test_values_written_in_a_spec_are_read_again(pairs):
    declared = [parameter for parameter, _ in pairs]
    values = {parameter.name: value for parameter, value in pairs}
    spec = format_spec("joint", {parameter.written: value for parameter, value in pairs})
    name, written = split_spec(spec)
    assert name == "joint"
    assert read_parameters("method joint", declared, written) == values
    assert read_parameters("method joint", declared, {p.written: values[p.name] for p in declared}) == values


@given(st.lists(parameters_with_values(), unique_by=lambda pair: pair[0].name), st.data())
def test_what_is_left_out_has_its_default(pairs, data):
    declared = [parameter for parameter, _ in pairs]
    given_parameters = {p.written for p in declared if data.draw(st.booleans())}
    read = read_parameters("x", declared, {p.written: value for p, value in pairs if p.written in given_parameters})
    assert read == {p.name: value if p.written in given_parameters else p.default for p, value in pairs}


@pytest.mark.parametrize("text", ["joint:", "joint:alpha", "joint:=1", "joint:alpha=1:", ":"])
def test_what_is_no_spec(text):
    with pytest.raises(InputError, match=r"must be NAME:parameter=value, got '\w*(=1)?'"):
        split_spec(text)


def test_a_parameter_is_set_once():
    with pytest.raises(InputError, match="'mla:alpha=1:alpha=2' must set alpha once, got '2' too"):
        split_spec("mla:alpha=1:alpha=2")


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ([], "method joint has no parameters, got colour=red"),
        (
            [Parameter("b_c", int, 1, "x"), Parameter("a", int, 1, "x")],
            "method joint has the parameters a, b-c, got colour=red",
        ),
    ],
)
def test_an_unknown_parameter(declared, message):
    with pytest.raises(InputError, match=f"^{message}$"):
        read_parameters("method joint", declared, {"colour": "red"})


# --- types and ranges ------------------------------------------------------------------------------------------------


@given(numbers(), st.booleans())
def test_numbers_outside_their_range_are_refused(pair, as_text):
    parameter, _ = pair
    outside = [parameter.low - 1, parameter.high + 1, -math.inf, math.inf, math.nan, 10**400]
    for value in [*outside, parameter.low] if parameter.above else outside:
        assert_refused(parameter, str(value) if as_text else value)


@given(numbers())
def test_the_ends_of_a_range_are_in_it(pair):
    parameter, _ = pair
    assert parameter.read(parameter.high, "x") == parameter.high
    if not parameter.above:
        assert parameter.read(str(parameter.low), "x") == parameter.low


@pytest.mark.parametrize("kind", [int, float])
@pytest.mark.parametrize("value", ["", "\n", "much", "1\n2", True, False, None, [1], {}, 1j, b"1", "none", "1e", "0x1"])
def test_what_is_no_number(kind, value):
    assert_refused(Parameter("alpha", kind, 1, "x"), value)


@pytest.mark.parametrize("value", [0.5, "2.5", "1e-3"])
def test_what_is_no_whole_number(value):
    assert_refused(Parameter("every", int, 1, "x"), value)


def test_whole_numbers_may_be_written_as_others():
    for value in (5, 5.0, "5", "5.0", "5e0"):
        read = Parameter("every", int, 1, "x").read(value, "x")
        assert type(read) is int
        assert read == 5


@pytest.mark.parametrize("value", ["yes", "", 1, 0, None, "none"])
def test_what_is_neither_true_nor_false(value):
    assert_refused(Parameter("frozen", bool, True, "x"), value)


@given(TEXTS)
def test_text_has_its_choices(text):
    parameter = Parameter("policy", str, "random", "x", choices=("random", "fixed"))
    assert parameter.rule == "one of random, fixed"
    if text not in parameter.choices:
        assert_refused(parameter, text)
    assert parameter.read("fixed", "x") == "fixed"
    assert Parameter("policy", str, "random", "x").read(text, "x") == text


@pytest.mark.parametrize("nothing", [None, "none", "null"])
def test_nothing_may_be_said_only_where_nothing_is_the_default(nothing):
    assert Parameter("n", int, None, "x").read(nothing, "x") is None
    assert_refused(Parameter("n", int, 1, "x"), nothing)


@pytest.mark.parametrize(
    ("limits", "rule"),
    [
        ({}, "a number"),
        ({"low": 0}, "a number from 0 up"),
        ({"low": 0, "above": True}, "a number above 0"),
        ({"low": 0, "high": 1}, "a number from 0 up to 1"),
        ({"low": 0, "high": 1, "above": True}, "a number above 0 up to 1"),
        ({"high": 1}, "a number up to 1"),
    ],
)
def test_rules_in_words(limits, rule):
    assert Parameter("x", float, 1.0, "x", **limits).rule == rule
    assert Parameter("x", int, 1, "x", **limits).rule == rule.replace("number", "whole number")


# --- declarations ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "parameter"), DECLARED, ids=IDS)
def test_declared_defaults_and_trials_obey_their_own_rule(method, parameter):
    values = [parameter.default, *parameter.trials]
    assert len(set(values)) == len(values)
    for value in values:
        for written in (value, "none" if value is None else str(value)):
            read = parameter.read(written, method.name)
            assert read == value
            assert value is None or type(read) is parameter.type
    assert parameter.description


@pytest.mark.parametrize(("method", "parameter"), DECLARED, ids=IDS)
def test_declared_names_can_be_written(method, parameter):
    assert re.fullmatch("[a-z]+(_[a-z]+)*", parameter.name)  # hence neither ":" nor "="
    assert parameter.name not in {field.name for field in fields(TrainOptions)}
    assert [p.name for p in method.parameters].count(parameter.name) == 1


def test_only_scheduled_methods_grant_updates():
    granting = {
        name for name, method in METHODS.items() if "updates-per-batch" in [p.written for p in method.parameters]
    }
    assert granting == {name for name, method in METHODS.items() if method.scheduled}
    assert {"equilib", "alternating"} <= granting


# --- the registry ----------------------------------------------------------------------------------------------------


@given(st.lists(NAMES, unique=True, min_size=1), NAMES)
def test_a_registry_finds_what_it_was_given_in_order(names, other):
    entries = [SimpleNamespace(name=name, description=f"about {name}") for name in names]
    registry = Registry("colour", entries)
    assert list(registry) == names
    assert list(registry.values()) == entries
    assert registry.descriptions() == {name: f"about {name}" for name in names}
    for entry in entries:
        assert registry.find(entry.name) is registry[entry.name] is entry
    if other not in names:
        with pytest.raises(InputError, match=f"^colour must be one of {', '.join(names)}, got '{other}'$"):
            registry.find(other)


@pytest.mark.parametrize("name", [None, 3, ["joint"], "Joint", ""])
def test_a_registry_says_which_argument_named_what_it_does_not_have(name):
    with pytest.raises(InputError) as refusal:
        METHODS.find(name, what="methods")
    assert str(refusal.value) == f"methods must be one of {', '.join(METHODS)}, got {name!r}"


def test_a_registry_refuses_two_of_a_name():
    entry = SimpleNamespace(name="red", description="")
    with pytest.raises(ValueError, match="colour: names must be distinct, got 'red' twice"):
        Registry("colour", [entry, entry])
