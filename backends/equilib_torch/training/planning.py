"""How long a run is, when it measures, how fast it learns, and which plan follows from a measurement."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from equilib import Schedule
from equilib_torch.coalition_table import CoalitionTable
from equilib_torch.methods import Plan
from equilib_torch.training.options import TrainOptions


@dataclass(frozen=True)
class Budget:
    """How long a run lasts, counted in updates: one for each batch, whatever steps a method takes on it.

    Attributes:
        batch_size: samples of one update.
        per_epoch: updates of one pass over the training split.
        measured: numbers of the updates after which every coalition is measured, ascending; the last ends the run.
    """

    batch_size: int
    per_epoch: int
    measured: tuple[int, ...]

    @property
    def n_updates(self) -> int:
        """Updates of the whole run."""
        return self.measured[-1]


BATCH_SIZE, UPDATES, EPOCHS = 64, 600, 20
"""What a run takes by default: batches of so many samples, so many updates, or so many epochs if these are more."""

_MEASUREMENTS, _FEWEST = 15, 4
_SHARE = 0.05
"""Part of a run's work that measuring may take; `_FEWEST` measurements are made all the same."""


def plan_budget(options: TrainOptions, n_train: int, n_val: int, n_modalities: int) -> Budget:
    """Plan how many updates a run makes and when every coalition is measured.

    By default 600 updates, or those of 20 epochs where these are more, measured as `measurement_points` says. With
    `options.epochs` it is measured after every epoch, or at 15 evenly spaced updates if there are more epochs (ours).

    Args:
        options: of the run.
        n_train: training samples, at least 1.
        n_val: validation samples, at least 1.
        n_modalities: at least 1.

    Example:
        >>> budget = plan_budget(TrainOptions(), n_train=500, n_val=100, n_modalities=2)
        >>> budget.batch_size, budget.per_epoch, budget.n_updates
        (64, 8, 600)
    """
    batch_size = min(BATCH_SIZE, n_train) if options.batch_size is None else options.batch_size
    per_epoch = math.ceil(n_train / batch_size)
    n_updates = max(UPDATES, EPOCHS * per_epoch)
    if options.epochs is not None:
        n_updates = options.epochs * per_epoch
        return Budget(batch_size, per_epoch, _spread(n_updates, min(options.epochs, _MEASUREMENTS)))
    if options.updates is not None:
        n_updates = options.updates
    return Budget(batch_size, per_epoch, measurement_points(n_updates, batch_size, n_val, n_modalities))


def measurement_points(n_updates: int, batch_size: int, n_val: int, n_modalities: int) -> tuple[int, ...]:
    """Spread the measurements of a run evenly over its updates, the last on the last one.

    There are 15, or as many as there are updates, or as few as keep the measuring under a twentieth of the run, but not
    under 4. A sample's update is counted as three passes through its encoders, forward and backward; measuring as one,
    and one more for every 64 coalitions. Ours.

    Args:
        n_updates: of the run, at least 1.
        batch_size: samples of one update.
        n_val: samples that are measured on, at least 1.
        n_modalities: n, for 2ⁿ coalitions.

    Returns:
        Numbers of the updates after which every coalition is measured, ascending, from 1 to `n_updates`.

    Example:
        >>> measurement_points(600, 64, 100, 2)[:3], measurement_points(600, 64, 100, 2)[-1]
        ((40, 80, 120), 600)
        >>> measurement_points(600, 64, 4000, 2)
        (150, 300, 450, 600)
    """
    affordable = int(_SHARE * 3 * n_updates * batch_size / (n_val * (1 + 2**n_modalities / 64)))
    return _spread(n_updates, min(max(min(_MEASUREMENTS, affordable), _FEWEST), n_updates))


def _spread(n_updates: int, n_points: int) -> tuple[int, ...]:
    return tuple(round(n_updates * point / n_points) for point in range(1, n_points + 1))


