"""The models behind adjusted sampling: what they say is exact, and they learn what they are for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from equilib import coalitions, estimate_shapley, shapley_values
from equilib.estimators._surrogate import Terms
from equilib.estimators._trees import grow

N = 10
EVERY = coalitions(N)


def error(estimate, exact):
    return np.mean((estimate.values - exact) ** 2) / np.mean(exact**2)


def tabulated(rule, n):
    table = rule(coalitions(n)) * 1.0
    powers = 1 << np.arange(n)
    return (lambda z: table[z @ powers]), shapley_values(table)


@given(seed=st.integers(0, 2**32), rows=st.integers(1, 300))
def test_shapley_values_of_trees_are_exact(seed, rows):
    rng = np.random.default_rng(seed)
    some = rng.choice(2**N, rows, replace=False)
    values = rng.normal(size=2**N) + 3 * EVERY[:, 0]
    forest = grow(EVERY[some], values[some], rng.uniform(0.1, 2, rows), rng)
    np.testing.assert_allclose(forest.shapley(N), shapley_values(forest.predict(EVERY)), atol=1e-9)


def test_trees_learn_maxima():
    rng = np.random.default_rng(0)
    values = (EVERY * np.arange(1.0, N + 1)).max(axis=1)
    some = rng.permutation(2**N)[:400]
    forest = grow(EVERY[some], values[some], np.ones(400), rng)
    assert np.mean((forest.predict(EVERY) - values) ** 2) < 0.01 * values.var()


@pytest.mark.parametrize("order", [2, 3, 5])
def test_shapley_values_of_products_are_exact(order):
    rng = np.random.default_rng(order)
    products = np.stack([np.sort(rng.choice(N, order, replace=False)) for _ in range(4)])
    terms = Terms((0, 1, 2), (products,))
    beta = rng.normal(size=(terms.number(N), 1))
    table = terms.design(EVERY, EVERY.sum(axis=1)) @ beta
    exact = shapley_values(table[:, 0])
    # The empty coalition and that of all are no part of the model: their gain is shared equally.
    np.testing.assert_allclose(
        terms.shapley(beta, N)[:, 0] - terms.shapley(beta, N).mean(), exact - exact.mean(), atol=1e-9
    )


def test_a_maximum_is_better_known_by_trees():
    worth = np.random.default_rng(1).exponential(size=14)
    play, exact = tabulated(lambda z: (z * worth).max(axis=1), 14)
    by_name = {
        name: np.mean([error(estimate_shapley(play, 14, budget=700, estimator=name, seed=s), exact) for s in range(3)])
        for name in ("adjusted", "boosted")
    }
    assert by_name["boosted"] < by_name["adjusted"] / 2


def test_products_of_five_players_are_found():
    def rule(z):
        x = 2.0 * z - 1
        return x[:, 0] * x[:, 1] * x[:, 2] * (1 + x[:, 3] * x[:, 4]) + 4.0 * x[:, 6] * x[:, 7]

    play, exact = tabulated(rule, 14)
    assert error(estimate_shapley(play, 14, budget=1900, seed=0), exact) < 1e-8


@pytest.mark.slow
def test_auto_goes_on_with_regression_where_the_sample_is_large():
    weights = np.random.default_rng(0).normal(size=300)

    def play(coalitions):
        return np.tanh(coalitions @ weights / 10)

    run = estimate_shapley(play, 300, budget=2**24 // 300 + 2000, seed=0)
    assert run.estimator.startswith("adjusted")
