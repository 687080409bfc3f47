"""All coalitions, once each: no error at all, but of noise in the answers."""

from __future__ import annotations

import math

import numpy as np

from equilib.estimators._problem import Problem, Solution
from equilib.shapley import shapley_values

BLOCK = 2**16
"""Coalitions that are asked at once, if nobody wants to know how far it is."""
STEPS = 32
"""How often it is told how far it is."""


def is_within(problem: Problem) -> bool:
    """Tell whether the budget holds all coalitions, beside those that an earlier estimate evaluated twice."""
    n, record = problem.n, problem.evaluate.record
    if n > 62 or 2**n > problem.budget + 2:
        return False
    known = np.unique(record.coalitions @ (1 << np.arange(n)))
    return bool(problem.left >= 2**n - len(known))


def exact(problem: Problem) -> Solution:
    """Evaluate the complete table, in an order that looks random, and fold it.

    What is known when it is interrupted is a sample of coalitions.
    """
    n, record = problem.n, problem.evaluate.record
    known, bits = record.coalitions, np.arange(n)
    table = np.zeros((2**n, len(problem.fair)))
    rows = known @ (1 << bits)
    table[rows] = record.matrix
    left = np.ones(2**n, dtype=bool)
    left[rows] = False
    missing = problem.rng.permutation(np.flatnonzero(left)) if n <= 20 else np.flatnonzero(left)
    size = BLOCK if problem.on_progress is None else max(1, len(missing) // STEPS)
    for start in range(0, len(missing), size):
        block = missing[start : start + size]
        table[block] = problem.evaluate((block[:, None] >> bits) & 1 == 1)
        if start + size < len(missing) and not problem.tell(np.full((n, len(problem.fair)), np.inf)):
            raise StoppedError
    values = np.asarray(shapley_values(table, axis=0))
    # A value weighs coalitions of s others by ± 1 / (n times how many there are).
    weights = sum(2 / math.comb(n - 1, size) for size in range(n)) / n**2
    errors = np.broadcast_to(np.sqrt(weights * problem.evaluate.noise), values.shape)
    return Solution(values.T, errors.T, "exact", complete=True)


class StoppedError(Exception):
    """Somebody wanted no more evaluations; what they say so far is another estimator's to say."""
