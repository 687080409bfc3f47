from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import reference
import torch
from conftest import SIZES, Kind, to_numpy
from hypothesis import example, given
from hypothesis import strategies as st

from equilib import expected_when_missing

numbers = st.floats(-1, 1, width=32)
rates = st.floats(0, 1, exclude_max=True)


@given(n=SIZES, data=st.data(), rate=rates)
def test_agrees_with_the_definition(kind: Kind, n, data, rate):
    table = data.draw(st.lists(numbers, min_size=2**n, max_size=2**n))
    actual = expected_when_missing(kind.array(table), rate)
    assert kind.owns(actual)
    assert float(actual) == pytest.approx(float(reference.expected_when_missing(table, rate)), abs=kind.tolerance)


@given(n=SIZES, data=st.data())
def test_agrees_with_the_definition_for_rates_of_their_own(kind: Kind, n, data):
    table = data.draw(st.lists(numbers, min_size=2**n, max_size=2**n))
    own = data.draw(st.lists(st.floats(0, 0.875, width=32), min_size=n, max_size=n))
    own[0] = data.draw(st.sampled_from([own[0], 1.0 if n > 1 else 0.0, 0.0]))
    actual = expected_when_missing(kind.array(table), kind.array(own))
    assert kind.owns(actual)
    assert float(actual) == pytest.approx(float(reference.expected_when_missing(table, own)), abs=10 * kind.tolerance)
    assert float(expected_when_missing(table, own)) == pytest.approx(float(actual), abs=10 * kind.tolerance)


def test_what_is_always_missing_might_as_well_not_be_there():
    table = [9.0, 0.5, 0.25, 0.75, 0.125, 0.625, 0.375, 1.0]
    assert float(expected_when_missing(table, [0.5, 0.25, 1.0])) == float(expected_when_missing(table[:4], [0.5, 0.25]))
    assert float(expected_when_missing(table, [1.0, 1.0, 0.5])) == table[4]


def test_nearly_everything_missing_keeps_its_digits():
    own = [1 - 1e-12, 1 - 3e-12]
    assert float(expected_when_missing([9, 0.2, 0.4, 9], own)) == pytest.approx(0.25 * 0.2 + 0.75 * 0.4, rel=1e-3)


def test_rates_have_a_gradient():
    table, own, step = [0.1, 0.8, 0.6, 0.9], np.asarray([0.25, 0.0]), 1e-6
    leaf = torch.tensor(own, requires_grad=True)
    expected_when_missing(torch.tensor(table, dtype=torch.float64), leaf).backward()
    slopes = [
        (expected_when_missing(table, own + d) - expected_when_missing(table, own)) / step for d in step * np.eye(2)
    ]
    np.testing.assert_allclose(leaf.grad, slopes, atol=1e-5)


@pytest.mark.parametrize(
    ("rate", "message"),
    [
        ([0.5], r"rate must be a number or 2 of them, one per player, got shape \(1,\)"),
        ([[0.5, 0.5]], r"rate must be a number or 2 of them, one per player, got shape \(1, 2\)"),
        ([0.5, 1.5], r"rate must be in \[0, 1\] for every player, got 1.5"),
        ([-0.5, 0.5], r"rate must be in \[0, 1\] for every player, got -0.5"),
        ([1.0, 1.0], "rate must be below 1 for a player at least, or nothing is left, got 1 for all"),
        ([0.5, math.nan], r"rate must be finite, got nan in an array of shape \(2,\)"),
        (["a", "b"], "rate must be an array of real numbers, got a malformed list"),
    ],
)
def test_rejects_rates(rate, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        expected_when_missing([0, 1, 2, 3], rate)


@given(n=st.integers(1, 8), rate=rates, value=numbers)
@example(n=6, rate=math.nextafter(1, 0), value=1.0)
@example(n=6, rate=5e-324, value=1.0)
def test_a_constant_is_its_own_expectation(n, rate, value):
    table = [value] * 2**n
    table[0] = 100.0  # answers with no modality at all do not count
    assert float(expected_when_missing(table, rate)) == pytest.approx(value, rel=1e-13)


def test_nothing_missing_is_the_full_coalition(kind: Kind):
    assert float(expected_when_missing(kind.array([0.1, 0.2, 0.3, 0.7]), 0)) == float(kind.array([0.7])[0])


def test_nearly_everything_missing_is_the_mean_of_the_single_modalities():
    assert float(expected_when_missing([9, 0.2, 0.4, 9], 1 - 1e-12)) == pytest.approx(0.3)


def test_agrees_with_drawing():
    rng = np.random.default_rng(0)
    table = rng.uniform(size=8)
    rows = (rng.uniform(size=(200_000, 3)) >= 0.6) @ [1, 2, 4]
    assert float(expected_when_missing(table, 0.6)) == pytest.approx(table[rows[rows > 0]].mean(), abs=5e-3)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_reduces_the_axis_of_a_batch(kind: Kind, axis):
    table = np.random.default_rng(2).normal(size=(3, 8))
    batch = kind.array(table.T if axis == 0 else table)
    expected = [float(expected_when_missing(row, 0.3)) for row in table]
    np.testing.assert_allclose(to_numpy(expected_when_missing(batch, 0.3, axis=axis)), expected, atol=kind.tolerance)


@pytest.mark.parametrize("rate", [np.float32(0.5), np.float64(0.5), Fraction(1, 2)])
def test_takes_any_real_rate(rate):
    assert float(expected_when_missing([0, 1, 2, 3], rate)) == pytest.approx(2)


@pytest.mark.parametrize("rate", [1, 1.0, -0.1, math.nan, math.inf, "0.3", None, False, 0.5j])
def test_rejects_a_rate(rate):
    with pytest.raises(ValueError, match=r"^rate must be a number in \[0, 1\), got "):
        expected_when_missing([0, 1], rate)


@pytest.mark.parametrize(
    ("values", "axis", "message"),
    [
        ([0, 1, 2], -1, r"values must list 2\*\*n coalitions \(n >= 1\) along axis -1, got a length of 3"),
        ([0, math.nan], -1, r"values must be finite, got nan in an array of shape \(2,\)"),
        ([0, 1], 2, r"axis must be from -1 to 0 for values of shape \(2,\), got 2"),
    ],
)
def test_rejects_values(values, axis, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        expected_when_missing(values, 0.5, axis=axis)
