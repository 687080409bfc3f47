"""Choose the model of a game that best predicts what it has not seen, within the time that an evaluation may take."""

from __future__ import annotations

import numpy as np

from equilib._namespace import Floats, Ints
from equilib.estimators._likeness import REACH, Likeness
from equilib.estimators._products import LINEAR, Products, screen
from equilib.estimators._surrogate import TINY, Data, Fit, Model, cross_fit, merge, rows_of, score_of, stack

RIDGE = 5.0
"""Penalty on squared coefficients, in units of the mean weight."""
NO_RIDGE = 1e-7
"""What to multiply it by where a model says all there is to say."""
RIDGE_FACTORS = (NO_RIDGE, 0.2, 1.0, 4.0)
"""What a small sample tries to multiply the penalty by."""
SMALL_SAMPLE = 12
"""Units per player up to which the penalty is chosen by cross-validation, too."""
EXPLAINED = 1e-14
"""Part of the squares that the linear model may leave without another one being looked for."""
MIN_UNITS = 12
"""Units below which likeness is not looked for."""
MAX_TRIED, MAX_TRIED_CENTRES, TRIED_FOLDS, MAX_SKETCHED = 256, 64, 3, 4
"""Units, centres, folds and (mixtures of) outputs that the kind of likeness and its penalty are chosen on, at most."""
LIKE_FACTORS = (1e-4, 1e-2, 1.0)
"""What to choose that penalty from, over the units."""
MORE_FACTORS = (1e-4, 1e-2, 1.0)
"""What to multiply that by where all units and more centres count."""
LEAST_RELEVANCE, SLIGHT = 0.1, 1e-3
"""Part of the most relevant player's relevance that all have, and of the mean square in the equations for it."""
GLANCED_ROWS, FEW_PRODUCTS = 1024, 32
"""Units that tell whether a few products, so many, say more than likeness."""
SCREENED_ROWS = 8192
"""Units that products are chosen on, and that tell how relevant players are, at most."""
MAX_PRODUCTS, MIN_PRODUCTS, UNITS_PER_PRODUCT = 1024, 16, 16
"""Products in a model, at most and at least, and units that there must be for each."""
MIN_CENTRES = 64
"""Centres beside products, at least."""
MAX_TRIPLE_PLAYERS = 64
"""Players, at most, of models with products of three."""
LEAST_WORK, WORK, LARGE_SAMPLE, EXTRA = 2e8, 8e4, 200, 1.6
"""Multiplications to spend at least, and on each evaluation; evaluations per player from which on more may be, and by
which power of them."""
ENTRY_WORK, OUTPUT_WORK, SOLVE_WORK, MAX_TERMS = 300, 6, 7.0, 1500
"""Multiplications that one number of a kernel, an output of a term and unit, and a solution over the cube of the terms
are worth; most terms."""
MAX_OUTPUT_FACTOR, OUTPUTS = 5, 250
"""How many times the work many outputs may take, at most; so many outputs take that of one once more."""


