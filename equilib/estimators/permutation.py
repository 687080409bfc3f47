"""Permutation sampling, plain and antithetic: average the marginal contributions along random orders of arrival.

φ̂_i = mean over orders π of v(P_i(π) ∪ i) − v(P_i(π)), with P_i(π) the players before i: unbiased, and adds up to
v(N) − v(∅). An order costs n − 1 evaluations; its reverse, the antithetic one, visits the complements.

Source: Castro, Gómez & Tejada (2009); antithetic orders: Mitchell, Cooper, Frank & Holmes (2022), section 4.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from equilib._evaluation import to_numpy
from equilib._namespace import Array, Floats, Ints
from equilib.estimators._errors import student
from equilib.estimators._problem import Problem, Solution, share_of_one

CHECKS = 32
"""How often the tolerance is checked in a whole budget, about."""
PRIOR = 3
"""Orders (or pairs) that the spread over all players counts for in the standard error of each."""
MIN_ORDERS = 10
"""Orders below which their spread says nothing."""
MIN_UNITS, MIN_EQUAL_UNITS = 8, 40
"""Orders, or pairs, before a tolerance is believed to be met, and before all players are believed to be equal."""
ROUNDING = 1e-12
"""Part of the values that rounding may make of nothing."""
OTHERS = 0.25
"""Weight of the other players' steps in those of each."""
UNSEEN = 0.03
"""What has so small a probability not to be seen may be there."""
SEEN = 1.25
"""Squared steps to add to those counted, times the root of their number: a count may come of a larger mean."""
COINCIDENCES = 1.3
"""Standard deviations by which the same players may have made a difference in two orders more often than was seen."""
TINY = 1e-300
"""Keeps games of nothing from dividing by zero."""
PILOT_PAIRS = 8
"""Pairs of orders after which `auto` decides for or against reversing them."""


