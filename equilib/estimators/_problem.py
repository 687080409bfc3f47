"""What every estimator is given, and what it returns."""

from __future__ import annotations

from collections.abc import Callable
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
    on_progress: Callable[[int, Floats], object] | None = None

    @property
    def left(self) -> int:
        """Evaluations that are left now."""
        return self.budget + 2 - self.evaluate.count

    @property
    def looks(self) -> bool:
        """Whether somebody wants to know the errors on the way."""
        return self.tolerance is not None or self.on_progress is not None

    def tell(self, errors: Floats) -> bool:
        """Tell of the evaluations and the errors `(n, k)` so far; whether to go on."""
        if self.on_progress is None:
            return True
        shown = errors[:, 0] if self.evaluate.output_shape == () else errors.T
        answer = self.on_progress(self.evaluate.count, shown.copy())
        return answer is None or bool(answer)

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


def share_of_one(problem: Problem, name: str) -> Solution:
    """Give the only player all there is."""
    return Solution(problem.fair[:, None], np.sqrt(2 * problem.evaluate.noise)[:, None], name, complete=True)


def plan_stages(problem: Problem) -> list[int]:
    """List after how many evaluations to look at the errors: only at the end, or at 7 n, 10 n, 15 n, 22.5 n and so on.

    Of the coalitions there are, no more than all but the two known ones are asked for.
    """
    end = problem.budget if problem.n > 60 else min(problem.budget, 2**problem.n - 2)
    if not problem.looks:
        return [end]
    stages = [7 * problem.n // 2 * 2, FIRST_LOOK * problem.n]
    while stages[-1] < end:
        stages.append(int(stages[-1] * LOOK_FACTOR) // 2 * 2)
    known = problem.evaluate.count - 2
    return [*(stage for stage in stages if known < stage < end), max(end, known)]
