"""Cross-modal mapping and gated memory."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch

from equilib import coalitions
from equilib_torch.network.mapping import align_samples, sample_correlation
from equilib_torch.network.memory import GatedMemory

D = 5


def memory_of(n, order=None, **options):
    torch.manual_seed(n)
    memory = GatedMemory([3 + k for k in range(n)], D, **options)
    memory.initial.normal_()
    memory.order.copy_(torch.tensor(order if order is not None else range(n)))
    return memory.eval()


def features_of(n, rows=4):
    generator = torch.Generator().manual_seed(7)
    return [torch.randn(rows, 3 + k, generator=generator) for k in range(n)]


def everything(n, rows=4):
    return torch.ones(rows, n, dtype=torch.bool)


# --- the memory ------------------------------------------------------------------------------------------------------


def written_out(memory, features, present):
    """h and c of one sample after the other, one modality after the other, by the formula of the gates."""
    outputs, states = [], []
    for i in range(len(present)):
        h, c = torch.zeros(D), memory.initial
        for k in memory.order.tolist():
            if not present[i, k]:
                continue
            z = memory.maps[k].weight @ features[k][i] + memory.maps[k].bias
            f, admit, g, o = (memory.gates.weight @ z + memory.gates.bias).view(4, D)
            c = f.sigmoid() * c + admit.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
        outputs.append(h)
        states.append(c)
    return torch.stack(outputs), torch.stack(states)


@pytest.mark.parametrize("order", list(permutations(range(3))))
@pytest.mark.parametrize("training", [True, False])
def test_forward_writes_the_modalities_present_by_the_formula(order, training):
    memory, features = memory_of(3, order).train(training), features_of(3, rows=8)
    present = torch.from_numpy(coalitions(3))
    torch.testing.assert_close(memory(features, present), written_out(memory, features, present)[0])


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_gradients_are_those_of_the_formula(order):
    memory, features = memory_of(3, order), [z.requires_grad_() for z in features_of(3, rows=8)]
    present, direction = torch.from_numpy(coalitions(3)), torch.randn(8, D)
    given = [*memory.parameters(), *features]
    found, expected = (
        torch.autograd.grad((h * direction).sum(), given)
        for h in (memory(features, present), written_out(memory, features, present)[0])
    )
    torch.testing.assert_close(found, expected)


ORDERS = [order for n in range(1, 5) for order in permutations(range(n))]
ORDERS += [(4, 2, 0, 3, 1), (1, 2, 3, 4, 0), (0, 4, 1, 3, 2), (3, 0, 4, 1, 2)]


@pytest.mark.parametrize("order", ORDERS, ids=str)
def test_every_coalition_is_forward_on_each(order):
    n = len(order)
    memory, features = memory_of(n, order), features_of(n)
    present = torch.rand(4, n, generator=torch.Generator().manual_seed(3)) < 0.7
    expected = torch.stack([memory(features, present & row) for row in torch.from_numpy(coalitions(n))])
    torch.testing.assert_close(memory.every_coalition(features, present), expected)


def test_of_nobody_h_is_0():
    memory, features = memory_of(3), features_of(3)
    nobody = torch.zeros(4, 3, dtype=torch.bool)
    assert memory.initial.all()
    assert not memory(features, nobody).any()
    assert not memory.every_coalition(features, nobody).any()
    assert not memory.every_coalition(features, everything(3))[0].any()


def test_modalities_are_written_in_the_order_that_it_follows():
    features = features_of(3)
    memory = memory_of(3)
    memory.follow((2, 0, 1))
    assert torch.equal(memory(features, everything(3)), memory_of(3, (2, 0, 1))(features, everything(3)))
    assert not torch.equal(memory(features, everything(3)), memory_of(3)(features, everything(3)))


def test_the_order_matters():
    features = features_of(2)
    assert not torch.allclose(
        memory_of(2, (0, 1))(features, everything(2)), memory_of(2, (1, 0))(features, everything(2))
    )


@pytest.mark.parametrize("training", [True, False])
def test_an_absent_modality_is_passed_by(training):
    memory = memory_of(3, (2, 0, 1), sample_mapping=True).train(training)
    features, present = features_of(3), everything(3)
    present[1] = False
    present[2, 0] = False
    h = memory(features, present)
    assert not h[1].any()
    features[0][2] = 1e30
    features[1][1] = -1e30
    assert torch.equal(memory(features, present), h)


def test_an_absent_modality_gets_no_gradient():
    memory, features, present = memory_of(2), features_of(2), everything(2)
    present[:, 1] = False
    features[1].requires_grad_()
    memory(features, present).sum().backward()
    assert not features[1].grad.any()
    assert not memory.maps[1].weight.grad.any()
    assert memory.maps[0].weight.grad.any()


def test_without_feature_mapping_there_is_none():
    memory = GatedMemory([D, D], D, feature_mapping=False)
    assert {name.split(".")[0] for name, _ in memory.named_parameters()} == {"gates"}
    features = [torch.randn(2, D), torch.randn(2, D)]
    mapped = GatedMemory([D, D], D)
    mapped.gates = memory.gates
    with torch.no_grad():
        for identity in mapped.maps:
            identity.weight.copy_(torch.eye(D))
            identity.bias.zero_()
    torch.testing.assert_close(memory(features, everything(2, 2)), mapped(features, everything(2, 2)))


def test_the_forget_gate_begins_by_keeping():
    width, much = 64, 1e6
    memory = GatedMemory([width], width, feature_mapping=False).train()
    memory.initial.fill_(much)
    memory([torch.zeros(3, width)], everything(1, 3))
    memory.start_epoch(inherit=True)
    kept = memory.initial / much  # what is added is at most 1
    assert kept.min() > 0.5
    assert kept.mean().item() == pytest.approx(torch.tensor(1.0).sigmoid().item(), abs=0.05)


# --- inheritance -----------------------------------------------------------------------------------------------------


def test_the_mean_final_c_is_inherited():
    memory = memory_of(3, (1, 2, 0)).train()
    batches = [(features_of(3, rows), torch.rand(rows, 3) < 0.6) for rows in (3, 5)]
    expected = torch.cat([written_out(memory, *batch)[1] for batch in batches]).mean(0)  # over samples, not batches
    for batch in batches:
        memory(*batch)
    memory.start_epoch(inherit=True)
    torch.testing.assert_close(memory.initial, expected)


def test_an_epoch_does_not_count_in_the_next():
    memory, other = memory_of(2).train(), memory_of(2).train()
    memory(features_of(2, rows=7), everything(2, rows=7))
    memory.start_epoch(inherit=False)
    for each in (memory, other):
        each(features_of(2, rows=3), everything(2, rows=3))
        each.start_epoch(inherit=True)
    torch.testing.assert_close(memory.initial, other.initial)


def test_without_inheritance_the_initial_state_stays():
    memory = memory_of(2).train()
    before = memory.initial.clone()
    memory(features_of(2), everything(2))
    memory.start_epoch(inherit=False)
    assert torch.equal(memory.initial, before)


@pytest.mark.parametrize(("training", "gradients"), [(False, True), (False, False), (True, False)])
def test_evaluation_collects_nothing(training, gradients):
    """In eval mode, or in training mode without gradients."""
    memory = memory_of(2).train(training)
    before = memory.initial.clone()
    with torch.set_grad_enabled(gradients):
        memory(features_of(2), everything(2))
    memory.every_coalition(features_of(2), everything(2))
    memory.start_epoch(inherit=True)
    assert torch.equal(memory.initial, before)


def test_what_is_inherited_is_saved_and_what_is_collected_is_not():
    assert {"initial", "order"} <= set(memory_of(2).state_dict())
    assert not {"collected", "n_collected"} & set(memory_of(2).state_dict())


# --- mapping ---------------------------------------------------------------------------------------------------------


def test_sample_mapping_acts_in_training_only():
    plain, mapped = memory_of(2), memory_of(2, sample_mapping=True, threshold=-1.0)
    features, present = features_of(2, rows=6), everything(2, rows=6)
    assert torch.equal(mapped(features, present), plain(features, present))
    mapped.train()
    plain.train()
    assert not torch.allclose(mapped(features, present), plain(features, present))


def test_sample_correlation_is_pearson_s():
    previous, current = torch.randn(4, 9), torch.randn(6, 9) * 3 + 1
    expected = torch.corrcoef(torch.cat([previous, current]))[:4, 4:]
    torch.testing.assert_close(sample_correlation(previous, current, -1.0), expected)


def test_entries_below_the_threshold_are_0():
    x = torch.randn(20, 4)
    full, cut = sample_correlation(x, x, -1.0), sample_correlation(x, x, 0.4)
    assert ((full > 0) & (full < 0.4)).any()
    assert torch.equal(cut, torch.where(full >= 0.4, full, 0.0))


def test_the_correlation_of_a_constant_is_0_and_has_a_gradient():
    x = torch.ones(2, 4, requires_grad=True)
    correlation = sample_correlation(x, torch.randn(2, 4), -1.0)
    assert not correlation.any()
    correlation.sum().backward()
    assert x.grad.isfinite().all()


def test_aligned_samples_are_weighted_means():
    previous, current = torch.randn(6, 3), torch.randn(6, 3)
    aligned = align_samples(previous, current, torch.ones(6, dtype=torch.bool), 0.5)
    weights = sample_correlation(previous, current, 0.5)
    for j in range(6):
        column = weights[:, j]
        expected = (column[:, None] * current).sum(0) / column.sum() if column.any() else current[j]
        torch.testing.assert_close(aligned[j], expected)


def test_absent_rows_neither_move_nor_mix_in():
    previous, current = torch.randn(6, 3), torch.randn(6, 3)
    both = torch.tensor([True, True, False, True, True, False])
    aligned = align_samples(previous, current, both, -1.0)
    assert torch.equal(aligned[~both], current[~both])
    torch.testing.assert_close(
        aligned[both], align_samples(previous[both], current[both], torch.ones(4, dtype=torch.bool), -1.0)
    )
    previous[~both], current[~both] = 1e10, -1e10
    torch.testing.assert_close(align_samples(previous, current, both, -1.0)[both], aligned[both])


@pytest.mark.parametrize("threshold", [-1.0, 0.5, 1.0])
def test_a_sample_alone_is_aligned_with_itself(threshold):
    z = torch.randn(1, 4)
    torch.testing.assert_close(align_samples(torch.randn(1, 4), z, torch.tensor([True]), threshold), z)


def test_samples_that_correlate_with_nothing_keep_their_own():
    previous, current = torch.eye(3), -torch.eye(3)
    current[0] = torch.tensor([-2.0, 1.0, 1.0])  # the opposite of all
    aligned = align_samples(previous[:1].expand(3, -1), current, torch.ones(3, dtype=torch.bool), 0.9)
    torch.testing.assert_close(aligned, current)
