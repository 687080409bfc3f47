"""Stratified sampling: every coalition's value serves every player, in a mean of its own for each size.

φ̂_i = f + 1/n Σ_{s=1}^{n−1} (mean of ṽ(S) over |S| = s, i ∈ S − mean over |S| = s, i ∉ S),
with ṽ(S) = v(S) − v(∅) − s f and f = (v(N) − v(∅))/n. Sizes are drawn equally often, no coalition twice. A mean that
nothing was drawn for is replaced by that of its size, a bias that vanishes as the budget grows; the values add up to
v(N) − v(∅) only in expectation.

Source: Kolpaczki, Bengs, Muschalik & Hüllermeier, "Approximating the Shapley value without marginal contributions"
(2024), algorithm 2 (Stratified SVARM), with its warm-up replaced by the means of sizes.
"""

from __future__ import annotations

import numpy as np

from equilib._namespace import Floats
from equilib.estimators._errors import fraction_drawn, student
from equilib.estimators._problem import Problem, Solution
from equilib.estimators._sampling import Sample, solve_in_stages

PRIOR_UNITS = 2
"""Coalitions that the spread over all players counts for, on top of what was seen of each."""
MIN_EVALUATIONS = 8
"""Evaluations per player below which too many of the means of sizes are of nothing."""
FEW_MET = 3
"""Coalitions with, or without, a player below which their spread says nothing."""


def stratified(problem: Problem) -> Solution:
    """Estimate from the means of sizes."""
    return solve_in_stages(problem, "stratified", _solve, pairs=False)


def _solve(sample: Sample, n: int) -> tuple[Floats, Floats]:
    """Compute values beyond the fair share and standard errors, `(n, k)`."""
    k = sample.values.shape[1]
    values, variance = np.zeros((n, k)), np.zeros((n, k))
    difference, unmet = np.zeros((n, k)), np.zeros((n, 1))
    undrawn = 1 - fraction_drawn(sample.sizes, n)
    degrees, sizes = 0, np.unique(sample.sizes)
    for size in sizes:
        rows = sample.sizes == size
        drawn, number = sample.values[rows], int(rows.sum())
        members = sample.coalitions[rows].astype(np.float64)
        centred = drawn - drawn.mean(axis=0)
        squares = centred**2
        pooled = np.zeros((n, k))
        means, parts, fewest = [], [], np.full((n, 1), np.inf)
        for belongs in (members, 1 - members):
            count = belongs.sum(axis=0)[:, None]
            mean = belongs.T @ centred / np.maximum(count, 1)
            pooled += np.maximum(belongs.T @ squares - count * mean**2, 0)
            means.append(mean)
            parts.append(1 / np.maximum(count, 1))
            fewest = np.minimum(fewest, count)
        values += (means[0] - means[1]) / n
        difference += np.abs(means[0] - means[1])
        unmet += (fewest == 0) & (undrawn[size] > 0)
        freedom = max(number - 2, 1)
        # Where too few were drawn to tell them apart, the two means share the spread of the size, and players that of
        # all.
        spread = (pooled + PRIOR_UNITS * pooled.mean(axis=0) / freedom) / freedom
        whole = squares.sum(axis=0) / max(number - 1, 1)
        spread = np.where(fewest < FEW_MET, np.maximum(spread, whole), spread)
        variance += undrawn[size] * (parts[0] + parts[1]) * spread / n**2
        degrees += max(number - 2, 0)
    if len(sample.sizes) + 2 < MIN_EVALUATIONS * n and undrawn[1:n].any():
        return values, np.full_like(values, np.inf)
    # A mean that was replaced is wrong by about as much as the two differ elsewhere.
    bias = unmet / n * difference / np.maximum(len(sizes) - unmet, 1)
    return values, np.sqrt(variance * student(max(degrees / 2, 1)) ** 2 + bias**2)
