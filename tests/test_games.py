from __future__ import annotations

import math
import time
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from conftest import to_numpy
from hypothesis import given
from hypothesis import strategies as st

from equilib import coalitions, shapley_values
from equilib.games import (
    Additive,
    Airport,
    Game,
    Glove,
    KernelMachine,
    SumOfUnanimity,
    WeightedVoting,
    random_kernel_machine,
    random_unanimity,
    random_voting,
)

GAMES = {
    "additive": Additive((0.5, -1.0, 2.0)),
    "airport": Airport((3.0, 1.0, 2.0, 2.0)),
    "glove": Glove(2, 3),
    "glove-left": Glove(3, 1),
    "voting": WeightedVoting((4, 3, 2, 1, 1), 5.5),
    "voting-one": WeightedVoting((3,), 1.5),
    "unanimity": SumOfUnanimity(((0,), (1, 2), (0, 1, 3)), (1.0, -0.5, 2.0), 4),
    "kernel": random_kernel_machine(6),
    "random-unanimity": random_unanimity(7, 9, seed=3),
    "random-voting": random_voting(8, seed=3),
}


@pytest.mark.parametrize("game", GAMES.values(), ids=GAMES)
def test_known_values_are_those_of_the_complete_table(game):
    assert isinstance(game, Game)
    expected = shapley_values(game(coalitions(game.n_players)))
    np.testing.assert_allclose(game.shapley_values, expected, atol=1e-12)


@pytest.mark.parametrize("game", GAMES.values(), ids=GAMES)
def test_games_play_in_any_library(xp, game):
    table = coalitions(game.n_players)
    values = to_numpy(game(xp.asarray(table)))
    assert values.shape == (len(table),)
    np.testing.assert_allclose(values, game(table), atol=1e-4)


def test_kernel_machine_of_many_players_is_tabulated_in_blocks():
    game = random_kernel_machine(17, 5)
    assert isinstance(game, KernelMachine)
    ends = game(np.asarray([[False] * 17, [True] * 17]))
    assert game.shapley_values.sum() == pytest.approx(ends[1] - ends[0])


def test_random_games_follow_their_seed():
    assert random_unanimity(seed=1) == random_unanimity(seed=1) != random_unanimity(seed=2)
    assert random_voting(seed=1) == random_voting(seed=1) != random_voting(seed=2)


@given(
    weights=st.lists(st.integers(0, 9), min_size=1, max_size=7),
    scale=st.sampled_from([1, 0.5, 0.1, 0.25, Fraction(1, 3), Decimal("0.01"), np.float32(0.1), 10**6]),
    quota=st.integers(-2, 45),
    inclusive=st.booleans(),
)
def test_votes_of_any_scale(weights, scale, quota, inclusive):
    """A vote in other units is the same vote, to the last seat: also where the quota is just met."""
    sums = coalitions(len(weights)) @ np.asarray(weights)
    table = (sums >= quota if inclusive else sums > quota).astype(np.float64)
    exact = Fraction(str(scale))

    def write(number: int) -> Any:
        scaled = number * exact
        return (
            scaled
            if isinstance(scale, Fraction)
            else type(scale)(str(scaled if scaled == int(scaled) else float(scaled)))
        )

    written, limit = [write(weight) for weight in weights], write(quota)
    game = WeightedVoting(written, limit, inclusive=inclusive)
    np.testing.assert_array_equal(game(coalitions(len(weights))), table)
    np.testing.assert_allclose(game.shapley_values, shapley_values(table), atol=1e-14)


def test_a_tenth_and_two_tenths_meet_three():
    everybody = [[True, True]]
    for inclusive in (False, True):
        game = WeightedVoting((0.1, 0.2), 0.3, inclusive=inclusive)
        assert game(np.asarray(everybody)).tolist() == [float(inclusive)]


@pytest.mark.parametrize("top", [2**24, 2**40, 2**60])
def test_votes_beyond_the_digits_of_a_float(xp, top):
    game = WeightedVoting((top, 1, 1), top + 1)
    assert to_numpy(game(xp.asarray(coalitions(3)))).tolist() == [0, 0, 0, 0, 0, 0, 0, 1]
    np.testing.assert_allclose(game.shapley_values, [1 / 3] * 3, atol=1e-15)


def test_two_hundred_seats():
    game = random_voting(200, seed=5)
    begin = time.perf_counter()
    values = game.shapley_values
    assert time.perf_counter() - begin < 5  # 0.2 s on an idle machine
    assert values.sum() == pytest.approx(1, abs=1e-12)
    order = np.argsort(game.weights, kind="stable")
    assert (np.diff(values[order]) >= -1e-15).all()
    # By drawing: a seat's share is how often it turns the vote in a random order.
    rng, turns = np.random.default_rng(0), np.zeros(200)
    for _ in range(4000):
        arrivals = rng.permutation(200)
        turns[arrivals[np.argmax(np.cumsum(np.asarray(game.weights)[arrivals]) > game.quota)]] += 1
    heavy = np.asarray(game.weights) > 50
    assert turns[heavy].sum() / 4000 == pytest.approx(values[heavy].sum(), abs=0.03)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((-1, 2, 3), 2), "weights must not be negative, got -1 for seat 0"),
        (((1, -0.5), 2), "weights must not be negative, got -0.5 for seat 1"),
        (((), 2), "weights must list at least one seat, got none"),
        (((1, "2"), 2), r"weights\[1\] must be a finite real number, got '2'"),
        (((1, True), 2), r"weights\[1\] must be a finite real number, got True"),
        (((1, math.nan), 2), r"weights\[1\] must be a finite real number, got nan"),
        (((1, 2j), 2), r"weights\[1\] must be a finite real number, got 2j"),
        (((1, 2), math.inf), "quota must be a finite real number, got inf"),
        (((1, 2), None), "quota must be a finite real number, got None"),
        (((1, 2), 2, 1), "inclusive must be True or False, got 1"),
    ],
)
def test_votes_that_are_none(arguments, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        WeightedVoting(*arguments)


def test_weights_too_fine_to_be_counted():
    rng = np.random.default_rng(0)
    few, many = WeightedVoting(rng.random(6).tolist(), 3.0), WeightedVoting(rng.random(40).tolist(), 20.0)
    np.testing.assert_allclose(few.shapley_values, shapley_values(few(coalitions(6))), atol=1e-15)
    with pytest.raises(
        ValueError, match=r"^weights must add up to at most 4194304 of the largest step that divides them"
    ):
        _ = many.shapley_values
