"""Coalition evaluation: encoders run once, only the fusion is repeated over the 2ⁿ coalitions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from equilib_torch.coalition_table import CoalitionTable
from equilib_torch.data.batches import Batch
from equilib_torch.network import MultimodalNetwork
from equilib_torch.registry import Registry

Score = Callable[[Tensor, Tensor], Tensor]
"""Log-probabilities (..., B, n_classes) and labels (B,) to one score per sample, (..., B) or (..., B, n_classes)."""

Summary = Callable[[Tensor, Tensor], Tensor]
"""Scores of all N samples of a split, (..., N) or (..., N, n_classes), and labels (N,) to one value, (...)."""


def accuracy(log_probabilities: Tensor, labels: Tensor) -> Tensor:
    """Score 1 where the most probable class is the label, else 0."""
    return (log_probabilities.argmax(-1) == labels).double()


def log_likelihood(log_probabilities: Tensor, labels: Tensor) -> Tensor:
    """Take the log-probability of the label, ≤ 0."""
    index = labels.expand(log_probabilities.shape[:-1])[..., None]
    return log_probabilities.gather(-1, index)[..., 0].double()


def probability(log_probabilities: Tensor, labels: Tensor) -> Tensor:
    """Take the probability of the label, in [0, 1]."""
    return log_likelihood(log_probabilities, labels).exp()


def predicted_class(log_probabilities: Tensor, labels: Tensor) -> Tensor:
    """Take the most probable class."""
    return log_probabilities.argmax(-1)


def all_classes(log_probabilities: Tensor, labels: Tensor) -> Tensor:
    """Take the log-probabilities as they are."""
    return log_probabilities


def sample_mean(scores: Tensor, labels: Tensor) -> Tensor:
    """Average scores (..., N) over the samples."""
    return scores.mean(-1)


def class_mean(scores: Tensor, labels: Tensor) -> Tensor:
    """Average scores (..., N) over the samples of every class, and these means over the classes there are.

    Example:
        >>> class_mean(torch.tensor([1.0, 1.0, 1.0, 0.0]), torch.tensor([0, 0, 0, 1]))
        tensor(0.5000)
    """
    return torch.stack([scores[..., labels == c].mean(-1) for c in np.unique(labels.numpy())], -1).mean(-1)


def macro_f1(predicted: Tensor, labels: Tensor) -> Tensor:
    """Average the F1 scores of all classes that occur or are predicted, from predicted classes (..., N), in [0, 1].

    Example:
        >>> macro_f1(torch.tensor([0, 0, 0, 0]), torch.tensor([0, 0, 0, 1])).round(decimals=4)  # (6/7 + 0) / 2
        tensor(0.4286, dtype=torch.float64)
    """
    n_classes = 1 + int(torch.maximum(predicted.max(), labels.max()))
    hit = predicted == labels
    n_hit, n_predicted, n_true = (
        torch.stack([(counted & (classes == c)).sum(-1) for c in range(n_classes)], -1).double()
        for counted, classes in ((hit, labels), (torch.ones_like(hit), predicted), (torch.ones_like(hit), labels))
    )
    known = n_predicted + n_true > 0
    return torch.where(known, 2 * n_hit / (n_predicted + n_true).clamp(min=1), 0.0).sum(-1) / known.sum(-1)


def auroc(log_probabilities: Tensor, labels: Tensor) -> Tensor:
    """Average the areas under the ROC curve of each class against the rest, from (..., N, n_classes): (...), in [0, 1].

    Ties count a half. Classes that no sample has, or all have, are left out; 0.5 if none remains.

    Example:
        >>> auroc(torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.7, 0.3]]).log(), torch.tensor([0, 0, 1]))
        tensor(0.5000, dtype=torch.float64)
    """
    areas = []
    for c in np.unique(labels.numpy()):
        own = labels == c
        if not own.all():
            scores = log_probabilities[..., c].contiguous()
            ordered = scores.sort(-1).values
            n_below, n_up_to = (torch.searchsorted(ordered, scores, right=right) for right in (False, True))
            ranks = (n_below + n_up_to + 1).double() / 2  # from 1; equals share the mean of theirs
            n_own, n_rest = own.sum(), (~own).sum()
            areas.append((ranks[..., own].sum(-1) - n_own * (n_own + 1) / 2) / (n_own * n_rest))
    if not areas:
        return torch.full(log_probabilities.shape[:-2], 0.5, dtype=torch.float64)
    return torch.stack(areas, -1).mean(-1)


@dataclass(frozen=True)
class CoalitionValue:
    """What a coalition can be worth.

    Attributes:
        name: for `--coalition-value`.
        description: one line.
        score: of every sample, batch by batch.
        summary: of the scores of a whole split; by default, their mean.
    """

    name: str
    description: str
    score: Score
    summary: Summary = sample_mean


VALUES = Registry(
    "coalition-value",
    [
        CoalitionValue("accuracy", "share of the samples whose most probable class is the label", accuracy),
        CoalitionValue("probability", "mean probability of the label", probability),
        CoalitionValue("log-likelihood", "mean log-probability of the label", log_likelihood),
        CoalitionValue("balanced-accuracy", "accuracy on each class, averaged over the classes", accuracy, class_mean),
        CoalitionValue("macro-f1", "F1 score of each class, averaged over the classes", predicted_class, macro_f1),
        CoalitionValue(
            "auroc", "area under the ROC curve of each class against the rest, averaged", all_classes, auroc
        ),
    ],
)
"""What a coalition can be worth, by name."""


class Evaluation(NamedTuple):
    """One pass over a split.

    Attributes:
        values: (2ⁿ,) float64, value of every coalition.
        scores: (2ⁿ, N, ...) what the values summarise, of every sample.
        accuracies: (2ⁿ,) float64, accuracy of every coalition.
        log_likelihood: mean log-probability of the label, all modalities together.
        predictions: (N,) class indices, all modalities together.
        labels: (N,) class indices.
        confidences: (N,) probability of the predicted class, all modalities together.
    """

    values: np.ndarray
    scores: Tensor
    accuracies: np.ndarray
    log_likelihood: float
    predictions: np.ndarray
    labels: np.ndarray
    confidences: np.ndarray

    @property
    def is_finite(self) -> bool:
        """Whether no prediction was infinite or NaN."""
        return bool(np.isfinite(self.log_likelihood) and np.isfinite(self.values).all())


@torch.inference_mode()
def evaluate(
    network: MultimodalNetwork,
    batches: Iterable[Batch],
    value: CoalitionValue,
    *,
    around_coalitions: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Evaluation:
    """Evaluate every coalition of modalities on the samples of `batches`.

    A coalition S is the network with only the modalities in S present, of those that a sample has. The empty one
    answers the class frequencies of the training split, so that v(∅) is the accuracy of its most frequent class.

    Args:
        network: left in the mode it was in.
        batches: the samples.
        value: what a coalition is worth.
        around_coalitions: makes a context in which the coalitions of each batch are computed, such as a clock's.

    Returns:
        Values, accuracies and predictions on all samples; where they are not finite, `is_finite` says so.
    """
    was_training = network.training
    network.eval()
    values, accuracies, likelihoods, predictions, labels, confidences = [], [], [], [], [], []
    for batch in batches:
        features = network.encode(batch)
        with around_coalitions():
            table = network.every_coalition(features, batch.present).float().log_softmax(-1)  # (2ⁿ, B, n_classes)
            values.append(value.score(table, batch.labels).cpu())
        everything = CoalitionTable(table).of_all
        accuracies.append(accuracy(table, batch.labels).cpu())
        likelihoods.append(log_likelihood(everything, batch.labels).cpu())
        predictions.append(everything.argmax(-1).cpu())
        labels.append(batch.labels.cpu())
        confidences.append(everything.amax(-1).exp().cpu())
    network.train(was_training)

    # Summed up over all samples at the end: the result does not depend on how they were cut into batches.
    truth, scores = torch.cat(labels), torch.cat(values, 1)
    with around_coalitions():
        summary = value.summary(scores, truth)
    return Evaluation(
        values=summary.double().numpy(),
        scores=scores,
        accuracies=torch.cat(accuracies, 1).mean(1).numpy(),
        log_likelihood=torch.cat(likelihoods).mean().item(),
        predictions=torch.cat(predictions).numpy(),
        labels=truth.numpy(),
        confidences=torch.cat(confidences).numpy(),
    )
