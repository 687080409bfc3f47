"""Rivals' methods against their formulas, written out in `methods_reference`, and what each is meant to do."""

from __future__ import annotations

import math
from collections import Counter
from copy import deepcopy
from functools import partial
from itertools import product

import methods_reference as written_out
import numpy as np
import pytest
import torch
from combinations import PAIRS, with_fusions
from methods_reference import (
    Recorder,
    assert_same,
    begin,
    changed_parts,
    coalitions_given,
    gradients_of,
    make_case,
    plan_of,
)

from equilib_torch import InputError, fit
from equilib_torch.functional import drop_modalities
from equilib_torch.network import FUSIONS

RIVALS = ["modality-dropout", "ogm-ge", "agm", "pmr", "g-blending", "mla", "reconboost", "mmpareto"]
REFERENCES = {"ogm-ge": written_out.OGMGE, "agm": written_out.AGM, "pmr": written_out.PMR}


@pytest.fixture
def case(make_dataset, make_network):
    return partial(make_case, make_dataset, make_network)


def joint_gradients(network, batch):
    """Loss and gradients of the plain fused cross-entropy; the network stays as it is."""
    copy = deepcopy(network)
    loss = torch.nn.functional.cross_entropy(copy(batch), batch.labels)
    loss.backward()
    return loss.item(), gradients_of(copy)


def ratios(network, actual, plain):
    """By encoder, the factor between two gradients of it, which must be the same everywhere."""
    factors = []
    for m in range(len(network.encoders)):
        mine = [name for name in actual if name.startswith(f"encoders.{m}.")]
        a, b = (torch.cat([gradients[name].flatten() for name in mine]) for gradients in (actual, plain))
        factors.append((a @ b / (b @ b)).item())
        torch.testing.assert_close(a, factors[-1] * b, atol=1e-5 * abs(factors[-1]), rtol=1e-3)
    return factors


def alone(network, batch, m):
    """Logits of modality m alone."""
    only = torch.zeros_like(batch.present)
    only[:, m] = True
    return network.fuse(network.encode(batch), only).detach()


def favour(network, batch, m):
    """The same batch of two modalities with the classes that m finds likelier than the other does."""
    return batch._replace(labels=(alone(network, batch, m) - alone(network, batch, 1 - m)).argmax(1))


# --- by the formula --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fusion", "n", "missing", "gone"), with_fusions([(1, 0, False), (2, 0, False), (2, 0.4, True), (3, 0.4, False)])
)
@pytest.mark.parametrize(("method", "alpha"), [("ogm-ge", 0.5), ("agm", 3.0), ("pmr", 2.0)])
def test_losses_and_gradients_by_the_formula(case, method, alpha, fusion, n, missing, gone):
    network, batches, step = case(fusion, n, missing, gone=gone)
    network.double()  # scales of gradients blow roundings up
    reference, expected = deepcopy(network), REFERENCES[method](n, alpha)
    update = begin(method, network, alpha=alpha)
    for i, batch in enumerate(batches):
        reference.load_state_dict(network.state_dict())
        reference.zero_grad()
        torch.manual_seed(i)
        update(network, batch, plan_of(n), step)
        torch.manual_seed(i)
        assert step.losses[i] == pytest.approx(expected(reference, batch), rel=1e-4)
        assert_same(step.gradients[i], gradients_of(reference))
    assert len(step.losses) == len(batches)


@pytest.mark.parametrize(("fusion", "n", "missing"), with_fusions([(1, 0), (2, 0), (2, 0.4), (3, 0.4)]))
def test_modality_dropout_by_the_formula(case, fusion, n, missing):
    network, batches, step = case(fusion, n, missing)
    reference, drawn = deepcopy(network), coalitions_given(network)
    update = begin("modality-dropout", network, rate=0.5)
    for i, batch in enumerate(batches):
        reference.load_state_dict(network.state_dict())
        reference.zero_grad()
        update(network, batch, plan_of(n), step)
        assert len(drawn) == i + 1
        loss = written_out.fused_loss(reference, reference.encode(batch), batch._replace(present=drawn[i]))
        loss.backward()
        assert step.losses[i] == pytest.approx(loss.item(), rel=1e-4)
        assert_same(step.gradients[i], gradients_of(reference))


