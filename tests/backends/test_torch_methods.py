"""Every method against its formula, written out on a tiny network."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from combinations import PAIRS, with_fusions
from methods_reference import Recorder, assert_same, begin, calls_of, descend, gradients_of, moved_parts

from equilib import Schedule, coalitions
from equilib_torch.data.batches import take
from equilib_torch.methods import METHODS, Plan
from equilib_torch.methods.base import unimodal_loss, unimodal_losses
from equilib_torch.network import FUSIONS
from equilib_torch.training.planning import make_plan, sufficiency

WITHOUT_WEIGHTS = ("sum", "confidence")
PLAN = Plan(order=(2, 0, 1), updates=(1, 1, 1), sufficiency=(0.25, 0.5, 1.0))


@pytest.fixture
def case(make_dataset, make_network):
    def make(fusion, n=3, missing=0.0):
        dataset = make_dataset(n, kinds=("vector", "sequence", "image"), missing=missing)
        network = make_network(dataset, fusion)
        return network, take(dataset, np.arange(9)), Recorder(network)

    return make


def mean_nll(logits, labels, rows):
    """Cross-entropy of the rows, by its definition."""
    terms = [-(logits[i] - logits[i].logsumexp(0))[labels[i]] for i in rows]
    return torch.stack(terms).mean()


def written_out(network, batch, k, features):
    """L_k = CE(l) + CE(l_k), the latter over the samples that have k."""
    fused = network.fuse(features, batch.present)
    own = network.heads[k](features[k])
    here = [i for i in range(len(batch.labels)) if batch.present[i, k]]
    return mean_nll(fused, batch.labels, range(len(batch.labels))) + mean_nll(own, batch.labels, here)


# --- unimodal loss ---------------------------------------------------------------------------------------------------


def test_unimodal_loss_is_over_those_that_have_it(case):
    _, batch, _ = case("sum", missing=0.4)
    logits = torch.randn(9, 3, requires_grad=True)
    here = batch.present[:, 1]
    rows = here.nonzero().flatten().tolist()
    assert 0 < len(rows) < 9
    loss = unimodal_loss(logits, batch.labels, here)
    torch.testing.assert_close(loss, mean_nll(logits, batch.labels, rows))
    loss.backward()
    assert not logits.grad[~here].any()


def test_unimodal_loss_without_anybody_is_0(case):
    _, batch, _ = case("sum")
    assert unimodal_loss(torch.randn(9, 3), batch.labels, torch.zeros(9, dtype=torch.bool)).item() == 0


@pytest.mark.parametrize("missing", [0.0, 0.4])
def test_unimodal_losses_are_the_loss_of_each(case, missing):
    _, batch, _ = case("sum", missing=missing)
    unimodal = [torch.randn(9, 3) for _ in range(3)]
    pairs = zip(unimodal, batch.present.T, strict=True)
    expected = torch.stack([unimodal_loss(logits, batch.labels, here) for logits, here in pairs])
    torch.testing.assert_close(unimodal_losses(unimodal, batch.labels, batch.present), expected)


@pytest.mark.parametrize("missing", [0.0, 0.4])
def test_unimodal_losses_with_a_soft_target_by_the_formula(case, missing):
    _, batch, _ = case("sum", missing=missing)
    unimodal, target = [torch.randn(9, 3) for _ in range(3)], torch.rand(9, 3)  # weights need not sum to 1
    for k, loss in enumerate(unimodal_losses(unimodal, batch.labels, batch.present, target)):
        here = [i for i in range(9) if batch.present[i, k]]
        every_class = [mean_nll(unimodal[k], torch.full((9,), y), [i]) * target[i, y] for i in here for y in range(3)]
        torch.testing.assert_close(loss, torch.stack(every_class).sum() / len(here))


@pytest.mark.parametrize("soft", [False, True])
def test_unimodal_losses_do_not_see_who_is_absent(case, soft):
    _, batch, _ = case("sum", missing=0.4)
    batch.present[:, 1] = False
    unimodal = [torch.randn(9, 3, requires_grad=True) for _ in range(3)]
    losses = unimodal_losses(unimodal, batch.labels, batch.present, torch.rand(9, 3) if soft else None)
    assert losses[1].item() == 0
    losses.sum().backward()
    for k in range(3):
        assert torch.equal(unimodal[k].grad.any(1), batch.present[:, k])


# --- alternating -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fusion", "missing"), with_fusions([(0.0,), (0.4,)]))
def test_alternating_updates_one_encoder_after_the_other(case, fusion, missing):
    network, batch, step = case(fusion, missing=missing)
    begin("alternating", network)(network, batch, PLAN, step)
    assert step.touched == [{2}, {0}, {1}]
    for k, gradients in zip(PLAN.order, step.gradients, strict=True):
        moved = moved_parts(gradients)
        assert f"heads.{k}" in moved  # by its own loss
        if fusion in ("sum", "memory", "confidence"):  # whose prediction has every head in it
            assert {"heads.0", "heads.1", "heads.2"} <= moved
        assert (fusion in WITHOUT_WEIGHTS) != any(part.startswith("fusion.") for part in moved)


@pytest.mark.parametrize(("fusion", "missing"), with_fusions([(0.0,), (0.4,)]))
def test_alternating_loss_and_gradients_by_the_formula(case, make_network, fusion, missing):
    network, batch, step = case(fusion, missing=missing)
    reference = case(fusion, missing=missing)[0]
    begin("alternating", network)(network, batch, PLAN, step)
    first = [z.detach() for z in reference.encode(batch)]  # as all were when the batch began
    for i, k in enumerate(PLAN.order):
        reference.zero_grad(set_to_none=True)
        features = [reference.encode_one(batch, j) if j == k else first[j] for j in range(3)]
        loss = written_out(reference, batch, k, features)
        assert step.losses[i] == pytest.approx(loss.item(), rel=1e-5)
        loss.backward()
        assert_same(step.gradients[i], gradients_of(reference), atol=1e-6, rtol=1e-4)
        descend(reference, step.lr)


def test_alternating_runs_every_encoder_once(case):
    network, batch, step = case("memory")
    calls = calls_of(network)
    begin("alternating", network)(network, batch, PLAN, step)
    assert sorted(calls) == [0, 1, 2]


def test_alternating_runs_an_encoder_again_for_more_updates(case):
    network, batch, step = case("memory")
    calls = calls_of(network)
    begin("alternating", network)(network, batch, PLAN._replace(updates=(1, 3, 2)), step)
    assert sorted(calls) == [0, 1, 1, 1, 2, 2]
    assert step.touched == [{2}, {2}, {0}, {1}, {1}, {1}]
    assert step.losses[1] != pytest.approx(step.losses[0], rel=1e-4)  # with the weights just updated


def test_alternating_further_updates_lower_the_loss(case):
    network, batch, step = case("sum", n=1)
    begin("alternating", network)(network, batch, Plan((0,), (6,), (1.0,)), step)
    assert step.losses == sorted(step.losses, reverse=True)


# --- the others ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fusion", "missing"), with_fusions([(0.0,), (0.4,)]))
@pytest.mark.parametrize("method", ["joint", "joint-unimodal", "late-fusion"])
def test_one_update_by_the_formula(case, method, fusion, missing):
    network, batch, step = case(fusion, missing=missing)
    reference = case(fusion, missing=missing)[0]
    begin(method, network)(network, batch, PLAN, step)

    features = reference.encode(batch)
    unimodal = reference.unimodal(features)
    own = sum(mean_nll(unimodal[k], batch.labels, [i for i in range(9) if batch.present[i, k]]) for k in range(3))
    if method == "late-fusion":
        stopped = [z.detach() for z in features], [x.detach() for x in unimodal]
        fused = mean_nll(reference.fuse(stopped[0], batch.present, stopped[1]), batch.labels, range(9))
    else:
        fused = mean_nll(reference(batch), batch.labels, range(9))
    expected = {
        "joint": fused,
        "joint-unimodal": fused + own,
        "late-fusion": own if fusion in WITHOUT_WEIGHTS else own + fused,
    }[method]
    assert step.losses == [pytest.approx(expected.item(), rel=1e-5)]
    expected.backward()
    assert_same(step.gradients[0], gradients_of(reference), atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_late_fusion_trains_each_modality_as_if_it_were_alone(case, fusion):
    network, batch, step = case(fusion, missing=0.3)
    begin("late-fusion", network)(network, batch, PLAN, step)
    network.load_state_dict(case(fusion, missing=0.3)[0].state_dict())
    alone = Recorder(network, lr=0.0)
    for k in range(3):
        logits = network.heads[k](network.encode_one(batch, k))
        alone(unimodal_loss(logits, batch.labels, batch.present[:, k]))
        assert alone.touched[k] == {k}
        for name, gradient in alone.gradients[k].items():
            if name.startswith((f"encoders.{k}.", f"heads.{k}.")):
                torch.testing.assert_close(step.gradients[0][name], gradient)
    moves_fusion = any(part.startswith("fusion.") for part in moved_parts(step.gradients[0]))
    assert moves_fusion == (fusion not in WITHOUT_WEIGHTS)


@pytest.mark.parametrize(("method", "fusion"), PAIRS)
def test_a_batch_in_which_nobody_has_a_modality(case, method, fusion):
    network, batch, step = case(fusion, missing=0.3)
    batch.present[:, 1] = False
    batch.present[:, 0] = True
    begin(method, network)(network, batch, PLAN, step)
    assert all(math.isfinite(loss) for loss in step.losses)
    for gradients in step.gradients:
        assert all(gradient.isfinite().all() for gradient in gradients.values())
        assert "encoders.1" not in moved_parts(gradients)


@pytest.mark.parametrize("method", list(METHODS))
def test_methods_say_what_they_are(method):
    assert METHODS[method].name == method
    assert METHODS[method].description
    assert METHODS[method].fusion in FUSIONS


# --- planning --------------------------------------------------------------------------------------------------------


def test_sufficiency_of_redundant_additive_and_complementary_modalities():
    table = coalitions(3)
    np.testing.assert_allclose(sufficiency(0.1 + 0.8 * table.any(1)), 1)
    np.testing.assert_allclose(sufficiency(0.1 + table @ np.array([0.1, 0.3, 0.4])), 1)
    np.testing.assert_allclose(sufficiency(0.1 + 0.8 * table.all(1)), 1 / 21)


def test_sufficiency_by_the_formula():
    values = np.array([0.1, 0.2, 0.3, 0.7])
    noise = (0.7 - 0.1) / 20
    expected = [(0.2 - 0.1 + noise) / (0.7 - 0.3 + noise), (0.3 - 0.1 + noise) / (0.7 - 0.2 + noise)]
    np.testing.assert_allclose(sufficiency(values), expected)
    np.testing.assert_allclose(sufficiency(np.array([0.1, 0.1, 0.3, 0.5])), [0.02 / 0.22, 0.22 / 0.42])


def test_sufficiency_does_not_jump_where_nothing_is_added():
    useless = sufficiency(np.array([0.1, 0.1, 0.9, 0.9 - 1e-9])), sufficiency(np.array([0.1, 0.1, 0.9, 0.9 + 1e-9]))
    np.testing.assert_allclose(useless[0], useless[1], atol=1e-6)


def test_sufficiency_is_a_fraction():
    rng = np.random.default_rng(0)
    for n in (1, 2, 5):
        for _ in range(50):
            known = sufficiency(rng.standard_normal(2**n))
            assert known.shape == (n,)
            assert ((known >= 0) & (known <= 1)).all()


def test_what_adds_nothing_counts_as_sufficient():
    np.testing.assert_array_equal(sufficiency(np.full(8, 0.3)), 1)
    np.testing.assert_array_equal(sufficiency(np.array([0.1, 0.1, 0.5, 0.5])), 1)
    np.testing.assert_array_equal(sufficiency(np.array([0.5, 0.1, 0.1, 0.05])), 1)


def test_sufficiency_does_not_depend_on_scale_or_origin():
    values = np.random.default_rng(1).random(8).cumsum()
    np.testing.assert_allclose(sufficiency(values), sufficiency(3 * values - 7))


def test_make_plan():
    schedule = Schedule(np.array([1, 0]), np.array([1, 3]))
    assert make_plan(schedule, None) == Plan((1, 0), (1, 3), (1.0, 1.0))
    assert make_plan(schedule, np.array([0.0, 0.2, 0.5, 1.0])) == Plan((1, 0), (1, 3), (0.25 / 0.55, 0.55 / 0.85))
    assert all(type(k) is int for k in (*make_plan(schedule, None).order, *make_plan(schedule, None).updates))
