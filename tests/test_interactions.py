from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
import torch
from conftest import NAMESPACES, SIZES, Kind, to_numpy
from hypothesis import given
from hypothesis import strategies as st

from equilib import banzhaf_values, coalitions, pairwise_synergy, shapley_interactions, shapley_values

FUNCTIONS = [shapley_interactions, pairwise_synergy, banzhaf_values]
numbers = st.floats(-1, 1, width=32)


# jax compiles every operation for every shape: test_tracing.py and the gradients below have it.
@pytest.fixture(params=[f"{n}-{d}" for n in ("numpy", "strict", "torch") for d in ("float32", "float64")])
def kind(request: pytest.FixtureRequest) -> Kind:
    name, dtype = request.param.split("-")
    return Kind(NAMESPACES[name], getattr(NAMESPACES[name], dtype), {"float32": 1e-5, "float64": 1e-12}[dtype])


@st.composite
def tables(draw: st.DrawFn, players: st.SearchStrategy[int] = SIZES) -> list[float]:
    n = draw(players)
    return draw(st.lists(numbers, min_size=2**n, max_size=2**n))


def players_of(table) -> int:
    return len(table).bit_length() - 1


# --- definitions -----------------------------------------------------------------------------------------------------


@given(table=tables())
def test_interactions_agree_with_the_definition(kind: Kind, table):
    matrix = shapley_interactions(kind.array(table))
    assert kind.owns(matrix)
    expected = np.asarray(reference.interactions(table), dtype=float)
    np.testing.assert_allclose(to_numpy(matrix), expected, rtol=0, atol=2 * kind.tolerance)


@given(table=tables())
def test_banzhaf_values_agree_with_the_definition(kind: Kind, table):
    values = banzhaf_values(kind.array(table))
    assert kind.owns(values)
    expected = [float(x) for x in reference.banzhaf(table)]
    np.testing.assert_allclose(to_numpy(values), expected, rtol=0, atol=kind.tolerance)


# Eighths: the sums below are far from 0 or exactly 0, where dividing by them is no matter of rounding.
@given(eighths=st.sampled_from((2, 4)).flatmap(lambda n: st.lists(st.integers(0, 8), min_size=2**n, max_size=2**n)))
def test_synergy_agrees_with_the_definition(kind: Kind, eighths):
    table = [x / 8 for x in eighths]
    n = players_of(table)
    synergy = pairwise_synergy(kind.array(table))
    assert kind.owns(synergy)
    expected = [[0 if i == j else float(reference.synergy(table, i, j)) for j in range(n)] for i in range(n)]
    scale = np.abs(expected).max() < 1  # where it is cut, J may be as small as rounding
    np.testing.assert_allclose(to_numpy(synergy), expected, rtol=0, atol=100 * kind.tolerance if scale else 1e-3)


@pytest.mark.parametrize("n", [6, 12, 13, 15])
def test_every_way_to_compute_agrees(n):
    table = np.random.default_rng(n).normal(size=2**n)
    matrix, other = shapley_interactions(table), shapley_interactions(torch.asarray(table)).numpy()
    np.testing.assert_allclose(matrix, other, rtol=0, atol=1e-13)
    np.testing.assert_allclose(matrix.sum(1), shapley_values(table), rtol=0, atol=1e-13)
    np.testing.assert_array_equal(matrix, matrix.T)
    np.testing.assert_allclose(pairwise_synergy(table), pairwise_synergy(torch.asarray(table)), rtol=0, atol=1e-9)
    np.testing.assert_allclose(banzhaf_values(table), banzhaf_values(torch.asarray(table)), rtol=0, atol=1e-13)


# --- axioms ----------------------------------------------------------------------------------------------------------


@given(table=tables(SIZES | st.just(9)))
def test_rows_add_up_to_the_shapley_values(kind: Kind, table):
    values = kind.array(table)
    rows = to_numpy(shapley_interactions(values)).sum(1)
    np.testing.assert_allclose(rows, to_numpy(shapley_values(values)), rtol=0, atol=10 * kind.tolerance)


@given(table=tables(), data=st.data())
def test_a_null_player_interacts_with_nobody(kind: Kind, table, data):
    n = players_of(table)
    null = data.draw(st.integers(0, n - 1))
    values = kind.array([table[row & ~(1 << null)] for row in range(2**n)])
    np.testing.assert_allclose(to_numpy(shapley_interactions(values))[null], np.zeros(n), atol=2 * kind.tolerance)
    assert float(banzhaf_values(values)[null]) == pytest.approx(0, abs=kind.tolerance)


@given(worth=st.lists(numbers, min_size=5, max_size=5))
def test_players_who_only_add_up_do_not_interact(kind: Kind, worth):
    values = kind.array((coalitions(5) @ np.asarray(worth)).tolist())
    np.testing.assert_allclose(to_numpy(shapley_interactions(values)), np.diag(worth), atol=5 * kind.tolerance)
    np.testing.assert_allclose(to_numpy(banzhaf_values(values)), worth, atol=5 * kind.tolerance)


@given(table=tables(), data=st.data())
def test_relabelling_players_relabels_their_pairs(kind: Kind, table, data):
    n = players_of(table)
    label = data.draw(st.permutations(range(n)))
    relabelled = [0.0] * 2**n
    for row, value in enumerate(table):
        relabelled[sum(1 << label[i] for i in range(n) if row >> i & 1)] = value
    before, after = (to_numpy(shapley_interactions(kind.array(v))) for v in (table, relabelled))
    np.testing.assert_allclose(after[np.ix_(label, label)], before, rtol=0, atol=5 * kind.tolerance)


