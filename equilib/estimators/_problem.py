"""What every estimator is given, and what it returns."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from equilib._evaluation import Evaluator
from equilib._namespace import Floats

FIRST_LOOK = 10
"""Evaluations per player at which a tolerance may first be met."""
LOOK_FACTOR = 1.5
"""By how much the evaluations grow from one look at the errors to the next."""


class Problem(NamedTuple):
    """A game with its two known values.

    `budget` counts the evaluations that are left after the empty coalition and that of all players.
    """

    evaluate: Evaluator
    n: int
    budget: int
    empty: Floats  # (k,)
    full: Floats  # (k,)
    rng: np.random.Generator
    tolerance: float | None

    @property
    def fair(self) -> Floats:
        """Equal shares of the total for everybody, `(k,)`."""
        return (self.full - self.empty) / self.n

    def reaches(self, errors: Floats) -> bool:
        """Tell whether the tolerance is met; never if there is none."""
        return self.tolerance is not None and bool((errors <= self.tolerance).all())


class Solution(NamedTuple):
    """Values and standard errors `(k, n)`, the name of what was done, and whether all coalitions were evaluated."""

    values: Floats
    errors: Floats
    name: str
    complete: bool


def plan_stages(problem: Problem) -> list[int]:
    """List after how many evaluations to look at the errors: only at the end, or at 7 n, 10 n, 15 n, 22.5 n and so on.

    Of the coalitions there are, no more than all but the two known ones are asked for.
    """
    end = problem.budget if problem.n > 60 else min(problem.budget, 2**problem.n - 2)
    if problem.tolerance is None:
        return [end]
    stages = [7 * problem.n, FIRST_LOOK * problem.n]
    while stages[-1] < end:
        stages.append(int(stages[-1] * LOOK_FACTOR))
    return [*(stage for stage in stages if stage < end), end]
