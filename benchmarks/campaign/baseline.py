"""What plain scikit-learn reaches: logistic regression and random forest, on everything at once or a modality each."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from equilib import coalitions, expected_when_missing
from equilib_torch import Dataset, Modality


class Baseline(NamedTuple):
    """The best figure of any of the four, each chosen for itself: a bound rather than a competitor.

    Attributes:
        accuracy: on test, all modalities there.
        half_missing: the same if each is absent half of the time, of the models with one modality each.
    """

    accuracy: float
    half_missing: float


def features(modality: Modality) -> np.ndarray:
    """Turn a modality into vectors (N, d): pixels as they are, of a sequence five statistics of every channel."""
    x = modality.values.astype(np.float64)
    if modality.lengths is None:
        return x.reshape(len(x), -1)
    rows = [x[i, :length] for i, length in enumerate(modality.lengths)]
    return np.stack([np.concatenate([r.mean(0), r.std(0), r.min(0), r.max(0), r[-1]]) for r in rows])


def measure(dataset: Dataset, seed: int) -> Baseline:
    """Fit on training and validation rows, as a user without a network would, and score on test."""
    fitted = np.concatenate([dataset.splits["train"], dataset.splits["val"]])
    test, y = dataset.splits["test"], dataset.labels
    views = [features(modality) for modality in dataset.modalities]
    accuracies, missing = [], []
    for make in (_logistic, lambda: RandomForestClassifier(300, random_state=seed)):
        everything = np.concatenate(views, 1)
        accuracies.append(_fit(make(), everything[fitted], y[fitted]).score(everything[test], y[test]))
        logs = [
            np.log(np.maximum(_fit(make(), view[fitted], y[fitted]).predict_proba(view[test]), 1e-6)) for view in views
        ]
        majority = np.bincount(y[fitted]).argmax()
        table = [
            np.mean(
                (sum(log for log, here in zip(logs, row, strict=True) if here).argmax(1) if row.any() else majority)
                == y[test]
            )
            for row in coalitions(len(views))
        ]
        accuracies.append(table[-1])
        missing.append(float(expected_when_missing(np.array(table), 0.5)))
    return Baseline(float(max(accuracies)), max(missing))


def _logistic() -> Any:
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))


def _fit(model: Any, x: np.ndarray, y: np.ndarray) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(x, y)
