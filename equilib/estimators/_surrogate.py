"""A model of a game that is linear in its parameters, with Shapley values known in closed form."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from equilib._namespace import Floats, Ints
from equilib._record import Coalitions

TINY = 1e-200
"""Keeps zero games from dividing by zero."""
BLOCK_ENTRIES = 2**24
"""Terms times coalitions that are in memory at once, about."""
HEIRS = 24
"""Products of three players, the strongest, that products of five are looked for among."""
HEIR_ROWS = 2
"""One coalition in so many is looked at for them."""
SCREENED_ROWS = 8192
"""About how many of the coalitions the choice of products looks at."""


class Terms(NamedTuple):
    """What the model is made of, beside a constant for each size of coalition.

    In x_i = 1 for members and −1 for others: x_i q_d(s) for the degrees d, and products of x over players.
    """

    degrees: tuple[int, ...]  # of ((2s − n)/n)**d; 0 is the linear game
    products: tuple[Ints, ...]  # each (p, order) players

    def number(self, n: int) -> int:
        """Count the terms for n players."""
        return len(self.degrees) * n + sum(map(len, self.products))

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


def constants_of_others(residuals: Floats, data: Data) -> Floats:
    """Compute for each unit the mean residual of its stratum in the other folds, `(u, k)`; 0 in stratum 0."""
    n_folds, n_strata = int(data.folds.max()) + 1, int(data.strata.max()) + 1
    cells = data.folds * n_strata + data.strata
    count = np.bincount(cells, minlength=n_folds * n_strata).reshape(n_folds, n_strata)
    others = np.maximum(count.sum(axis=0) - count, 1)
    columns = []
    for target in residuals.T:
        sums = np.bincount(cells, target, n_folds * n_strata).reshape(n_folds, n_strata)
        constants = (sums.sum(axis=0) - sums) / others
        constants[:, 0] = 0
        columns.append(constants.ravel()[cells])
    return np.stack(columns, axis=1)


def stack(first: Fit, second: Fit, data: Data) -> Fit:
    """Mix two models so that together they miss least of what neither has seen, output by output.

    Two numbers fitted to all units add nothing to speak of to what each is predicted with.
    """
    weights, mixed = np.sqrt(data.weights), []
    for k, target in enumerate(data.targets.T):
        said = np.stack([target - fit.held_out[:, k] for fit in (first, second)], axis=1)
        part = np.clip(np.linalg.lstsq(said * weights[:, None], target * weights, rcond=1e-9)[0], 0, None)
        part /= max(1.0, float(part.sum()))
        mixed.append(part)
    parts = np.stack(mixed, axis=1)  # (2, k)

    def mix(one: Floats, other: Floats, whole: Floats | float) -> Floats:
        mixture: Floats = whole - parts[0] * (whole - one) - parts[1] * (whole - other)
        return mixture

    held_out = mix(first.held_out, second.held_out, data.targets)
    residuals = mix(first.residuals, second.residuals, data.targets)
    shapley = parts[0] * first.shapley + parts[1] * second.shapley
    return Fit(held_out, residuals, shapley, float((data.weights[:, None] * (held_out / data.scale) ** 2).sum()))


def cross_fit(terms: Terms, data: Data, *, ridges: Sequence[float], half: int | None = None) -> Fit:
    """Fit a model by weighted ridge regression on all folds but one, for each of them.

    Args:
        terms: the model.
        data: what to fit it to.
        ridges: penalties on the squared coefficients, over the sum of the weights; the one that predicts best counts.
        half: predict the even (0) or the odd (1) folds only.
    """
    n_folds, n_strata = int(data.folds.max()) + 1, int(data.strata.max()) + 1
    n, k = data.coalitions.shape[1], data.targets.shape[1]
    order = np.argsort(data.folds * n_strata + data.strata, kind="stable")
    targets, strata, weights = data.targets[order], data.strata[order], data.weights[order]
    members, sizes = data.coalitions[order], data.sizes[order]
    bounds = np.searchsorted(data.folds[order], np.arange(n_folds + 1)).tolist()
    size = max(1, BLOCK_ENTRIES // terms.number(n))
    blocks = [[slice(i, min(i + size, stop)) for i in range(start, stop, size)] for start, stop in pairwise(bounds)]
    # Made once where it is small, and again where it is needed again otherwise.
    kept = (
        {block.start: terms.design(members[block], sizes[block]) for fold in blocks for block in fold}
        if (len(order) <= size)
        else None
    )

    def design(block: slice) -> Floats:
        return terms.design(members[block], sizes[block]) if kept is None else kept[block.start]

    number = terms.number(n)
    grams, moments = np.zeros((n_folds, number, number)), np.zeros((n_folds, number, k))
    design_sums, target_sums = np.zeros((n_folds, n_strata, number)), np.zeros((n_folds, n_strata, k))
    for fold, parts in enumerate(blocks):
        for part in parts:
            x = design(part)
            scaled = x * weights[part, None]
            grams[fold] += scaled.T @ x
            moments[fold] += scaled.T @ targets[part]
            first = np.flatnonzero(np.diff(strata[part], prepend=-1))
            rows = strata[part][first]
            design_sums[fold, rows] += np.add.reduceat(x, first, axis=0)
            target_sums[fold, rows] += np.add.reduceat(targets[part], first, axis=0)
    count = np.bincount(data.folds * n_strata + data.strata, minlength=n_folds * n_strata).reshape(n_folds, n_strata)
    mean_weights = np.bincount(data.strata, data.weights, n_strata) / np.maximum(count.sum(axis=0), 1)
    mean_weights[0] = 0
    gram, moment = grams.sum(axis=0), moments.sum(axis=0)
    all_x, all_y = design_sums.sum(axis=0), target_sums.sum(axis=0)
    predicted = range(n_folds) if half is None else range(half, n_folds, 2)
    tried = len(ridges)
    betas, constants = np.zeros((n_folds, number, tried, k)), np.zeros((n_folds, n_strata, tried, k))
    for fold in predicted:
        inverse_count = 1 / np.maximum(count.sum(axis=0) - count[fold], 1)[:, None]
        x, y = all_x - design_sums[fold], all_y - target_sums[fold]
        # The constants of the strata are projected out.
        x_weighted = (x * mean_weights[:, None] * inverse_count).T
        matrix, vector = gram - grams[fold] - x_weighted @ x, moment - moments[fold] - x_weighted @ y
        diagonal = matrix[np.diag_indices_from(matrix)]
        for trial, ridge in enumerate(ridges):
            matrix[np.diag_indices_from(matrix)] = diagonal + ridge * float(data.weights.sum())
            beta = np.linalg.solve(matrix, vector)
            betas[fold, :, trial], constants[fold, :, trial] = beta, (y - x @ beta) * inverse_count
        constants[fold, 0] = 0
    mean, mean_constants = betas.sum(axis=0) / len(predicted), constants.sum(axis=0) / len(predicted)
    held_out, residuals = np.zeros((len(order), tried, k)), np.empty((len(order), tried, k))
    for fold, parts in enumerate(blocks):
        both = np.concatenate([mean, betas[fold]], axis=1).reshape(number, -1)
        for part in parts:
            said = (design(part) @ both).reshape(-1, 2 * tried, k)
            rows = strata[part]
            residuals[part] = targets[part][:, None] - said[:, :tried] - mean_constants[rows]
            if fold in predicted:
                held_out[part] = targets[part][:, None] - said[:, tried:] - constants[fold][rows]
    scores = np.einsum("u,utk->t", weights, (held_out / data.scale) ** 2)
    best, back = int(scores.argmin()), np.argsort(order)
    shapley = terms.shapley(mean[:, best], n)
    return Fit(held_out[back, best], residuals[back, best], shapley, float(scores[best]))


def screen(data: Data, residuals: Floats, rows: Coalitions, order: int, number: int) -> tuple[Ints, Floats]:
    """Choose the products of `order` (2 or 3) players most correlated with residuals in rows: `(number, order)`.

    Returns:
        The products, strongest first, and their strengths.
    """
    signs, weighted_targets = _screened(data, residuals, rows)
    n = signs.shape[1]
    later = np.arange(n)[:, None] < np.arange(n)
    strength = np.zeros((n,) * order)
    for target in weighted_targets.T:
        weighted = signs * target[:, None]
        if order == 2:
            strength += (weighted.T @ signs) ** 2 * later
            continue
        for player in range(n - 2):
            after = slice(player + 1, None)
            part = (weighted[:, after] * signs[:, player, None]).T @ signs[:, after]
            strength[player, after, after] += part**2 * later[after, after]
    best = np.argsort(-strength, axis=None, kind="stable")[: min(number, math.comb(n, order))]
    return np.stack(np.unravel_index(best, strength.shape), axis=1), strength.ravel()[best]


def screen_heirs(data: Data, residuals: Floats, rows: Coalitions, parents: Ints, number: int) -> tuple[Ints, Floats]:
    """Choose the products of two players more than the first of `parents` `(p, order)` have, in the same way."""
    signs, weighted_targets = (part[::HEIR_ROWS] for part in _screened(data, residuals, rows))
    n = signs.shape[1]
    found: dict[tuple[int, ...], float] = {}
    for parent in parents[:HEIRS]:
        strength = np.zeros((n, n))
        for target in weighted_targets.T:
            weighted = signs * (target * signs[:, parent].prod(axis=1))[:, None]
            strength += (weighted.T @ signs) ** 2
        strength[parent, :] = strength[:, parent] = 0
        strength = np.triu(strength, 1)
        for best in np.argsort(-strength, axis=None)[: max(4, 2 * number // HEIRS)].tolist():
            players = tuple(sorted([*parent.tolist(), best // n, best % n]))
            found[players] = float(strength.flat[best])
    names = sorted(found, key=lambda players: (-found[players], players))[:number]
    return np.asarray(names, dtype=np.int64).reshape(len(names), -1), np.asarray([found[name] for name in names])


def _screened(data: Data, residuals: Floats, rows: Coalitions) -> tuple[Floats, Floats]:
    """Take what the choice of products looks at: signs `(r, n)` and weighted residuals `(r, k)`."""
    few = np.flatnonzero(rows)
    few = few[:: max(1, len(few) // SCREENED_ROWS)]
    targets = residuals[few] / data.scale * data.weights[few, None]
    return np.where(data.coalitions[few], 1.0, -1.0), targets
