from __future__ import annotations

import multiprocessing
import re
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest
import torch
from conftest import array_types, to_numpy
from hypothesis import given
from hypothesis import strategies as st

from equilib import ShapleyEstimate, estimate_shapley
from equilib.estimators import ESTIMATORS, descriptions
from equilib.games import Additive, Airport, Glove, random_kernel_machine, random_unanimity, random_voting

SAMPLERS = [name for name in ESTIMATORS if name not in ("auto", "exact")]
QUICK = [name for name in SAMPLERS if name != "boosted"]  # trees take their time: see test_surrogates.py
EFFICIENT = ["permutation", "antithetic", "kernel", "kernel-unpaired"]
NAMES = list(ESTIMATORS)


class Recorder:
    """A game that keeps what it was asked."""

    def __init__(self, game):
        self.game, self.batches = game, []

    def __call__(self, coalitions):
        self.batches.append(np.array(coalitions))
        return self.game(coalitions)

    @property
    def rows(self):
        return np.concatenate(self.batches)


def error(estimate, game):
    exact = game.shapley_values
    return np.mean((estimate.values - exact) ** 2) / np.mean(exact**2)


def two_outputs(coalitions):
    return np.stack([coalitions.sum(axis=1) ** 2, coalitions[:, 0] * coalitions[:, 1]], axis=1)


def integers(coalitions):
    """Exact in floating point, however it is batched."""
    return coalitions @ np.arange(coalitions.shape[1]) + 3 * coalitions[:, 0] * coalitions[:, 1]


# --- the contract


@pytest.mark.parametrize("estimator", SAMPLERS)
@pytest.mark.parametrize(("n", "budget"), [(2, 3), (3, 4), (7, 8), (7, 9), (9, 40), (12, 101), (30, 301), (30, 1000)])
def test_budget_is_used_to_the_unit(estimator, n, budget):
    game = Recorder(integers)
    estimate = estimate_shapley(game, n, budget=budget, estimator=estimator, seed=0)
    assert estimate.n_evaluations == len(game.rows) == budget
    sizes = game.rows.sum(axis=1)
    assert (sizes == 0).sum() == (sizes == n).sum() == 1
    assert np.isfinite(estimate.values).all()
    assert not np.isnan(estimate.standard_errors).any()


@pytest.mark.parametrize("estimator", [name for name in SAMPLERS if name not in ("permutation", "antithetic")])
def test_no_coalition_is_drawn_twice(estimator):
    game = Recorder(integers)
    estimate_shapley(game, 8, budget=180, estimator=estimator, seed=0)
    assert len(np.unique(game.rows, axis=0)) == 180


@pytest.mark.parametrize("estimator", [name for name in SAMPLERS if name not in ("permutation", "antithetic")])
@pytest.mark.parametrize("n", [1, 2, 3, 6, 7])
def test_knowing_every_coalition_is_exact(estimator, n):
    game = random_unanimity(n, 12, seed=1)
    estimate = estimate_shapley(game, n, budget=1000, estimator=estimator, seed=0)
    assert estimate.n_evaluations == 2**n
    np.testing.assert_allclose(estimate.values, game.shapley_values, atol=1e-9)
    np.testing.assert_allclose(estimate.standard_errors, 0, atol=1e-9)


@pytest.mark.parametrize("estimator", NAMES)
@pytest.mark.parametrize("n", [1, 2])
def test_few_players(estimator, n):
    estimate = estimate_shapley(lambda z: 5 + 2.0 * z[:, 0], n, budget=4, estimator=estimator, seed=0)
    np.testing.assert_allclose(estimate.values, [2.0, 0.0][:n], atol=1e-9)


def test_auto_is_exact_when_it_can_be():
    game = random_kernel_machine(10)
    estimate = estimate_shapley(game, 10, budget=2**10)
    assert (estimate.estimator, estimate.n_evaluations, estimate.converged) == ("exact", 1024, True)
    np.testing.assert_allclose(estimate.values, game.shapley_values)
    assert not estimate.standard_errors.any()


