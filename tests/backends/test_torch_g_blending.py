"""G-Blending's weights, and the rehearsals that they come from; its update is tested with the other rivals'."""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from methods_reference import assert_same, begin, make_case, plan_of

from equilib_torch import fit, training
from equilib_torch.methods import Losses
from equilib_torch.methods.g_blending import blend
from equilib_torch.methods.rehearsal import rehearse


def test_blending_by_hand():
    before = Losses(train=np.array([1.0, 1.0, 1.0, 1.0]), val=np.array([1.0, 1.0, 1.0, 1.0]))
    #                 generalises, overfits, gains nothing, between
    after = Losses(train=np.array([0.5, 0.1, 0.2, 0.4]), val=np.array([0.6, 0.9, 1.1, 0.6]))
    weights = blend(before, after, np.full(4, 0.25))
    by_hand = np.array([0.4 / 0.1**2, 0.1 / 0.8**2, 0, 0.4 / 0.2**2])
    np.testing.assert_allclose(weights, by_hand / by_hand.sum())


@pytest.mark.parametrize("gap", [0.02, 0.0, -0.3])
def test_a_gap_that_hardly_grows_does_not_take_all(gap):
    before = Losses(train=np.ones(2), val=np.ones(2))
    after = Losses(train=np.array([0.5 - gap, 0.4]), val=np.array([0.5, 0.5]))
    gains = np.array([0.5 / 0.05**2, 0.5 / 0.1**2])
    np.testing.assert_allclose(blend(before, after, np.zeros(2)), gains / gains.sum())


@pytest.mark.parametrize("worse", [1.0, 1.5, math.inf, math.nan])
def test_where_nothing_gains_the_weights_stay(worse):
    before = Losses(train=np.ones(3), val=np.ones(3))
    previous = np.array([0.2, 0.3, 0.5])
    np.testing.assert_array_equal(blend(before, Losses(np.ones(3), np.full(3, worse)), previous), previous)


def test_a_copy_that_diverged_has_no_weight():
    before = Losses(train=np.ones(2), val=np.ones(2))
    after = Losses(train=np.array([0.5, math.inf]), val=np.array([0.5, math.inf]))
    np.testing.assert_array_equal(blend(before, after, np.zeros(2)), [1, 0])


@pytest.fixture
def spy(monkeypatch):
    """Weights that are estimated, and what is rehearsed, in order."""
    seen = {"weights": [], "rehearsed": []}

    def weigh(before, after, previous):
        seen["weights"].append(blend(before, after, previous))
        return seen["weights"][-1]

    def note(network, update, **settings):
        seen["rehearsed"].append(update)
        return rehearse(network, update, **settings)

    monkeypatch.setattr("equilib_torch.methods.g_blending.blend", weigh)
    monkeypatch.setattr(training, "rehearse", note)
    return seen


def test_what_overfits_weighs_little(make_dataset, make_options, spy):
    """The second modality is noise: all it can do is to learn the training samples by heart."""
    dataset = make_dataset(2, noise=0.3)
    dataset.modalities[1].values[:] = np.random.default_rng(0).standard_normal(dataset.modalities[1].values.shape)
    fit(make_options(method="g-blending", strength=1, epochs=3, lr=1e-2, dropout=0.0), dataset)
    assert len(spy["weights"]) == 3
    for weights in spy["weights"]:
        assert weights.sum() == pytest.approx(1)
        assert weights[1] < 0.1
        assert weights[0] > weights[1]


def test_weights_are_estimated_every_so_many_epochs(make_dataset, make_options, spy):
    fit(make_options(method="g-blending", strength=2, epochs=5), make_dataset(3))
    assert len(spy["weights"]) == 3
    assert [update is None for update in spy["rehearsed"]] == 3 * [True, False, False, False, False]


def test_rehearsals_leave_the_batches_of_an_epoch_as_they_are(make_dataset, make_options, monkeypatch):
    """They go through the same loader in the middle of its epoch."""
    seen = {}
    for name in ("joint", "g-blending"):
        method = training.METHODS[name]

        def start(setting, name=name, method=method):
            update = method.start(setting)

            def note(network, batch, plan, step):
                seen.setdefault(name, []).append(batch.inputs[0].clone())
                update(network, batch, plan, step)

            return note

        monkeypatch.setitem(training.METHODS, name, replace(method, start=start))
        fit(make_options(method=name, epochs=2), make_dataset(2))
    assert len(seen["joint"]) == 8
    for a, b in zip(*seen.values(), strict=True):
        assert torch.equal(a, b)


def test_a_rehearsal_trains_one_modality_of_a_copy(make_dataset, make_network):
    network, batches, step = make_case(make_dataset, make_network, "memory", missing=0.4)
    found, settings = [], {"train": 5 * batches, "val": batches, "lr": 0.01, "weight_decay": 0}
    step.lr = 0

    def note(update):
        found.append(update)
        return Losses(np.ones(4), np.ones(4))

    begin("g-blending", network, rehearse=note)(network, batches[0], plan_of(3), step)
    state = deepcopy(network.state_dict())
    before, *after = (rehearse(network, update, **settings) for update in found)
    assert_same(network.state_dict(), state, atol=0, rtol=0)
    assert network.memory.n_collected == 2  # by the update itself
    assert all(module.training for module in network.modules())
    for k, losses in enumerate(after[:3]):
        assert losses.train[k] < before.train[k]
        others = [j for j in range(3) if j != k]
        np.testing.assert_array_equal(losses.train[others], before.train[others])
    assert after[3].train[3] < before.train[3]
    np.testing.assert_allclose(before.train, before.val)


def test_rehearsals_are_in_full_precision_and_count_as_training(make_dataset, make_options, monkeypatch):
    found, clock = [], {"now": 0.0}

    def note(network, update, **settings):
        clock["now"] += 1000.0
        found.append(rehearse(network, update, **settings))
        return found[-1]

    monkeypatch.setattr(training, "rehearse", note)
    monkeypatch.setattr(training.time, "perf_counter", lambda: clock["now"])
    options = {"method": "g-blending", "epochs": 1, "dropout": 0.0}
    run = fit(make_options(precision="bf16", **options), make_dataset(2))
    assert run.seconds["train"] == 4000.0
    fit(make_options(**options), make_dataset(2))
    for half, full in zip(found[:4], found[4:], strict=True):
        np.testing.assert_array_equal(half, full)
