"""The games of the benchmark that no estimator was tuned to have the values that they say."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import fresh
from equilib import coalitions, shapley_values

SMALL = {
    "neighbours": fresh.neighbours(7, tests=3, k=2),
    "few-neighbours": fresh.neighbours(3, tests=2),
    "coverage": fresh.coverage(7, items=15),
    "airport": fresh.airport(6),
    "electors": fresh.electors(9),
    "graph": fresh.graph(7, density=0.5),
    "rules": fresh.rules(8, trees=3, depth=4),
    "rules-of-all": fresh.rules(3, trees=2, depth=5),
}


@pytest.mark.parametrize("game", SMALL.values(), ids=SMALL)
def test_closed_forms_are_the_values_of_the_complete_table(game):
    table = game(coalitions(game.n_players))
    assert np.ptp(table) > 0
    np.testing.assert_allclose(game.shapley_values, shapley_values(table), atol=1e-12)


@pytest.mark.parametrize("name", [name for name in fresh.FRESH if name not in ("boosting", "bankruptcy")])
def test_games_are_as_large_as_they_say_and_values_add_up(name):
    game = fresh.FRESH[name]()
    ends = game(np.repeat([[False], [True]], game.n_players, axis=1))
    assert game.shapley_values.shape == (game.n_players,)
    assert game.shapley_values.sum() == pytest.approx(ends[1] - ends[0])


def test_there_are_a_dozen_of_12_to_60_players():
    assert len(fresh.FRESH) == 12
    assert sum(fresh.ELECTORS) == 538
    assert len(fresh.ELECTORS) == fresh.electors().n_players == 51
    assert fresh.electors().quota == 270


def test_a_neighbour_is_right_or_not():
    game = fresh.Neighbours(np.asarray([[True, False, True]]), np.asarray([[1, 0, 2]]), k=2)
    members = [[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 1], [1, 0, 1]]
    np.testing.assert_allclose(game(np.asarray(members, dtype=bool)), [0, 0.5, 0, 0.5, 1])


def test_boosting_averages_over_the_other_patients():
    from sklearn.datasets import load_breast_cancer
    from sklearn.ensemble import GradientBoostingClassifier

    inputs, labels = load_breast_cancer(return_X_y=True)
    model = GradientBoostingClassifier(random_state=0).fit(inputs[69:, :4], labels[69:])
    table = fresh.boosting(4).table
    assert table[-1] == pytest.approx(model.decision_function(inputs[:1, :4])[0])
    assert table[0] == pytest.approx(model.decision_function(inputs[1:9, :4]).mean())
    some = inputs[1:9, :4].copy()
    some[:, 1] = inputs[0, 1]
    assert table[2] == pytest.approx(model.decision_function(some).mean())


def test_the_network_sees_the_picture_better_than_none():
    table = fresh.patches().table
    assert table[-1] > 0.9 > 0.5 > table[0]


def test_r_squared_is_that_of_scikit_learn():
    from sklearn.datasets import load_diabetes
    from sklearn.linear_model import LinearRegression

    inputs, target = load_diabetes(return_X_y=True)
    table = fresh.regression(10).table
    for row in (0b1, 0b1100000100, 0b1111111111):
        columns = inputs[:, [place for place in range(10) if row >> place & 1]]
        assert table[row] == pytest.approx(LinearRegression().fit(columns, target).score(columns, target))
    assert table[0] == 0


def test_pipes_are_as_short_as_those_of_scipy():
    from scipy.sparse.csgraph import minimum_spanning_tree

    places = np.concatenate([np.zeros((1, 2)), np.random.default_rng(0).random((6, 2))])
    lengths = np.linalg.norm(places[:, None] - places, axis=2)
    table = fresh.spanning(6).table
    for row, members in enumerate(coalitions(6)):
        inside = np.flatnonzero([True, *members])
        expected = minimum_spanning_tree(lengths[np.ix_(inside, inside)]).sum()
        assert table[row] == pytest.approx(expected, abs=1e-12)


def test_detectors_and_claims():
    misses = 1 - np.random.default_rng(0).uniform(0.05, 0.5, 5)
    assert fresh.saturation(5).table[0b10011] == pytest.approx(1 - misses[[0, 1, 4]].prod())
    claims = np.random.default_rng(0).lognormal(size=5)
    table = fresh.bankruptcy(5).table
    assert table[-1] == pytest.approx(claims.sum() / 2)
    for row in range(32):
        outside = sum(claim for place, claim in enumerate(claims) if not row >> place & 1)
        assert table[row] == pytest.approx(max(0.0, claims.sum() / 2 - outside))