def test_ten_thousand_players():
    costs = np.linspace(0, 1, 10_000)
    estimate = estimate_shapley(Airport(costs), 10_000, budget=30_500, seed=0)
    assert (estimate.estimator in ("antithetic", "permutation"), estimate.n_evaluations) == (True, 30_500)
    assert estimate.values.sum() == pytest.approx(1.0)


@pytest.mark.parametrize(("n", "tolerance"), [(150, 0.1), (600, 1e-9)])
def test_hundreds_of_players(n, tolerance):
    weights = np.linspace(-1, 1, n)
    estimate = estimate_shapley(Additive(weights), n, budget=6 * n, seed=0)
    np.testing.assert_allclose(estimate.values, weights, atol=tolerance)


@pytest.mark.parametrize("estimator", NAMES)
def test_outputs_share_the_evaluations(estimator):
    both = estimate_shapley(two_outputs, 6, budget=64, estimator=estimator, seed=4)
    assert both.values.shape == both.standard_errors.shape == (2, 6)
    assert both.n_evaluations <= 64
    exact = estimate_shapley(two_outputs, 6, budget=64, estimator="exact").values
    assert np.abs(both.values - exact).max() < 4


def test_estimators_are_listed_in_one_line_each():
    assert list(descriptions()) == list(ESTIMATORS) == [entry.name for entry in ESTIMATORS.values()]
    assert len(set(descriptions().values())) == len(ESTIMATORS)
    assert all(line and "\n" not in line for line in descriptions().values())


def test_an_estimate_prints_as_a_table(xp):
    estimate = estimate_shapley(Glove(1, 2), 3, budget=8, xp=xp)
    assert str(estimate).splitlines() == [
        "player  value ± error",
        "     0     0.6667 ± 0",
        "     1     0.1667 ± 0",
        "     2     0.1667 ± 0",
        "exact, 8 evaluations, converged",
    ]


def test_the_table_of_many_players_and_outputs_is_short():
    many = str(estimate_shapley(Additive(np.arange(500.0)), 500, budget=501, seed=0)).splitlines()
    assert len(many) == 23
    assert [line.split()[0] for line in many[1:22]] == [*map(str, range(10)), "…", *map(str, range(490, 500))]
    assert many[-1] == "antithetic, 501 evaluations, not converged"
    both = str(estimate_shapley(two_outputs, 2, budget=4)).splitlines()
    assert both[1:3] == ["     0             2 ± 0           0.5 ± 0", "     1             2 ± 0           0.5 ± 0"]


def test_one_column_stays_a_column():
    assert estimate_shapley(lambda z: z[:, :1] * 1.0, 3, budget=8).values.shape == (1, 3)


def test_results_live_in_the_library(xp):
    game = Glove(2, 3)
    estimate = estimate_shapley(game, 5, budget=20, estimator="kernel", seed=0, xp=xp)
    assert isinstance(estimate, ShapleyEstimate)
    assert isinstance(estimate.values, array_types(xp))
    assert isinstance(estimate.standard_errors, array_types(xp))
    expected = estimate_shapley(game, 5, budget=20, estimator="kernel", seed=0)
    np.testing.assert_allclose(to_numpy(estimate.values), expected.values, atol=1e-5)


def test_the_game_is_asked_on_its_device():
    seen = []

    def game(coalitions):
        seen.append((coalitions.dtype, coalitions.device.type))
        return coalitions.sum(dim=1, dtype=torch.float32).requires_grad_()

    estimate = estimate_shapley(game, 4, budget=10, estimator="permutation", seed=0, xp=torch, device="cpu")
    assert set(seen) == {(torch.bool, "cpu")}
    np.testing.assert_allclose(to_numpy(estimate.values), 1)


# --- the same seed, the same result


