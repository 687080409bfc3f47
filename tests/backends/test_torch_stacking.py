"""Stacked logits: the formula, what the fit finds, and that every way of predicting goes through it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from equilib import coalitions
from equilib_torch import MultimodalClassifier, TrainOptions, fit
from equilib_torch.data.batches import take
from equilib_torch.network import FUSIONS
from equilib_torch.network.stacking import stack_logits
from equilib_torch.training.stacking import fit_stacking, stack


def sums(u, terms, rest, members):
    """τ-free l*(S) of one sample, spelled out."""
    return sum(u[k + 1] * terms[k] for k in members) + u[0] * rest


def test_the_formula_sample_by_sample():
    generator = torch.Generator().manual_seed(0)
    n, rows, classes = 3, 5, 4
    terms = [torch.randn(rows, classes, generator=generator) for _ in range(n)]
    rest = torch.randn(rows, classes, generator=generator)
    u, tau = torch.tensor([0.5, 2.0, 1.5, 0.25]), torch.tensor(1.7)
    present = torch.rand(rows, n, generator=generator) < 0.6
    logits = torch.stack(
        [sum(terms[k][i] for k in range(n) if present[i, k]) + rest[i] for i in range(rows)]  # l(S) = Σ t_k + rest
    )
    stacked = stack_logits(logits, terms, present, u, tau)
    for i in range(rows):
        members = [k for k in range(n) if present[i, k]]
        expected = tau * sums(u, [t[i] for t in terms], rest[i], members) if len(members) > 1 else logits[i]
        torch.testing.assert_close(stacked[i], expected)


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("missing", [0.0, 0.4])
def test_every_way_of_predicting_is_stacked_alike(make_dataset, make_network, fusion, missing):
    dataset = make_dataset(3, kinds=("vector", "sequence", "image"), missing=missing)
    network = make_network(dataset, fusion).eval()
    batch = take(dataset, np.arange(12))
    with torch.no_grad():
        features = network.encode(batch)
        plain = network.every_coalition(features, batch.present)
        network.set_stacking(torch.tensor([0.5, 2.0, 1.5, 0.25]), torch.tensor(1.7))
        table = network.every_coalition(features, batch.present)
        members = torch.from_numpy(coalitions(3))[:, None] & batch.present
        torch.testing.assert_close(table, network.fuse(features, members))
        torch.testing.assert_close(table[-1], network(batch))
        alone = members.sum(-1) < 2
        torch.testing.assert_close(table[alone], plain[alone])
        assert not torch.allclose(table[~alone], plain[~alone])
        network.train()
        torch.testing.assert_close(network.fuse(features, members), plain)  # training never sees it


def opinions(seed, n=3, rows=400, classes=4, *, noise=1.0):
    """Terms of which the last is overconfident noise, and the table of their sums."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (rows,), generator=generator)
    truth = torch.nn.functional.one_hot(labels, classes).float()
    terms = [2 * truth + noise * torch.randn(rows, classes, generator=generator) for _ in range(n - 1)]
    terms.append(6 * torch.randn(rows, classes, generator=generator))
    table = torch.einsum("sn,nbc->sbc", torch.from_numpy(coalitions(n)).float(), torch.stack(terms))
    return table, terms, torch.ones(rows, n, dtype=torch.bool), labels


def test_the_fit_trusts_noise_less_and_helps_on_samples_it_has_not_seen():
    weights, temperature = fit_stacking(*opinions(0))
    assert weights[-1] < weights[1:-1].min() / 2
    table, terms, present, labels = opinions(1)
    stacked = stack_logits(table[-1], terms, present, weights, temperature)
    right = [(logits.argmax(-1) == labels).double().mean() for logits in (table[-1], stacked)]
    assert right[1] > right[0] + 0.1


def test_few_samples_move_the_weights_less():
    table, terms, present, labels = opinions(0)
    distance = []
    for n in (10, 100, 400):
        weights, _ = fit_stacking(table[:, :n], [t[:n] for t in terms], present[:n], labels[:n])
        distance.append(weights.log().square().sum())
    assert distance[0] < distance[1] < distance[2]


def test_samples_of_weight_zero_do_not_count():
    table, terms, present, labels = opinions(0)
    counted = torch.arange(len(labels)) < 150
    weighed = fit_stacking(table, terms, present, labels, sample_weights=counted.double())
    alone = fit_stacking(table[:, :150], [t[:150] for t in terms], present[:150], labels[:150])
    torch.testing.assert_close(weighed.weights, alone.weights, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("terms", "n"), [(None, 3), ((), 1)])
def test_without_a_sum_there_is_a_temperature_and_alone_there_is_nothing(terms, n):
    table, known, present, labels = opinions(0)
    if terms is None:
        weights, temperature = fit_stacking(table, None, present, labels)
        assert weights[0] * temperature < 1  # the sum of an overconfident three
        torch.testing.assert_close(weights[1:], torch.ones(3, dtype=torch.float64))
    else:
        weights, temperature = fit_stacking(table[:2], known[:1], present[:, :1], labels)
        assert weights.tolist() == [1.0, 1.0]
        assert temperature == 1


def test_a_run_stacks_on_validation_and_the_saved_model_predicts_the_same(make_dataset, tmp_path):
    dataset = make_dataset(3, kinds=("vector", "sequence"))
    runs = {stacked: fit(TrainOptions(updates=8, device="cpu", stack=stacked), dataset) for stacked in (True, False)}
    assert torch.equal(runs[False].network.stacking_weights, torch.ones(4))
    assert not torch.equal(runs[True].network.stacking_weights, torch.ones(4))
    assert runs[True].history == runs[False].history  # stacked after training, of which it is no part
    before = runs[False].network
    stack(before, [take(dataset, dataset.splits["val"])])
    torch.testing.assert_close(before.stacking_weights, runs[True].network.stacking_weights, rtol=1e-4, atol=1e-4)

    classifier = MultimodalClassifier(runs[True].network)
    classifier.save_pretrained(tmp_path)
    inputs = {m.name: m.values for m in dataset.modalities}
    inputs |= {f"{m.name}_length": m.lengths for m in dataset.modalities if m.lengths is not None}
    again = MultimodalClassifier.from_pretrained(tmp_path)
    assert np.array_equal(classifier.predict_proba(inputs), again.predict_proba(inputs))
    rows = dataset.splits["test"]
    assert np.array_equal(
        again.predict(inputs)[rows] == np.array(dataset.classes)[dataset.labels[rows]],
        runs[True].test.predictions == runs[True].test.labels,
    )
