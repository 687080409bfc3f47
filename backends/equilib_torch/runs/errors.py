"""How sure a run's contributions are, from the samples of the test split."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from equilib import shapley_values
from equilib.findings import describe
from equilib.uncertainty import Contributions, measure_contributions
from equilib_torch.coalition_table import CoalitionTable
from equilib_torch.data.modality import Array, IntArray
from equilib_torch.training.evaluation import CoalitionValue, Evaluation, sample_mean
from equilib_torch.training.loop import Run

_RESAMPLES = 200
_ENTRIES = 2**19
"""Scores in a resample, about, at most: where there are more, it holds fewer samples, and its spread is scaled."""
_OF_CLASSES = ("accuracy", "balanced-accuracy", "macro-f1")
"""Values that see nothing of a prediction but its class."""


def measure_errors(
    test: Evaluation, value: CoalitionValue, *, seed: int = 0, groups: Array | None = None
) -> Contributions:
    """Give the Shapley values of a split with their covariance: from the samples, or by resampling them.

    A mean over samples has the errors of any mean. What is none (balanced accuracy, macro-F1, the area under the ROC
    curve) is computed anew from 200 bootstrap samples. Where samples come in groups, whole groups are what is
    independent, and what is resampled.

    Args:
        test: the evaluation of the split.
        value: what it measured.
        seed: of the bootstrap.
        groups: (N,), which group each sample belongs to; None if each is its own.

    Returns:
        Contributions, with infinite errors if there is one sample or group only; they say nothing if every sample is
        predicted the same.
    """
    measured = _measure(test, value, seed, groups)
    answers = test.predictions if value.name in _OF_CLASSES else np.stack([test.predictions, test.confidences], 1)
    return replace(measured, says_something=len(np.unique(answers, axis=0)) > 1)


def _measure(test: Evaluation, value: CoalitionValue, seed: int, groups: Array | None) -> Contributions:
    n_samples, shapley = len(test.labels), shapley_values(test.values)
    units = None if groups is None else _rows_by_group(groups)
    n_units = n_samples if units is None else len(units)
    if n_units < 2:
        return Contributions(shapley, np.full((len(shapley), len(shapley)), np.inf), 1.0)
    if value.summary is sample_mean:
        return measure_contributions(shapley_values(test.scores.double().numpy().T), groups)
    labels = torch.from_numpy(test.labels)
    size = min(n_units, max(200, _ENTRIES * n_units // test.scores.numel()))
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(_RESAMPLES):
        chosen = rng.integers(0, n_units, size)
        rows = torch.from_numpy(chosen if units is None else np.concatenate([units[unit] for unit in chosen.tolist()]))
        drawn.append(value.summary(test.scores[:, rows], labels[rows]).double().numpy())
    covariance = np.atleast_2d(np.cov(shapley_values(np.stack(drawn)).T)) * (size / n_units)
    return Contributions(shapley, covariance, float(min(_RESAMPLES, n_units) - 1))


def _rows_by_group(groups: Array) -> list[IntArray]:
    """List the rows of every group."""
    _, members, counts = np.unique(groups, return_inverse=True, return_counts=True)
    return np.split(np.argsort(members, kind="stable"), np.cumsum(counts)[:-1])


def describe_run(run: Run, value: CoalitionValue, measured: Contributions) -> str:
    """Say in a sentence what each modality of a run contributes on test, and whether that is balanced."""
    table = CoalitionTable(run.test.values)
    return describe(
        run.dataset.names,
        measured,
        score=value.name,
        of_all=float(table.of_all),
        of_none=float(table.of_none),
        none="the majority's" if value.name == "accuracy" else "that of the training split's frequencies",
        is_constant=not measured.says_something,
    )