@pytest.mark.parametrize("estimator", NAMES)
def test_batches_do_not_change_the_result(estimator):
    whole = estimate_shapley(integers, 9, budget=600, estimator=estimator, seed=0)
    for batch_size in (1, 7, 599):
        game = Recorder(integers)
        part = estimate_shapley(game, 9, budget=600, estimator=estimator, seed=0, batch_size=batch_size)
        assert max(map(len, game.batches)) <= batch_size
        np.testing.assert_array_equal(part.values, whole.values)
        np.testing.assert_array_equal(part.standard_errors, whole.standard_errors)


@pytest.mark.parametrize("estimator", ["auto", "antithetic"])
@pytest.mark.parametrize("kind", [ThreadPoolExecutor, ProcessPoolExecutor])
def test_executors_do_not_change_the_result(estimator, kind):
    options = {"budget": 600, "estimator": estimator, "seed": 0, "tolerance": 1e-3, "batch_size": 13}
    context = {"mp_context": multiprocessing.get_context("spawn")} if kind is ProcessPoolExecutor else {}
    with kind(2, **context) as executor:
        game = random_voting(12)
        there = estimate_shapley(game, 12, executor=executor, **options)
    expected = estimate_shapley(game, 12, **options)
    np.testing.assert_array_equal(there.values, expected.values)


def test_seeds_matter_and_touch_no_global_state():
    game = random_unanimity(12, 20)
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    runs = [estimate_shapley(game, 12, budget=100, seed=seed).values for seed in (0, 0, 1, None, None)]
    np.testing.assert_array_equal(runs[0], runs[1])
    assert len({tuple(run) for run in runs}) == 4
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002


# --- the mathematics


@pytest.mark.parametrize("estimator", EFFICIENT)
@given(n=st.integers(1, 9), extra=st.integers(0, 60), seed=st.integers(0, 2**32))
def test_efficiency(estimator, n, extra, seed):
    game = random_unanimity(n, 8, seed=seed % 100)
    estimate = estimate_shapley(game, n, budget=n + 1 + extra, estimator=estimator, seed=seed)
    assert estimate.values.sum() == pytest.approx(game.shapley_values.sum(), abs=1e-9)


@pytest.mark.parametrize("estimator", ["permutation", "antithetic"])
@given(extra=st.integers(0, 3), seed=st.integers(0, 2**32))
def test_null_and_additive_players_are_exact_on_whole_orders(estimator, extra, seed):
    n = 8
    budget = 2 + 2 * (extra + 1) * (n - 1)
    estimate = estimate_shapley(
        lambda z: z[:, 0] * z[:, 1] + 3.0 * z[:, 2], n, budget=budget, estimator=estimator, seed=seed
    )
    np.testing.assert_allclose(estimate.values[2:], [3.0, 0, 0, 0, 0, 0], atol=1e-12)


@pytest.mark.parametrize("estimator", ["permutation", "antithetic", "kernel", "kernel-unpaired", "stratified"])
@given(a=st.integers(-3, 3), b=st.integers(-3, 3), seed=st.integers(0, 2**32))
def test_linearity(estimator, a, b, seed):
    first, second = random_unanimity(7, 8, seed=1), random_voting(7, seed=2)
    one, two, both = (
        estimate_shapley(game, 7, budget=45, estimator=estimator, seed=seed).values
        for game in (first, second, lambda z: a * first(z) + b * second(z))
    )
    np.testing.assert_allclose(both, a * one + b * two, atol=1e-9)


@pytest.mark.parametrize("estimator", ["kernel", "kernel-unpaired"])
@given(seed=st.integers(0, 2**32))
def test_regression_is_exact_for_additive_games(estimator, seed):
    weights = np.arange(10.0) - 3
    estimate = estimate_shapley(Additive(weights), 10, budget=60, estimator=estimator, seed=seed)
    np.testing.assert_allclose(estimate.values, weights, atol=1e-8)


