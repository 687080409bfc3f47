"""When a run measures and how fast it learns, and from a measured coalition table to the next plan."""

from __future__ import annotations

import math
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
        per_epoch: updates of one pass over the training split.
        measured: numbers of the updates after which every coalition is measured, ascending; the last ends the run.
    """

    per_epoch: int
    measured: tuple[int, ...]

    @property
    def n_updates(self) -> int:
        """Updates of the whole run."""
        return self.measured[-1]


def plan_budget(options: TrainOptions, n_train: int) -> Budget:
    """Plan a run of `options` on `n_train` samples.

    Example:
        >>> plan_budget(TrainOptions(epochs=3, batch_size=32), 100)
        Budget(per_epoch=4, measured=(4, 8, 12))
    """
    per_epoch = math.ceil(n_train / options.batch_size)
    return Budget(per_epoch, tuple(per_epoch * epoch for epoch in range(1, options.epochs + 1)))


def learning_rate(options: TrainOptions, budget: Budget, update: int) -> float:
    """Compute the learning rate of an update, counted from 0: half a cosine from `lr` to 0, one value per epoch.

    Example:
        >>> options = TrainOptions(epochs=2, batch_size=50, lr=0.1)
        >>> [round(learning_rate(options, plan_budget(options, 100), update), 3) for update in range(4)]
        [0.1, 0.1, 0.05, 0.05]
    """
    epoch = update // budget.per_epoch
    return options.lr * (0.5 * (1 + math.cos(math.pi * epoch / options.epochs)))


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
    """Make the plan of an epoch from a schedule and the table behind it, None before the first measurement."""
    known = np.ones(len(schedule.order)) if values is None else sufficiency(values)
    return Plan(tuple(map(int, schedule.order)), tuple(map(int, schedule.updates)), tuple(map(float, known)), epoch)
