"""Fit models of a game that are linear in their coefficients, each part of the sample predicted from the others."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple, Protocol

import numpy as np

from equilib._namespace import Floats, Ints
from equilib._record import Coalitions

NEARLY_SAME = 1e-9
"""Models that differ by less, in relative squares, are not told apart."""
TRIAL_FOLDS, MANY_UNITS = 2, 256
"""Folds that the penalty is chosen on, in samples of more units than so many."""
SLIGHT = 1e-13
"""Part of the mean square of the terms that is added to each: terms may be the same."""
TINY = 1e-200
"""Keeps zero games from dividing by zero."""
BLOCK_ENTRIES = 2**24
"""Terms times coalitions that are in memory at once, about."""


class Model(Protocol):
    """What `cross_fit` fits: terms, linear in their coefficients, beside a constant for each stratum."""

    def number(self, n: int) -> int:
        """Count the terms for n players."""

    def design(self, coalitions: Coalitions) -> Floats:
        """Evaluate the terms: `(m, number of terms)`."""

    def penalty(self, n: int) -> Floats:
        """Compute what a ridge of 1 adds to the normal equations, a matrix."""

    def shapley(self, coefficients: Floats, n: int) -> Floats:
        """Compute Shapley values `(n, k)`, beyond equal shares of the total, of coefficients `(number of terms, k)`."""


class Data(NamedTuple):
    """What a model is fitted to: u units, with k targets each."""

    coalitions: Coalitions  # (u, n)
    targets: Floats  # (u, k)
    weights: Floats  # (u,) of the fit
    stakes: Floats  # (u,) what a squared residual adds to the variance of the values: weights of the scores
    strata: Ints  # (u,) from 0; each has a constant of its own, but stratum 0, which has none
    folds: Ints  # (u,) from 0
    scale: Floats  # (k,) of the targets, to add up the scores


def rows_of(data: Data, rows: Ints) -> Data:
    """Take some units."""
    parts = ("coalitions", "targets", "weights", "stakes", "strata", "folds")
    return data._replace(**{name: getattr(data, name)[rows] for name in parts})


class Fit(NamedTuple):
    """A cross-fitted model: what each fold's model, fitted without it, says of the fold and of the whole game."""

    held_out: Floats  # (u, k) residuals of the model fitted without the fold; 0 where there is none
    residuals: Floats  # (u, k) residuals of the mean of all models
    shapley: Floats  # (n, k) of that mean, beyond an equal share of the total
    score: float  # squared held-out residuals, by their stakes
    ridge: float  # that was chosen