class Tally(NamedTuple):
    """What whole orders said so far, beyond an equal share of the total for everybody.

    A unit is an order, or an order with its reverse.
    """

    total: Floats  # (n, k) sum over the orders
    squares: Floats  # (n, k) sum over the units of the squares of their sums, and so on
    cubes: Floats  # (n, k)
    fourths: Floats  # (n, k)
    units: int
    orders: int

    def add(self, gains: Array, problem: Problem) -> Tally:
        """Add the contributions `(directions, size, n, k)` of `size` units."""
        directions, size = gains.shape[:2]
        xp, device = problem.evaluate.sampling_namespace, problem.evaluate.sampling_device
        sums = xp.sum(gains, axis=0) - directions * xp.asarray(problem.fair, device=device)
        return Tally(
            self.total + to_numpy(xp.sum(sums, axis=0)),
            self.squares + to_numpy(xp.sum(sums**2, axis=0)),
            self.cubes + to_numpy(xp.sum(sums**3, axis=0)),
            self.fourths + to_numpy(xp.sum(sums**4, axis=0)),
            self.units + size,
            self.orders + directions * size,
        )

    def standard_errors(self, problem: Problem) -> Floats:
        """Compute the standard errors of total / orders, `(n, k)`, from the spread of the units.

        The variance of each player is what was observed, or less of it and that of all players as `PRIOR` units, if
        that is more: a player who made no difference yet may still make one. Steps that few units make are counted, and
        a small count may well come of a larger mean. What was not met at all may be as large as what others met, or as
        what the player always gave; a chance of it that often goes unseen is not ruled out, nor is a player who matters
        as much as those who do, whichever is less. If nothing was met at all, few units are too few to tell.
        """
        if self.units < 2 or self.orders < MIN_ORDERS:
            return np.full_like(self.total, np.inf)
        m, each = self.units, self.orders / self.units
        scale = each * (np.abs(problem.fair) + np.abs(problem.empty) + np.abs(problem.full))
        if m < MIN_EQUAL_UNITS and (self.squares <= m * (ROUNDING * scale) ** 2).all():
            return np.full_like(self.total, np.inf)
        mean = self.total / m
        whole = np.maximum(self.squares - mean * self.total, 0)
        fourths = self.fourths - 4 * mean * self.cubes + 6 * mean**2 * self.squares - 3 * m * mean**4
        fourths = np.maximum(fourths - ROUNDING * self.fourths, whole**2 / m)
        pooled = whole.mean(axis=0) / (m - 1)
        variance = np.maximum(whole / (m - 1), (whole + PRIOR * pooled) / (m - 1 + PRIOR)) / m
        # The step that the units' sums make, and about how many of them made one.
        wholes, fourths = (x + OTHERS * x.mean(axis=0) for x in (whole, fourths))
        step2 = np.maximum(fourths / np.maximum(wholes, TINY), mean**2)
        met = np.minimum(whole / np.maximum(step2, TINY), m)
        unseen = np.minimum(self._matters(problem) ** 2, (1 - UNSEEN ** (1 / m)) ** 2 * step2) / 1.96**2
        seen = np.minimum(met, 1)
        rare = ((1 - seen) * unseen + SEEN * seen * np.sqrt(met) * step2 / m**2) * (1 - met / m) ** 2
        total = np.maximum(variance * student(m - 1 + PRIOR) ** 2, variance + rare) / each**2
        # All orders share the answers for nobody and for everybody.
        errors: Floats = np.sqrt(total + 2 * problem.evaluate.noise / len(total) ** 2)
        return errors

    def _matters(self, problem: Problem) -> Floats:
        """Estimate the mean value per unit `(k,)`, weighted by itself, from above.

        Pairs of different units tell of squares of values, for chance alone makes values, too; if each had one player
        who makes a difference, as the number of pairs in which it is the same one.
        """
        m, each = self.units, self.orders / self.units
        fair = each * problem.fair
        sums = self.total + m * fair
        square = (self.squares + 2 * fair * self.total + m * fair**2).sum(axis=0) / m
        one = square / each + TINY
        count = np.maximum((sums**2).sum(axis=0) - m * square, 0) / 2 / one
        count = count + COINCIDENCES * np.sqrt(count + COINCIDENCES**2 / 4) + COINCIDENCES**2 / 2
        weighted = np.minimum(count * one / (m * (m - 1) / 2), square)
        matters: Floats = weighted / np.maximum(np.abs(sums / m).sum(axis=0), TINY)
        return matters

    def suffices(self, problem: Problem) -> bool:
        """Tell whether the tolerance is met, and by enough units to believe it."""
        if not self.orders or not problem.looks:
            return False
        errors = self.standard_errors(problem)
        return not problem.tell(errors) or (self.units >= MIN_UNITS and problem.reaches(errors))


class Visits:
    """Which coalitions orders have visited, of a game so small that the budget could hold them all."""

    def __init__(self, problem: Problem) -> None:
        n = problem.n
        self._seen = np.zeros(2**n if n < 63 and 2**n <= problem.budget + 2 else 0, dtype=bool)
        self._seen[[0, -1] if len(self._seen) else []] = True

    def add(self, ranks: Ints) -> None:
        """Add those of orders, given by the ranks of the players `(orders, n)`."""
        if len(self._seen):
            self._seen[np.cumsum(1 << np.argsort(ranks, axis=1), axis=1)] = True

    @property
    def complete(self) -> bool:
        """Whether they were all of them."""
        return len(self._seen) > 0 and bool(self._seen.all())


def permutation(problem: Problem) -> Solution:
    """Estimate from independent orders."""
    return _estimate(problem, 1)


def antithetic(problem: Problem) -> Solution:
    """Estimate from orders and their reverses."""
    return _estimate(problem, 2)


def adaptive(problem: Problem) -> Solution:
    """Estimate from orders and their reverses, unless these repeat the error instead of cancelling it."""
    return _estimate(problem, None)