def best_fit(
    data: Data, fair: Floats, n_units: int, evaluations: int, rng: np.random.Generator, *, odd: bool, work: float = 1.0
) -> Fit:
    """Fit the linear game, and beside it products of players that stand out, and likeness.

    Args:
        data: what to fit to.
        fair: `(k,)`, the equal share of the total that the targets are beyond.
        n_units: independent parts of the sample.
        evaluations: of the game: what the time to spend is counted by.
        rng: chooses centres, and what the model is chosen on.
        odd: whether the targets are odd parts, (v(S) − v(N∖S))/2.
        work: how many times the usual time may be spent.
    """
    u, n = data.coalitions.shape
    ridge = RIDGE / n_units
    # Small samples are cheap to fit, and want the penalty that suits them.
    factors = (NO_RIDGE, 1.0) if n_units > SMALL_SAMPLE * n else RIDGE_FACTORS
    ridges = [factor * ridge for factor in factors]
    k = data.targets.shape[1]
    # What is chosen is chosen for random mixtures of many outputs, which have the mean squares of all.
    mixtures = (
        np.diag(1 / data.scale) if k <= MAX_SKETCHED else rng.normal(size=(k, MAX_SKETCHED)) / data.scale[:, None]
    )
    sketch = data._replace(targets=data.targets @ mixtures, scale=np.ones(mixtures.shape[1]))

    def fit_all(model: Model, ridges: list[float], half: int | None = None) -> Fit:
        if k > MAX_SKETCHED:
            ridges = [cross_fit(model, sketch, ridges=ridges, half=half, values=False).ridge]
        return cross_fit(model, data, ridges=ridges, half=half)

    linear = fit_all(LINEAR, ridges)
    if n < 3 or n_units < MIN_UNITS or linear.score <= EXPLAINED * score_of(data.targets, data):
        return linear
    rows = rng.permutation(u)
    missed = linear.held_out @ mixtures
    tried = rows_of(sketch, rows[:MAX_TRIED])
    if u > MAX_TRIED:
        tried = tried._replace(folds=tried.folds % TRIED_FOLDS)
    relevance = _relevance(rows_of(data, rows[:SCREENED_ROWS]), fair)
    model, ridge = _choose_likeness(tried, relevance, odd=odd)
    # More centres want a smaller penalty.
    ridges = [factor * ridge * min(u, MAX_TRIED) / u for factor in MORE_FACTORS]
    affordable = _affordable_terms(n, u, k, evaluations, work)
    wide = model._replace(centres=data.coalitions[rows[:affordable]])
    fit = stack(linear, fit_all(wide, ridges), data)
    number = min(MAX_PRODUCTS, n_units // UNITS_PER_PRODUCT, affordable)
    glance = rows[:GLANCED_ROWS]
    if (
        number < MIN_PRODUCTS
        or not _orders(n, odd=odd)
        or not _is_sparse(rows_of(sketch, glance), missed[glance], (fit.held_out @ mixtures)[glance], odd=odd)
    ):
        return fit
    alone, beside = [], []
    centres = data.coalitions[rows[: max(affordable - number, MIN_CENTRES)]]
    for half in (0, 1):
        # Each half of the folds is predicted with products chosen on the other half: choosing is fitting, too.
        others = np.flatnonzero(data.folds % 2 != half)
        others = others[:: max(1, len(others) // SCREENED_ROWS)]
        terms = Products(_choose_products(rows_of(sketch, others), missed[others], number, odd=odd))
        alone.append(fit_all(terms, [NO_RIDGE * RIDGE / n_units, RIDGE / n_units], half))
        beside.append(fit_all(model._replace(terms=terms, centres=centres), ridges, half))
    return stack(fit, stack(merge(*alone), merge(*beside), data), data)


def _relevance(data: Data, fair: Floats) -> Floats:
    """Compute how much players count, in a linear model of some units: `(n,)`, of mean 1."""
    signs = np.where(data.coalitions, 1.0, -1.0)
    gram = (signs * data.weights[:, None]).T @ signs
    gram += np.eye(len(gram)) * SLIGHT * np.trace(gram) / len(gram)
    slopes = np.linalg.solve(gram, signs.T @ (data.weights[:, None] * data.targets)) + fair / 2
    size = np.sqrt(((slopes / data.scale) ** 2).mean(axis=1))
    size += LEAST_RELEVANCE * size.max() + TINY
    relevance: Floats = size / size.mean()
    return relevance


def _choose_likeness(few: Data, relevance: Floats, *, odd: bool) -> tuple[Likeness, float]:
    """Choose the kind of likeness, and its penalty, on a few units."""
    centres = few.coalitions[:MAX_TRIED_CENTRES]
    models = [
        Likeness(LINEAR, kind, centres, relevance, only)
        for kind in REACH
        for only in ((True,) if odd else (False, True))
    ]
    ridges = [factor / len(few.targets) for factor in LIKE_FACTORS]
    fits = [cross_fit(model, few, ridges=ridges, values=False) for model in models]
    best = min(range(len(fits)), key=lambda place: fits[place].score)
    return models[best], fits[best].ridge


def _orders(n: int, *, odd: bool) -> list[int]:
    """List the orders of products to look for; only odd ones matter in odd parts."""
    return [order for order in ((3,) if odd else (2, 3)) if order == 2 or 3 <= n <= MAX_TRIPLE_PLAYERS]


def _is_sparse(data: Data, residuals: Floats, left: Floats, *, odd: bool) -> bool:
    """Tell whether a few products, chosen on one half of the folds, leave less of the other half than likeness does.

    Args:
        data: some units.
        residuals: of the linear model, `(u, k)`: what products are chosen to explain.
        left: what likeness leaves.
        odd: whether the targets are odd parts.
    """
    half = data.folds % 2 == 0
    others = np.flatnonzero(~half)
    terms = Products(_choose_products(rows_of(data, others), residuals[others], FEW_PRODUCTS, odd=odd))
    products = cross_fit(terms, data, ridges=[RIDGE / len(data.targets)], half=0, values=False)
    return products.score < score_of(left[half], rows_of(data, np.flatnonzero(half)))


def _choose_products(data: Data, residuals: Floats, number: int, *, odd: bool) -> tuple[Ints, ...]:
    """Choose the products that explain most."""
    chosen = [screen(data, residuals, order, number) for order in _orders(data.coalitions.shape[1], odd=odd)]
    strengths = np.concatenate([strength for _, strength in chosen])
    least = np.sort(strengths)[max(0, len(strengths) - number)]
    return tuple(products[strength >= least] for products, strength in chosen)


def _affordable_terms(n: int, u: int, k: int, evaluations: int, work: float) -> int:
    """Count the terms that the time allowed suffices for."""
    allowed = max(LEAST_WORK, WORK * evaluations * max(1.0, evaluations / (LARGE_SAMPLE * n)) ** EXTRA)
    allowed *= work * min(MAX_OUTPUT_FACTOR, 1 + k / OUTPUTS)
    number = np.arange(1.0, min(u, MAX_TERMS) + 1)
    cost = u * number * (number + OUTPUT_WORK * k + ENTRY_WORK) + SOLVE_WORK * number**3
    return int(np.searchsorted(cost, allowed))
