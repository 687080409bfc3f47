"""The errors hold, also where one player or a few decide the game, and a stop can be believed."""

from __future__ import annotations

import numpy as np
import pytest

from equilib import coalitions, estimate_shapley, shapley_values
from equilib.estimators import ESTIMATORS
from equilib.estimators._errors import student
from equilib.estimators._sampling import Sampler
from equilib.games import Additive, random_kernel_machine, random_unanimity, random_voting

N = 12
RULES = {
    "apex": lambda z: (z[:, 0] & z[:, 1:].any(1)) | z[:, 1:].all(1),
    "all but one": lambda z: z[:, 1:].all(1),
    "small company": lambda z: z[:, 0] * (z.sum(1) <= 2) + 0.02 * z.sum(1),
    "five": lambda z: z[:, :5].sum(1) >= 3,
    "leader": lambda z: z[:, 0] * (z[:, 1:].sum(1) >= 4) + 0.1 * np.tanh(z.sum(1)),
    "nearly all": lambda z: z[:, 0] * (z[:, 1:].sum(1) >= z.shape[1] - 3),
}


def tabulated(rule, n=N):
    table = rule(coalitions(n)) * 1.0
    powers = 1 << np.arange(n)
    return (lambda z: table[z @ powers]), shapley_values(table)


@pytest.mark.parametrize("estimator", ["auto", "kernel", "kernel-unpaired", "permutation", "stratified"])
@pytest.mark.parametrize(("rule", "factor"), [(rule, 5 + 5 * (k % 2)) for k, rule in enumerate(RULES)])
def test_intervals_hold_where_few_decide(estimator, rule, factor):
    play, exact = tabulated(RULES[rule])
    runs = [estimate_shapley(play, N, budget=factor * N, estimator=estimator, seed=seed) for seed in range(40)]
    held = np.stack([np.abs(run.values - exact) <= 1.96 * run.standard_errors + 1e-12 for run in runs])
    assert held.mean() >= 0.93
    assert held.mean(axis=0).min() >= 0.8  # 90 %, three standard deviations of 40 runs lower


@pytest.mark.parametrize(
    ("estimator", "rule", "factor"),
    [
        ("permutation", "small company", 100),  # most players never meet what matters: rounding is no difference
        ("permutation", "nearly all", 8),
        ("antithetic", "nearly all", 40),  # counts of about two
        ("stratified", "small company", 15),  # one mean of two coalitions makes up the error
    ],
)
def test_intervals_hold_for_rare_events(estimator, rule, factor):
    n = 16
    play, exact = tabulated(RULES[rule], n)
    runs = [estimate_shapley(play, n, budget=factor * n, estimator=estimator, seed=seed) for seed in range(150)]
    held = np.stack([np.abs(run.values - exact) <= 1.96 * run.standard_errors + 1e-12 for run in runs])
    assert held.mean() >= 0.93
    assert held.mean(axis=0).min() >= 0.88  # 90 %, and the chance of 150 runs


@pytest.mark.parametrize(
    ("estimator", "rule"),
    [("auto", "all but one"), ("kernel", "apex"), ("exact", "apex"), ("exact", "five"), ("stratified", "nearly all")],
)
def test_intervals_hold_when_interrupted(estimator, rule):
    play, exact = tabulated(RULES[rule])
    estimates = []
    for seed in range(40):
        asked = 0

        def interrupted(z):
            nonlocal asked
            asked += len(z)
            if asked > 10 * N:
                raise KeyboardInterrupt
            return play(z)

        with pytest.raises(KeyboardInterrupt) as stop:
            estimate_shapley(
                interrupted,
                N,
                budget=2**N if estimator == "exact" else 80 * N,
                estimator=estimator,
                seed=seed,
                batch_size=N,
            )
        estimates.append(stop.value.estimate)
    held = np.stack([np.abs(run.values - exact) <= 1.96 * run.standard_errors + 1e-12 for run in estimates])
    assert held.mean() >= 0.93
    assert held.mean(axis=0).min() >= 0.8


