"""Kernel regression: the linear game nearest to the game in the Shapley kernel, from a sample of coalitions.

φ̂ minimises Σ_S w(S) (v(S) − v(∅) − Σ_{i∈S} φ_i)² subject to Σ φ_i = v(N) − v(∅), with w(S) = n/(s(n−s) m_s) for the m_s
coalitions of size s that were drawn: the Shapley kernel over the chance to be drawn. Sizes are drawn equally often, as
their leverage scores ask for, and no coalition twice. It adds up to v(N) − v(∅) and is exact for linear games; else its
bias is of the order of 1/budget. Errors: the sandwich formula, residuals over the square root of 1 − leverage.

Sources: Lundberg & Lee, "A unified approach to interpreting model predictions" (2017), theorem 2; pairs: Covert & Lee
(2021); leverage and sampling without replacement: Musco & Witter, Leverage SHAP (2025).
"""

from __future__ import annotations

import numpy as np

from equilib._namespace import Floats
from equilib.estimators._errors import fraction_drawn, of_units, unit_errors, with_noise
from equilib.estimators._problem import Problem, Solution
from equilib.estimators._sampling import Sample, solve_in_stages

RIDGES = (1e-6, 1e-4, 1e-3, 1e-2, 0.1, 1.0)
"""Penalties to choose from where a sample hardly determines the values, over the mean eigenvalue of the equations."""
FEW_UNITS = 2
"""Units per player below which it hardly does."""


def kernel(problem: Problem) -> Solution:
    """Regress on coalitions drawn with their complements."""
    return solve_in_stages(problem, "kernel", _solve, pairs=True)


def kernel_unpaired(problem: Problem) -> Solution:
    """Regress on coalitions drawn on their own."""
    return solve_in_stages(problem, "kernel-unpaired", _solve, pairs=False)


def _solve(sample: Sample, n: int, noise: Floats) -> tuple[Floats, Floats]:
    """Compute values beyond the fair share and standard errors, `(n, k)`."""
    sizes = sample.sizes
    per_size = np.bincount(sizes, minlength=n + 1)
    weights = n / (sizes * (n - sizes)) / per_size[sizes]
    # The values looked for add up to 0, so each row may be centred; the least-norm solution adds up to 0.
    design = sample.coalitions - (sizes / n)[:, None]
    scaled = design * weights[:, None]
    n_units = int(sample.units[-1]) + 1
    undrawn = 1 - fraction_drawn(sizes, n)
    gram = scaled.T @ design
    if n_units < FEW_UNITS * n and undrawn[1:n].any():
        # Without a penalty, values of any size may come out of equations that are nearly dependent.
        size = np.trace(gram) / n
        inverses = [np.linalg.pinv(gram + ridge * size * np.eye(n), hermitian=True) for ridge in RIDGES]
        inverse = min(inverses, key=lambda inverse: _left_out(inverse, design, scaled, weights, sample, n_units))
    else:
        inverse = np.linalg.pinv(gram, rcond=1e-10, hermitian=True)
    values = inverse @ (scaled.T @ sample.values)
    values -= values.mean(axis=0)
    influence = scaled @ inverse  # (m, n): what one more in an answer adds to the values
    if n_units < n and undrawn[1:n].any():
        return values, np.full_like(values, np.inf)
    residuals = _residuals(inverse, design, scaled, sample, n_units, power=0.5)
    freedom = max(n_units - n + 1, 1)
    first, residuals = of_units(sample, weights, residuals)
    sizes = np.minimum(sizes, n - sizes)[first]
    orders = sample.orders[first]
    errors = unit_errors(influence[first], residuals, sizes, orders, undrawn, freedom=freedom)
    return values, with_noise(errors, influence, 1 - undrawn[sample.sizes], noise)


def _residuals(
    inverse: Floats, design: Floats, scaled: Floats, sample: Sample, n_units: int, *, power: float
) -> Floats:
    """Compute residuals over (1 − the leverage of their units) ** power, `(m, k)`.

    For 0.5 their squares have the expectation of those of the errors; for 1 they are what fits without each unit miss.
    """
    least = 1 / n_units if power < 1 else 1e-9
    leverage = np.bincount(sample.units, ((scaled @ inverse) * design).sum(axis=1), n_units)[sample.units]
    missed: Floats = sample.values - design @ (inverse @ (scaled.T @ sample.values))
    missed /= np.maximum(1 - leverage, least)[:, None] ** power
    return missed


def _left_out(inverse: Floats, design: Floats, scaled: Floats, weights: Floats, sample: Sample, n_units: int) -> float:
    """Add up the squares of what fits without each unit miss."""
    scale = np.abs(sample.values).max(axis=0) + 1e-300
    missed = _residuals(inverse, design, scaled, sample, n_units, power=1.0) / scale
    return float((weights[:, None] * missed**2).sum())
