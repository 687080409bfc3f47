"""The game on other processes and machines: the same estimate, to the last bit."""

from __future__ import annotations

import numpy as np
import pytest
from distributed import Client, LocalCluster

from equilib import estimate_shapley
from equilib.games import random_unanimity

ARGUMENTS = {"budget": 400, "seed": 3, "batch_size": 32}


class Broken:
    """A game that fails on the workers."""

    def __call__(self, coalitions):
        if len(coalitions) > 2:
            raise ArithmeticError("no values today")
        return coalitions.sum(1)


@pytest.fixture(scope="module")
def executor():
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        yield client.get_executor()


@pytest.mark.parametrize("estimator", ["auto", "antithetic", "kernel"])
def test_dask_gives_the_same_estimate(executor, estimator):
    game = random_unanimity()
    here = estimate_shapley(game, game.n_players, estimator=estimator, **ARGUMENTS)
    there = estimate_shapley(game, game.n_players, estimator=estimator, executor=executor, **ARGUMENTS)
    np.testing.assert_array_equal(here.values, there.values)
    np.testing.assert_array_equal(here.standard_errors, there.standard_errors)
    assert here.n_evaluations == there.n_evaluations == 400


def test_an_error_on_a_dask_worker_comes_back(executor):
    with pytest.raises(ArithmeticError, match="no values today") as caught:
        estimate_shapley(Broken(), 12, executor=executor, **ARGUMENTS)
    assert any("raised by the game on a batch" in note for note in caught.value.__notes__)
