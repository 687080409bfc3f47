"""Standard errors of sums over sampled coalitions, that hold for small samples and for players hardly met."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np

from equilib._namespace import Floats, Ints
from equilib.estimators._sampling import UNLIMITED, Sample

Bools: TypeAlias = np.ndarray[Any, np.dtype[np.bool_]]

PRIOR_UNITS = 2.0
"""Units that the spread over all players counts for, on top of what was seen of each."""
LENT_UNITS = 2.0
"""Units that the residuals of neighbouring sizes count for in those of each size."""
MIN_KEPT = 0.1
"""Part of a variance, at least, that is left where errors seem to cancel."""
NOTHING = 1e-300
"""Keeps spreads of nothing from dividing by zero."""


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


def unit_errors(
    weight: Floats, residuals: Floats, sample: Sample, rows: Ints, undrawn: Floats, *, freedom: float
) -> Floats:
    """Compute the standard errors `(n, k)` of Σ weight · residual over independent units, stratified by size.

    The variance of a size is what the units of each player showed, plus what a few more would that are like those of
    all players: one who was hardly met must not seem certain. A player whose residuals are larger than the others'
    wherever met is given that much more of it. How many units the sum rests on, in the end, says by how much Student's
    t is wider than the normal distribution: if one or two make up most of it, by a factor of two.

    Args:
        weight: `(u, n)`, of the `rows` of the sample.
        residuals: `(u, k)`, of the same.
        sample: what was drawn.
        rows: rows of the sample, in order.
        undrawn: `(n + 1,)`, the part of the coalitions of each size that was not drawn: the others add no variance.
        freedom: degrees of freedom at most.
    """
    n = weight.shape[1]
    units = sample.units[rows]
    starts = np.flatnonzero(np.diff(units, prepend=-1))
    sizes = np.minimum(sample.sizes, n - sample.sizes)[rows][starts]
    order = np.argsort(sizes, kind="stable")
    sizes = sizes[order]
    begin = np.flatnonzero(np.diff(sizes, prepend=-1))
    number = np.diff(np.append(begin, len(sizes)))[:, None].astype(np.float64)
    size = sizes[begin].astype(np.float64)
    left = undrawn[sizes[begin]]
    # What a residual of 1 would add to the variance of a player met as often as any.
    mean_weight = np.add.reduceat(np.add.reduceat((weight**2).mean(axis=1), starts)[order], begin)[:, None]
    # Coalitions cut from one order share no player, so that their errors partly cancel; all sizes say by how much.
    cuts = np.flatnonzero(np.diff(sample.orders[rows][starts][order], prepend=-1))
    is_cut = np.diff(np.append(cuts, len(sizes))) > 1
    stratum = np.repeat(np.arange(len(begin)), number[:, 0].astype(np.int64))
    part = np.bincount(stratum, np.repeat(is_cut, np.diff(np.append(cuts, len(sizes)))))[:, None] / number
    near = np.exp(-0.5 * (size[:, None] - size) ** 2)
    errors = []
    for target in residuals.T:
        scale = np.abs(target).max() + NOTHING
        parts = weight * (target / scale)[:, None]
        if len(starts) < len(parts):
            parts = np.add.reduceat(parts, starts, axis=0)
        parts = parts[order]
        squares = parts**2
        sums, spread, fourth = (np.add.reduceat(x, begin, axis=0) for x in (parts, squares, squares**2))
        variance = np.where(number > 1, (spread - sums**2 / number) * number / np.maximum(number - 1, 1), spread)
        variance = np.maximum(variance, 0)
        counted = variance
        if is_cut.any():
            variance = variance * (1 - part * (1 - _kept(parts, sums / number, cuts, is_cut, stratum, left)))
        # What all players show of the size and its neighbours, times what each shows of all sizes.
        seen = variance.mean(axis=1, keepdims=True) / (mean_weight + NOTHING)
        lent = near @ (number * seen) / (near @ number)
        pooled = mean_weight * (number * seen + LENT_UNITS * lent) / (number + LENT_UNITS)
        larger = np.maximum(variance.sum(axis=0) / (pooled.sum(axis=0) + NOTHING), 1.0)
        total = left @ (variance + np.minimum(PRIOR_UNITS / number, 1.0) * pooled * larger)
        doubt = left**2 @ np.maximum(fourth - spread**2 / number, 0)
        shown = 2 * (left @ counted) ** 2 / (doubt + NOTHING)
        errors.append(scale * np.sqrt(total) * student(np.clip(shown, 2.0, max(freedom, 2.0))))
    return np.stack(errors, axis=1)


def _kept(parts: Floats, means: Floats, cuts: Ints, is_cut: Bools, stratum: Ints, left: Floats) -> Floats:
    """Estimate what part of the variance is left `(n,)` where coalitions were cut from the same orders."""
    where = stratum[cuts]
    orders = np.bincount(where)[where]  # of each order's size
    # One order alone is compared with 0, several with their mean.
    several = np.repeat(orders > 1, np.diff(np.append(cuts, len(parts))))
    centred = parts - several[:, None] * means[stratum]
    ones, wholes = (np.add.reduceat(x, cuts, axis=0)[is_cut] for x in (centred**2, centred))
    owing = left[where][is_cut]
    apart = owing @ ones
    together = (owing * (orders / np.maximum(orders - 1, 1))[is_cut]) @ wholes**2
    kept: Floats = (together + together.mean()) / (apart + apart.mean() + NOTHING)
    return np.clip(kept, MIN_KEPT, 1.0)
