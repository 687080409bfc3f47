"""Random coalitions of given sizes, never the same twice."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import chain, combinations
from typing import NamedTuple, TypeAlias

import numpy as np

from equilib._namespace import Floats, Ints
from equilib._record import Coalitions
from equilib.estimators._problem import Problem, Solution, plan_stages, share_of_one

UNLIMITED = 2**62
FEW_MEMBERS = 4
"""A coalition of at most one in this many players, or all but so many, is drawn with others that share none of them."""
MOVED = 3
"""Tolerances by which no value may have moved since the last look when an estimate stops."""
MIN_BALANCED = 5
"""Evaluations per player from which on every player is met in every small size, as far as the budget goes."""

Mask: TypeAlias = np.ndarray[tuple[int], np.dtype[np.bool_]]
Hashes: TypeAlias = np.ndarray[tuple[int], np.dtype[np.uint64]]


class Sample(NamedTuple):
    """Coalitions evaluated so far. Units are what was drawn: one coalition, or one and its complement."""

    coalitions: Coalitions  # (m, n)
    sizes: Ints  # (m,)
    values: Floats  # (m, k)
    units: Ints  # (m,), from 0 up
    orders: Ints  # (m,), the random order that a coalition was cut from; rows of one are beside each other


class Sampler:
    """Draws coalitions without replacement, by size; remembers what was drawn.

    A coalition is known by the sum (modulo 2**64) of random keys of its players. The chance that any two of m
    coalitions agree is m² / 2**65; then one would be drawn again for nothing.
    """

    def __init__(self, n: int, rng: np.random.Generator) -> None:
        self.n, self.rng = n, rng
        self._keys = rng.integers(2**64, size=n, dtype=np.uint64)
        self._seen = np.zeros(0, dtype=np.uint64)
        self._drawn = np.zeros(n + 1, dtype=np.int64)
        self._met = np.zeros((n + 1, n), dtype=np.int64)
        self._orders = 0

    @property
    def complete(self) -> bool:
        """Whether nothing is left to draw but the empty coalition and that of all players."""
        return not self.remaining()[1:-1].any()

    def remaining(self) -> Ints:
        """Count the coalitions of each size 0..n not drawn yet: `(n + 1,)`, at most `UNLIMITED`."""
        return np.asarray([min(math.comb(self.n, s), UNLIMITED) for s in range(self.n + 1)]) - self._drawn

    def know(self, coalitions: Coalitions) -> None:
        """Remember coalitions that were evaluated before."""
        self._seen = np.concatenate([self._seen, self._hash(coalitions)])
        sizes = coalitions.sum(axis=1)
        self._drawn += np.bincount(sizes, minlength=self.n + 1)
        by_size = np.argsort(sizes, kind="stable")
        self._meet(coalitions[by_size], sizes[by_size])
        self._orders += len(coalitions)

    def draw(self, counts: Ints, *, pairs: bool) -> tuple[Coalitions, Ints]:
        """Draw `counts[s]` coalitions of each size s, `(sum(counts), n)`, in order of size, and the order each is of.

        With `pairs`, each is followed by its complement (twice the rows), sizes are at most n/2, and those of n/2 hold
        player 0, which makes the first of a pair unique.
        """
        sizes = np.repeat(np.arange(len(counts)), counts)
        drawn, orders = _draw_sizes(self.n, sizes, self.rng, pairs=pairs, met=self._met)
        orders += self._orders
        self._orders += len(orders)
        hashes = self._hash(drawn)
        repeated = self._repeated(hashes)
        for size in np.unique(sizes[repeated]):
            rows = np.flatnonzero(sizes == size)
            self._make_new(drawn, hashes, rows, repeated[rows], int(size), pairs=pairs)
        self._meet(drawn, sizes)
        if pairs:
            self._meet(~drawn[::-1], self.n - sizes[::-1])
            drawn = np.stack([drawn, ~drawn], axis=1).reshape(-1, self.n)
            hashes, orders = self._hash(drawn), np.repeat(orders, 2)
            sizes = np.stack([sizes, self.n - sizes], axis=1).reshape(-1)
        self._seen = np.concatenate([self._seen, hashes])
        self._drawn += np.bincount(sizes, minlength=self.n + 1)
        return drawn, orders

    def _meet(self, coalitions: Coalitions, sizes: Ints) -> None:
        """Count how often each player is in (of more than half the players: absent from) them; sizes are in order."""
        begin = np.flatnonzero(np.diff(sizes, prepend=-1))
        short = coalitions ^ (2 * sizes > self.n)[:, None]
        if len(begin):
            self._met[sizes[begin]] += np.add.reduceat(short, begin, axis=0, dtype=np.int64)

    def _hash(self, coalitions: Coalitions) -> Hashes:
        hashes: Hashes = coalitions @ self._keys
        return hashes

    def _repeated(self, hashes: Hashes) -> Mask:
        """Tell which were drawn before, in an earlier draw or in this one, where the first may stay."""
        everything = np.concatenate([self._seen, hashes])
        order = np.argsort(everything, kind="stable")
        repeated = np.zeros(len(everything), dtype=bool)
        repeated[order[1:][everything[order[1:]] == everything[order[:-1]]]] = True
        return repeated[len(self._seen) :]

    def _make_new(
        self,
        drawn: Coalitions,
        hashes: Hashes,
        rows: np.ndarray[tuple[int], np.dtype[np.intp]],
        repeated: Mask,
        size: int,
        *,
        pairs: bool,
    ) -> None:
        """Replace the coalitions of one size that were drawn before, in this draw or an earlier one."""
        if math.comb(self.n, size) <= 4 * (len(rows) + self._drawn[size]):
            every = _list_size(self.n, size)
            if pairs and 2 * size == self.n:
                every = every[every[:, 0]]
            known = np.concatenate([self._seen, hashes[rows[~repeated]]])
            again, new = rows[repeated], every[~np.isin(self._hash(every), known)]
            drawn[again] = new[self.rng.permutation(len(new))[: len(again)]]
            hashes[again] = self._hash(drawn[again])
            return
        while len(again := rows[repeated]):
            drawn[again], _ = _draw_sizes(self.n, np.full(len(again), size), self.rng, pairs=pairs)
            hashes[again] = self._hash(drawn[again])
            repeated = self._repeated(hashes[rows])


def apportion(weights: Floats, total: int, limits: Ints) -> Ints:
    """Share out `total` in proportion to `weights` (> 0) and within `limits`, by largest remainders."""
    shares = np.zeros(len(weights))
    free = limits > 0
    remaining = float(min(total, sum(limits.tolist())))
    while free.any():
        proposal = remaining * weights / weights[free].sum()
        full = free & (proposal >= limits)
        if not full.any():
            shares[free] = proposal[free]
            break
        shares[full] = limits[full]
        remaining -= float(limits[full].sum())
        free &= ~full
    whole = np.floor(shares + 1e-9).astype(np.int64)
    missing = max(0, round(float(shares.sum())) - int(whole.sum()))
    room = np.where(whole < limits, shares - whole, -1.0)
    whole[np.argsort(-room, kind="stable")[:missing]] += 1
    return whole


def _draw_sizes(
    n: int, sizes: Ints, rng: np.random.Generator, *, pairs: bool, met: Ints | None = None
) -> tuple[Coalitions, Ints]:
    """Draw one coalition of each size, sizes being in order, and number the random orders that they are of.

    Small ones, and those that few players are absent from, are cut from the same random order, one after the other:
    of any n/s of a size in a row, every player is in (absent from) at most one. The first ones are of the players that
    were in (absent from) the fewest of the size so far, `met` `(n + 1, n)`. Others are the players with the smallest of
    random keys.
    """
    members, orders = np.empty((len(sizes), n), dtype=bool), np.arange(len(sizes))
    short = np.minimum(sizes, n - sizes)
    few = (short * FEW_MEMBERS <= n) & (short > 0)
    block = max(1, 2**22 // n)
    whole = np.flatnonzero(~few)
    for start in range(0, len(whole), block):
        rows = whole[start : start + block]
        size = sizes[rows]
        keys = rng.random((len(size), n))
        if pairs:
            keys[2 * size == n, 0] = -1.0
        last = np.take_along_axis(np.sort(keys, axis=1), np.maximum(size, 1)[:, None] - 1, axis=1)
        members[rows] = keys <= last
    cut = np.flatnonzero(few)
    for start in range(0, len(cut), block):
        rows = cut[start : start + block]
        first = np.flatnonzero(np.diff(sizes[rows], prepend=-1))
        place = np.arange(len(rows)) - np.repeat(first, np.diff(np.append(first, len(rows))))
        per_order = n // short[rows]
        piece = place % per_order
        order = np.cumsum(piece == 0) - 1
        orders[rows] = rows[piece == 0][order]
        keys = rng.random((int(order[-1]) + 1, n))
        if met is not None:
            keys[order[first]] += met[sizes[rows[first]]]
        ranks = np.argsort(keys, axis=1)  # a permutation's inverse is as random, but where some players come first
        ranks[order[first]] = np.argsort(ranks[order[first]], axis=1)
        members[rows] = (ranks[order] // short[rows][:, None] == piece[:, None]) ^ (2 * sizes[rows] > n)[:, None]
    return members, orders


def _list_size(n: int, size: int) -> Coalitions:
    """List the coalitions of one size."""
    number = math.comb(n, size)
    players = np.fromiter(chain.from_iterable(combinations(range(n), size)), dtype=np.int64, count=number * size)
    members = np.zeros((number, n), dtype=bool)
    np.put_along_axis(members, players.reshape(number, size), True, axis=1)
    return members


def least_per_size(n: int, total: int) -> Ints:
    """Count how many coalitions of each size 0 to n a sample of `total` should have at least, `(n + 1,)`.

    All of sizes 1 and n − 1, which may be all that tells a player from the others, then enough of sizes 2 and n − 2 to
    meet everybody, and so on, as far as three quarters of the sample go.
    """
    least = np.zeros(n + 1, dtype=np.int64)
    left = total * 3 // 4 if total >= MIN_BALANCED * n - 2 else 0
    for size in range(1, max(1, n // FEW_MEMBERS) + 1):
        number = -(-n // size)
        if 2 * number > left or 2 * size > n:
            break
        least[[size, n - size]] = number
        left -= 2 * number
    return least


def draw(
    problem: Problem,
    sampler: Sampler,
    sample: Sample,
    weights: Floats,
    number: int,
    *,
    pairs: bool,
    balanced: bool = True,
) -> Sample:
    """Draw and evaluate more, so that the whole sample comes as near the weights of sizes 1 to n − 1 as it still can.

    Values are kept beyond those of the linear game that shares the total equally. Of an odd number of coalitions, or
    where no pairs are left, the last ones are single. What every size should have at least comes first, if `balanced`.
    """
    n = problem.n
    drawn = np.bincount(sample.sizes, minlength=n + 1)
    wanted = np.zeros(n + 1)
    total = len(sample.sizes) + number
    wanted[1:n] = np.maximum(weights / weights.sum() * total - drawn[1:n], 1e-9)
    least = np.maximum(least_per_size(n, total) - drawn, 0) if balanced else np.zeros(n + 1, dtype=np.int64)
    coalitions, units, orders = [sample.coalitions], [sample.units], [sample.orders]
    next_unit = int(sample.units[-1]) + 1 if len(sample.units) else 0
    for size in (2, 1) if pairs else (1,):
        limits = sampler.remaining()
        limits[[0, n]] = 0
        target, first = wanted, least
        if size == 2:
            half = n // 2
            target, limits = (wanted + wanted[::-1])[: half + 1] / 2, limits[: half + 1]
            first = np.maximum(least, least[::-1])[: half + 1]
            if 2 * half == n:
                limits[half] //= 2
                first[half] = -(-first[half] // 2)
                target[half] /= 2
        first = np.minimum(first, limits)
        first = first if first.sum() * size <= number else np.zeros_like(first)
        counts = first + apportion(np.maximum(target - first, 1e-9), number // size - int(first.sum()), limits - first)
        drawn_now, order = sampler.draw(counts, pairs=size == 2)
        coalitions.append(drawn_now)
        orders.append(order)
        units.append(next_unit + np.arange(len(coalitions[-1])) // size)
        next_unit += len(coalitions[-1]) // size
        number -= len(coalitions[-1])
    new = np.concatenate(coalitions[1:])
    sizes = new.sum(axis=1)
    asked = _turns(np.concatenate(units[1:]), sizes, least_per_size(n, total), problem.rng)
    values = np.empty((len(new), len(problem.fair)))
    values[asked] = problem.evaluate(new[asked])
    values -= problem.empty + sizes[:, None] * problem.fair
    return Sample(
        np.concatenate([coalitions[0], new]),
        np.concatenate([sample.sizes, sizes]),
        np.concatenate([sample.values, values]),
        np.concatenate(units),
        np.concatenate(orders),
    )


def _turns(units: Ints, sizes: Ints, least: Ints, rng: np.random.Generator) -> Ints:
    """Order coalitions, unit by unit, so that what is known when an estimate is interrupted is a balanced sample, too.

    First come those of one player, or of all but one, which may be all that tells a player from the others; then every
    other unit is one of those that there should be at least of each size, from the small ones on. The rest is random.
    """
    n = len(least) - 1
    is_first = np.diff(units, prepend=-1) > 0
    kind = sizes[is_first]
    by_kind = np.argsort(kind, kind="stable")
    begin = np.flatnonzero(np.diff(kind[by_kind], prepend=-1))
    place = np.empty_like(kind)
    place[by_kind] = np.arange(len(kind)) - np.repeat(begin, np.diff(np.append(begin, len(kind))))
    small = np.minimum(kind, n - kind)
    rest = (small > 1) & (place >= least[kind])
    early = np.flatnonzero((small > 1) & ~rest)
    turn = np.full(len(kind), -1)
    turn[early[np.argsort(small[early], kind="stable")]] = 2 * np.arange(len(early))
    turn[rng.permutation(np.flatnonzero(rest))] = 2 * np.arange(int(rest.sum())) + 1
    order: Ints = np.argsort(turn[np.cumsum(is_first) - 1], kind="stable")
    return order


def comes_in_pairs(sample: Sample) -> bool:
    """Tell whether all units but one at most are pairs."""
    return 2 * len(np.unique(sample.units)) <= len(sample.units) + 1


def known_sample(problem: Problem, sampler: Sampler, *, pairs: bool) -> Sample:
    """Take over the evaluations of an earlier estimate, if there are any.

    A coalition that is followed by its complement is a pair. With `pairs`, a single one without is given its own.
    """
    record, n = problem.evaluate.record, problem.n
    coalitions, values = record.coalitions[2:], record.matrix[2:]
    follows = np.zeros(len(coalitions), dtype=bool)
    follows[1:] = (coalitions[1:] != coalitions[:-1]).all(axis=1)
    units = np.cumsum(~follows) - 1
    alone = np.flatnonzero((np.bincount(units, minlength=1) == 1)[units])
    if len(alone) == 2 and (coalitions[alone[0]] != coalitions[alone[1]]).all():
        # One was given its complement when an estimate went on.
        place = np.insert(np.delete(np.arange(len(units)), alone[1]), alone[0] + 1, alone[1])
        coalitions, values = coalitions[place], values[place]
        units = np.insert(np.delete(units, alone[1]), alone[0] + 1, units[alone[0]])
    elif pairs and len(alone) == 1 and problem.left > 0:
        row = int(alone[0])
        values = np.insert(values, row + 1, problem.evaluate(~coalitions[row : row + 1]), axis=0)
        coalitions = np.insert(coalitions, row + 1, ~coalitions[row], axis=0)
        units = np.insert(units, row + 1, units[row])
    units = np.cumsum(np.diff(units, prepend=-1) != 0) - 1
    sizes = coalitions.sum(axis=1)
    order = np.argsort(np.minimum(sizes, n - sizes)[np.searchsorted(units, units)], kind="stable")
    sampler.know(coalitions)
    values = values - problem.empty - sizes[:, None] * problem.fair
    rank = np.cumsum(np.diff(units[order], prepend=-1) != 0) - 1
    return Sample(coalitions[order], sizes[order], values[order], rank, np.arange(len(order)))


def solve_in_stages(
    problem: Problem, name: str, solve: Callable[[Sample, int, Floats], tuple[Floats, Floats]], *, pairs: bool
) -> Solution:
    """Draw all sizes equally often, stage by stage, until `solve` says that the tolerance is met.

    `solve(sample, n, noise)` gives values beyond the fair share and standard errors, `(n, k)` each.
    """
    n = problem.n
    if n == 1:
        return share_of_one(problem, name)
    sampler, before = Sampler(n, problem.rng), None
    sample = known_sample(problem, sampler, pairs=pairs)
    pairs = pairs and comes_in_pairs(sample)
    for stage in plan_stages(problem):
        number = max(stage - len(sample.sizes), 0)
        sample = draw(problem, sampler, sample, np.ones(n - 1), number, pairs=pairs)
        values, errors = solve(sample, n, problem.evaluate.noise)
        if settled(problem, values, errors, before):
            break
        before = values
    return Solution((problem.fair + values).T, errors.T, name, complete=sampler.complete)


def settled(problem: Problem, values: Floats, errors: Floats, before: Floats | None) -> bool:
    """Tell whether to stop: the tolerance is met, and nothing has come to light since the last look that belies it."""
    if not problem.tell(errors):
        return True
    if before is None or problem.tolerance is None or not problem.reaches(errors):
        return False
    return bool((np.abs(values - before) <= MOVED * problem.tolerance).all())
