"""Evaluations are dear: go on from an estimate, watch it, interrupt it, and keep the workers busy."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from equilib import estimate_shapley
from equilib.estimators import ESTIMATORS
from equilib.games import Additive, Airport, random_unanimity

GAME = random_unanimity(10, 15, seed=1)
SAMPLERS = [name for name in ESTIMATORS if name != "exact"]


class Counting:
    """A game that counts what it is asked, and may be interrupted."""

    n_players = 10

    def __init__(self, until=10**9):
        self.asked, self.until = [], until

    def __call__(self, coalitions):
        if len(self.asked) >= self.until:
            raise KeyboardInterrupt
        self.asked.extend(coalitions.copy())
        return GAME(coalitions)


def rms(runs):
    return np.sqrt(np.mean((np.stack([run.values for run in runs]) - GAME.shapley_values) ** 2))


@pytest.mark.parametrize("estimator", SAMPLERS)
@pytest.mark.parametrize("first", [61, 150])
def test_going_on_uses_what_is_known(estimator, first):
    game = Counting()
    start = estimate_shapley(game, budget=first, estimator=estimator, seed=0)
    assert len(start.evaluations) == start.n_evaluations == len(game.asked) == first
    np.testing.assert_array_equal(start.evaluations.coalitions, game.asked)
    np.testing.assert_array_equal(start.evaluations.values, GAME(np.asarray(game.asked)))
    whole = estimate_shapley(game, budget=300, estimator=estimator, seed=0, start=start)
    assert whole.n_evaluations == len(game.asked) == 300
    if estimator not in ("permutation", "antithetic"):
        assert len(np.unique(game.asked, axis=0)) == 300
    assert len(start.evaluations) == first


@pytest.mark.parametrize("estimator", ["auto", "kernel", "kernel-unpaired", "stratified", "permutation", "antithetic"])
def test_going_on_has_the_law_of_one_run(estimator):
    once, twice = [], []
    for seed in range(25):
        options = {"estimator": estimator, "seed": seed}
        once.append(estimate_shapley(GAME, budget=400, **options))
        twice.append(estimate_shapley(GAME, budget=400, start=estimate_shapley(GAME, budget=200, **options), **options))
    assert rms(twice) < 1.35 * rms(once)
    held = [np.abs(run.values - GAME.shapley_values) <= 1.96 * run.standard_errors for run in twice]
    assert np.mean(held) > 0.9


def test_exact_asks_only_what_is_missing():
    game = Counting()
    start = estimate_shapley(game, budget=200, seed=0)
    estimate = estimate_shapley(game, budget=2**10, start=start)
    assert (estimate.estimator, len(game.asked), estimate.converged) == ("exact", 2**10, True)
    np.testing.assert_allclose(estimate.values, GAME.shapley_values, atol=1e-12)


@pytest.mark.parametrize("estimator", [*SAMPLERS, "exact"])
@pytest.mark.parametrize("until", [1, 3, 40, 160])
def test_an_interrupt_carries_the_estimate_so_far(estimator, until):
    game = Counting(until)
    with pytest.raises(KeyboardInterrupt) as caught:
        estimate_shapley(game, budget=1024, estimator=estimator, seed=0, batch_size=8)
    estimate = caught.value.estimate
    assert estimate.n_evaluations == len(game.asked) == len(estimate.evaluations)
    assert not estimate.converged
    assert np.isfinite(estimate.values).all()
    if until == 160:
        off = np.abs(estimate.values - GAME.shapley_values)
        assert np.mean(off <= 1.96 * estimate.standard_errors + 1e-12) >= 0.5
        game.until = 10**9
        whole = estimate_shapley(game, budget=1024, seed=1, start=estimate)
        assert whole.n_evaluations <= 1024


def test_an_interrupt_before_any_answer_carries_nothing():
    with pytest.raises(KeyboardInterrupt) as caught:
        estimate_shapley(Counting(0), budget=50)
    assert caught.value.estimate is None


@pytest.mark.parametrize("estimator", ["auto", "kernel", "permutation", "exact"])
def test_progress_is_told_and_may_end_the_run(estimator):
    seen = []

    def watch(evaluations, errors):
        seen.append((evaluations, errors))
        return evaluations < 150

    estimate = estimate_shapley(GAME, budget=1024 if estimator == "exact" else 900, estimator=estimator, seed=0,
                                on_progress=watch)  # fmt: skip
    assert [errors.shape for _, errors in seen] == [(10,)] * len(seen)
    assert [number for number, _ in seen] == sorted(number for number, _ in seen)
    assert len(seen) > 2
    assert 150 <= estimate.n_evaluations < 300
    assert not estimate.converged


@pytest.mark.parametrize("estimator", ["auto", "permutation"])
def test_an_executor_is_kept_busy(estimator):
    seconds, used = {}, {}
    for workers in (1, 6):
        threads = set()

        def play(coalitions, threads=threads):
            threads.add(threading.get_ident())
            time.sleep(1e-3 * len(coalitions))
            return coalitions.sum(axis=1) ** 2

        with ThreadPoolExecutor(workers) as executor:
            begin = time.perf_counter()
            estimate_shapley(play, 15, budget=450, estimator=estimator, seed=0, executor=executor)
        seconds[workers], used[workers] = time.perf_counter() - begin, len(threads)
    assert used == {1: 1, 6: 6}
    assert seconds[6] < 0.7 * seconds[1]


def test_players_have_names():
    game = Counting()
    game.players = [f"feature {i}" for i in range(10)]
    estimate = estimate_shapley(game, budget=1024)
    assert estimate.players == tuple(game.players)
    assert str(estimate).splitlines()[1].strip().startswith("feature 0 ")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"start": 3}, "start must be a ShapleyEstimate, got int"),
        (
            {"start": estimate_shapley(Airport((1.0, 2.0)), budget=4)},
            "start must be an estimate of 10 players, got one of 2",
        ),
        ({"start": estimate_shapley(GAME, budget=200, seed=0)}, "budget must be at least that of start, 200, got 100"),
        (
            {"start": estimate_shapley(GAME, budget=50, seed=0), "estimator": "permutation"},
            "start must be of an estimator like 'permutation', got one of 'adjusted-paired'",
        ),
        ({"on_progress": 1}, "on_progress must be callable, got int"),
        ({"game": lambda z: z.sum(1)}, "n_players must be given for a game without an attribute n_players"),
    ],
)
def test_rejects(change, message):
    arguments = {"game": GAME, "budget": 100, "seed": 0, **change}
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message is compared
        estimate_shapley(arguments.pop("game"), **arguments)
    assert str(caught.value) == message


def test_many_players_are_remembered_in_little_room():
    estimate = estimate_shapley(Additive(np.arange(400.0)), budget=4000, seed=0, estimator="permutation")
    assert estimate.evaluations.coalitions.shape == (4000, 400)
    assert sum(part.nbytes for _, part in estimate.evaluations._asked) < 4000 * 400 / 8
