"""Standard errors of sums over sampled coalitions, that hold for small samples and for players hardly met."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from equilib._namespace import Floats, Ints
from equilib.estimators._sampling import UNLIMITED, Sample

Bools: TypeAlias = np.ndarray[Any, np.dtype[np.bool_]]

PRIOR_UNITS = 2.0
"""Units that the spread over all players counts for, on top of what was seen of each."""
LENT_UNITS = 2.0
"""Units that the residuals of neighbouring sizes count for in those of each size."""
UNMET = 0.5
"""Part of the largest squared weight of a size that a player's must reach to have been met in it."""
MIN_KEPT = 0.1
"""Part of a variance, at least, that is left where errors seem to cancel."""
NOTHING = 1e-300
"""Keeps spreads of nothing from dividing by zero."""
MANY_OUTPUTS = 8
"""Outputs whose errors are asked, at most, how far they cancel in coalitions of one order."""
BLOCK_ENTRIES = 2**21
"""Numbers in each of the arrays that are worked on at once, about."""


def fraction_drawn(sizes: Ints, n: int) -> Floats:
    """Compute the part that was drawn of all coalitions of each size or its complement's, `(n + 1,)`."""
    per_size = np.bincount(sizes, minlength=n + 1).astype(np.float64)
    every = np.asarray([float(min(math.comb(n, s), UNLIMITED)) for s in range(n + 1)])
    fraction: Floats = (per_size + per_size[::-1]) / (every + every[::-1])
    return fraction


def student(degrees: Floats | float) -> Floats:
    """Compute what to multiply a standard error by for ±1.96 of it to cover 95 %, when it has few degrees of freedom.

    The ratio of the quantiles of Student's t and the normal distribution, by the expansion of Fisher and Cornish
    (Abramowitz & Stegun 26.7.5), within 3 % from 2 degrees of freedom on.
    """
    z, d = 1.959964, np.maximum(np.asarray(degrees, dtype=np.float64), 1e-9)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    ratio: Floats = np.ones_like(d)
    for k, term in enumerate(terms):
        ratio = ratio + term / (z * d ** (k + 1))
    return ratio


def of_units(sample: Sample, factors: Floats, residuals: Floats) -> tuple[Ints, Floats]:
    """Fold the rows of units into the first of each, where a complement's weights are the first one's, negated.

    Args:
        sample: what was drawn: single coalitions, and pairs of complements.
        factors: `(m,)`, what the weights of each row are proportional to, beside its coalition.
        residuals: `(m, k)`.

    Returns:
        The first row of each unit, and its residuals less those of the complement in proportion, `(u, k)`.
    """
    is_first = np.diff(sample.units, prepend=-1) > 0
    first, second = np.flatnonzero(is_first), np.flatnonzero(~is_first)
    folded, to = residuals[first], sample.units[second]
    folded[to] -= (factors[second] / factors[first[to]])[:, None] * residuals[second]
    return first, folded


def with_noise(errors: Floats, weight: Floats, drawn: Floats, noise: Floats) -> Floats:
    """Add to standard errors `(n, k)` what they do not show of the noise in the answers of a game.

    The spread of what was drawn shows the noise, but counts only in so far as more could be drawn; and the values of
    the empty coalition and of all players, which everybody shares, are asked once.

    Args:
        errors: `(n, k)`.
        weight: `(u, n)`, of every answer in the values.
        drawn: `(u,)`, the part of the coalitions of its size that was drawn.
        noise: `(k,)`, the variance of an answer.
    """
    if not noise.any():
        return errors
    variance = (weight**2).T @ drawn + 2 / len(errors) ** 2
    total: Floats = np.sqrt(errors**2 + variance[:, None] * noise)
    return total


