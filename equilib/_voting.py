"""How often each seat of a weighted vote decides it: exact, without listing coalitions."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction
from numbers import Real
from typing import Any

import numpy as np

from equilib._namespace import Floats

MAX_STEPS = 2**22
"""Sum of the weights, at most: there is a number for every sum of weights."""

_CHUNK = 2**15
"""Numbers that are computed with at a time, so that they stay in the cache."""


def as_fraction_exactly(value: Any, name: str) -> Fraction:
    """Read a real number as it is written: 0.1 is a tenth.

    Raises:
        ValueError: `value` is no finite real number.
    """
    if not isinstance(value, bool) and isinstance(value, (Real, Decimal)) and math.isfinite(value):
        return Fraction(str(value))
    raise ValueError(f"{name} must be a finite real number, got {value!r}")


def chances_to_decide(weights: list[int], needed: int) -> Floats:
    """Compute the Shapley values `(n,)` of a vote by integer weights in which `needed` votes pass, 0 ≤ needed.

    φ_i = ∫ P(needed − w_i ≤ X_i(t) < needed) dt over [0, 1], where X_i(t) is the sum of the others' weights, each in it
    with probability t: a polynomial of degree n − 1 in t, which Gauss's rule of ⌈n/2⌉ points integrates exactly. The
    distribution of the sum of all weights is computed once per point, and every seat taken out of it again: dividing by
    1 − t + t·x^w is stable for t ≤ ½, and from 1 − t the same sums are seen from the other end.

    Source:
        G. Owen, "Multilinear extensions of games" (1972), for the integral; Mann & Shapley (1962) for the counting.
    """
    total, shapley = sum(weights), np.zeros(len(weights))
    if not 0 < needed <= total:
        return shapley
    points, masses = np.polynomial.legendre.leggauss((len(weights) + 1) // 2)
    lower = points <= 0
    # The point in the middle is its own mirror image: half of it counts for each side.
    points, masses = (points[lower] + 1) / 2, masses[lower] / np.where(points[lower] == 0, 4, 2)
    places = {weight: [i for i, other in enumerate(weights) if other == weight] for weight in set(weights) - {0}}
    size = max(1, _CHUNK // (total + 1))
    for start in range(0, len(points), size):
        t = points[start : start + size, None]
        at_most, powers = np.cumsum(_distribution(weights, t), axis=1), _powers(t, total + 1)
        for weight, seats in places.items():
            # needed − w ≤ X < needed; and, mirrored, total − needed − w < X ≤ total − needed.
            chance = sum(_between(at_most, powers, weight, last) for last in (needed - 1, total - needed))
            shapley[seats] += masses[start : start + size] @ chance
    return shapley


def _distribution(weights: list[int], t: Floats) -> Floats:
    """Compute the probability of every sum of weights, each in it with probability t `(m, 1)`: `(m, total + 1)`."""
    chance = np.zeros((len(t), sum(weights) + 1))
    chance[:, 0], reach = 1.0, 0
    for weight in sorted(weights):
        reach += weight
        with_it = chance[:, : reach + 1 - weight] * t
        chance[:, : reach + 1] *= 1 - t
        chance[:, weight : reach + 1] += with_it
    return chance


def _powers(t: Floats, number: int) -> Floats:
    """List (−t/(1−t))^k / (1 − t) for k = 0, 1, …, `(m, number)`, or fewer if the rest is negligible."""
    ratio = t / (1 - t)
    negligible = math.log(1e-20) / min(math.log(ratio.max()), -1e-9)
    powers: Floats = (-ratio) ** np.arange(min(number, math.ceil(negligible))) / (1 - t)
    return powers


def _between(at_most: Floats, powers: Floats, weight: int, last: int) -> Floats:
    """Compute P(last − weight < X ≤ last) of the sum X without a seat of that weight, `(m,)`."""
    steps = at_most[:, last::-weight]
    within = steps[:, : powers.shape[1]].copy()
    below = steps[:, 1 : within.shape[1] + 1]  # one less where the steps end at 0
    within[:, : below.shape[1]] -= below
    chance: Floats = np.vecdot(within, powers[:, : within.shape[1]])
    return chance
