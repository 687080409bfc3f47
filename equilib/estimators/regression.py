"""Kernel regression: the linear game nearest to the game in the Shapley kernel, from a sample of coalitions.

φ̂ minimises Σ_S w(S) (v(S) − v(∅) − Σ_{i∈S} φ_i)² subject to Σ φ_i = v(N) − v(∅), with w(S) = n/(s(n−s) m_s) for the m_s
coalitions of size s that were drawn: the Shapley kernel over the chance to be drawn. Sizes are drawn equally often, as
their leverage scores ask for, and no coalition twice. It adds up to v(N) − v(∅) and is exact for linear games; else its
bias is of the order of 1/budget. Errors: the sandwich formula, each unit's residual divided by 1 − leverage.

Sources: Lundberg & Lee, "A unified approach to interpreting model predictions" (2017), theorem 2; pairs: Covert & Lee
(2021); leverage and sampling without replacement: Musco & Witter, Leverage SHAP (2025).
"""

from __future__ import annotations

import numpy as np

from equilib._namespace import Floats
from equilib.estimators._problem import Problem, Solution, student
from equilib.estimators._sampling import Sample, fraction_drawn, solve_in_stages, unit_variance


def kernel(problem: Problem) -> Solution:
    """Regress on coalitions drawn with their complements."""
    return solve_in_stages(problem, "kernel", _solve, pairs=True)


def kernel_unpaired(problem: Problem) -> Solution:
    """Regress on coalitions drawn on their own."""
    return solve_in_stages(problem, "kernel-unpaired", _solve, pairs=False)


def _solve(sample: Sample, n: int) -> tuple[Floats, Floats]:
    """Compute values beyond the fair share and standard errors, `(n, k)`."""
    sizes = sample.sizes
    per_size = np.bincount(sizes, minlength=n + 1)
    weights = n / (sizes * (n - sizes)) / per_size[sizes]
    # The values looked for add up to 0, so each row may be centred; the least-norm solution adds up to 0.
    design = sample.coalitions - (sizes / n)[:, None]
    scaled = design * weights[:, None]
    inverse = np.linalg.pinv(scaled.T @ design, rcond=1e-10, hermitian=True)
    values = inverse @ (scaled.T @ sample.values)
    influence = scaled @ inverse  # (m, n): what one more in an answer adds to the values
    n_units = int(sample.units[-1]) + 1
    undrawn = 1 - fraction_drawn(sizes, n)
    if n_units < n and undrawn[1:n].any():
        return values, np.full_like(values, np.inf)
    leverage = np.bincount(sample.units, (influence * design).sum(axis=1), n_units)[sample.units]
    residuals = (sample.values - design @ values) / np.maximum(1 - leverage, 1 / n_units)[:, None]
    variance = unit_variance(influence, residuals, sample, np.arange(len(sizes)), undrawn)
    return values, np.sqrt(variance) * student(max(n_units - n + 1, 1))
