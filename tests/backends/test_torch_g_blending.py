"""G-Blending's weights, and the rehearsals that they come from; its update is tested with the other rivals'."""

from __future__ import annotations

import math
from copy import deepcopy

import numpy as np
import pytest
import torch
from methods_reference import assert_same, begin, make_case, plan_of, replace_start
from torch import tensor

from equilib_torch import fit
from equilib_torch.functional import blend_weights
from equilib_torch.methods import METHODS, Losses, stateless
from equilib_torch.methods.rehearsal import rehearse
from equilib_torch.training import clock, state


def all_ones(n):
    return Losses(train=torch.ones(n), val=torch.ones(n))


def test_blending_by_hand():
    #                 generalises, overfits, gains nothing, between
    after = Losses(train=tensor([0.5, 0.1, 0.2, 0.4]), val=tensor([0.6, 0.9, 1.1, 0.6]))
    weights = blend_weights(all_ones(4), after, torch.full((4,), 0.25))
    by_hand = tensor([0.4 / 0.1**2, 0.1 / 0.8**2, 0, 0.4 / 0.2**2])
    torch.testing.assert_close(weights, by_hand / by_hand.sum())


@pytest.mark.parametrize("gap", [0.02, 0.0, -0.3])
def test_a_gap_that_hardly_grows_does_not_take_all(gap):
    after = Losses(train=tensor([0.5 - gap, 0.4]), val=tensor([0.5, 0.5]))
    gains = tensor([0.5 / 0.05**2, 0.5 / 0.1**2])
    torch.testing.assert_close(blend_weights(all_ones(2), after, torch.zeros(2)), gains / gains.sum())


@pytest.mark.parametrize("worse", [1.0, 1.5, math.inf, math.nan])
def test_where_nothing_gains_the_weights_stay(worse):
    previous = tensor([0.2, 0.3, 0.5])
    after = Losses(train=torch.ones(3), val=torch.full((3,), worse))
    assert torch.equal(blend_weights(all_ones(3), after, previous), previous)


def test_a_copy_that_diverged_has_no_weight():
    after = Losses(train=tensor([0.5, math.inf]), val=tensor([0.5, math.inf]))
    assert blend_weights(all_ones(2), after, torch.zeros(2)).tolist() == [1, 0]


@pytest.fixture
def spy(monkeypatch):
    """Weights that are estimated, and what is rehearsed, in order."""
    seen = {"weights": [], "rehearsed": []}

    def weigh(before, after, previous):
        seen["weights"].append(blend_weights(before, after, previous))
        return seen["weights"][-1]

    def note(network, loss, **settings):
        seen["rehearsed"].append(loss)
        return rehearse(network, loss, **settings)

    monkeypatch.setattr("equilib_torch.methods.g_blending.blend_weights", weigh)
    monkeypatch.setattr(state, "rehearse", note)
    return seen


def test_what_overfits_weighs_little(make_dataset, make_options, spy):
    """The second modality is noise: all it can do is to learn the training samples by heart."""
    dataset = make_dataset(2, noise=0.3)
    dataset.modalities[1].values[:] = np.random.default_rng(0).standard_normal(dataset.modalities[1].values.shape)
    fit(make_options(method="g-blending:every=1", epochs=3, lr=1e-2, dropout=0.0), dataset)
    assert len(spy["weights"]) == 3
    for weights in spy["weights"]:
        assert weights.sum().item() == pytest.approx(1)
        assert weights[1] < 0.1
        assert weights[0] > weights[1]


def test_weights_are_estimated_every_so_many_epochs(make_dataset, make_options, spy):
    fit(make_options(method="g-blending:every=2", epochs=5), make_dataset(3))
    assert len(spy["weights"]) == 3
    assert [loss is None for loss in spy["rehearsed"]] == 3 * [True, False, False, False, False]


def test_rehearsals_leave_the_batches_of_an_epoch_as_they_are(make_dataset, make_options, monkeypatch):
    """They go through the same loader in the middle of its epoch."""
    inputs = {}
    for name in ("joint", "g-blending"):
        start = METHODS[name].start

        def start_noting(setting, name=name, start=start, **parameters):
            update = start(setting, **parameters)

            def note(network, batch, plan, step):
                inputs.setdefault(name, []).append(batch.inputs[0].clone())
                update(network, batch, plan, step)

            return stateless(note)(setting)

        replace_start(monkeypatch, name, start_noting)
        fit(make_options(method=name, epochs=2), make_dataset(2))
    assert len(inputs["joint"]) == 8
    for a, b in zip(*inputs.values(), strict=True):
        assert torch.equal(a, b)


def test_a_rehearsal_trains_one_modality_of_a_copy(make_dataset, make_network):
    network, batches, step = make_case(make_dataset, make_network, "memory", missing=0.4)
    rehearsed, settings = [], {"train": 5 * batches, "val": batches, "lr": 0.01, "weight_decay": 0}
    step.lr = 0

    def note(loss):
        rehearsed.append(loss)
        return all_ones(4)

    begin("g-blending", network, rehearse=note)(network, batches[0], plan_of(3), step)
    before_all = deepcopy(network.state_dict())
    before, *after = (rehearse(network, loss, **settings) for loss in rehearsed)
    assert_same(network.state_dict(), before_all, atol=0, rtol=0)
    assert network.memory.n_collected == 2  # by the update itself
    assert all(module.training for module in network.modules())
    for k, losses in enumerate(after[:3]):
        assert losses.train[k] < before.train[k]
        others = [j for j in range(3) if j != k]
        assert torch.equal(losses.train[others], before.train[others])
    assert after[3].train[3] < before.train[3]
    torch.testing.assert_close(before.train, before.val)


def test_rehearsals_are_in_full_precision_and_count_as_training(make_dataset, make_options, monkeypatch):
    rehearsed, seconds = [], 0.0

    def note(network, loss, **settings):
        nonlocal seconds
        seconds += 1000.0
        rehearsed.append(rehearse(network, loss, **settings))
        return rehearsed[-1]

    monkeypatch.setattr(state, "rehearse", note)
    monkeypatch.setattr(clock.time, "perf_counter", lambda: seconds)
    options = {"method": "g-blending", "epochs": 1, "dropout": 0.0}
    run = fit(make_options(precision="bf16", **options), make_dataset(2))
    assert run.seconds["train"] == 4000.0
    fit(make_options(**options), make_dataset(2))
    for half, full in zip(rehearsed[:4], rehearsed[4:], strict=True):
        torch.testing.assert_close(half, full, rtol=0, atol=0)