def _estimate(problem: Problem, directions: int | None) -> Solution:
    """Estimate from orders in one or two directions; None decides that after a pilot."""
    n, k = problem.n, len(problem.fair)
    if n == 1:
        return share_of_one(problem, "permutation")
    nothing = np.zeros((n, k))
    tally = Tally(nothing, nothing, nothing, nothing, 0, 0)
    visits = Visits(problem)
    if problem.evaluate.count > 2:
        tally, directions = _go_on(problem, tally, directions, visits)
    if directions is None:
        tally, directions = _pilot(problem, tally, visits)
    while not (enough := tally.suffices(problem)) and (size := _round_size(problem, directions)):
        tally = tally.add(_walk(problem, problem.rng.random((size, n)), directions, visits), problem)
    total, orders = tally.total, float(tally.orders)
    remaining = problem.left
    if remaining > 0 and not enough:
        part_total, part = _walk_partly(problem, remaining, directions, total / max(orders, 1.0))
        total, orders = total + part_total, orders + part
    values = problem.fair + (total / orders if orders else total)
    # The errors are those of the whole orders; the rest of the budget only adds to them.
    errors = tally.standard_errors(problem)
    return Solution(values.T, errors.T, ("permutation", "antithetic")[directions - 1], complete=visits.complete)


def _go_on(problem: Problem, tally: Tally, directions: int | None, visits: Visits) -> tuple[Tally, int | None]:
    """Take over the whole orders of an earlier estimate; None for the directions if they cannot say it either."""
    n, record = problem.n, problem.evaluate.record
    coalitions, values = record.coalitions[2:], record.matrix[2:]
    # An order starts with one player and adds one at a time; what is left of a part of an order counts for nothing.
    sizes = coalitions.sum(axis=1)
    starts = np.flatnonzero(sizes == 1)
    starts = starts[starts + n - 1 <= len(sizes)]
    steps = starts[:, None] + np.arange(n - 1)
    nested = (sizes[steps] == np.arange(1, n)).all(axis=1)
    nested &= (coalitions[steps[:, :-1]] <= coalitions[steps[:, 1:]]).all(axis=(1, 2))
    steps = steps[nested]
    ranks = n - 1 - coalitions[steps].sum(axis=1)
    visits.add(ranks)
    # An order and its reverse are found by what they are, one after the other or far apart.
    place = {row.tobytes(): k for k, row in enumerate(ranks)}
    reverse = [place.get((n - 1 - row).tobytes(), -1) for row in ranks]
    pairs = [(k, other) for k, other in enumerate(reverse) if other > k]
    if directions is None and pairs and 2 * len(pairs) == len(ranks):
        directions = 2
    elif directions is None and len(ranks):
        directions = 1
    chosen = np.asarray(pairs, dtype=np.int64).T.reshape(-1) if directions == 2 else np.arange(len(ranks))
    if not len(chosen):
        return tally, directions
    xp, device = problem.evaluate.sampling_namespace, problem.evaluate.sampling_device
    known = xp.asarray(values[steps[chosen]], device=device)
    return tally.add(_gains(problem, ranks[chosen], known, directions or 1), problem), directions


def _pilot(problem: Problem, tally: Tally, visits: Visits) -> tuple[Tally, int]:
    """Walk the first pairs of orders, and decide from them whether to go on in one or two directions.

    Reversing pays if the contributions along an order and along its reverse are negatively correlated on average over
    the players.
    """
    size = min(PILOT_PAIRS, _round_size(problem, 2))
    if not size:
        return tally, 2
    gains = _walk(problem, problem.rng.random((size, problem.n)), 2, visits)
    tally, gains = tally.add(gains, problem), to_numpy(gains)
    centred = gains - gains.mean(axis=1, keepdims=True)
    if (centred[0] * centred[1]).sum() < 0:
        return tally, 2
    # From here on every order is a unit; the variance of all is what the single ones show.
    single = gains - problem.fair
    squares, cubes, fourths = ((single**power).sum(axis=(0, 1)) for power in (2, 3, 4))
    return tally._replace(squares=squares, cubes=cubes, fourths=fourths, units=2 * size), 1


