from __future__ import annotations

import numpy as np
import pytest
from conftest import to_numpy

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
