"""A model of a game that is linear in its parameters, with Shapley values known in closed form."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from equilib._namespace import Floats, Ints
from equilib._record import Coalitions

TINY = 1e-200
"""Keeps zero games from dividing by zero."""
SCREENED_ROWS = 4096
"""About how many of the coalitions the choice of products looks at."""


class Terms(NamedTuple):
    """What the model is made of, beside a constant for each size of coalition.

    In x_i = 1 for members and −1 for others: x_i q_d(s) for the degrees d, and products of x over players.
    """

    degrees: tuple[int, ...]  # of ((2s − n)/n)**d; 0 is the linear game
    products: tuple[Ints, ...]  # each (p, order) players

    def design(self, coalitions: Coalitions, sizes: Ints) -> Floats:
        """Evaluate the terms: `(m, number of terms)`."""
        n = coalitions.shape[1]
        signs = np.where(coalitions, 1.0, -1.0)
        position = (2 * sizes - n) / n
        columns = [signs * (position**degree)[:, None] if degree else signs for degree in self.degrees]
        for products in self.products:
            product = signs[:, products[:, 0]]
            for players in products.T[1:]:
                product *= signs[:, players]
            columns.append(product)
        return np.concatenate(columns, axis=1)

    def shapley(self, coefficients: Floats, n: int) -> Floats:
        """Compute Shapley values `(n, k)`, beyond equal shares of the total, of coefficients `(number of terms, k)`.

        A product over T has equal values for its members, which share χ(N) − χ(∅) = 2 if |T| is odd, 0 if it is even.
        For x_i q(s): Σ_s q(s) · 2/n for player i, and the same divided by −(n − 1) for each other one.
        """
        values = np.zeros((n, coefficients.shape[1]))
        position = (2 * np.arange(1, n) - n) / n
        for k, degree in enumerate(self.degrees):
            own = coefficients[k * n : (k + 1) * n] * (position**degree).sum() * 2 / n
            values += own - (own.sum(axis=0) - own) / (n - 1)
        start = len(self.degrees) * n
        for products in self.products:
            stop, order = start + len(products), products.shape[1]
            if order % 2:
                shares = coefficients[start:stop] * 2 / order
                for players in products.T:
                    np.add.at(values, players, shares)
                values -= shares.sum(axis=0) * order / n
            start = stop
        return values


LINEAR = Terms((0,), ())
"""The linear game, with a constant for each size of coalition."""


class Data(NamedTuple):
    """What a model is fitted to: u units, with k targets each."""

    coalitions: Coalitions  # (u, n)
    sizes: Ints  # (u,)
    targets: Floats  # (u, k)
    weights: Floats  # (u,)
    strata: Ints  # (u,) from 0; each has a constant of its own, but stratum 0, which has none
    folds: Ints  # (u,) from 0
    scale: Floats  # (k,) of the targets, to add up the scores


class Fit(NamedTuple):
    """A cross-fitted model: what each fold's model, fitted without it, says of the fold and of the whole game."""

    held_out: Floats  # (u, k) residuals of the model fitted without the fold; 0 where there is none
    residuals: Floats  # (u, k) residuals of the mean of all models
    shapley: Floats  # (n, k) of that mean, beyond an equal share of the total
    score: float  # weighted squared held-out residuals


def merge(first: Fit, second: Fit) -> Fit:
    """Put two fits of complementary folds together."""
    return Fit(
        first.held_out + second.held_out,
        (first.residuals + second.residuals) / 2,
        (first.shapley + second.shapley) / 2,
        first.score + second.score,
    )


