"""What a coalition is worth: the values that are no mean over samples, against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, f1_score, roc_auc_score

from equilib_torch import fit
from equilib_torch.data.batches import loader
from equilib_torch.training.evaluation import VALUES, evaluate


def guesses(n_classes, ties, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.multinomial(torch.tensor([0.7, 0.2, 0.1][:n_classes]), 200, replacement=True, generator=generator)
    logits = torch.randn(4, 200, n_classes, generator=generator)
    logits += torch.arange(4)[:, None, None] * torch.nn.functional.one_hot(labels, n_classes)
    return (logits.round() if ties else logits).log_softmax(-1), labels


def reference(name, log_probabilities, labels):
    predicted = log_probabilities.argmax(-1)
    if name == "balanced-accuracy":
        return balanced_accuracy_score(labels, predicted)
    if name == "macro-f1":
        return f1_score(labels, predicted, average="macro")
    one_hot = np.eye(log_probabilities.shape[-1])[labels]
    return np.mean([roc_auc_score(one_hot[:, c], log_probabilities[:, c]) for c in range(one_hot.shape[1])])


@pytest.mark.parametrize("name", ["balanced-accuracy", "macro-f1", "auroc"])
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("ties", [False, True])
def test_as_scikit_learn_has_it(name, n_classes, ties):
    table, labels = guesses(n_classes, ties)
    value = VALUES[name]
    found = value.summary(value.score(table, labels), labels)
    expected = [reference(name, rows, labels.numpy()) for rows in table.numpy()]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("name", VALUES)
def test_a_value_does_not_depend_on_the_batches(make_dataset, make_network, name):
    dataset = make_dataset(2, missing=0.3)
    network = make_network(dataset)
    whole, parts = (evaluate(network, loader(dataset, "val", size), VALUES[name]).values for size in (60, 4))
    np.testing.assert_allclose(whole, parts, atol=1e-6)


def test_classes_that_no_sample_has_are_left_out_of_the_area():
    table, _ = guesses(3, ties=False)
    nobody = torch.zeros(200, dtype=torch.int64)
    assert VALUES["auroc"].summary(table, nobody).tolist() == [0.5] * 4
    some = nobody.clone()
    some[:50] = 2
    assert torch.isfinite(VALUES["auroc"].summary(table, some)).all()


def test_answering_nothing_is_worth_what_it_should(make_dataset, make_options):
    dataset = make_dataset(2, classes=(0, 1, 2))
    worth = {}
    for name in ("balanced-accuracy", "auroc"):
        worth[name] = fit(make_options(epochs=1, coalition_value=name), dataset).test.values[0]
    assert worth == {"balanced-accuracy": pytest.approx(1 / 3), "auroc": 0.5}
