"""Estimators of Shapley values: each turns a `Problem` into a `Solution`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from equilib.estimators import adjusted, exact, permutation, regression, stratified
from equilib.estimators._problem import Problem, Solution

Estimator: TypeAlias = Callable[[Problem], Solution]

MAX_ADJUSTED_PLAYERS = 512
"""From here on the normal equations of the regression cost more than most games."""
MAX_ADJUSTED_ENTRIES = 2**24
"""Players times evaluations that the adjusted estimator keeps in memory when it was not asked for by name."""

MIN_ADJUSTED = 4
"""Evaluations per player below which a regression has too little to learn from."""


def auto(problem: Problem) -> Solution:
    """Choose the most accurate estimator that the numbers of players and evaluations allow."""
    n, budget = problem.n, problem.budget + 2
    if n < 63 and 2**n <= budget:
        return exact.exact(problem)
    if n <= MAX_ADJUSTED_PLAYERS and budget * n <= MAX_ADJUSTED_ENTRIES and budget >= MIN_ADJUSTED * n:
        return adjusted.adjusted(problem)
    return permutation.adaptive(problem)


ESTIMATORS: dict[str, Estimator] = {
    "auto": auto,
    "exact": exact.exact,
    "permutation": permutation.permutation,
    "antithetic": permutation.antithetic,
    "kernel": regression.kernel,
    "kernel-unpaired": regression.kernel_unpaired,
    "stratified": stratified.stratified,
    "adjusted": adjusted.adjusted,
    "adjusted-paired": adjusted.adjusted_paired,
    "adjusted-unpaired": adjusted.adjusted_unpaired,
}