@pytest.mark.parametrize("estimator", QUICK)
def test_mean_over_seeds_is_the_value(estimator):
    game = random_unanimity(9, 20, seed=5)
    runs = np.stack([estimate_shapley(game, 9, budget=90, estimator=estimator, seed=seed).values for seed in range(60)])
    deviation = (runs.mean(axis=0) - game.shapley_values) / (runs.std(axis=0) / 60**0.5)
    # Regression has a bias of the order of 1/budget; the others only chance.
    assert np.abs(deviation).max() < (8 if "kernel" in estimator else 5)


@pytest.mark.parametrize("estimator", QUICK)
def test_errors_fall_and_are_known(estimator):
    game = random_unanimity(16, 30, seed=2)
    runs = {
        b: [estimate_shapley(game, 16, budget=b, estimator=estimator, seed=s) for s in range(10)] for b in (160, 3000)
    }
    few, many = (np.mean([error(run, game) for run in runs[b]]) for b in runs)
    assert many < few / 8
    off = np.asarray([np.abs(run.values - game.shapley_values) / run.standard_errors for run in runs[3000]])
    assert 0.85 < (off < 1.96).mean() <= 1


@pytest.mark.parametrize(
    ("game", "bound"), [(random_unanimity(), 0.008), (random_voting(), 0.03), (random_kernel_machine(), 0.003)]
)
def test_auto_is_accurate(game, bound):
    n = game.n_players
    runs = [error(estimate_shapley(game, n, budget=100 * n, seed=seed), game) for seed in range(3)]
    assert np.mean(runs) < bound


def test_auto_avoids_pairs_where_they_repeat_the_error():
    assert estimate_shapley(random_voting(), 30, budget=3000, seed=0).estimator == "adjusted-unpaired"
    assert estimate_shapley(random_kernel_machine(), 20, budget=2000, seed=0).estimator == "adjusted-paired"


# --- stopping


@pytest.mark.parametrize("estimator", SAMPLERS)
def test_tolerance_stops_early(estimator):
    game = random_unanimity(14, 20, seed=1)
    estimate = estimate_shapley(game, 14, budget=10_000, estimator=estimator, seed=0, tolerance=0.05)
    assert estimate.converged
    assert estimate.n_evaluations < 10_000
    assert estimate.standard_errors.max() <= 0.05


def test_tolerance_out_of_reach():
    game = random_unanimity(14, 20, seed=1)
    estimate = estimate_shapley(game, 14, budget=200, seed=0, tolerance=1e-9)
    assert not estimate.converged
    assert estimate.n_evaluations == 200


# --- bad input


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_players": 0}, "n_players must be at least 1, got 0"),
        ({"n_players": -2}, "n_players must be at least 1, got -2"),
        ({"n_players": 2.5}, "n_players must be an integer, got 2.5"),
        ({"budget": 5}, "budget must be at least n_players + 1 = 6, got 5"),
        ({"budget": 1e3}, "budget must be an integer, got 1000.0"),
        (
            {"estimator": "exact", "budget": 31},
            "budget must be at least 2**n_players = 32 for estimator 'exact', got 31",
        ),
        ({"estimator": "shap"}, "estimator must be one of auto, exact, permutation, .*, got 'shap'"),
        ({"estimator": None}, "estimator must be one of .*, got None"),
        ({"seed": -1}, "seed must be from 0 to 2**64 - 1, got -1"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"tolerance": 0}, "tolerance must be a positive number, got 0"),
        ({"tolerance": float("nan")}, "tolerance must be a positive number, got nan"),
        ({"executor": 4}, "executor must have a submit method, got int"),
        ({"game": None}, "game must be callable, got NoneType"),
        ({"xp": "numpy"}, "xp must be an array module"),
        (
            {"game": lambda z: z[:1, 0] * 1.0},
            "game must return values of shape (2,) or (2, k) for 2 coalitions, got (1,)",
        ),
        ({"game": lambda z: 1.0}, "game must return values of shape (2,) or (2, k) for 2 coalitions, got ()"),
        ({"game": lambda z: ["a"] * len(z)}, "game must return an array of real numbers, got list"),
        ({"game": lambda z: None}, "game must return an array of real numbers, got NoneType"),
        ({"game": lambda z: np.where(z[:, 0], np.nan, 0)}, "game must return finite values, got nan in evaluation 1"),
        (
            {"game": lambda z: np.where(z.sum(1) == 2, np.inf, 0)},
            "game must return finite values, got inf in evaluation",
        ),
        (
            {"game": lambda z: np.zeros((len(z), 1 + (len(z) > 2)))},
            "game must return values of shape (8, 1) for 8 coalitions, got (8, 2)",
        ),
    ],
)
def test_rejects(change, message):
    arguments = {"game": integers, "n_players": 5, "budget": 12, "seed": 0, **change}
    pattern = message if ".*" in message else re.escape(message)
    with pytest.raises(ValueError, match=pattern) as caught:
        estimate_shapley(arguments.pop("game"), arguments.pop("n_players"), **arguments)
    assert "\n" not in str(caught.value)