@pytest.mark.parametrize(("method", "fusion"), [pair for pair in PAIRS if pair[0] in RIVALS])
def test_an_epoch_with_modalities_missing(make_dataset, make_options, method, fusion):
    run = fit(make_options(method=method, fusion=fusion, epochs=1), make_dataset(3, missing=0.4))
    assert math.isfinite(run.history[0]["train_loss"])
    assert all(tensor.isfinite().all() for tensor in run.network.state_dict().values())


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize(("method", "parameter"), [("modality-dropout", "rate"), ("agm", "alpha"), ("pmr", "alpha")])
def test_a_parameter_of_0_makes_it_joint_training(case, method, parameter, fusion):
    network, batches, step = case(fusion, missing=0.4)
    update = begin(method, network, **{parameter: 0.0})
    for i, batch in enumerate(batches):
        loss, gradients = joint_gradients(network, batch)
        update(network, batch, plan_of(3), step)
        assert step.losses[i] == pytest.approx(loss, rel=1e-5)
        assert_same(step.gradients[i], gradients)


@pytest.mark.parametrize("method", ["ogm-ge", "agm", "pmr"])
def test_a_memory_inherits_from_full_predictions_only(case, method):
    network, batches, step = case("memory", missing=0.4, mapping="both")
    network.memory.threshold = 0.0  # the sample-level mapping, which only training has, sees everything
    copy = deepcopy(network)
    loss = torch.nn.functional.cross_entropy(copy(batches[2]), batches[2].labels)
    begin(method, network, alpha=0.0)(network, batches[2], plan_of(3), step)
    assert network.memory.n_collected == copy.memory.n_collected == 5
    torch.testing.assert_close(network.memory.collected, copy.memory.collected)
    assert step.losses == [pytest.approx(loss.item(), rel=1e-5)]
    assert all(module.training for module in network.modules())


# --- modality dropout ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [0.0, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("here", [(1, 1, 1), (1, 0, 1), (0, 1, 0), (0, 0, 0)])
def test_modality_dropout_draws_coalitions_as_it_says(p, here):
    n_rows = 20_000
    kept = drop_modalities(torch.tensor([here]).bool().repeat(n_rows, 1), p)
    drawn = Counter(map(tuple, kept.int().tolist()))
    expected = Counter()
    for fates in product([0, 1], repeat=sum(here)):
        chance = math.prod(1 - p if kept else p for kept in fates)
        spread = [fates] if any(fates) or not fates else [tuple(row) for row in np.eye(len(fates), dtype=int).tolist()]
        for each in spread:
            kept = iter(each)
            expected[tuple(next(kept) if m else 0 for m in here)] += chance / len(spread)
    assert set(drawn) <= {coalition for coalition, chance in expected.items() if chance > 0}
    for coalition, chance in expected.items():
        deviation = math.sqrt(chance * (1 - chance) / n_rows)
        assert drawn[coalition] / n_rows == pytest.approx(chance, abs=5 * deviation + 1e-9)


# --- ogm-ge ----------------------------------------------------------------------------------------------------------


def test_ogm_ge_damps_the_strong_encoder_alone(case, monkeypatch):
    network, batches, step = case("concat", 2, rows=[(0, 12)])
    batch = favour(network, batches[0], 0)
    plain = joint_gradients(network, batch)[1]
    monkeypatch.setattr(torch, "randn_like", torch.zeros_like)
    begin("ogm-ge", network, alpha=0.3)(network, batch, plan_of(2), step)
    strong, weak = ratios(network, step.gradients[0], plain)
    assert 0.01 < strong < 1 - math.tanh(0.3)  # as ρ > 1
    assert weak == pytest.approx(1)
    for name in plain:
        if not name.startswith("encoders."):
            torch.testing.assert_close(step.gradients[0][name], plain[name])