def learning_rate(options: TrainOptions, budget: Budget, update: int) -> float:
    """Compute the learning rate of an update: half a cosine, from `options.lr` at update 0 towards 0 at the last.

    Args:
        options: of the run.
        budget: of the run.
        update: number of updates made before it, from 0.

    Example:
        >>> options = TrainOptions(updates=4, lr=0.1)
        >>> budget = plan_budget(options, n_train=100, n_val=20, n_modalities=2)
        >>> [round(learning_rate(options, budget, update), 3) for update in range(4)]
        [0.1, 0.085, 0.05, 0.015]
    """
    return options.lr * (0.5 * (1 + math.cos(math.pi * update / budget.n_updates)))


def is_rising(accuracies: Sequence[float], n_val: int) -> bool:
    """Tell whether accuracy on validation was still rising when training ended (ours).

    It was if the mean of the last quarter of the measurements is above that of the quarter before by more than half the
    standard error of an accuracy on so many samples. Under four measurements, nothing can be told.

    Args:
        accuracies: of the measurements, in order.
        n_val: samples that each was measured on.

    Example:
        >>> is_rising([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8], 100), is_rising([0.5, 0.9, 0.9, 0.9], 100)
        (True, False)
    """
    quarter = len(accuracies) // 4
    if not quarter:
        return False
    last = float(np.mean(accuracies[-quarter:]))
    before = float(np.mean(accuracies[-2 * quarter : -quarter]))
    variance = last * (1 - last)
    return last - before > math.sqrt(max(variance, 1 / n_val) / n_val) / 2


def is_exhausted(scores: Sequence[tuple[float, float]], patience: int | None) -> bool:
    """Tell whether the last `patience` measurements brought nothing better than those before.

    Args:
        scores: of the measurements, in order: accuracy, and what decides among equals.
        patience: None never ends a run.

    Example:
        >>> is_exhausted([(0.5, 0), (0.7, 0), (0.6, 0), (0.7, 0)], 2), is_exhausted([(0.5, 0), (0.6, 0)], 1)
        (True, False)
    """
    if patience is None or len(scores) <= patience:
        return False
    return max(scores[-patience:]) <= max(scores[:-patience])


def sufficiency(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Compare what each modality does alone with what it adds to all others: λ_k, shape (n,), in [0, 1].

    λ_k = (a_k + δ) / (max(a_k, b_k) + δ) with a_k = v({k}) - v(∅) and b_k = v(N) - v(N∖k), both at least 0, and
    δ = (v(N) - v(∅)) / 20, below which a difference is noise: 1 for a modality that is worth alone what it adds to the
    others, or more (redundant), near 0 for one that matters only together with them. 1 for all while nothing is
    learned, v(N) ≤ v(∅). Our measure; the paper has none.

    Args:
        values: (2ⁿ,) coalition table.

    Example:
        >>> sufficiency(np.array([0.1, 0.5, 0.5, 0.6]))  # redundant
        array([1., 1.])
        >>> sufficiency(np.array([0.1, 0.1, 0.1, 0.9])).round(2)  # exclusive or
        array([0.05, 0.05])
    """
    table = CoalitionTable(values)
    noise = (table.of_all - table.of_none) / 20
    if noise <= 0:
        return np.ones(table.n)
    alone = np.maximum(table.alone - table.of_none, 0.0)
    added = np.maximum(table.of_all - table.without, 0.0)
    ratio: npt.NDArray[np.float64] = (alone + noise) / (np.maximum(alone, added) + noise)
    return ratio


def make_plan(schedule: Schedule, values: npt.NDArray[np.float64] | None, epoch: int = 1) -> Plan:
    """Make a plan from a schedule and the coalition table behind it, None before the first measurement."""
    known = np.ones(len(schedule.order)) if values is None else sufficiency(values)
    return Plan(tuple(map(int, schedule.order)), tuple(map(int, schedule.updates)), tuple(map(float, known)), epoch)
