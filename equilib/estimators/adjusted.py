"""Regression-adjusted sampling: the Shapley values of a fitted model, plus an unbiased estimate of what it misses.

With ṽ(S) = v(S) − v(∅) − |S| f, f = (v(N) − v(∅))/n, every game satisfies
    φ_i = f + Σ_{s=1}^{n−1} E_{|S|=s}[c_i(S) ṽ(S)],  c_i(S) = 1/s for members, −1/(n−s) for others.
For a model g with known values this holds of ṽ − g too, whose expectations are estimated by the means over the
coalitions of size s drawn, m_s of them without replacement:
    φ̂ = f + φ(g) + Σ_S c(S) (ṽ − g)(S) / m_{|S|}.
The model that predicts a coalition is fitted to others (cross-fitting), so the sum is unbiased whatever the model, but
for two things that vanish as the budget grows: the pilot's say in how many of each size are drawn, and that sizes drawn
nearly completely are predicted by the model of all. In pairs S, N∖S only the odd part (v(S) − v(N∖S))/2 matters,
at twice the variance per evaluation: worth it where the even part's residual is the larger.

Sources: Witter, Musco et al., "Regression-adjusted Monte Carlo estimators for Shapley values" (2025); Musco & Witter,
"Provably accurate Shapley value estimation via leverage score sampling" (2025); allocation to sizes: Neyman (1934).
"""

from __future__ import annotations

import numpy as np

from equilib._namespace import Floats
from equilib.estimators._problem import Problem, Solution, plan_stages, student
from equilib.estimators._sampling import Sample, Sampler, draw, fraction_drawn, unit_variance
from equilib.estimators._surrogate import TINY, Data, Fit, Terms, cross_fit, merge, screen

PILOT = 0.4
"""Part of the budget (of the first stage, with a tolerance) that is drawn before anything is known of the game."""
MIN_PILOT = 16
"""Evaluations of a pilot worth asking; with less, all is drawn in pairs and no more for one size than another."""
MIN_UNITS = 6
"""Coalitions, or pairs of them, below which the spread of the residuals says nothing."""
N_FOLDS = 10
"""Parts of the sample for cross-fitting."""
RIDGE = 5.0
"""Penalty on squared coefficients, in units of the mean weight."""
SMALL_SAMPLE = 1000
"""Units up to which the penalty is chosen by cross-validation, too."""
MAX_NONLINEAR = 128
"""Players, at most, of models that are not linear: their normal equations take (2 n)² or (3 n)² per evaluation."""
MAX_PRODUCTS = 128
"""Products of players in a model, at most; there must be 16 units for each, and 16 of them."""


def adjusted(problem: Problem) -> Solution:
    """Decide for or against pairs after the pilot."""
    return _estimate(problem, None)


def adjusted_paired(problem: Problem) -> Solution:
    """Draw every coalition with its complement."""
    return _estimate(problem, True)


def adjusted_unpaired(problem: Problem) -> Solution:
    """Draw coalitions on their own; only the pilot comes in pairs."""
    return _estimate(problem, False)


def _estimate(problem: Problem, pairs: bool | None) -> Solution:
    n = problem.n
    if n == 1:
        return Solution(problem.fair[:, None], np.zeros((len(problem.fair), 1)), "adjusted-unpaired")
    sampler = Sampler(n, problem.rng)
    sizes = np.arange(1, n)
    weights = 1 / np.sqrt(sizes * (n - sizes))
    stages = plan_stages(problem)
    pilot = int(PILOT * stages[0]) // 2 * 2
    sample = draw(problem, sampler, None, weights, pilot if pilot >= MIN_PILOT else stages[0], pairs=True)
    chosen = True
    if pilot >= MIN_PILOT:
        weights, chosen = _plan(sample, problem, weights, pairs)
    for stage in stages:
        sample = draw(problem, sampler, sample, weights, stage - len(sample.sizes), pairs=chosen)
        values, errors = _solve(sample, n, chosen, problem.rng)
        if problem.reaches(errors):
            break
    return Solution((problem.fair + values).T, errors.T, "adjusted-paired" if chosen else "adjusted-unpaired")


def _split(values: Floats) -> tuple[Floats, Floats]:
    """Odd and even part of values that come in pairs."""
    return (values[::2] - values[1::2]) / 2, (values[::2] + values[1::2]) / 2


