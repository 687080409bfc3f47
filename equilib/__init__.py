"""Measure and cure modality imbalance: Shapley values, equilibrium deviation (EDM) and weak-first schedules.

Data flow, every step a pure function of arrays (NumPy, torch, cupy, jax or any other array-API library):

    coalitions(n)          which modalities are present in each row of a coalition table
      -> your model        v(S), its performance with the modalities of S only: a table of 2**n values
      -> shapley_values    φ, what each modality contributes
      -> contribution_shares, edm      ψ, its share of the whole, and the distance from equilibrium
      -> shapley_schedule, shapley_scheduler   which modality to train, in what order, how often
    Too many players for a table: estimate_shapley draws coalitions instead.
    The same table gives expected_when_missing, the performance to expect when modalities go missing, and
    shapley_interactions and pairwise_synergy, what modalities are worth together; banzhaf_values are another φ.

    audit does all of it for a trained model of any framework and held-out data, with errors.

Example:
    >>> values = [0.1, 0.8, 0.4, 0.9]  # accuracy with no modality, the first, the second, both
    >>> shapley = shapley_values(values)
    >>> shapley.round(2).tolist(), round(float(edm(shapley)), 2)
    ([0.6, 0.2], 0.5)
    >>> shapley_schedule(shapley).order.tolist()
    [1, 0]
"""

from __future__ import annotations

from equilib.audit import Audit, audit
from equilib.equilibrium import contribution_shares, edm
from equilib.estimation import ShapleyEstimate, estimate_shapley
from equilib.interactions import banzhaf_values, pairwise_synergy, shapley_interactions
from equilib.missing import expected_when_missing
from equilib.schedule import Schedule, Scheduler, SchedulerState, shapley_schedule, shapley_scheduler
from equilib.shapley import coalitions, shapley_values

__version__ = "0.2.0"

__all__ = [
    "Audit",
    "Schedule",
    "Scheduler",
    "SchedulerState",
    "ShapleyEstimate",
    "audit",
    "banzhaf_values",
    "coalitions",
    "contribution_shares",
    "edm",
    "estimate_shapley",
    "expected_when_missing",
    "pairwise_synergy",
    "shapley_interactions",
    "shapley_schedule",
    "shapley_scheduler",
    "shapley_values",
]