def unit_errors(
    weight: Floats, residuals: Floats, sizes: Ints, orders: Ints, undrawn: Floats, *, freedom: float
) -> Floats:
    """Compute the standard errors `(n, k)` of Σ weight · residual over independent units, stratified by size.

    The variance of a size is what the units of each player showed, plus what a few more would that are like those of
    all players: one who was hardly met must not seem certain. A player whose residuals are larger than the others'
    wherever met is given that much more of it. How many units the sum rests on, in the end, says by how much Student's
    t is wider than the normal distribution: if one or two make up most of it, by a factor of two.

    Args:
        weight: `(u, n)`, of the units.
        residuals: `(u, k)`, of the same.
        sizes: `(u,)`, of the coalitions or their complements, whichever are smaller.
        orders: `(u,)`, the random order that each was cut from; those of one are beside each other.
        undrawn: `(n + 1,)`, the part of the coalitions of each size that was not drawn: the others add no variance.
        freedom: degrees of freedom at most.
    """
    n, k = weight.shape[1], residuals.shape[1]
    by_size = np.argsort(sizes, kind="stable")
    sizes, orders, weight = sizes[by_size], orders[by_size], weight[by_size]
    scale = np.abs(residuals).max(axis=0) + NOTHING
    residuals = (residuals / scale)[by_size]
    begin = np.flatnonzero(np.diff(sizes, prepend=-1))
    counts = np.diff(np.append(begin, len(sizes)))
    number = counts[:, None, None].astype(np.float64)
    size = sizes[begin].astype(np.float64)
    left = undrawn[sizes[begin]]
    squares = weight**2
    # What a residual of 1 would add to the variance of a player met as often as any.
    mean_weight = np.add.reduceat(squares.mean(axis=1), begin)[:, None, None]
    cuts = _cuts(sizes, orders, left, begin, counts)
    near = np.exp(-0.5 * (size[:, None] - size) ** 2)
    near /= near @ number[:, :, 0]
    strata = [slice(*edges) for edges in pairwise([*begin.tolist(), len(sizes)])]
    powers = (weight, squares, squares**2)
    # Who is in none of the coalitions of a size (or in all) has shown nothing of it.
    unmet = np.stack([squares[rows].max(axis=0) < UNMET * squares[rows].max() for rows in strata])[:, :, None]
    prior = np.where(unmet, PRIOR_UNITS, np.minimum(PRIOR_UNITS / number, 1.0))
    step = max(1, BLOCK_ENTRIES // (len(begin) * n))
    errors = np.empty((n, k))
    for start in range(0, k, step):
        block = slice(start, start + step)
        part = residuals[:, block]
        # Sums over the units of weight × residual, of its squares and of its fourth powers: `(sizes, n, outputs)`.
        sums, spread, fourth = (
            np.stack([power[rows].T @ raised[rows] for rows in strata])
            for power, raised in zip(powers, (part, part**2, part**4), strict=True)
        )
        variance = np.where(number > 1, (spread - sums**2 / number) * number / np.maximum(number - 1, 1), spread)
        variance = np.maximum(variance, 0)
        shown = np.tensordot(left, variance, 1)
        if cuts is not None:
            kept = cuts.kept(weight, part, sums / number)
            variance = variance * (1 - cuts.part[:, None, None] * (1 - kept))
        # What all players show of the size and its neighbours, times what each shows of all sizes.
        seen = variance.mean(axis=1, keepdims=True) / (mean_weight + NOTHING)
        lent = np.tensordot(near, number * seen, 1)
        mixed = (number * seen + LENT_UNITS * lent) / (number + LENT_UNITS)
        pooled = mean_weight * mixed
        larger = np.maximum(variance.sum(axis=0) / (pooled.sum(axis=0) + NOTHING), 1.0)
        # For who was not met in a size, its neighbours count alone.
        pooled = np.where(unmet, mean_weight * np.maximum(mixed, lent), pooled)
        total = np.tensordot(left, variance + prior * pooled * larger, 1)
        doubt = np.tensordot(left**2, np.maximum(fourth - spread**2 / number, 0), 1)
        degrees = np.clip(2 * shown**2 / (doubt + NOTHING), 2.0, max(freedom, 2.0))
        errors[:, block] = np.sqrt(total) * student(degrees)
    errors *= scale
    return errors


class Cuts(NamedTuple):
    """Coalitions cut from one order share no player, so that their errors partly cancel; all sizes say by how much."""

    rows: Ints  # (r,) units that share an order with others, of sizes not drawn completely
    begin: Ints  # (c,) where in them each order begins
    stratum: Ints  # (r,) which size they are of
    several: Bools  # (r,) whether other orders are of the same size
    owing: Floats  # (r,) part of their size that is not drawn
    weights: Floats  # (c,) the same, times what makes up for a mean that was estimated
    part: Floats  # (sizes,) of the units of each size that are such

    def kept(self, weight: Floats, residuals: Floats, means: Floats) -> Floats:
        """Estimate what part of the variance is left, `(n, k)`, or of many outputs together, `(n, 1)`.

        Args:
            weight: `(u, n)`.
            residuals: `(u, k)`.
            means: of each size, `(sizes, n, k)`.
        """
        few = slice(None, None, -(-residuals.shape[1] // MANY_OUTPUTS))
        # One order alone is compared with 0, several with their mean.
        centred = weight[self.rows][:, :, None] * residuals[self.rows, None, few]
        centred -= self.several[:, None, None] * means[:, :, few][self.stratum]
        together = np.tensordot(self.weights, np.add.reduceat(centred, self.begin, axis=0) ** 2, 1)
        apart = np.tensordot(self.owing, centred**2, 1)
        if few.step > 1:
            together, apart = together.mean(axis=1, keepdims=True), apart.mean(axis=1, keepdims=True)
        kept: Floats = (together + together.mean(axis=0)) / (apart + apart.mean(axis=0) + NOTHING)
        return np.clip(kept, MIN_KEPT, 1.0)


def _cuts(sizes: Ints, orders: Ints, left: Floats, begin: Ints, counts: Ints) -> Cuts | None:
    """Find the units, in order of size, that were cut from the same order as others."""
    first = np.flatnonzero((np.diff(orders, prepend=-1) != 0) | (np.diff(sizes, prepend=-1) != 0))
    length = np.diff(np.append(first, len(orders)))
    stratum = np.repeat(np.arange(len(begin)), counts)
    of_size = np.bincount(stratum[first], minlength=len(begin))  # orders of each size
    is_cut = length > 1
    part = np.bincount(stratum[first], is_cut * length, len(begin)) / counts
    chosen = is_cut & (left[stratum[first]] > 0)
    if not chosen.any():
        return None
    rows = np.flatnonzero(np.repeat(chosen, length))
    sizes_of_orders, lengths = stratum[first][chosen], length[chosen]
    begins = np.cumsum(lengths) - lengths
    number = of_size[sizes_of_orders]
    weights = left[sizes_of_orders] * number / np.maximum(number - 1, 1)
    return Cuts(rows, begins, stratum[rows], np.repeat(number > 1, lengths), left[stratum[rows]], weights, part)
