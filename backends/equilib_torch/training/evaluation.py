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
"""Log-probabilities (..., B, n_classes) and labels (B,) to one score per sample (..., B); v(S) is its mean."""


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


@dataclass(frozen=True)
class CoalitionValue:
    """What a coalition can be worth; called like its `score`.

    Attributes:
        name: for `--coalition-value`.
        description: one line.
        score: of every sample; the value is its mean.
    """

    name: str
    description: str
    score: Score

    def __call__(self, log_probabilities: Tensor, labels: Tensor) -> Tensor:
        """Score every sample."""
        return self.score(log_probabilities, labels)


VALUES = Registry(
    "coalition-value",
    [
        CoalitionValue("accuracy", "share of the samples whose most probable class is the label", accuracy),
        CoalitionValue("probability", "mean probability of the label", probability),
        CoalitionValue("log-likelihood", "mean log-probability of the label", log_likelihood),
    ],
)
"""What a coalition can be worth, by name."""


class Evaluation(NamedTuple):
    """One pass over a split.

    Attributes:
        values: (2ⁿ,) float64, value of every coalition.
        accuracies: (2ⁿ,) float64, accuracy of every coalition.
        log_likelihood: mean log-probability of the label, all modalities together.
        predictions: (N,) class indices, all modalities together.
        labels: (N,) class indices.
    """

    values: np.ndarray
    accuracies: np.ndarray
    log_likelihood: float
    predictions: np.ndarray
    labels: np.ndarray

    @property
    def is_finite(self) -> bool:
        """Whether no prediction was infinite or NaN."""
        return bool(np.isfinite(self.log_likelihood) and np.isfinite(self.values).all())


@torch.inference_mode()
def evaluate(
    network: MultimodalNetwork,
    batches: Iterable[Batch],
    value: Score,
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
    """
    was_training = network.training
    network.eval()
    values, accuracies, likelihoods, predictions, labels = [], [], [], [], []
    for batch in batches:
        features = network.encode(batch)
        with around_coalitions():
            table = network.every_coalition(features, batch.present).float().log_softmax(-1)  # (2ⁿ, B, n_classes)
            values.append(value(table, batch.labels).cpu())
        everything = CoalitionTable(table).of_all
        accuracies.append(accuracy(table, batch.labels).cpu())
        likelihoods.append(log_likelihood(everything, batch.labels).cpu())
        predictions.append(everything.argmax(-1).cpu())
        labels.append(batch.labels.cpu())
    network.train(was_training)

    # One mean over all samples at the end: the result does not depend on how they were cut into batches.
    return Evaluation(
        values=torch.cat(values, 1).mean(1).numpy(),
        accuracies=torch.cat(accuracies, 1).mean(1).numpy(),
        log_likelihood=torch.cat(likelihoods).mean().item(),
        predictions=torch.cat(predictions).numpy(),
        labels=torch.cat(labels).numpy(),
    )
