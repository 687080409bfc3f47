"""How long a run lasts, when it measures, when it ends, and what is kept of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from equilib_torch import InputError, TrainOptions, fit
from equilib_torch.training import planning
from equilib_torch.training.arguments import add_options, new_parser, parse, read_options
from equilib_torch.training.planning import (
    is_exhausted,
    is_rising,
    learning_rate,
    measurement_points,
    plan_budget,
)
from equilib_torch.training.state import State

COUNTS = st.integers(1, 5000)


@given(COUNTS, st.integers(1, 256), COUNTS, st.integers(1, 8))
def test_measurements_are_spread_evenly_and_the_last_is_on_the_last_update(n_updates, batch_size, n_val, n):
    points = measurement_points(n_updates, batch_size, n_val, n)
    assert points[-1] == n_updates
    assert min(4, n_updates) <= len(points) <= 15
    gaps = np.diff([0, *points])
    assert gaps.min() >= 1
    assert gaps.max() - gaps.min() <= 1


def test_a_large_validation_is_measured_less_often():
    counts = [len(measurement_points(600, 64, n_val, 3)) for n_val in (50, 300, 1000, 10_000)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] == 15
    assert counts[-1] == 4


@pytest.mark.parametrize(
    ("n_train", "options", "batch_size", "n_updates"),
    [
        (14, {}, 14, 600),
        (200, {}, 64, 600),
        (8160, {}, 64, 2560),  # 20 epochs of 128
        (200, {"epochs": 3}, 64, 12),
        (200, {"updates": 7}, 64, 7),
        (200, {"updates": 7, "batch_size": 10}, 10, 7),
    ],
)
def test_a_run_has_600_updates_or_20_epochs_unless_told(n_train, options, batch_size, n_updates):
    budget = plan_budget(TrainOptions(**options), n_train, 20, 2)
    assert (budget.batch_size, budget.n_updates) == (batch_size, n_updates)
    assert budget.per_epoch == -(-n_train // batch_size)


def test_updates_and_epochs_exclude_each_other(tmp_path):
    with pytest.raises(InputError, match="updates and epochs must not both be given, got 5 and 2"):
        TrainOptions(updates=5, epochs=2)
    parser = new_parser("equilib train", "")
    add_options(parser, TrainOptions())
    with pytest.raises(InputError, match="updates and epochs"):
        read_options(parse(parser, ["--updates", "5", "--epochs", "2"]))


def test_the_learning_rate_falls_with_every_update():
    options = TrainOptions(updates=50, lr=0.5)
    budget = plan_budget(options, 100, 20, 2)
    rates = [learning_rate(options, budget, update) for update in range(50)]
    assert rates[0] == 0.5
    assert all(np.diff(rates) < 0)
    assert rates[-1] > 0


@pytest.mark.parametrize("mix", [(0,), (0.6, 0.5), (0.5, 0.6, 0.6, 0.6)])
def test_without_patience_nothing_ends_early(mix):
    assert not is_exhausted([(a, 0.0) for a in mix], None)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(-9, 0)), min_size=1, max_size=12), st.integers(1, 12))
def test_patience_ends_a_run_when_the_best_is_that_old(scores, patience):
    first_best = scores.index(max(scores))
    assert is_exhausted(scores, patience) == (len(scores) - 1 - first_best >= patience)


def test_rising_is_told_by_the_last_half():
    assert is_rising(np.linspace(0.2, 0.9, 15), 200)
    assert not is_rising([0.2, 0.5, *[0.9] * 13], 200)
    assert not is_rising([0.9 + 0.001 * (i % 2) for i in range(15)], 200)
    assert not is_rising([0.1, 0.9], 200)
    assert not is_rising(np.linspace(0.895, 0.9, 15), 30)  # one sample in thirty is more than that


@pytest.fixture
def dataset(make_dataset, monkeypatch):
    monkeypatch.setattr(planning, "_FEWEST", 12)  # as many as a larger run has
    return make_dataset(3, noise=1.5)


def test_a_run_measures_where_planned_and_says_where(make_options, dataset):
    options = make_options(epochs=None, updates=10, batch_size=8)  # 30 rows: 4 updates a pass
    run = fit(options, dataset)
    assert [record["update"] for record in run.history] == list(range(1, 11))
    assert [record["epoch"] for record in run.history] == [1, 1, 1, 1, 2, 2, 2, 2, 3, 3]
    assert (run.updates, run.epochs, run.best_epoch) == (10, 3, 3)


@pytest.mark.parametrize("keep", ["last", "best"])
def test_the_weights_that_are_kept(make_options, dataset, keep):
    options = make_options(epochs=None, updates=12, keep=keep, stack=False, lr=0.3)
    state, networks = State.create(options, dataset), []
    told = []

    def note(record, network):
        told.append(network is not None)
        networks.append({name: t.clone() for name, t in state.network.state_dict().items()})

    run = fit(options, dataset, on_epoch=note, state=state)
    scores = [(record["accuracy"], record["log_likelihood"]) for record in run.history]
    kept = len(scores) - 1 if keep == "last" else scores.index(max(scores))
    assert scores.index(max(scores)) < len(scores) - 1  # the two differ here
    for name, tensor in run.network.state_dict().items():
        assert tensor.equal(networks[kept][name]), name
    improved = [i == 0 or s > max(scores[:i]) for i, s in enumerate(scores)]
    assert told == ([True] * len(scores) if keep == "last" else improved)


def test_patience_ends_a_run(make_options, dataset):
    run = fit(make_options(epochs=None, updates=200, lr=1e-12, patience=3), dataset)
    best = max(range(len(run.history)), key=lambda i: (run.history[i]["accuracy"], run.history[i]["log_likelihood"]))
    assert len(run.history) < 12
    assert len(run.history) - 1 - best == 3
    assert run.updates == run.history[-1]["update"]


@pytest.mark.parametrize("freeze", [0.0, 0.5, 1.0])
def test_the_memory_keeps_its_order_from_then_on_and_updates_go_on_following(make_options, dataset, freeze):
    options = make_options(epochs=None, updates=12, memory_freeze=freeze, policy="random")
    state, orders = State.create(options, dataset), []

    def note(record, network):
        orders.append((state.update, tuple(state.network.fusion.memory.order.tolist()), tuple(record["order"])))

    fit(options, dataset, on_epoch=note, state=state)
    late = {order for update, order, _ in orders if update > freeze * 12}
    followed = [order == tuple("abc".index(name) for name in plan) for _, order, plan in orders]
    assert len({plan for _, _, plan in orders[6:]}) > 1  # a random order changes
    assert len(late) <= 1 or freeze == 1
    assert all(followed[: int(freeze * 12) + 1])
    assert all(followed) == (freeze == 1)
