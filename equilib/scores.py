"""Scores of single samples, by name: what a prediction is worth, so that more is better.

A score is a function of outputs `(m, k)` or `(m,)` and targets `(m,)`, NumPy arrays both, that returns `(m,)` numbers,
one per sample. Labels, where outputs are `(m, k)`, are the indices of the columns, 0 to k − 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from equilib._namespace import Floats

Score: TypeAlias = Callable[[Any, Any], Any]
"""Outputs and targets in, one number per sample `(m,)` out; more is better."""


def accuracy(outputs: Any, targets: Any) -> Floats:
    """Score 1 where the prediction is the label, else 0.

    Args:
        outputs: `(m, k)` anything that is largest for the predicted class (of equals, the first is), or `(m,)` labels.
        targets: `(m,)` labels; indices of columns if outputs are `(m, k)`.

    Raises:
        ValueError: outputs are one number per sample that is no label, or of another kind than the targets.

    Example:
        >>> accuracy(np.asarray([[0.2, 0.8], [0.9, 0.1]]), np.asarray([1, 1])).tolist()
        [1.0, 0.0]
        >>> accuracy(np.asarray(["cat", "dog"]), np.asarray(["cat", "cat"])).tolist()
        [1.0, 0.0]
    """
    if outputs.ndim == 2:
        return np.asarray(outputs.argmax(1) == targets, dtype=np.float64)
    if outputs.dtype.kind == "f" and (outputs != np.round(outputs)).any():
        wrong = float(outputs[outputs != np.round(outputs)][0])
        raise ValueError(
            f"outputs (m,) must be labels for the score 'accuracy', got {wrong:g}: return the labels, or (m, n_classes)"
        )
    texts = [x.dtype.kind in "UTO" for x in (outputs, targets)]
    if texts[0] != texts[1]:
        raise ValueError(f"outputs must be labels like the targets, {targets.dtype}, got {outputs.dtype}")
    return np.asarray(outputs == targets, dtype=np.float64)


def probability(outputs: Any, targets: Any) -> Floats:
    """Take the probability of the label, from probabilities or log-probabilities `(m, k)`; in [0, 1]."""
    scores: Floats = _probabilities(outputs, "probability")[np.arange(len(targets)), targets]
    return scores


def log_likelihood(outputs: Any, targets: Any) -> Floats:
    """Take the logarithm of the label's probability, from probabilities or log-probabilities `(m, k)`; at most 0.

    Probabilities below the precision of the outputs' dtype are taken for that, as in scikit-learn's log loss: a model
    that rules out a class for certain is not infinitely wrong.

    Example:
        >>> log_likelihood(np.asarray([[0.25, 0.75]]), np.asarray([1])).round(4).tolist()
        [-0.2877]
    """
    precision = np.finfo(outputs.dtype).eps if outputs.dtype.kind == "f" else np.finfo(np.float64).eps
    logarithms: Floats = np.log(np.maximum(probability(outputs, targets), precision))
    return logarithms


def brier(outputs: Any, targets: Any) -> Floats:
    """Take off 1 the half of the squared distance between the probabilities and the truth, `(m, k)`; in [0, 1].

    Example:
        >>> brier(np.asarray([[0.25, 0.75], [0.0, 1.0]]), np.asarray([1, 0])).tolist()
        [0.9375, 0.0]
    """
    table = _probabilities(outputs, "brier")
    truth = np.zeros_like(table)
    truth[np.arange(len(targets)), targets] = 1
    scores: Floats = 1 - np.square(table - truth).sum(1) / 2
    return scores


def squared_error(outputs: Any, targets: Any) -> Floats:
    """Take the squared error, negated: at most 0. The mean over the components if outputs and targets are `(m, k)`.

    Example:
        >>> squared_error(np.asarray([1.0, 3.0]), np.asarray([1.0, 1.0])).tolist()
        [-0.0, -4.0]
    """
    scores: Floats = -np.square(_differences(outputs, targets, "squared-error")).mean(1)
    return scores


def absolute_error(outputs: Any, targets: Any) -> Floats:
    """Take the absolute error, negated: at most 0. The mean over the components if outputs and targets are `(m, k)`."""
    scores: Floats = -np.abs(_differences(outputs, targets, "absolute-error")).mean(1)
    return scores


SCORES: dict[str, Score] = {
    "accuracy": accuracy,
    "probability": probability,
    "log-likelihood": log_likelihood,
    "brier": brier,
    "squared-error": squared_error,
    "absolute-error": absolute_error,
}
"""Every score by name."""

OF_CLASSES = ("accuracy", "probability", "log-likelihood", "brier")
"""Those whose targets are labels."""


def _probabilities(outputs: Any, name: str) -> Any:
    """Read probabilities or log-probabilities `(m, k)`, of which no mix is both.

    Raises:
        ValueError: they are neither.
    """
    if outputs.ndim != 2:
        raise ValueError(f"outputs must be probabilities (m, n_classes) for the score {name!r}, got {outputs.shape}")
    table = outputs.astype(np.float64)
    for candidate in (table, np.exp(np.minimum(table, 1.0))):
        if (candidate >= 0).all() and np.allclose(candidate.sum(1), 1, atol=1e-2):
            return candidate
    total = float(table[0].sum())
    raise ValueError(
        f"outputs must be probabilities or their logarithms for the score {name!r}: rows that add up to 1, "
        f"got {total:g} in the first; of logits, return the softmax"
    )


def _differences(outputs: Any, targets: Any, name: str) -> Any:
    """Subtract numbers of the same shape, as `(m, components)`.

    Raises:
        ValueError: the shapes differ, or something is no number.
    """
    if outputs.shape != targets.shape:
        raise ValueError(
            f"outputs must be {targets.shape} like the targets for the score {name!r}, got {outputs.shape}"
        )
    if outputs.dtype.kind not in "buif" or targets.dtype.kind not in "buif":
        raise ValueError(
            f"outputs and targets must be numbers for the score {name!r}, got {outputs.dtype} and {targets.dtype}"
        )
    difference = outputs.astype(np.float64) - targets.astype(np.float64)
    return difference.reshape(len(difference), -1)
