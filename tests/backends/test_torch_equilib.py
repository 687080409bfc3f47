"""The method `equilib`: its updates by the formula, what each term reaches, and the coalitions that it draws."""

from __future__ import annotations

import math
from copy import deepcopy
from functools import partial
from itertools import combinations

import methods_reference as written_out
import pytest
import torch
from methods_reference import (
    assert_same,
    begin,
    calls_of,
    changed_parts,
    coalitions_given,
    descend,
    gradients_of,
    make_case,
    moved_parts,
)

from equilib import coalitions
from equilib_torch.methods import Plan
from equilib_torch.methods.equilib import random_coalitions
from equilib_torch.network import FUSIONS

WITHOUT_WEIGHTS = ("sum", "confidence")


@pytest.fixture
def case(make_dataset, make_network):
    return partial(make_case, make_dataset, make_network)


def plan_of(n, updates=(1, 1, 1), sufficiency=(0.25, 0.5, 1.0)):
    order = [k for k in (2, 0, 1) if k < n]
    return Plan(tuple(order), tuple(updates[:n]), tuple(sufficiency[:n]))


def first_update(network, batch, plan, alpha, seed=0):
    """Loss and gradients of the update of everything, the network left as it is."""
    copy = deepcopy(network)
    step = written_out.Recorder(copy)
    torch.manual_seed(seed)
    begin("equilib", copy, alpha=alpha)(copy, batch, plan, step)
    return step.losses[0], step.gradients[0]


# --- by the formula --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize(
    ("n", "missing", "gone"), [(1, 0, False), (2, 0, False), (2, 0.4, True), (3, 0, False), (3, 0.4, True)]
)
@pytest.mark.parametrize("alpha", [0.0, 0.7])
@pytest.mark.parametrize("updates", [(1, 1, 1), (2, 1, 3)], ids=str)
def test_losses_and_gradients_by_the_formula(case, fusion, n, missing, gone, alpha, updates):
    """In double precision: the updates of one batch after the other blow roundings up."""
    network, batches, step = case(fusion, n, missing, gone=gone)
    network.double()
    batches = [batch._replace(inputs=tuple(x.double() for x in batch.inputs)) for batch in batches]
    reference, expected, plan = deepcopy(network), written_out.CoalitionTraining(alpha), plan_of(n, updates)
    given, update = coalitions_given(network), begin("equilib", network, alpha=alpha)
    some_left_out = False
    for batch in batches:
        reference.load_state_dict(network.state_dict())
        for kept in (given, step.losses, step.gradients):
            kept.clear()
        update(network, batch, plan, step)
        everybody, *drawn = given[0]
        assert torch.equal(everybody, batch.present)
        assert len(drawn) == (n > 2)  # with two modalities there is no coalition of two or more but all
        some_left_out |= any(not torch.equal(each, batch.present) for each in drawn)
        n_updates = 0
        for i, loss in enumerate(expected(reference, batch, plan, *drawn or [None])):
            assert step.losses[i] == pytest.approx(loss, rel=1e-5)
            assert_same(step.gradients[i], gradients_of(reference), atol=1e-6, rtol=1e-4)
            descend(reference, step.lr)
            reference.zero_grad()
            n_updates += 1
        assert len(step.losses) == len(given) == n_updates
    assert some_left_out == (n > 2)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_with_two_modalities_and_no_distillation_it_is_joint_training_with_unimodal_losses(case, fusion):
    network, batches, step = case(fusion, 2, missing=0.4)
    for i, batch in enumerate(batches):
        loss, gradients = first_update(network, batch, plan_of(2, sufficiency=(1.0, 1.0)), alpha=0.0)
        begin("joint-unimodal", network)(network, batch, plan_of(2), step)
        assert step.losses[i] == pytest.approx(loss, rel=1e-5)
        assert_same(step.gradients[i], gradients)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_what_can_do_nothing_alone_has_no_loss_of_its_own(case, fusion):
    network, batches, step = case(fusion, 2, missing=0.4)
    loss, gradients = first_update(network, batches[2], plan_of(2, sufficiency=(0.0, 0.0)), alpha=5.0)
    begin("joint", network)(network, batches[2], plan_of(2), step)
    assert step.losses == [pytest.approx(loss, rel=1e-5)]
    assert_same(step.gradients[0], gradients)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_what_is_learned_from_all_reaches_the_learner_alone(case, fusion):
    """No gradient flows through the target: not to the fusion, and not to the modalities it comes from."""
    network, batches, _ = case(fusion, missing=0.4)
    only_the_second = plan_of(3, sufficiency=(0.0, 1.0, 0.0))
    without, with_it = (first_update(network, batches[2], only_the_second, alpha)[1] for alpha in (0.0, 5.0))
    assert changed_parts(with_it, without) == {"encoders.1", "heads.1"}


