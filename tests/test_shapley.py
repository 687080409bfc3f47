from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import reference
from conftest import SIZES, Kind, array_types, to_numpy
from hypothesis import example, given
from hypothesis import strategies as st

import equilib
from equilib import coalitions, shapley_values

numbers = st.floats(-1, 1, width=32)


@st.composite
def tables(draw: st.DrawFn, players: st.SearchStrategy[int] = SIZES) -> list[float]:
    n = draw(players)
    return draw(st.lists(numbers, min_size=2**n, max_size=2**n))


def players_of(table: list[float]) -> int:
    return len(table).bit_length() - 1


@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_coalitions_follow_the_bits_of_the_row(xp, n):
    table = coalitions(n, xp=xp)
    assert isinstance(table, array_types(xp))
    assert table.dtype == (xp.bool if hasattr(xp, "bool") else xp.bool_)
    assert tuple(table.shape) == (2**n, n)
    expected = [[bool(row >> i & 1) for i in range(n)] for row in range(2**n)]
    assert to_numpy(table).tolist() == expected


def test_coalitions_take_a_compat_namespace():
    import array_api_compat.torch as xp

    assert isinstance(coalitions(2, xp=xp), array_types(xp))


@pytest.mark.parametrize("n", [np.int64(2), np.asarray(2)])
def test_coalitions_take_any_integer(n):
    assert coalitions(n).shape == (4, 2)


@pytest.mark.parametrize(
    ("n", "message"),
    [
        (0, "n must be from 1 to 30, got 0"),
        (-3, "n must be from 1 to 30, got -3"),
        (31, "n must be from 1 to 30, got 31"),
        (2.0, "n must be an integer, got 2.0"),
        (True, "n must be an integer, got True"),
        ("2", "n must be an integer, got '2'"),
        (None, "n must be an integer, got None"),
    ],
)
def test_coalitions_reject(n, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        coalitions(n)


def test_coalitions_reject_what_is_no_namespace():
    with pytest.raises(ValueError, match=r"^xp must be an array module such as numpy, torch or jax.numpy, got <module"):
        coalitions(2, xp=math)


@given(table=tables())
def test_agrees_with_the_permutations(kind: Kind, table):
    values = shapley_values(kind.array(table))
    assert kind.owns(values)
    assert tuple(values.shape) == (players_of(table),)
    expected = [float(x) for x in reference.shapley_by_permutations(table)]
    np.testing.assert_allclose(to_numpy(values), expected, rtol=0, atol=kind.tolerance)


def test_agrees_with_the_permutations_of_six_players():
    table = np.random.default_rng(0).normal(size=64).tolist()
    expected = [float(x) for x in reference.shapley_by_permutations(table)]
    np.testing.assert_allclose(shapley_values(table), expected, rtol=0, atol=1e-14)


@given(table=tables(SIZES | st.just(9)))
def test_efficiency(kind: Kind, table):
    total = math.fsum(to_numpy(shapley_values(kind.array(table))).tolist())
    assert total == pytest.approx(table[-1] - table[0], abs=kind.tolerance)


@given(table=tables(), data=st.data())
def test_null_player_gets_nothing(kind: Kind, table, data):
    n = players_of(table)
    null = data.draw(st.integers(0, n - 1))
    values = shapley_values(kind.array([table[row & ~(1 << null)] for row in range(2**n)]))
    assert float(values[null]) == pytest.approx(0, abs=kind.tolerance)


@given(table=tables(), data=st.data())
def test_relabelling_players_relabels_their_values(kind: Kind, table, data):
    n = players_of(table)
    label = data.draw(st.permutations(range(n)))
    relabelled = [0.0] * 2**n
    for row, value in enumerate(table):
        relabelled[sum(1 << label[i] for i in range(n) if row >> i & 1)] = value
    before, after = (to_numpy(shapley_values(kind.array(v))) for v in (table, relabelled))
    np.testing.assert_allclose(after[np.asarray(label)], before, rtol=0, atol=kind.tolerance)


@given(n=SIZES, data=st.data())
def test_symmetric_players_share_equally(kind: Kind, n, data):
    by_size = data.draw(st.lists(numbers, min_size=n + 1, max_size=n + 1))
    values = to_numpy(shapley_values(kind.array([by_size[row.bit_count()] for row in range(2**n)])))
    np.testing.assert_allclose(values, [(by_size[-1] - by_size[0]) / n] * n, rtol=0, atol=kind.tolerance)


@given(n=SIZES, data=st.data(), a=numbers, b=numbers)
def test_linearity(kind: Kind, n, data, a, b):
    u, v = (kind.array(data.draw(st.lists(numbers, min_size=2**n, max_size=2**n))) for _ in range(2))
    combined = to_numpy(shapley_values(a * u + b * v))
    separate = to_numpy(a * shapley_values(u) + b * shapley_values(v))
    np.testing.assert_allclose(combined, separate, rtol=0, atol=kind.tolerance)


@given(table=tables())
@example(table=[0.1, 0.2, 0.3, 0.4])
def test_large_offset_does_not_cancel(table):
    exact = [value * 2**20 // 1 for value in table]  # integers, which the offset leaves exact
    offset = 2.0**40
    expected = [float(x) for x in reference.shapley_by_permutations(exact)]
    np.testing.assert_allclose(shapley_values([x + offset for x in exact]), expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2, -3])
def test_batch_keeps_its_dimensions(kind: Kind, axis):
    rng = np.random.default_rng(1)
    shape = [2, 3, 4]
    shape[axis] = 16
    table = rng.normal(size=shape)
    values = shapley_values(kind.array(table), axis=axis)
    assert kind.owns(values)
    shape[axis] = 4
    assert tuple(values.shape) == tuple(shape)
    rows = np.moveaxis(table, axis, -1).reshape(-1, 16)
    expected = np.stack([shapley_values(row) for row in rows])
    actual = np.moveaxis(to_numpy(values), axis, -1).reshape(-1, 4)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=kind.tolerance)