def merge(first: Fit, second: Fit) -> Fit:
    """Put two fits of complementary folds together."""
    return Fit(
        first.held_out + second.held_out,
        (first.residuals + second.residuals) / 2,
        (first.shapley + second.shapley) / 2,
        first.score + second.score,
        first.ridge,
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
    """Mix two models so that together they miss least of what neither has seen, each output for itself.

    Two numbers fitted to all units add nothing to speak of to what each is predicted with.
    """
    said = (data.targets - first.held_out, data.targets - second.held_out)
    weighted = [data.stakes[:, None] * part for part in said]
    (aa, ab), bb = ((weighted[0] * part).sum(axis=0) for part in said), (weighted[1] * said[1]).sum(axis=0)
    ay, by = ((part * data.targets).sum(axis=0) for part in weighted)
    determinant = aa * bb - ab**2
    clear = determinant > NEARLY_SAME * aa * bb
    safe = np.where(clear, determinant, 1.0)
    one = np.where(clear, (bb * ay - ab * by) / safe, ay / (aa + TINY))
    other = np.where(clear, (aa * by - ab * ay) / safe, 0.0)
    # Where one would be subtracted, the other stands alone.
    one, other = np.where(other < 0, ay / (aa + TINY), one), np.where(one < 0, by / (bb + TINY), other)
    parts = np.clip(np.stack([one, other]), 0.0, None)  # (2, k)
    parts /= np.maximum(parts.sum(axis=0), 1.0)

    def mix(one: Floats, other: Floats, whole: Floats | float) -> Floats:
        mixture: Floats = whole - parts[0] * (whole - one) - parts[1] * (whole - other)
        return mixture

    held_out = mix(first.held_out, second.held_out, data.targets)
    residuals = mix(first.residuals, second.residuals, data.targets)
    shapley = parts[0] * first.shapley + parts[1] * second.shapley
    return Fit(held_out, residuals, shapley, score_of(held_out, data), 0.0)


def score_of(held_out: Floats, data: Data) -> float:
    """Add up the squares of held-out residuals, by their stakes."""
    return float((data.stakes[:, None] * (held_out / data.scale) ** 2).sum())


class Solved(NamedTuple):
    """A fitted model."""

    beta: Floats  # (number of terms, k)
    constants: Floats  # (strata, k)


def cross_fit(
    model: Model, data: Data, *, ridges: Sequence[float], half: int | None = None, values: bool = True
) -> Fit:
    """Fit a model by weighted ridge regression on all folds but one, for each of them.

    Args:
        model: the terms.
        data: what to fit it to.
        ridges: what to multiply the model's penalty by, over the sum of the weights; the one that predicts best counts.
        half: predict the even (0) or the odd (1) folds only.
        values: whether the Shapley values are wanted; else they are 0.
    """
    n_folds, n_strata = int(data.folds.max()) + 1, int(data.strata.max()) + 1
    n, k = data.coalitions.shape[1], data.targets.shape[1]
    order = np.argsort(data.folds * n_strata + data.strata, kind="stable")
    targets, strata = data.targets[order], data.strata[order]
    weights, stakes = data.weights[order], data.stakes[order]
    members = data.coalitions[order]
    bounds = np.searchsorted(data.folds[order], np.arange(n_folds + 1)).tolist()
    size = max(1, BLOCK_ENTRIES // model.number(n))
    blocks = [[slice(i, min(i + size, stop)) for i in range(start, stop, size)] for start, stop in pairwise(bounds)]
    # Made once where it is small, and again where it is needed again otherwise.
    kept = (
        {block.start: model.design(members[block]) for fold in blocks for block in fold} if len(order) <= size else None
    )

    def design(block: slice) -> Floats:
        return model.design(members[block]) if kept is None else kept[block.start]

    number = model.number(n)
    grams, moments = np.zeros((n_folds, number, number)), np.zeros((n_folds, number, k))
    design_sums, target_sums = np.zeros((n_folds, n_strata, number)), np.zeros((n_folds, n_strata, k))
    for fold, parts in enumerate(blocks):
        for part in parts:
            x = design(part)
            root = np.sqrt(weights[part])[:, None]
            scaled = x * root
            grams[fold] += scaled.T @ scaled  # of one array with itself: half the work
            moments[fold] += scaled.T @ (root * targets[part])
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
    penalty = model.penalty(n) * float(data.weights.sum())
    slight = np.eye(number) * (SLIGHT * np.trace(gram) / number)

    def solve(fold: int, ridges: Sequence[float]) -> list[Solved]:
        """Fit all folds but one."""
        inverse_count = 1 / np.maximum(count.sum(axis=0) - count[fold], 1)[:, None]
        x, y = all_x - design_sums[fold], all_y - target_sums[fold]
        # The constants of the strata are projected out.
        x_weighted = (x * mean_weights[:, None] * inverse_count).T
        matrix, vector = gram - grams[fold] - x_weighted @ x, moment - moments[fold] - x_weighted @ y
        solved = []
        for ridge in ridges:
            beta = np.linalg.solve(matrix + ridge * penalty + slight, vector)
            constants = (y - x @ beta) * inverse_count
            constants[0] = 0
            solved.append(Solved(beta, constants))
        return solved

    def missed(part: slice, solved: Solved) -> Floats:
        residuals: Floats = targets[part] - design(part) @ solved.beta
        residuals -= solved.constants[strata[part]]
        return residuals

    def score(residuals: Floats, part: slice) -> float:
        return float(stakes[part] @ ((residuals / data.scale) ** 2).sum(axis=1))

    # In large samples, a few folds tell which penalty it is to be.
    trial = list(predicted)[: TRIAL_FOLDS if len(order) > MANY_UNITS else None] if len(ridges) > 1 else []
    tried = {fold: solve(fold, ridges) for fold in trial}
    scores = [
        sum(score(missed(part, tried[fold][place]), part) for fold in trial for part in blocks[fold])
        for place in range(len(ridges))
    ]
    best = int(np.argmin(scores))
    fits = {fold: tried[fold][best] if fold in tried else solve(fold, ridges[best : best + 1])[0] for fold in predicted}
    mean = Solved(*(sum(parts) / len(fits) for parts in zip(*fits.values(), strict=True)))
    held_out, residuals = np.zeros((len(order), k)), np.empty((len(order), k))
    for fold, parts in enumerate(blocks):
        for part in parts:
            residuals[part] = missed(part, mean)
            if fold in fits:
                held_out[part] = missed(part, fits[fold])
    back = np.argsort(order)
    shapley = model.shapley(mean.beta, n) if values else np.zeros((n, k))
    return Fit(held_out[back], residuals[back], shapley, score(held_out, slice(None)), ridges[best])