def _round_size(problem: Problem, directions: int) -> int:
    """Count the units to walk next, about a batch; 0 if the budget holds no more whole ones."""
    cost = directions * (problem.n - 1)
    size = max(1, problem.evaluate.batch_entries // (cost * max(problem.n, len(problem.fair))))
    if problem.looks:
        size = min(size, max(1, problem.budget // cost // CHECKS))
    return min(size, problem.left // cost)


def _walk(problem: Problem, keys: Floats, directions: int, visits: Visits) -> Array:
    """Evaluate whole orders, given by sorting keys `(size, n)`: contributions `(directions, size, n, k)`."""
    size, n = keys.shape
    ranks = np.argsort(np.argsort(keys, axis=1), axis=1)
    if directions == 2:
        ranks = np.stack([ranks, n - 1 - ranks])
    ranks = ranks.reshape(directions * size, n)
    visits.add(ranks)
    return _gains(problem, ranks, problem.evaluate.orders(ranks), directions)


def _gains(problem: Problem, ranks: Ints, values: Array, directions: int) -> Array:
    """Turn values `(orders, n − 1, k)` along orders into contributions `(directions, orders / directions, n, k)`."""
    number, n = ranks.shape
    xp, device = problem.evaluate.sampling_namespace, problem.evaluate.sampling_device
    k = values.shape[2]
    first, last = (
        xp.broadcast_to(xp.asarray(end, device=device), (number, 1, k)) for end in (problem.empty, problem.full)
    )
    chain = xp.concat([first, values, last], axis=1)
    steps = chain[:, 1:, :] - chain[:, :-1, :]  # in order of arrival
    places = xp.broadcast_to(xp.asarray(ranks, device=device)[:, :, None], steps.shape)
    return xp.reshape(xp.take_along_axis(steps, places, axis=1), (directions, number // directions, n, k))


def _walk_partly(problem: Problem, number: int, directions: int, known: Floats) -> tuple[Floats, float]:
    """Evaluate `number` coalitions of one more order, too few for all of it.

    An order gives player i, beyond values g that others found, Σ_p (v(S_p) − v(∅) − g(S_p))([i arrives p-th] − [i
    arrives next]), a sum over its coalitions S_p. Those of a run that starts anywhere and wraps around are taken;
    antithetic ones with their complements, which are the coalitions of the reverse order, for alone they cancel
    nothing. One that is left over then is evaluated, too, and counts for nothing.

    Args:
        problem: what to estimate.
        number: coalitions to evaluate, fewer than all orders of a unit have.
        directions: 1 or 2.
        known: `(n, k)`, what the whole orders gave, beyond an equal share of the total.

    Returns:
        What it adds to the total of the orders, `(n, k)`, in expectation, and how many orders it counts for.
    """
    n = problem.n
    rank = np.argsort(np.argsort(problem.rng.random(n)))
    sizes = (int(problem.rng.integers(n - 1)) + np.arange(-(-number // directions))) % (n - 1) + 1
    members = rank < sizes[:, None]
    coalitions = members if directions == 1 else np.stack([members, ~members], axis=1).reshape(-1, n)[:number]
    others = problem.fair + known
    values = problem.evaluate(coalitions) - problem.empty - coalitions @ others
    if directions == 2:
        whole = number // 2
        sizes, values = sizes[:whole], values[0 : 2 * whole : 2] - values[1 : 2 * whole : 2]
    arrivals = np.zeros((n, values.shape[1]))
    arrivals[sizes - 1] += values
    arrivals[sizes] -= values
    part = directions * len(sizes) / (n - 1)
    return known * part + arrivals[rank], part
