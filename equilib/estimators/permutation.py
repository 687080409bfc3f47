"""Permutation sampling, plain and antithetic: average the marginal contributions along random orders of arrival.

φ̂_i = mean over orders π of v(P_i(π) ∪ i) − v(P_i(π)), with P_i(π) the players before i: unbiased, and adds up to
v(N) − v(∅). An order costs n − 1 evaluations; its reverse, the antithetic one, visits the complements.

Source: Castro, Gómez & Tejada (2009); antithetic orders: Mitchell, Cooper, Frank & Holmes (2022), section 4.
"""

from __future__ import annotations

import numpy as np

from equilib._evaluation import to_numpy
from equilib._namespace import Array, Floats
from equilib.estimators._problem import Problem, Solution, student

ROUND_ENTRIES = 2**22
"""Evaluations times players (or outputs, if more) in a round, about: what is generated and kept at a time."""
CHECKS = 32
"""How often the tolerance is checked in a whole budget, about."""
PRIOR = 4
"""Orders (or pairs) that the spread over all players counts for in the standard error of each."""
MIN_UNITS, MIN_EQUAL_UNITS = 8, 32
"""Orders, or pairs, before a tolerance is believed to be met: where they differed, and where all said the same."""
PILOT_PAIRS = 8
"""Pairs of orders after which `auto` decides for or against reversing them."""


def permutation(problem: Problem) -> Solution:
    """Estimate from independent orders."""
    return _estimate(problem, [1])


def antithetic(problem: Problem) -> Solution:
    """Estimate from orders and their reverses."""
    return _estimate(problem, [2])


def adaptive(problem: Problem) -> Solution:
    """Estimate from orders and their reverses, unless these repeat the error instead of cancelling it.

    Decided after the first pairs: reversing pays if the contributions along an order and along its reverse are
    negatively correlated on average over the players.
    """
    return _estimate(problem, [2, 1])


def _estimate(problem: Problem, directions: list[int]) -> Solution:
    n, rng, length, xp = problem.n, problem.rng, problem.n - 1, problem.evaluate.space
    if n == 1:
        return Solution(problem.fair[:, None], np.zeros((len(problem.fair), 1)), "permutation")
    k = len(problem.fair)
    way = directions[0]
    total, orders = np.zeros((n, k)), 0.0
    spread, units = np.zeros((n, k)), 0  # Σ over units of the squared deviation of their sum
    left = problem.budget
    undecided = len(directions) > 1
    while left >= way * length:
        size = _round_size(problem, way, left)
        if undecided:
            size = min(size, PILOT_PAIRS)
        gains = _walk(problem, rng.random((size, n)), way)  # (way, size, n, k), on the device
        left -= size * way * length
        sums = xp.sum(gains, axis=0) - way * xp.asarray(problem.fair, device=problem.evaluate.space_device)
        total += to_numpy(xp.sum(sums, axis=0))
        spread += to_numpy(xp.sum(sums**2, axis=0))
        orders += way * size
        units += size
        if undecided:
            undecided = False
            gains = to_numpy(gains)
            centred = gains - gains.mean(axis=1, keepdims=True)
            if (centred[0] * centred[1]).sum() >= 0:
                way = directions[1]
                # From here on every order is a unit; the variance of all is what the single ones show.
                spread, units = ((gains - problem.fair) ** 2).sum(axis=(0, 1)), 2 * size
        errors = _errors(total, spread, units, orders)
        # Where nothing has varied yet, a rare contribution may just not have been met.
        if units >= (MIN_UNITS if errors.any() else MIN_EQUAL_UNITS) and problem.reaches(errors):
            left = 0
    errors = _errors(total, spread, units, orders)  # of the whole orders; the rest of the budget only adds to them
    if left > 0:
        gains, part = _walk_partly(problem, rng.random(n), left, way, total / max(orders, 1.0))
        total += gains
        orders += part
    if orders:
        total /= orders
    return Solution((problem.fair + total).T, errors.T, ("permutation", "antithetic")[way - 1])