def cross_fit(terms: Terms, data: Data, *, ridge: float, half: int | None = None) -> Fit:
    """Fit a model by weighted ridge regression on all folds but one, for each of them.

    Args:
        terms: the model.
        data: what to fit it to.
        ridge: penalty on the squared coefficients, over the sum of the weights.
        half: predict the even (0) or the odd (1) folds only.
    """
    n_folds, n_strata = int(data.folds.max()) + 1, int(data.strata.max()) + 1
    cells = data.folds * n_strata + data.strata
    order = np.argsort(cells, kind="stable")
    targets, strata = data.targets[order], data.strata[order]
    design = terms.design(data.coalitions[order], data.sizes[order])
    starts = np.searchsorted(cells[order], np.arange(n_folds * n_strata + 1))
    count = np.diff(starts).reshape(n_folds, n_strata)

    def cell_sums(x: Floats) -> Floats:
        sums = np.add.reduceat(np.concatenate([x, np.zeros_like(x[:1])]), starts[:-1], axis=0)
        sums[count.ravel() == 0] = 0
        return sums.reshape(n_folds, n_strata, -1)

    design_sums, target_sums = cell_sums(design), cell_sums(targets)
    weight_sums = np.bincount(data.strata, data.weights, n_strata)
    mean_weights = weight_sums / np.maximum(count.sum(axis=0), 1)
    mean_weights[0] = 0
    scaled = design * data.weights[order][:, None]
    bounds = starts[::n_strata]
    parts = [slice(a, b) for a, b in pairwise(bounds.tolist())]
    grams = [scaled[part].T @ design[part] for part in parts]
    moments = [scaled[part].T @ targets[part] for part in parts]
    gram, moment = np.sum(grams, axis=0), np.sum(moments, axis=0)
    held_out = np.zeros_like(data.targets)
    mean, mean_constants = np.zeros_like(moment), np.zeros((n_strata, data.targets.shape[1]))
    penalty = ridge * float(data.weights.sum())
    predicted = range(n_folds) if half is None else range(half, n_folds, 2)
    for k in predicted:
        inverse_count = 1 / np.maximum(count.sum(axis=0) - count[k], 1)[:, None]
        x, y = design_sums.sum(axis=0) - design_sums[k], target_sums.sum(axis=0) - target_sums[k]
        # The constants of the strata are projected out.
        x_weighted = (x * mean_weights[:, None] * inverse_count).T
        matrix, vector = gram - grams[k] - x_weighted @ x, moment - moments[k] - x_weighted @ y
        matrix[np.diag_indices_from(matrix)] += penalty
        beta = np.linalg.solve(matrix, vector)
        constants = (y - x @ beta) * inverse_count
        constants[0] = 0
        part = parts[k]
        held_out[order[part]] = targets[part] - design[part] @ beta - constants[strata[part]]
        mean += beta / len(predicted)
        mean_constants += constants / len(predicted)
    residuals = np.empty_like(data.targets)
    residuals[order] = targets - design @ mean - mean_constants[strata]
    score = float((data.weights[:, None] * (held_out / data.scale) ** 2).sum())
    return Fit(held_out, residuals, terms.shapley(mean, data.coalitions.shape[1]), score)


def screen(data: Data, residuals: Floats, rows: Coalitions, order: int, number: int) -> Ints:
    """Choose the products of `order` (2 or 3) players most correlated with residuals in rows: `(number, order)`."""
    few = np.flatnonzero(rows)
    few = few[:: max(1, len(few) // SCREENED_ROWS)]
    n = data.coalitions.shape[1]
    signs = np.where(data.coalitions[few], 1.0, -1.0)
    later = np.arange(n)[:, None] < np.arange(n)
    strength = np.zeros((n,) * order)
    for target in (residuals[few] / data.scale).T:
        weighted = signs * (data.weights[few] * target)[:, None]
        if order == 2:
            strength += (weighted.T @ signs) ** 2 * later
            continue
        for player in range(n - 2):
            after = slice(player + 1, None)
            part = (weighted[:, after] * signs[:, player, None]).T @ signs[:, after]
            strength[player, after, after] += part**2 * later[after, after]
    best = np.argsort(-strength, axis=None, kind="stable")[: min(number, math.comb(n, order))]
    return np.stack(np.unravel_index(best, strength.shape), axis=1)
