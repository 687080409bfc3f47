"""From a measured coalition table to the next epoch's plan."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from equilib import Schedule

from .methods import Plan


def sufficiency(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """What each modality does alone, relative to what it adds to all others: λ_k, shape (n,), in [0, 1].

    λ_k = clip((v({k}) - v(∅)) / (v(N) - v(N∖k)), 0, 1): 1 for a modality that is redundant with the others or adds as
    much to them as it is worth alone, 0 for one that matters only together with them. What adds nothing to the others
    counts as redundant. Our measure; the paper has none.

    Args:
        values: (2ⁿ,) coalition table.

    Example:
        >>> sufficiency(np.array([0.1, 0.5, 0.5, 0.6]))  # redundant
        array([1., 1.])
        >>> sufficiency(np.array([0.1, 0.1, 0.1, 0.9]))  # exclusive or
        array([0., 0.])
    """
    bits = 1 << np.arange(values.shape[0].bit_length() - 1)
    alone = values[bits] - values[0]
    added = values[-1] - values[-1 - bits]
    return np.where(added > 0, np.clip(alone / np.where(added > 0, added, 1.0), 0.0, 1.0), 1.0)


def make_plan(schedule: Schedule, values: npt.NDArray[np.float64] | None) -> Plan:
    """The plan that follows from a schedule and the table it was measured on (None before the first measurement)."""
    n = len(schedule.order)
    known = np.ones(n) if values is None else sufficiency(values)
    return Plan(tuple(map(int, schedule.order)), tuple(map(int, schedule.updates)), tuple(map(float, known)))