def test_empty_batch():
    assert shapley_values(np.zeros((0, 8))).shape == (0, 3)


def test_one_player_gets_the_difference(kind: Kind):
    assert float(shapley_values(kind.array([0.25, 1.0]))[0]) == 0.75


def test_input_is_not_changed(kind: Kind):
    table = kind.array([1.0, 2.0, 3.0, 5.0])
    shapley_values(table)
    assert to_numpy(table).tolist() == [1, 2, 3, 5]


def test_large_table_in_float32():
    n = 16
    worth = np.linspace(-1, 1, n)
    table = coalitions(n).astype(np.float64) @ worth  # additive: each player gets its worth
    np.testing.assert_allclose(shapley_values(table), worth, rtol=0, atol=1e-13)
    np.testing.assert_allclose(shapley_values(table.astype(np.float32)), worth, rtol=0, atol=1e-5)


@pytest.mark.parametrize("values", [[0, 1, 2, 4], (0.0, 1.0, 2.0, 4.0), np.asarray([0, 1, 2, 4])])
def test_python_numbers_and_integers_become_float64(values):
    shapley = shapley_values(values)
    assert isinstance(shapley, np.ndarray)
    assert shapley.dtype == np.float64
    assert shapley.tolist() == [1.5, 2.5]


def test_integers_become_the_default_float(xp):
    assert shapley_values(xp.asarray([0, 1])).dtype == xp.asarray(0.5).dtype


def test_result_stays_on_the_device():
    import array_api_strict as xp

    elsewhere = xp.Device("device1")
    table = xp.asarray([0.0, 1.0, 2.0, 4.0], device=elsewhere)
    shapley = shapley_values(table)
    results = (
        shapley,
        equilib.contribution_shares(shapley),
        equilib.edm(shapley),
        equilib.edm(shapley, target=[0.5, 0.5]),
        equilib.expected_when_missing(table, 0.5),
        *(x for policy in ("fixed", "random") for x in equilib.shapley_schedule(shapley, policy=policy, seed=0)),
    )
    assert [x.device for x in results] == [elsewhere] * len(results)


@pytest.mark.parametrize("length", [0, 1, 3, 6, 12])
def test_rejects_a_length_that_is_no_power_of_two(kind: Kind, length):
    message = rf"^values must list 2\*\*n coalitions \(n >= 1\) along axis -1, got a length of {length}$"
    with pytest.raises(ValueError, match=message):
        shapley_values(kind.array([0.0] * length))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("row", range(4))
