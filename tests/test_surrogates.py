"""The models behind adjusted sampling: what they say is exact, and they learn what they are for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import fresh
from equilib import coalitions, estimate_shapley, shapley_values
from equilib.estimators import adjusted
from equilib.estimators._likeness import REACH, Likeness
from equilib.estimators._products import LINEAR, Products
from equilib.estimators._trees import grow
from equilib.games import Airport, random_unanimity

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
    check_model(Products((products,)), rng)


@given(seed=st.integers(0, 2**32), kind=st.sampled_from(list(REACH)), odd=st.booleans())
def test_shapley_values_of_likeness_are_exact(seed, kind, odd):
    rng = np.random.default_rng(seed)
    relevance = rng.uniform(0.05, 3, N)
    centres = EVERY[rng.choice(2**N, 5, replace=False)]
    check_model(Likeness(LINEAR, kind, centres, relevance / relevance.mean(), odd), rng)


def check_model(model, rng):
    coefficients = rng.normal(size=(model.number(N), 2))
    table = model.design(EVERY) @ coefficients
    exact = np.asarray(shapley_values(table.T)).T
    # The empty coalition and that of all are no part of the model: their gain is shared equally.
    np.testing.assert_allclose(
        model.shapley(coefficients, N), exact - exact.mean(axis=0), atol=1e-9 * np.abs(table).max()
    )


@pytest.mark.parametrize("kind", REACH)
def test_likeness_is_a_kernel_and_odd_parts_are_odd(kind):
    rng = np.random.default_rng(3)
    centres = EVERY[rng.choice(2**N, 40, replace=False)]
    relevance = rng.uniform(0.05, 3, N)
    for odd in (False, True):
        model = Likeness(LINEAR, kind, centres, relevance / relevance.mean(), odd)
        own = model.penalty(N)[N:, N:]
        assert np.linalg.eigvalsh(own).min() > -1e-12 * np.trace(own)
        sections = model.design(centres)[:, N:]
        if odd:
            np.testing.assert_allclose(model.design(~centres)[:, N:], -sections, atol=1e-12)


def test_rules_are_better_known_with_trees():
    play, exact = tabulated(
        lambda z: np.where(z[:, 0], 1.0 * (z[:, 1] & ~z[:, 2]), np.where(z[:, 3], 2.0 * z[:, 4], -1.0 * z[:, 5])), 14
    )
    by_name = {
        name: np.mean([error(estimate_shapley(play, 14, budget=300, estimator=name, seed=s), exact) for s in range(3)])
        for name in ("adjusted", "boosted")
    }
    assert by_name["boosted"] < by_name["adjusted"]


@pytest.mark.parametrize(("n", "estimator"), [(65, "adjusted-paired"), (130, "adjusted-paired"), (130, "auto")])
def test_many_players_have_models_too(n, estimator):
    weights = np.random.default_rng(n).exponential(size=n)
    costs = tuple(weights.tolist())
    run = estimate_shapley(Airport(costs), budget=12 * n, estimator=estimator, seed=0)
    exact = Airport(costs).shapley_values
    assert (np.abs(run.values - exact) <= 5 * run.standard_errors).all()
    assert error(run, exact) < 0.1


def test_trees_are_right_where_much_is_known(monkeypatch):
    """Trees alone. A mean that they are grown beyond would come back as chance, where sizes are drawn partly."""
    monkeypatch.setattr(adjusted, "stack", lambda first, second, data: second)
    game = fresh.patches()
    run = estimate_shapley(game, budget=250 * game.n_players, estimator="boosted", seed=0)
    assert run.estimator == "adjusted-unpaired"
    assert (np.abs(run.values - game.shapley_values) <= 4 * run.standard_errors).all()


def test_a_few_products_are_found():
    def rule(z):
        x = 2.0 * z - 1
        return x[:, 0] * x[:, 1] * x[:, 2] - 2 * x[:, 3] * x[:, 4] * x[:, 5] + 4.0 * x[:, 6] * x[:, 7]

    play, exact = tabulated(rule, 14)
    assert error(estimate_shapley(play, 14, budget=1900, seed=0), exact) < 1e-8


def test_teams_of_all_sizes_are_learned():
    """As half of a game is known beyond what is linear, its error is far below that of regression alone."""
    game = random_unanimity(20, 40)
    exact = game.shapley_values
    auto, kernel = (
        np.mean([error(estimate_shapley(game, budget=1000, estimator=name, seed=s), exact) for s in range(3)])
        for name in ("auto", "kernel")
    )
    assert auto < kernel / 3


@pytest.mark.slow
def test_auto_goes_on_with_regression_where_the_sample_is_large():
    weights = np.random.default_rng(0).normal(size=300)

    def play(coalitions):
        return np.tanh(coalitions @ weights / 10)

    run = estimate_shapley(play, 300, budget=2**24 // 300 + 2000, seed=0)
    assert run.estimator.startswith("adjusted")