@given(n=SIZES, data=st.data(), a=numbers, b=numbers)
def test_linearity(kind: Kind, n, data, a, b):
    u, v = (kind.array(data.draw(st.lists(numbers, min_size=2**n, max_size=2**n))) for _ in range(2))
    for function in (shapley_interactions, banzhaf_values):
        combined, separate = function(a * u + b * v), a * function(u) + b * function(v)
        np.testing.assert_allclose(to_numpy(combined), to_numpy(separate), rtol=0, atol=5 * kind.tolerance)


@given(team=st.sets(st.integers(0, 4), min_size=2))
def test_a_team_that_works_only_complete_shares_its_interaction(kind: Kind, team):
    """Of a unanimity game of t players, the interaction index of a pair is 1/(t − 1) (Grabisch & Roubens)."""
    values = kind.array([float(all(row >> i & 1 for i in team)) for row in range(32)])
    matrix, synergy = to_numpy(shapley_interactions(values)), to_numpy(pairwise_synergy(values))
    for i in range(5):
        for j in set(range(5)) - {i}:
            together = i in team and j in team
            assert matrix[i, j] == pytest.approx(together / (len(team) - 1) / 2, abs=kind.tolerance)
            assert synergy[i, j] == pytest.approx(float(together), abs=100 * kind.tolerance)


@pytest.mark.parametrize("n", [13, 17, 18])
def test_pairs_of_a_large_table(n):
    """v(S) = Σ a_i + Σ b_ij over the pairs in S: half of b is the interaction, whatever the size of the table."""
    rng = np.random.default_rng(n)
    members, alone, pairs = coalitions(n).astype(float), rng.normal(size=n), np.triu(rng.normal(size=(n, n)), 1)
    table = members @ alone + ((members @ pairs) * members).sum(1)
    found, halves = shapley_interactions(np.stack([table, -table])), (pairs + pairs.T) / 2
    expected = halves + np.diag(alone)
    np.testing.assert_allclose(found, [expected, -expected], atol=1e-11)


def test_copies_are_redundant():
    held = coalitions(3)
    table = 0.5 * (held[:, 0] | held[:, 1]) + 0.25 * held[:, 2]
    np.testing.assert_allclose(pairwise_synergy(table), [[0, -1, 0], [-1, 0, 0], [0, 0, 0]], atol=1e-12)


# --- arrays ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2, -3])
def test_pairs_take_the_place_of_the_coalitions(kind: Kind, axis):
    shape = [2, 3, 4]
    shape[axis] = 8
    table = np.random.default_rng(1).normal(size=shape)
    for function in (shapley_interactions, pairwise_synergy):
        matrix = to_numpy(function(kind.array(table), axis=axis))
        place = axis % 3
        assert matrix.shape == (*shape[:place], 3, 3, *shape[place + 1 :])
        actual = np.moveaxis(matrix, (place, place + 1), (-2, -1)).reshape(-1, 3, 3)
        rows = np.moveaxis(table, axis, -1).reshape(-1, 8)
        expected = np.stack([function(row) for row in rows])
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-4 if kind.tolerance > 1e-9 else 1e-9)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_adds_up_in_float32(dtype):
    table = torch.rand(2**10, generator=torch.Generator().manual_seed(0)).to(dtype)
    for function in FUNCTIONS:
        result = function(table)
        assert result.dtype == dtype
        expected = function(table.double())
        # One rounding to the dtype at the end.
        assert torch.allclose(result.double(), expected, rtol=2 * torch.finfo(dtype).eps, atol=1e-3)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_truth_values_are_ones_and_zeros(xp, function):
    truth = [False, False, False, True, False, True, False, True]
    result = function(xp.asarray(truth))
    assert result.dtype == xp.asarray(0.5).dtype
    np.testing.assert_allclose(to_numpy(result), function([float(x) for x in truth]), atol=1e-6)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("row", range(4))
def test_rejects_values_that_are_not_finite(kind: Kind, function, bad, row):
    table = [0.0, 1.0, 2.0, 3.0]
    table[row] = bad
    with pytest.raises(ValueError, match=rf"^values must be finite, got {bad} in an array of shape \(4,\)$"):
        function(kind.array(table))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_rejects_what_is_no_table(function):
    with pytest.raises(ValueError, match=r"^values must list 2\*\*n coalitions"):
        function([1.0, 2.0, 3.0])


def test_one_player_has_no_pair():
    assert shapley_interactions([0.25, 1.0]).tolist() == [[0.75]]
    with pytest.raises(ValueError, match=r"^values must be of at least 2 players, got 1$"):
        pairwise_synergy([0.0, 1.0])


def test_a_large_offset_does_not_cancel():
    table = np.random.default_rng(0).integers(0, 9, 16).astype(float)
    for function in FUNCTIONS:
        np.testing.assert_allclose(function(table + 2.0**40), function(table), atol=1e-9)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_gradients_agree_with_differences(function):
    table = np.asarray([0.0, 0.4, 0.3, 0.6, 0.2, 0.7, 0.45, 1.0])
    rng = np.random.default_rng(0)
    weights = rng.normal(size=function(table).shape)
    leaf = torch.tensor(table, requires_grad=True)
    (function(leaf) * torch.tensor(weights)).sum().backward()
    step = 1e-6 * np.eye(8)
    slopes = [((function(table + d) - function(table - d)) * weights).sum() / 2e-6 for d in step]
    np.testing.assert_allclose(leaf.grad, slopes, atol=1e-7)
    traced = jax.jit(jax.grad(lambda t: (function(t) * jnp.asarray(weights, jnp.float32)).sum()))
    np.testing.assert_allclose(traced(jnp.asarray(table, jnp.float32)), slopes, atol=1e-4)