@pytest.mark.parametrize("estimator", ["auto", "kernel", "permutation", "antithetic", "stratified"])
@pytest.mark.parametrize("game", [random_unanimity(), random_voting(), random_kernel_machine()])
def test_errors_are_no_larger_than_they_must_be(estimator, game):
    n = game.n_players
    runs = [estimate_shapley(game, n, budget=10 * n, estimator=estimator, seed=seed) for seed in range(20)]
    errors = np.stack([run.standard_errors for run in runs])
    off = np.stack([run.values for run in runs]) - game.shapley_values
    assert np.isfinite(errors).all()
    assert errors.mean() <= 1.65 * np.sqrt((off**2).mean())  # 1.5, and the chance of 20 runs


@pytest.mark.parametrize("estimator", ["auto", "kernel", "stratified", "antithetic"])
@pytest.mark.parametrize("rule", ["apex", "all but one", "small company"])
def test_a_stop_can_be_believed(estimator, rule):
    play, exact = tabulated(RULES[rule])
    tolerance = 0.04 * np.abs(exact).max()
    runs = [
        estimate_shapley(play, N, budget=100 * N, estimator=estimator, tolerance=tolerance, seed=seed)
        for seed in range(10)
    ]
    assert not any(run.converged and np.abs(run.values - exact).max() > 4 * tolerance for run in runs)


@pytest.mark.parametrize("estimator", ["kernel", "kernel-unpaired"])
@pytest.mark.parametrize("budget", [20, 33, 34, 48, 62, 64])
def test_a_regression_of_hardly_enough_coalitions_stays_in_bounds(estimator, budget):
    runs = [
        estimate_shapley(lambda z: z.all(1), 16, budget=budget, estimator=estimator, seed=seed) for seed in range(20)
    ]
    assert max(np.abs(run.values).max() for run in runs) < 3


def test_orders_know_whether_they_visited_all_coalitions():
    few, many = (
        estimate_shapley(lambda z: z.sum(1) ** 2, 4, budget=budget, estimator="permutation", seed=0)
        for budget in (20, 400)
    )
    assert not few.converged
    assert many.converged


@pytest.mark.parametrize("noise", [0.0, 1e-17])
def test_equal_orders_are_too_few_to_tell_rounding_or_not(noise):
    play = lambda z: z.sum(1) * (0.1 + noise) + z[:, 0] * noise  # noqa: E731
    few = estimate_shapley(play, 10, budget=100, estimator="permutation", seed=0)
    assert np.isinf(few.standard_errors).all()
    many = estimate_shapley(play, 10, budget=1000, estimator="permutation", seed=0)
    assert many.standard_errors.max() < 1e-3


@pytest.mark.parametrize("factor", [3, 4, 5, 8])
def test_auto_solves_additive_games(factor):
    weights = np.linspace(-1, 2, 20)
    estimate = estimate_shapley(Additive(weights), 20, budget=factor * 20, seed=1)
    np.testing.assert_allclose(estimate.values, weights, atol=1e-5)


@pytest.mark.parametrize("estimator", [name for name in ESTIMATORS if name not in ("auto", "exact")])
def test_a_small_budget_is_no_surer_than_a_large_one(estimator):
    game = random_unanimity(14, 20, seed=3)
    few, many = (estimate_shapley(game, 14, budget=b, estimator=estimator, seed=0) for b in (140, 1400))
    assert many.standard_errors.mean() < few.standard_errors.mean()


def test_quantiles_of_student():
    # t(.975) over z(.975), from tables.
    np.testing.assert_allclose(
        student(np.asarray([2.0, 5, 10, 30])) * 1.959964, [4.303, 2.571, 2.228, 2.042], rtol=0.03
    )


def test_players_that_a_pilot_left_out_are_met_by_what_is_drawn_next():
    n = 16
    for seed in range(20):
        sampler = Sampler(n, np.random.default_rng(seed))
        counts = np.zeros(n + 1, dtype=np.int64)
        counts[[2, n - 2]] = 4  # of 8 that meet everybody
        first, second = (sampler.draw(counts, pairs=False)[0] for _ in range(2))
        both = np.concatenate([first, second])
        few = both.sum(axis=1) == 2
        assert (both[few].sum(axis=0) == 1).all()
        assert ((~both[~few]).sum(axis=0) == 1).all()
