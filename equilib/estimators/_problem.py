"""What every estimator is given, and what it returns."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from equilib._evaluation import Evaluator
from equilib._namespace import Floats


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
    """Values and standard errors `(k, n)`, and the name of what was done."""

    values: Floats
    errors: Floats
    name: str


def plan_stages(problem: Problem) -> list[int]:
    """List after how many evaluations to look at the errors: only at the end, or at 10 n, 20 n, 40 n and so on.

    Of the coalitions there are, no more than all but the two known ones are asked for.
    """
    end = problem.budget if problem.n > 60 else min(problem.budget, 2**problem.n - 2)
    if problem.tolerance is None:
        return [end]
    stages = [10 * problem.n]
    while stages[-1] < end:
        stages.append(2 * stages[-1])
    return [*stages[:-1], end]


def student(degrees: Floats | float) -> Floats:
    """Compute what to multiply a standard error by for ±1.96 of it to cover 95 %, when it has few degrees of freedom.

    The ratio of the quantiles of Student's t and the normal distribution, by the expansion of Fisher and Cornish
    (Abramowitz & Stegun 26.7.5), within 3 % from 2 degrees of freedom on.
    """
    z, d = 1.959964, np.maximum(np.asarray(degrees, dtype=np.float64), 1e-9)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    ratio: Floats = np.ones_like(d)
    for k, term in enumerate(terms):
        ratio = ratio + term / (z * d ** (k + 1))
    return ratio
