"""Noisy games: the errors include the noise, and it is found out by repeats."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from equilib import coalitions, estimate_shapley, shapley_values
from equilib.estimators import ESTIMATORS
from equilib.repeated import Repeated

N = 10
DEVIATION = 0.5
TABLE = np.tanh(coalitions(N) @ np.linspace(0.0, 0.4, N)) + coalitions(N)[:, 0] * coalitions(N)[:, 1]
EXACT = shapley_values(TABLE)


def noisy(seed, deviation=DEVIATION):
    rng = np.random.default_rng(seed)
    return lambda z: TABLE[z @ (1 << np.arange(N))] + rng.normal(0, deviation, len(z))


@pytest.mark.parametrize("estimator", [name for name in ESTIMATORS if name != "boosted"])
def test_errors_include_the_noise_where_hardly_anything_is_left_to_draw(estimator):
    runs = [
        estimate_shapley(Repeated(noisy(seed), 2), N, budget=1024, estimator=estimator, seed=seed)
        for seed in range(1000, 1030)
    ]
    off = np.stack([run.values for run in runs]) - EXACT
    errors = np.stack([run.standard_errors for run in runs])
    assert (np.abs(off) <= 1.96 * errors).mean() >= 0.9
    assert errors.mean() <= 1.5 * np.sqrt((off**2).mean())


@pytest.mark.parametrize("estimator", list(ESTIMATORS))
def test_a_game_without_noise_is_as_it_was(estimator):
    plain, repeated = (
        estimate_shapley(game, N, budget=1024 if estimator == "exact" else 120, estimator=estimator, seed=0)
        for game in (noisy(0, 0.0), Repeated(noisy(0, 0.0), 2))
    )
    np.testing.assert_allclose(repeated.values, plain.values, atol=1e-12)
    np.testing.assert_allclose(repeated.standard_errors, plain.standard_errors, atol=1e-12)


@pytest.mark.parametrize("estimator", ["exact", "permutation", "kernel", "stratified", "adjusted"])
def test_the_error_of_one_player_is_that_of_two_answers(estimator):
    game = lambda z: z[:, 0] * 1.0  # noqa: E731
    game.noise = 0.3
    estimate = estimate_shapley(game, 1, budget=2, estimator=estimator)
    np.testing.assert_allclose(estimate.standard_errors, 0.3 * np.sqrt(2))


def test_exact_errors_by_hand():
    # Two players: half of v(1) - v(0), and half of v(12) - v(2), four answers.
    game = lambda z: z.sum(1) * 1.0  # noqa: E731
    game.noise = 0.2
    np.testing.assert_allclose(estimate_shapley(game, 2, budget=4).standard_errors, 0.2)


def test_noise_of_each_output():
    rng = np.random.default_rng(0)
    deviations = np.asarray([0.1, 1.0])
    game = Repeated(lambda z: z[:, :2] + rng.normal(size=(len(z), 2)) * deviations, 4)
    with ThreadPoolExecutor(2) as executor:
        estimate = estimate_shapley(game, 8, budget=256, executor=executor, seed=0)
    np.testing.assert_allclose(game.noise, deviations / 2, rtol=0.15)
    np.testing.assert_allclose(estimate.standard_errors[1] / estimate.standard_errors[0], 10.0, rtol=0.3)


@pytest.mark.parametrize("noise", [-1.0, np.nan, [0.1, 0.2], "loud"])
def test_a_noise_that_is_no_deviation_is_refused(noise):
    game = lambda z: z.sum(1) * 1.0  # noqa: E731
    game.noise = noise
    with pytest.raises(ValueError, match=r"game\.noise must be"):
        estimate_shapley(game, 3, budget=8)


def test_one_time_tells_nothing():
    with pytest.raises(ValueError, match="times must be at least 2, got 1"):
        Repeated(noisy(0), 1)
    with pytest.raises(ValueError, match="when the game has been asked"):
        _ = Repeated(noisy(0), 2).noise
