"""From a measured coalition table to the next epoch's plan."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from equilib import Schedule
from equilib_torch.methods import Plan


def sufficiency(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """What each modality does alone, relative to what it adds to all others: λ_k, shape (n,), in [0, 1].

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
    bits = 1 << np.arange(values.shape[0].bit_length() - 1)
    noise = (values[-1] - values[0]) / 20
    if noise <= 0:
        return np.ones(len(bits))
    alone = np.maximum(values[bits] - values[0], 0.0)
    added = np.maximum(values[-1] - values[-1 - bits], 0.0)
    ratio: npt.NDArray[np.float64] = (alone + noise) / (np.maximum(alone, added) + noise)
    return ratio


def make_plan(schedule: Schedule, values: npt.NDArray[np.float64] | None, epoch: int = 1) -> Plan:
    """The plan of an epoch, from a schedule and the table it was measured on (None before the first measurement)."""
    n = len(schedule.order)
    known = np.ones(n) if values is None else sufficiency(values)
    return Plan(tuple(map(int, schedule.order)), tuple(map(int, schedule.updates)), tuple(map(float, known)), epoch)
