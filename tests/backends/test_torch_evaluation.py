"""Coalition evaluation by hand, and the batches it runs over."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from equilib_torch import fit
from equilib_torch.data.batches import EpochSampler, loader
from equilib_torch.training.evaluation import VALUES, evaluate


def test_evaluation_by_hand(make_dataset, make_network):
    dataset = make_dataset(2, classes=("x", "y"), rows=40)
    labels = dataset.labels.copy()
    labels[:4] = 1  # the training split has 12 of 20 of class y
    dataset = replace(dataset, labels=labels)
    network = make_network(dataset, "sum")
    with torch.no_grad():
        for head, bias in zip(network.heads, ([3.0, 0.0], [0.0, 1.0]), strict=True):
            head.weight.zero_()
            head.bias.copy_(torch.tensor(bias))
    measured = {name: evaluate(network, loader(dataset, "val", 3), score) for name, score in VALUES.items()}
    # v(∅): always y; {a}: always x; {b}: always y; {a, b}: logits (3, 1), always x. Half of val is y.
    rows = labels[dataset.splits["val"]]
    assert rows.mean() == 0.5
    logits = np.array([np.log([8 / 20, 12 / 20]), [3, 0], [0, 1], [3, 1]])
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(measured["accuracy"].values, [0.5] * 4)
    np.testing.assert_allclose(measured["probability"].values, probabilities.mean(1), rtol=1e-6)
    np.testing.assert_allclose(measured["log-likelihood"].values, np.log(probabilities).mean(1), rtol=1e-6)
    for each in measured.values():
        assert each.predictions.tolist() == [0] * len(rows)
        assert each.labels.tolist() == rows.tolist()
        assert each.log_likelihood == pytest.approx(np.log(probabilities[3]).mean())
    assert network.training  # as it was before


def test_the_empty_coalition_is_the_majority_of_the_training_split(make_dataset, make_options):
    run = fit(make_options(epochs=1), make_dataset(2, missing=0.2))
    labels, splits = run.dataset.labels, run.dataset.splits
    majority = np.bincount(labels[splits["train"]]).argmax()
    assert run.test.accuracies[0] == np.mean(labels[splits["test"]] == majority)


# --- batches ---------------------------------------------------------------------------------------------------------


def test_every_sample_is_in_one_batch_of_an_epoch():
    sampler = EpochSampler(10, 4, seed=0)
    seen = []
    for sampler.epoch in (1, 2):
        batches = list(sampler)
        assert [len(batch) for batch in batches] == [4, 4, 2]
        assert len(sampler) == 3
        seen.append([row for batch in batches for row in batch])
        assert sorted(seen[-1]) == list(range(10))
    assert seen[0] != seen[1]
    assert list(EpochSampler(5, 4, seed=None)) == [[0, 1, 2, 3], [4]]