def test_rejects_values_that_are_not_finite(kind: Kind, bad, row):
    table = [0.0, 1.0, 2.0, 3.0]
    table[row] = bad
    with pytest.raises(ValueError, match=rf"^values must be finite, got {bad} in an array of shape \(4,\)$"):
        shapley_values(kind.array(table))


def test_rejects_an_overflow(kind: Kind):
    largest = float(kind.xp.finfo(kind.dtype).max)
    with pytest.raises(ValueError, match=r"^values must have differences that .*float\d\d can hold, got an overflow$"):
        shapley_values(kind.array([-largest, largest]))


@pytest.mark.parametrize(
    ("values", "axis", "message"),
    [
        ([0, 1j], -1, "values must hold real numbers, got dtype complex128"),
        (["a", "b"], -1, "values must hold real numbers, got dtype <U1"),
        ([None, 1], -1, "values must hold real numbers, got dtype object"),
        ([[0, 1], [2]], -1, "values must be an array of real numbers, got a ragged list"),
        (1.0, -1, "values must have at least one dimension, got a scalar"),
        ([0, 1], 1, r"axis must be from -1 to 0 for values of shape \(2,\), got 1"),
        ([[0, 1]], -3, r"axis must be from -2 to 1 for values of shape \(1, 2\), got -3"),
        ([0, 1], 0.5, "axis must be an integer, got 0.5"),
        ([0, 1], None, "axis must be an integer, got None"),
    ],
)
def test_rejects(values, axis, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        shapley_values(values, axis=axis)


def test_rejects_arrays_that_are_not_real(xp):
    values = xp.asarray([0, 1], dtype=xp.complex64)
    with pytest.raises(ValueError, match=r"^values must hold real numbers, got dtype .*complex64"):
        shapley_values(values)


def test_truth_values_are_ones_and_zeros(xp):
    shapley = shapley_values(xp.asarray([False, False, False, True, False, True, False, True]))
    assert shapley.dtype == xp.asarray(0.5).dtype
    np.testing.assert_allclose(to_numpy(shapley), [2 / 3, 1 / 6, 1 / 6], atol=1e-6)


def test_exactness_of_the_reference_itself():
    gloves = [0, 0, 0, 1, 0, 1, 0, 1]
    assert reference.shapley_by_permutations(gloves) == [Fraction(2, 3), Fraction(1, 6), Fraction(1, 6)]


@pytest.mark.parametrize("n", [13, 14, 15, 16, 19])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_large_tables_agree_with_the_formula_of_one_player(n, dtype):
    values = np.random.default_rng(n).normal(size=2**n).astype(dtype)
    sizes = coalitions(n).sum(1)
    weights = np.array([1 / (n * math.comb(n - 1, s)) for s in range(n)])
    got, atol = shapley_values(values), 1e-13 if dtype == np.float64 else 1e-6
    assert got.dtype == dtype
    for player in (0, n // 2, n - 1):
        without = np.flatnonzero((np.arange(2**n) >> player & 1) == 0)
        gains = values[without | 1 << player].astype(np.float64) - values[without]
        np.testing.assert_allclose(got[player], weights[sizes[without]] @ gains, atol=atol)


@pytest.mark.parametrize("n", [3, 8, 12, 16])
def test_a_large_offset_costs_no_digits(n):
    # Multiples of 2**-20: the offset 2**20 is added without rounding, so the results must agree to the last digits.
    values = np.round(np.random.default_rng(n).normal(size=2**n) * 2**20) / 2**20
    np.testing.assert_allclose(shapley_values(values + 2**20), shapley_values(values), rtol=1e-12, atol=1e-14)


def test_batches_of_large_tables():
    values = np.random.default_rng(0).normal(size=(2, 3, 2**15))
    each = [[shapley_values(table) for table in row] for row in values]
    np.testing.assert_array_equal(shapley_values(values), each)
    np.testing.assert_array_equal(shapley_values(np.moveaxis(values, -1, 0), axis=0), np.moveaxis(each, -1, 0))