# --- one update of everything, and further ones ----------------------------------------------------------------------


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("n", [1, 2, 3])
def test_everything_is_updated_at_once_and_every_encoder_runs_once(case, fusion, n):
    network, batches, step = case(fusion, n)
    calls = calls_of(network)
    begin("equilib", network)(network, batches[2], plan_of(n), step)
    assert calls == list(range(n))
    assert step.touched == [set(range(n))]
    moved = moved_parts(step.gradients[0])
    assert {f"{part}.{k}" for part in ("encoders", "heads") for k in range(n)} <= moved
    if n > 1:  # alone, no modality is written into a memory
        assert (fusion in WITHOUT_WEIGHTS) != any(part.startswith("fusion.") for part in moved)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_further_updates_go_to_one_encoder_after_the_other(case, fusion):
    network, batches, step = case(fusion)
    calls = calls_of(network)
    begin("equilib", network)(network, batches[2], plan_of(3, updates=(1, 3, 2)), step)
    assert calls == [0, 1, 2, 2, 1, 1]
    assert step.touched == [{0, 1, 2}, {2}, {1}, {1}]


def test_no_further_update_without_data(case):
    network, batches, step = case("memory", gone=True)
    calls = calls_of(network)
    begin("equilib", network)(network, batches[1], plan_of(3, updates=(2, 1, 4)), step)
    assert calls == [0, 1, 2, 0]
    assert step.touched == [{0, 1, 2}, {0}]
    assert not any(gradient.any() for name, gradient in step.gradients[0].items() if name.startswith("encoders.2."))


def test_further_updates_lower_the_loss(case):
    network, batches, step = case("sum", 1)
    begin("equilib", network, alpha=0.0)(network, batches[2], plan_of(1, updates=(6,)), step)
    assert len(step.losses) == 6
    assert step.losses == sorted(step.losses, reverse=True)


# --- random coalitions -----------------------------------------------------------------------------------------------


def chances(members):
    """Of every coalition of those present: first its size, from 2 to all, then who is in it."""
    if len(members) < 3:
        return {members: 1.0}
    sizes = range(2, len(members) + 1)
    return {each: 1 / len(sizes) / math.comb(len(members), s) for s in sizes for each in combinations(members, s)}


@pytest.mark.parametrize("n", [2, 3, 4])
def test_random_coalitions_have_every_size_and_every_member_with_the_same_chance(n):
    """All patterns of absence in one batch; who has fewer than three keeps all."""
    n_draws, bits = 20_000, 2 ** torch.arange(n)
    table = torch.from_numpy(coalitions(n))
    present = table.repeat(n_draws, 1)
    drawn = random_coalitions(present)
    assert drawn.dtype == torch.bool
    pairs = (present * bits).sum(1) * 2**n + (drawn * bits).sum(1)
    frequencies = pairs.bincount(minlength=4**n).view(2**n, 2**n) / n_draws
    for row in table:
        members = tuple(row.nonzero().flatten().tolist())
        expected = {sum(2**k for k in coalition): chance for coalition, chance in chances(members).items()}
        for code, frequency in enumerate(frequencies[sum(2**k for k in members)].tolist()):
            chance = expected.get(code, 0.0)
            deviation = math.sqrt(chance * (1 - chance) / n_draws)
            assert frequency == pytest.approx(chance, abs=5 * deviation + 1e-6), (members, code)


def test_random_coalitions_come_from_the_seed():
    present = torch.ones(50, 5, dtype=torch.bool)
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(random_coalitions(present))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
