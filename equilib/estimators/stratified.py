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
TINY = 1e-300
"""Keeps spreads of nothing from dividing by zero."""


def stratified(problem: Problem) -> Solution:
    """Estimate from the means of sizes."""
    return solve_in_stages(problem, "stratified", _solve, pairs=False)


def _solve(sample: Sample, n: int, noise: Floats) -> tuple[Floats, Floats]:
    """Compute values beyond the fair share and standard errors, `(n, k)`."""
    k = sample.values.shape[1]
    values, variance = np.zeros((n, k)), np.zeros((n, k))
    difference, unmet = np.zeros((n, k)), np.zeros((n, 1))
    undrawn = 1 - fraction_drawn(sample.sizes, n)
    doubt, sizes = np.full((n, k), TINY), np.unique(sample.sizes)
    heard = np.full((n, 1), 2 / n**2)  # what noise adds beyond what the spread shows, as for all estimators
    for size in sizes:
        rows = sample.sizes == size
        drawn, number = sample.values[rows], int(rows.sum())
        members = sample.coalitions[rows].astype(np.float64)
        centred = drawn - drawn.mean(axis=0)
        squares = centred**2
        means, spreads, counts = [], [], []
        for belongs in (members, 1 - members):
            count = belongs.sum(axis=0)[:, None]
            mean = belongs.T @ centred / np.maximum(count, 1)
            means.append(mean)
            spreads.append(np.maximum(belongs.T @ squares - count * mean**2, 0))
            counts.append(count)
        fewest = np.minimum(*counts)
        values += (means[0] - means[1]) / n
        difference += np.abs(means[0] - means[1])
        unmet += (fewest == 0) & (undrawn[size] > 0)
        # What both means and all players show of the spread around them is lent to each mean; all of the spread of the
        # size, where too few were drawn to tell the two apart.
        pooled, freedom = spreads[0] + spreads[1], max(number - 2, 1)
        spread = (pooled + PRIOR_UNITS * pooled.mean(axis=0) / freedom) / freedom
        whole = squares.sum(axis=0) / max(number - 1, 1)
        spread = np.where(fewest < FEW_MET, np.maximum(spread, whole), spread)
        for own, count in zip(spreads, counts, strict=True):
            degrees = np.maximum(count - 1, 0) + PRIOR_UNITS
            part = undrawn[size] * (own + PRIOR_UNITS * spread) / degrees / np.maximum(count, 1) / n**2
            variance += part
            doubt += part**2 / degrees
            heard += (1 - undrawn[size]) / np.maximum(count, 1) / n**2
    if len(sample.sizes) + 2 < MIN_EVALUATIONS * n and undrawn[1:n].any():
        return values, np.full_like(values, np.inf)
    # A mean that was replaced is wrong by about as much as the two differ elsewhere.
    bias = unmet / n * difference / np.maximum(len(sizes) - unmet, 1)
    # The degrees of freedom of a sum of variances are few where it is one mean of few that makes it (Satterthwaite).
    variance *= student(np.maximum(variance**2 / doubt, 1)) ** 2
    return values, np.sqrt(variance + bias**2 + heard * noise)