def _round_size(problem: Problem, way: int, left: int) -> int:
    cost = way * (problem.n - 1)
    size = max(1, ROUND_ENTRIES // (cost * max(problem.n, len(problem.fair))))
    if problem.tolerance is not None:
        size = min(size, max(1, problem.budget // cost // CHECKS))
    return min(size, left // cost)


def _walk(problem: Problem, keys: Floats, way: int) -> Array:
    """Evaluate whole orders, given by sorting keys `(size, n)`: contributions `(way, size, n, k)`, on the device.

    Only the ranks of the players go to the device: the coalitions, n − 1 times as many, are made there.
    """
    size, n = keys.shape
    xp, device = problem.evaluate.space, problem.evaluate.space_device
    ranks = np.argsort(np.argsort(keys, axis=1), axis=1)
    if way == 2:
        ranks = np.stack([ranks, n - 1 - ranks])
    ranks = xp.asarray(ranks.reshape(way * size, n), device=device)

    def prefixes(start: int, stop: int) -> Array:
        rows = xp.arange(start, stop, device=device)
        return xp.take(ranks, rows // (n - 1), axis=0) <= (rows % (n - 1))[:, None]

    values = xp.reshape(problem.evaluate.on_device(prefixes, way * size * (n - 1)), (way * size, n - 1, -1))
    k = values.shape[2]
    first, last = (
        xp.broadcast_to(xp.asarray(end, device=device), (way * size, 1, k)) for end in (problem.empty, problem.full)
    )
    chain = xp.concat([first, values, last], axis=1)
    steps = chain[:, 1:, :] - chain[:, :-1, :]  # in order of arrival
    places = xp.broadcast_to(ranks[:, :, None], steps.shape)
    return xp.reshape(xp.take_along_axis(steps, places, axis=1), (way, size, n, k))


def _walk_partly(problem: Problem, keys: Floats, left: int, way: int, known: Floats) -> tuple[Floats, float]:
    """Evaluate `left` coalitions of one more order: what it says `(n, k)`, in expectation, and how many orders that is.

    An order gives player i, beyond values g that others found, Σ_p (v(S_p) − v(∅) − g(S_p))([i arrives p-th] − [i
    arrives next]), a sum over its coalitions S_p. Those of a run that starts anywhere and wraps around are taken;
    antithetic ones with their complements, which are the coalitions of the reverse order, for alone they cancel
    nothing. One that is left over then is evaluated, too, and counts for nothing.
    """
    n = problem.n
    rank = np.argsort(np.argsort(keys))
    sizes = (int(problem.rng.integers(n - 1)) + np.arange(-(-left // way))) % (n - 1) + 1
    members = rank < sizes[:, None]
    coalitions = members if way == 1 else np.stack([members, ~members], axis=1).reshape(-1, n)[:left]
    others = problem.fair + known
    values = problem.evaluate(coalitions) - problem.empty - coalitions @ others
    if way == 2:
        sizes, values = sizes[: left // 2], values[0 : left // 2 * 2 : 2] - values[1 : left // 2 * 2 : 2]
    arrivals = np.zeros((n, values.shape[1]))
    arrivals[sizes - 1] += values
    arrivals[sizes] -= values
    part = way * len(sizes) / (n - 1)
    return known * part + arrivals[rank], part


def _errors(total: Floats, spread: Floats, units: int, orders: float) -> Floats:
    """Standard errors of total / orders, from the spread of `units` sums about 0.

    The variance of each player counts as much as it was observed, that of all players as `PRIOR` units: a player who
    made no difference yet may still make one.
    """
    if units < 2:
        return np.full_like(total, np.inf)
    whole = spread - total**2 / units
    whole = np.maximum(whole, 0)
    pooled = whole.mean(axis=0) / (units - 1)
    variance = (whole + PRIOR * pooled) / (units - 1 + PRIOR) * units / orders**2
    errors: Floats = np.sqrt(variance) * student(units - 1)
    return errors
