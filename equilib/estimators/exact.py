"""All coalitions, once each: no error at all."""

from __future__ import annotations

import numpy as np

from equilib._evaluation import Coalitions
from equilib.estimators._problem import Problem, Solution
from equilib.shapley import shapley_values


def exact(problem: Problem) -> Solution:
    """Evaluate the complete table and fold it."""
    n, total = problem.n, 2**problem.n

    def rows(start: int, stop: int) -> Coalitions:
        # The first and the last row are known already.
        members: Coalitions = (np.arange(start + 1, stop + 1)[:, None] >> np.arange(n)) & 1 == 1
        return members

    table = np.concatenate([problem.empty[None], problem.evaluate.in_numpy(rows, total - 2), problem.full[None]])
    values = np.asarray(shapley_values(table, axis=0))
    return Solution(values.T, np.zeros_like(values.T), "exact", complete=True)
