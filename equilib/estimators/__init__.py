"""Estimators of Shapley values: each turns a `Problem` into a `Solution`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from equilib.estimators import adjusted, exact, permutation, regression, stratified
from equilib.estimators._problem import Problem, Solution

MAX_ADJUSTED_PLAYERS = 512
"""From here on the normal equations of the regression cost more than most games."""
MAX_ADJUSTED_ENTRIES = 2**27
"""Players times evaluations that the adjusted estimator keeps in memory when it was not asked for by name."""

MIN_ADJUSTED = 4
"""Evaluations per player below which a regression has too little to learn from."""


@dataclass(frozen=True)
class Estimator:
    """A way to estimate Shapley values.

    Attributes:
        name: what `estimate_shapley` and the command line call it.
        description: one line for lists and help.
        estimate: from a problem to its solution.
    """

    name: str
    description: str
    estimate: Callable[[Problem], Solution]


def auto(problem: Problem) -> Solution:
    """Choose the most accurate estimator that the numbers of players and evaluations allow."""
    n, budget = problem.n, problem.budget + 2
    if exact.is_within(problem):
        return exact.exact(problem)
    if problem.evaluate.count > 2:
        return adjusted.adjusted(problem) if problem.evaluate.record.drawn else permutation.adaptive(problem)
    if n <= MAX_ADJUSTED_PLAYERS and budget * n <= MAX_ADJUSTED_ENTRIES and budget >= MIN_ADJUSTED * n:
        return adjusted.adjusted(problem)
    return permutation.adaptive(problem)


ESTIMATORS: dict[str, Estimator] = {
    entry.name: entry
    for entry in (
        Estimator("auto", "the most accurate one that players and budget allow", auto),
        Estimator("exact", "all 2**n coalitions, no error", exact.exact),
        Estimator("permutation", "marginal contributions along random orders; unbiased", permutation.permutation),
        Estimator(
            "antithetic", "marginal contributions along random orders and their reverses", permutation.antithetic
        ),
        Estimator("kernel", "least squares in the Shapley kernel, coalitions with complements", regression.kernel),
        Estimator(
            "kernel-unpaired",
            "least squares in the Shapley kernel, coalitions on their own",
            regression.kernel_unpaired,
        ),
        Estimator("stratified", "means by size of coalition, with and without each player", stratified.stratified),
        Estimator(
            "adjusted", "a fitted model, corrected by sampling what it misses; nearly unbiased", adjusted.adjusted
        ),
        Estimator(
            "adjusted-paired", "a fitted model, corrected; coalitions with complements", adjusted.adjusted_paired
        ),
        Estimator(
            "adjusted-unpaired", "a fitted model, corrected; coalitions on their own", adjusted.adjusted_unpaired
        ),
        Estimator("boosted", "adjusted, with boosted trees beside: dearer; for rules and maxima", adjusted.boosted),
    )
}
"""Every estimator by its name."""

ORDERS = ("permutation", "antithetic")
"""Estimators that walk along whole orders."""


def descriptions() -> dict[str, str]:
    """Describe every estimator in one line, by name.

    Example:
        >>> descriptions()["exact"]
        'all 2**n coalitions, no error'
    """
    return {name: entry.description for name, entry in ESTIMATORS.items()}
