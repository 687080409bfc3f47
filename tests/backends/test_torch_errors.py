"""Errors of a run's contributions: from the samples where the value is a mean over them, else by resampling."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from equilib import shapley_values
from equilib_torch import fit, summarise
from equilib_torch.runs.errors import measure_errors
from equilib_torch.runs.summary import readable
from equilib_torch.training.evaluation import VALUES, Evaluation


def evaluation(value, n=200, seed=0, labels=None):
    """Log-probabilities of two modalities of three classes that know a little, beside the frequencies."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(3, n, p=[0.6, 0.3, 0.1]) if labels is None else labels
    sensors = [strength * np.eye(3)[labels] + rng.normal(size=(n, 3)) for strength in (2.0, 1.0)]
    logits = torch.tensor(np.stack([np.zeros((n, 3)), *sensors, sum(sensors)]))
    table, truth = logits.log_softmax(-1), torch.as_tensor(labels)
    scores, last = value.score(table, truth), table[-1]
    return Evaluation(
        values=value.summary(scores, truth).double().numpy(),
        scores=scores,
        accuracies=(table.argmax(-1) == truth).double().mean(1).numpy(),
        log_likelihood=0.0,
        predictions=last.argmax(-1).numpy(),
        labels=np.asarray(labels),
        confidences=last.amax(-1).exp().numpy(),
    )


@pytest.mark.parametrize("name", ["accuracy", "log-likelihood"])
def test_errors_of_means_are_those_of_the_samples(name):
    test = evaluation(VALUES[name])
    measured = measure_errors(test, VALUES[name])
    np.testing.assert_allclose(measured.shapley, shapley_values(test.values), atol=1e-12)
    spread = shapley_values(test.scores.double().numpy().T).std(0, ddof=1)
    np.testing.assert_allclose(measured.errors, spread / np.sqrt(200))


@pytest.mark.parametrize("name", ["balanced-accuracy", "macro-f1", "auroc"])
def test_errors_of_other_values_are_the_spread_between_test_sets(name):
    value = VALUES[name]
    measured = [measure_errors(evaluation(value, seed=seed), value, seed=seed) for seed in range(6)]
    spread = np.std([shapley_values(evaluation(value, seed=seed).values) for seed in range(100, 300)], axis=0)
    np.testing.assert_allclose(np.mean([each.errors for each in measured], axis=0), spread, rtol=0.3)


def test_large_splits_are_resampled_in_part(monkeypatch):
    monkeypatch.setattr("equilib_torch.runs.errors._ENTRIES", 4 * 1000)
    value = VALUES["macro-f1"]
    small, large = (measure_errors(evaluation(value, n=n), value).errors for n in (1000, 9000))
    np.testing.assert_allclose(small / large, 3, rtol=0.2)


@pytest.mark.parametrize("name", ["accuracy", "log-likelihood", "macro-f1"])
def test_copies_in_groups_tell_no_more_than_one(name):
    value, copies = VALUES[name], 4
    test = evaluation(value)
    repeated = test._replace(
        **{field: np.repeat(getattr(test, field), copies, 0) for field in ("predictions", "labels", "confidences")},
        scores=test.scores.repeat_interleave(copies, 1),
    )
    once, as_if_more = measure_errors(test, value), measure_errors(repeated, value)
    grouped = measure_errors(repeated, value, groups=np.repeat(np.arange(200), copies))
    np.testing.assert_allclose(grouped.shapley, once.shapley)
    assert grouped.degrees == once.degrees
    tolerance = {"rtol": 1e-6} if name in ("accuracy", "log-likelihood") else {"rtol": 0.3}  # the latter are drawn
    np.testing.assert_allclose(grouped.errors, once.errors, **tolerance)
    np.testing.assert_allclose(grouped.errors / as_if_more.errors, np.sqrt(copies), rtol=0.3)


@pytest.mark.parametrize("name", ["accuracy", "macro-f1"])
def test_groups_of_one_are_no_groups(name):
    value = VALUES[name]
    test = evaluation(value)
    alone, grouped = (measure_errors(test, value, groups=groups) for groups in (None, np.arange(200)[::-1]))
    np.testing.assert_allclose(grouped.errors, alone.errors, rtol=1e-9 if name == "accuracy" else 0.3)


@pytest.mark.parametrize("name", ["accuracy", "macro-f1"])
def test_one_group_tells_nothing(name):
    value = VALUES[name]
    measured = measure_errors(evaluation(value), value, groups=np.zeros(200))
    assert np.isinf(measured.errors).all()


def test_the_summary_counts_groups(make_dataset, make_options):
    dataset = make_dataset(2)
    run = fit(make_options(epochs=1), dataset)
    groups = np.arange(len(dataset.labels)) // 5
    alone, grouped = (
        summarise(run._replace(dataset=replace(dataset, groups=of)), seconds_total=1.0) for of in (None, groups)
    )
    assert grouped["shapley_error"] != alone["shapley_error"]
    assert {**grouped, "shapley_error": 0, "edm_interval": 0, "finding": 0} == {
        **alone, "shapley_error": 0, "edm_interval": 0, "finding": 0
    }  # fmt: skip
    rows = dataset.splits["test"]
    expected = measure_errors(run.test, VALUES[run.options.coalition_value], groups=groups[rows]).errors
    assert list(grouped["shapley_error"].values()) == expected.tolist()


def test_one_sample_tells_nothing():
    value = VALUES["accuracy"]
    measured = measure_errors(evaluation(value, n=1), value)
    assert np.isinf(measured.errors).all()
    assert measured.edm_interval.tolist() == [0, 1]


@pytest.mark.parametrize("name", ["accuracy", "macro-f1", "log-likelihood"])
def test_a_constant_prediction_is_never_balanced(make_dataset, make_options, name):
    run = fit(make_options(epochs=1, coalition_value=name), make_dataset(2, classes=("x", "y"), rows=40))
    n = len(run.test.labels)
    # Better than the majority of training, both modalities equally, and yet the same for every sample.
    values = np.asarray([0.1, 0.9, 0.9, 0.9])
    constant = run.test._replace(
        values=values,
        scores=torch.tensor(values)[:, None].expand(4, n) + 1e-3 * torch.randn(n),
        predictions=np.zeros(n, int),
        confidences=np.full(n, 0.7),
    )
    if name == "macro-f1":
        constant = constant._replace(scores=torch.zeros(4, n, dtype=torch.int64))
    summary = summarise(run._replace(test=constant), seconds_total=1.0)
    assert summary["edm"] == pytest.approx(0)
    assert summary["edm_interval"] == [0, 1]
    assert summary["finding"].startswith("nothing is learned: every sample gets the same prediction")
    assert "equilibrium" not in readable(summary)
    assert summary["finding"] in readable(summary)


def test_the_summary_says_how_sure_it_is(make_dataset, make_options):
    run = fit(make_options(epochs=1), make_dataset(2))
    summary = json.loads(json.dumps(summarise(run, seconds_total=1.0), allow_nan=False))
    assert set(summary["shapley_error"]) == set(summary["modalities"])
    assert all(error >= 0 for error in summary["shapley_error"].values())
    low, high = summary["edm_interval"]
    assert 0 <= low <= summary["edm"] <= high <= 1