def test_a_game_that_raises_is_passed_on():
    def game(coalitions):
        if len(coalitions) > 2:
            raise RuntimeError("out of memory")
        return coalitions.sum(axis=1)

    with pytest.raises(RuntimeError, match="out of memory") as caught:
        estimate_shapley(game, 9, budget=100, seed=0, batch_size=10)
    assert caught.value.__notes__ == ["raised by the game on a batch of 10 coalitions (evaluations from 2)"]


def test_a_game_that_raises_cancels_the_rest():
    calls, lock = [], threading.Lock()

    def game(coalitions):
        with lock:
            calls.append(len(coalitions))
        if len(calls) > 3:
            raise RuntimeError("broken")
        return coalitions.sum(axis=1)

    with ThreadPoolExecutor(1) as executor, pytest.raises(RuntimeError, match="broken"):
        estimate_shapley(game, 12, budget=4000, estimator="permutation", seed=0, batch_size=10, executor=executor)
    assert len(calls) < 100


def test_workers_name_the_batch_too():
    with ThreadPoolExecutor(2) as executor, pytest.raises(ZeroDivisionError) as caught:
        estimate_shapley(lambda z: z.sum(axis=1) if len(z) == 2 else 1 // 0, 9, budget=50, executor=executor)
    assert "evaluations from 2" in caught.value.__notes__[0]


@pytest.mark.parametrize("estimator", ["permutation", "antithetic", "auto", "kernel"])
@pytest.mark.parametrize("library", ["torch", "array_api_strict"])
def test_coalitions_made_in_another_library_give_the_same_estimate(estimator, library):
    """The path a GPU takes: coalitions are made, and the answers to whole orders added up, where the game computes."""
    xp = pytest.importorskip(library)
    weights = np.random.default_rng(0).normal(size=(12, 2))

    def play(coalitions):
        assert type(coalitions).__module__.startswith(library)
        members = xp.astype(coalitions, xp.float64) if library == "array_api_strict" else coalitions.double()
        scores = members @ xp.asarray(weights)
        return scores**2 + xp.sum(scores, axis=1)[:, None]

    def play_numpy(coalitions):
        scores = coalitions @ weights
        return scores**2 + scores.sum(axis=1)[:, None]

    arguments = {"budget": 331, "estimator": estimator, "seed": 5, "batch_size": 50}
    there = estimate_shapley(play, 12, xp=xp, **arguments)
    here = estimate_shapley(play_numpy, 12, **arguments)
    tolerance = 1e-12
    np.testing.assert_allclose(np.asarray(there.values), here.values, rtol=tolerance, atol=tolerance)
    # Antithetic orders solve a game of pairs but for rounding, whose square root is seen here.
    np.testing.assert_allclose(np.asarray(there.standard_errors), here.standard_errors, rtol=1e-9, atol=1e-7)
    assert there.n_evaluations == here.n_evaluations


@pytest.mark.parametrize("estimator", ["permutation", "antithetic"])
@pytest.mark.parametrize("budget", [299, 300, 305])
def test_a_part_of_an_order_does_not_hide_the_error(estimator, budget):
    def play(c):
        return 100.0 * c[:, 0] + c[:, 1] * c[:, 2] * c[:, 3]

    estimate = estimate_shapley(play, 10, budget=budget, estimator=estimator, seed=0)
    assert not estimate.converged
    assert (estimate.standard_errors[1:4] > 0.01).all()


@pytest.mark.parametrize("budget", [58, 59, 64, 71])
def test_what_an_antithetic_budget_leaves_cancels_pairs_too(budget):
    pairs = np.triu(np.random.default_rng(0).normal(size=(8, 8)), 1)
    exact = (pairs + pairs.T).sum(0) / 2
    estimate = estimate_shapley(lambda c: ((c @ pairs) * c).sum(1), 8, budget=budget, estimator="antithetic", seed=0)
    np.testing.assert_allclose(estimate.values, exact, atol=1e-9)
    assert estimate.n_evaluations == budget


def test_orders_that_all_say_the_same_do_not_end_an_estimate_early():
    wrong = 0
    for seed in range(40):
        estimate = estimate_shapley(
            lambda c: c[:, 0] & c[:, 1], 10, budget=600, estimator="permutation", tolerance=0.05, seed=seed
        )
        wrong += estimate.converged and abs(estimate.values[0] - 0.5) > 0.25
    assert wrong == 0


@pytest.mark.parametrize("estimator", ["adjusted", "kernel", "stratified", "permutation"])
@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_a_game_may_write_into_its_coalitions(estimator, library):
    xp = pytest.importorskip(library)
    weights = np.random.default_rng(0).normal(size=6)

    def play(c):
        return np.asarray(c) @ weights + 2 * (np.asarray(c)[:, 0] & np.asarray(c)[:, 1])

    def spoil(c):
        values = play(c)
        c[:] = False
        return values

    arguments = {"budget": 40, "estimator": estimator, "seed": 0, "xp": xp}
    honest, spoilt = (estimate_shapley(game, 6, **arguments) for game in (play, spoil))
    np.testing.assert_array_equal(np.asarray(honest.values), np.asarray(spoilt.values))


def test_jax_on_a_device_that_is_named():
    jax = pytest.importorskip("jax")
    estimate = estimate_shapley(
        lambda c: c.sum(1), 10, budget=100, xp=jax.numpy, device=jax.devices()[0], estimator="antithetic"
    )
    np.testing.assert_allclose(np.asarray(estimate.values), 1, rtol=1e-6)


def test_a_bad_answer_cancels_what_waits():
    calls = []

    def play(c):
        calls.append(len(c))
        return np.full(len(c), np.nan if len(calls) > 2 else 1.0)

    with ThreadPoolExecutor(1) as executor:
        with pytest.raises(ValueError, match="must return finite values"):
            estimate_shapley(
                lambda c: (time.sleep(0.02), play(c))[1], 12, budget=400, batch_size=2, executor=executor, seed=0
            )
        waited = len(calls)
    assert waited < 20
    assert len(calls) - waited < 5


def test_values_too_large_to_square_are_refused():
    with pytest.raises(ValueError, match="whose squares float64 can hold"):
        estimate_shapley(lambda c: (c.sum(1) + c[:, 0] * c[:, 1]) * 1e200, 8, budget=100, seed=0)


def test_a_game_that_raises_stop_iteration():
    def play(c):
        raise StopIteration

    with pytest.raises(RuntimeError, match="the game raised StopIteration"):
        estimate_shapley(play, 8, budget=100, seed=0)
