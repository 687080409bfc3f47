"""Rare classes: what training sees of them, what a run says about them, and what comes of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

from equilib_torch import Dataset, Modality, TrainOptions, fit
from equilib_torch.data import make_splits
from equilib_torch.data.batches import balanced_positions
from equilib_torch.runs.summary import summarise


@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.integers(0, 9))
def test_every_class_is_drawn_equally_often_and_its_samples_evenly(counts, seed):
    labels = np.repeat(np.arange(len(counts)), counts)
    positions = balanced_positions(labels, np.random.default_rng(seed))
    assert positions.shape == labels.shape
    drawn = np.bincount(labels[positions], minlength=len(counts))
    assert drawn.max() - drawn.min() <= 1
    times = np.bincount(positions, minlength=len(labels))
    for c in range(len(counts)):
        assert np.ptp(times[labels == c]) <= 1


def rare(seed):
    """95 % against 5 %, two modalities that each say a little."""
    rng = np.random.default_rng(seed)
    labels = (np.arange(600) % 20 == 0).astype(np.int64)
    here = np.ones(600, bool)
    modalities = tuple(
        Modality(name, "vector", rng.normal(size=(600, 4)) + np.outer(labels, rng.normal(size=4)), None, here)
        for name in "ab"
    )
    return Dataset("rare", modalities, labels, ("common", "rare"), make_splits(labels, None, seed))


@pytest.mark.slow
def test_macro_f1_of_a_balanced_logistic_regression_is_reached():
    ours, theirs, rare_recall = [], [], []
    for seed in range(3):
        dataset = rare(seed)
        run = fit(TrainOptions(class_weights="balanced", updates=150, seed=seed, device="cpu"), dataset)
        summary = summarise(run, seconds_total=1.0)
        ours.append(summary["test_macro_f1"])
        rare_recall.append(summary["per_class"]["rare"]["recall"])
        x = np.concatenate([m.values for m in dataset.modalities], 1)
        train, test = dataset.splits["train"], dataset.splits["test"]
        model = LogisticRegression(class_weight="balanced", max_iter=1000).fit(x[train], dataset.labels[train])
        theirs.append(f1_score(dataset.labels[test], model.predict(x[test]), average="macro"))
        assert {name: c["n"] for name, c in summary["per_class"].items()} == {"common": 114, "rare": 6}
    assert np.mean(ours) >= np.mean(theirs)


@pytest.mark.parametrize("weights", ["none", "balanced"])
def test_class_weights_are_for_training_only(make_dataset, make_options, weights):
    dataset = make_dataset(2)
    run = fit(make_options(class_weights=weights, epochs=1), dataset)
    assert sorted(run.test.labels) == sorted(dataset.labels[dataset.splits["test"]])