def test_ogm_ge_noise_is_as_large_as_the_gradient_varies(case):
    network, batches, _ = case("sum", 1)
    step, update = Recorder(network, lr=0.0), begin("ogm-ge", network)
    plain = joint_gradients(network, batches[1])[1]
    for _ in range(50):
        update(network, batches[1], plan_of(1), step)
    name = max((x for x in plain if x.startswith("encoders.")), key=lambda x: plain[x].numel())
    noise = torch.stack([gradients[name] for gradients in step.gradients]) - plain[name]
    assert noise.std().item() == pytest.approx(plain[name].std().item(), rel=0.05)
    assert abs(noise.mean().item()) < 5 * noise.std().item() / math.sqrt(noise.numel())


# --- agm -------------------------------------------------------------------------------------------------------------


def test_agm_has_no_history_to_begin_with(case):
    network, batches, step = case("mlp", missing=0.4, rows=[(0, 9)])
    gradients = joint_gradients(network, batches[0])[1]
    begin("agm", network)(network, batches[0], plan_of(3), step)
    assert_same(step.gradients[0], gradients)


def test_agm_damps_what_does_better_than_it_used_to(case):
    network, (batch,), _ = case("concat", 2, rows=[(0, 12)])
    step, update = Recorder(network, lr=0.0), begin("agm", network)
    update(network, favour(network, batch, 1), plan_of(2), step)
    better = favour(network, batch, 0)
    update(network, better, plan_of(2), step)
    first, second = ratios(network, step.gradients[1], joint_gradients(network, better)[1])
    assert 0 < first < 0.99
    assert second > 1.01


def test_agm_bounds_the_scale(case):
    network, (batch,), _ = case("concat", 2, rows=[(0, 12)])
    with torch.no_grad():
        for m, block in enumerate(network.fusion.blocks):
            block.weight *= 1000 / alone(network, batch, m).std()  # float32 cannot exponentiate such differences
    step, update = Recorder(network, lr=0.0), begin("agm", network)
    update(network, favour(network, batch, 0), plan_of(2), step)
    worse = favour(network, batch, 1)
    update(network, worse, plan_of(2), step)
    first, second = ratios(network, step.gradients[1], joint_gradients(network, worse)[1])
    assert first == pytest.approx(math.exp(10), rel=1e-3)
    assert second == 0
    assert all(math.isfinite(loss) for loss in step.losses)


def test_agm_says_that_training_diverged(make_dataset, make_options):
    with pytest.raises(InputError, match="training diverged in epoch 1: predictions are not finite; try a smaller lr"):
        fit(make_options(method="agm", lr=1e30, epochs=30), make_dataset(2))


# --- pmr -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fusion", FUSIONS)
def test_pmr_leaves_the_strongest_encoder_alone(case, fusion):
    network, (batch,), step = case(fusion, rows=[(0, 12)])
    apart = 30 * torch.eye(16)[batch.labels]  # features that tell the classes apart
    network.encoders[1].register_forward_hook(lambda module, inputs, z: z - z.detach() + apart)
    plain = joint_gradients(network, batch)[1]
    expected = written_out.PMR(3, 5.0)(deepcopy(network), batch)
    begin("pmr", network, alpha=5.0)(network, batch, plan_of(3), step)
    assert step.losses == [pytest.approx(expected, rel=1e-4)]  # β of the others is 1, for all their distance
    assert changed_parts(step.gradients[0], plain) == {"encoders.0", "encoders.2"}


def test_pmr_has_a_gradient_on_a_prototype(case):
    """A class's only sample is its own prototype: their distance is 0."""
    network, batches, step = case("concat")
    begin("pmr", network)(network, batches[0], plan_of(3), step)
    assert all(gradient.isfinite().all() for gradient in step.gradients[0].values())