def _plan(sample: Sample, problem: Problem, weights: Floats, pairs: bool | None) -> tuple[Floats, bool]:
    """Decide from the pilot whether to draw pairs, and how many of each size (Neyman allocation)."""
    n = problem.n
    odd, even = _split(sample.values)
    sizes = sample.sizes[::2]
    per_size = np.bincount(sizes, minlength=n + 1)
    data = Data(
        sample.coalitions[::2],
        sizes,
        odd,
        n / (sizes * (n - sizes)) / per_size[sizes],
        np.where(2 * sizes == n, 0, sizes),
        np.arange(len(sizes)) % min(N_FOLDS, len(sizes)),
        np.sqrt((sample.values**2).mean(axis=0)) + TINY,
    )
    rest_odd = (cross_fit(Terms((0,), ()), data, ridge=RIDGE / len(sizes)).held_out / data.scale) ** 2
    mean = np.zeros((n + 1, even.shape[1]))
    np.add.at(mean, sizes, even / per_size[sizes][:, None])
    rest_even = ((even - mean[sizes]) / data.scale) ** 2 * (per_size / np.maximum(per_size - 1, 1))[sizes][:, None]
    if pairs is None:
        # A model of n parameters fitted to all will miss less than one fitted to the pilot.
        few, many = len(sizes), max(problem.budget // 2, len(sizes))
        gain = max(1 - n / few, 0.25) / max(1 - n / many, 0.25)
        # A short pilot errs; pairs are wrong by a factor of 2 at most, single coalitions by any.
        doubt = 1 + n / few
        odd_part, even_part = ((data.weights @ rest).sum() for rest in (rest_odd, rest_even))
        pairs = bool(gain * odd_part <= doubt * even_part)
    rest = rest_odd.sum(axis=1) if pairs else (rest_odd + rest_even).sum(axis=1)
    # Few values per size: lend to and borrow from the neighbours, and from all.
    sums = np.bincount(sizes, rest, n + 1) + np.bincount(n - sizes, rest, n + 1)
    number = per_size + per_size[::-1]
    near = np.exp(-0.5 * (np.arange(n + 1)[:, None] - np.arange(n + 1)) ** 2.0)
    variance = (near @ sums) / np.maximum(near @ number, 1e-9) + 0.1 * rest.mean() + TINY
    return weights * np.sqrt(variance[1:n]), pairs


def _solve(sample: Sample, n: int, pairs: bool, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Fit the model and correct it: values beyond the fair share and standard errors, `(n, k)`."""
    n_units = int(sample.units[-1]) + 1
    first = np.searchsorted(sample.units, np.arange(n_units))
    # Folds of whole units, balanced over the sizes.
    order = np.argsort(np.minimum(sample.sizes, n - sample.sizes)[first] + rng.random(n_units))
    unit_folds = np.empty(n_units, dtype=np.int64)
    unit_folds[order] = np.arange(n_units) % min(N_FOLDS, n_units)
    rows = first if pairs else np.arange(len(sample.sizes))
    sizes, targets, strata = sample.sizes[rows], sample.values, sample.sizes
    per_size = np.bincount(sample.sizes, minlength=n + 1)
    share = 1 / per_size[sizes]
    if pairs:
        last = np.append(first[1:], len(sample.sizes)) - 1
        # A single coalition, left over by an odd budget, stands for itself.
        alone = (first == last)[:, None]
        targets = np.where(alone, sample.values[first], (sample.values[first] - sample.values[last]) / 2)
        share = share * np.where(alone[:, 0], 1.0, 2.0)
        strata = np.where(2 * sizes == n, 0, sizes)
    data = Data(
        sample.coalitions[rows],
        sizes,
        targets,
        n / (sizes * (n - sizes)) / per_size[sizes],
        strata,
        unit_folds[sample.units[rows]],
        np.sqrt((targets**2).mean(axis=0)) + TINY,
    )
    fit = _best_fit(data, n_units, odd=pairs)
    # Of a size drawn completely nothing is left to chance, if one model is taken off all of it.
    drawn = fraction_drawn(sample.sizes, n)
    part = drawn[sizes][:, None]
    residuals = part * fit.residuals + (1 - part) * fit.held_out
    weight = np.where(data.coalitions, (share / sizes)[:, None], (-share / (n - sizes))[:, None])
    variance = unit_variance(weight, residuals, sample, rows, 1 - drawn)
    errors = np.sqrt(variance) * student(n_units / 2)
    if n_units < MIN_UNITS and (drawn[1:n] < 1).any():
        errors = np.full_like(errors, np.inf)
    return fit.shapley + weight.T @ residuals, errors


def _best_fit(data: Data, n_units: int, *, odd: bool) -> Fit:
    """Choose the model that best predicts what it has not seen: linear, by size, or with products of players."""
    n = data.coalitions.shape[1]
    ridge = RIDGE / n_units
    # Small samples are cheap to fit, and want the penalty that suits them.
    ridges = [ridge] if n_units > SMALL_SAMPLE else [0.2 * ridge, ridge, 4 * ridge]
    models = [Terms((0,), ())]
    if n <= MAX_NONLINEAR:
        models.append(Terms((0, 2) if odd else (0, 1, 2), ()))
    tried = [(cross_fit(model, data, ridge=value), model) for model in models for value in ridges]
    best, terms = min(tried, key=lambda fit_and_terms: fit_and_terms[0].score)
    if n > MAX_NONLINEAR:
        return best
    number = min(MAX_PRODUCTS, n_units // 16)
    orders = [order for order in ((3,) if odd else (2, 3)) if order == 2 or 3 <= n <= 64]
    if number < 16 or n < 3 or not orders:
        return best
    halves = []
    for half in (0, 1):
        # Each half of the folds is predicted with products chosen on the other half: choosing is fitting, too.
        products = tuple(
            screen(data, best.held_out, data.folds % 2 != half, order, number // len(orders)) for order in orders
        )
        halves.append(cross_fit(Terms(terms.degrees, products), data, ridge=ridge, half=half))
    fit = merge(*halves)
    return fit if fit.score < best.score else best
