"""Coalition evaluation by hand, and the batches it runs over."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import chain

import numpy as np
import pytest
import torch

from equilib_torch import fit
from equilib_torch.data.batches import loader
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


def test_coalitions_are_computed_in_the_context_given(make_dataset, make_network, monkeypatch):
    dataset = make_dataset(2)
    network, inside, calls = make_network(dataset, "sum"), [], []

    @contextmanager
    def note():
        inside.append(True)
        yield
        inside.pop()

    def spy(name, plain, *arguments):
        calls.append((name, bool(inside)))
        return plain(*arguments)

    for name in ("encode", "every_coalition"):
        monkeypatch.setattr(network, name, partial(spy, name, getattr(network, name)))
    evaluate(network, loader(dataset, "val", 10), VALUES["accuracy"], around_coalitions=note)
    assert calls == [("encode", False), ("every_coalition", True)] * 2


def test_the_empty_coalition_is_the_majority_of_the_training_split(make_dataset, make_options):
    run = fit(make_options(epochs=1), make_dataset(2, missing=0.2))
    labels, splits = run.dataset.labels, run.dataset.splits
    majority = np.bincount(labels[splits["train"]]).argmax()
    assert run.test.accuracies[0] == np.mean(labels[splits["test"]] == majority)


# --- batches ---------------------------------------------------------------------------------------------------------


def rows_of(batches):
    return [batch.inputs[0][:, 0].int().tolist() for batch in batches]


@pytest.fixture
def numbered(make_dataset):
    """A data set whose every sample is its row's number."""
    dataset = make_dataset(1, rows=20)
    values = np.repeat(np.arange(20.0)[:, None], 4, axis=1)
    return replace(dataset, modalities=(replace(dataset.modalities[0], values=values),))


def test_every_sample_is_in_one_batch_of_an_epoch(numbered):
    rows = numbered.splits["train"].tolist()
    seen = [rows_of(loader(numbered, "train", 4, shuffle=(0, epoch))) for epoch in (1, 1, 2)]
    for batches in seen:
        assert [len(batch) for batch in batches] == [4, 4, 2]
        assert sorted(chain(*batches)) == rows
    assert seen[0] == seen[1] != seen[2]
    assert rows_of(loader(numbered, "train", 4)) == [rows[:4], rows[4:8], rows[8:]]


@pytest.mark.parametrize("skip", [1, 2, 3])
def test_a_pass_goes_on_where_it_was_left(numbered, skip):
    everything = rows_of(loader(numbered, "train", 4, shuffle=(5, 1)))
    before = torch.get_rng_state()
    assert rows_of(loader(numbered, "train", 4, shuffle=(5, 1), skip=skip)) == everything[skip:]
    assert torch.equal(torch.get_rng_state(), before)  # the number that a pass draws was drawn when it began
