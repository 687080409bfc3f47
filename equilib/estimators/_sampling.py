"""Random coalitions of given sizes, never the same twice."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import chain, combinations
from typing import NamedTuple

import numpy as np

from equilib._evaluation import Coalitions
from equilib._namespace import Floats, Ints
from equilib.estimators._problem import Problem, Solution, plan_stages

UNLIMITED = 2**62


class Sample(NamedTuple):
    """Coalitions evaluated so far. Units are what was drawn: one coalition, or one and its complement."""

    coalitions: Coalitions  # (m, n)
    sizes: Ints  # (m,)
    values: Floats  # (m, k)
    units: Ints  # (m,), from 0 up


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

    def remaining(self) -> Ints:
        """Count the coalitions of each size 0..n not drawn yet: `(n + 1,)`, at most `UNLIMITED`."""
        return np.asarray([min(math.comb(self.n, s), UNLIMITED) for s in range(self.n + 1)]) - self._drawn

    def draw(self, counts: Ints, *, pairs: bool) -> Coalitions:
        """Draw `counts[s]` coalitions of each size s, `(sum(counts), n)`, in order of size.

        With `pairs`, each is followed by its complement (twice the rows), sizes are at most n/2, and those of n/2 hold
        player 0, which makes the first of a pair unique.
        """
        sizes = np.repeat(np.arange(len(counts)), counts)
        drawn = _draw_sizes(self.n, sizes, self.rng, pairs=pairs)
        hashes = self._hash(drawn)
        for size in np.unique(sizes):
            self._make_new(drawn, hashes, np.flatnonzero(sizes == size), int(size), pairs=pairs)
        if pairs:
            drawn = np.stack([drawn, ~drawn], axis=1).reshape(-1, self.n)
            hashes = self._hash(drawn)
            sizes = np.stack([sizes, self.n - sizes], axis=1).reshape(-1)
        self._seen = np.concatenate([self._seen, hashes])
        self._drawn += np.bincount(sizes, minlength=self.n + 1)
        return drawn

    def _hash(self, coalitions: Coalitions) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
        hashes: np.ndarray[tuple[int], np.dtype[np.uint64]] = coalitions @ self._keys
        return hashes

    def _make_new(
        self,
        drawn: Coalitions,
        hashes: np.ndarray[tuple[int], np.dtype[np.uint64]],
        rows: np.ndarray[tuple[int], np.dtype[np.intp]],
        size: int,
        *,
        pairs: bool,
    ) -> None:
        """Replace coalitions of one size that were drawn before, in this draw or an earlier one."""
        number = math.comb(self.n, size)
        if number > 2**20 and number > 2**16 * (len(self._seen) + len(rows)) ** 2:
            return  # they would be the first ever to meet
        if number <= 4 * (len(rows) + self._drawn[size]):
            every = _list_size(self.n, size)
            if pairs and 2 * size == self.n:
                every = every[every[:, 0]]
            new = every[~np.isin(self._hash(every), self._seen)]
            drawn[rows] = new[self.rng.permutation(len(new))[: len(rows)]]
            hashes[rows] = self._hash(drawn[rows])
            return
        while True:
            repeated = np.isin(hashes[rows], self._seen)
            first = np.unique(hashes[rows], return_index=True)[1]
            repeated |= ~np.isin(np.arange(len(rows)), first)
            again = rows[repeated]
            if not len(again):
                return
            drawn[again] = _draw_sizes(self.n, np.full(len(again), size), self.rng, pairs=pairs)
            hashes[again] = self._hash(drawn[again])


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


def _draw_sizes(n: int, sizes: Ints, rng: np.random.Generator, *, pairs: bool) -> Coalitions:
    """Draw one coalition of each size: the players with the smallest of random keys."""
    members = np.empty((len(sizes), n), dtype=bool)
    block = max(1, 2**22 // n)
    for start in range(0, len(sizes), block):
        size = sizes[start : start + block]
        keys = rng.random((len(size), n))
        if pairs:
            keys[2 * size == n, 0] = -1.0
        last = np.take_along_axis(np.sort(keys, axis=1), np.maximum(size, 1)[:, None] - 1, axis=1)
        members[start : start + block] = keys <= last
    return members


def _list_size(n: int, size: int) -> Coalitions:
    """List the coalitions of one size."""
    number = math.comb(n, size)
    players = np.fromiter(chain.from_iterable(combinations(range(n), size)), dtype=np.int64, count=number * size)
    members = np.zeros((number, n), dtype=bool)
    np.put_along_axis(members, players.reshape(number, size), True, axis=1)
    return members


def draw(
    problem: Problem, sampler: Sampler, sample: Sample | None, weights: Floats, number: int, *, pairs: bool
) -> Sample:
    """Draw and evaluate more, so that the whole sample comes as near the weights of sizes 1 to n − 1 as it still can.

    Values are kept beyond those of the linear game that shares the total equally. Of an odd number of coalitions, or
    where no pairs are left, the last ones are single.
    """
    n = problem.n
    if sample is None:
        k = len(problem.fair)
        nothing = np.zeros(0, dtype=np.int64)
        sample = Sample(np.zeros((0, n), dtype=bool), nothing, np.zeros((0, k)), nothing)
    drawn = np.bincount(sample.sizes, minlength=n + 1)
    wanted = np.zeros(n + 1)
    wanted[1:n] = np.maximum(weights / weights.sum() * (len(sample.sizes) + number) - drawn[1:n], 1e-9)
    coalitions, units = [sample.coalitions], [sample.units]
    next_unit = int(sample.units[-1]) + 1 if len(sample.units) else 0
    for size in (2, 1) if pairs else (1,):
        limits = sampler.remaining()
        limits[[0, n]] = 0
        target = wanted
        if size == 2:
            half = n // 2
            target, limits = (wanted + wanted[::-1])[: half + 1], limits[: half + 1]
            if 2 * half == n:
                target[half] /= 2
                limits[half] //= 2
        counts = apportion(np.maximum(target, 1e-9), number // size, limits)
        coalitions.append(sampler.draw(counts, pairs=size == 2))
        units.append(next_unit + np.arange(len(coalitions[-1])) // size)
        next_unit += len(coalitions[-1]) // size
        number -= len(coalitions[-1])
    new = np.concatenate(coalitions[1:])
    sizes = new.sum(axis=1)
    values = problem.evaluate(new) - problem.empty - sizes[:, None] * problem.fair
    return Sample(
        np.concatenate([coalitions[0], new]),
        np.concatenate([sample.sizes, sizes]),
        np.concatenate([sample.values, values]),
        np.concatenate(units),
    )


def solve_in_stages(
    problem: Problem, name: str, solve: Callable[[Sample, int], tuple[Floats, Floats]], *, pairs: bool
) -> Solution:
    """Draw all sizes equally often, stage by stage, until `solve` says that the tolerance is met.

    `solve(sample, n)` gives values beyond the fair share and standard errors, `(n, k)` each.
    """
    n = problem.n
    if n == 1:
        return Solution(problem.fair[:, None], np.zeros((len(problem.fair), 1)), name)
    sampler, sample = Sampler(n, problem.rng), None
    for stage in plan_stages(problem):
        number = stage - (len(sample.sizes) if sample else 0)
        sample = draw(problem, sampler, sample, np.ones(n - 1), number, pairs=pairs)
        values, errors = solve(sample, n)
        if problem.reaches(errors):
            break
    return Solution((problem.fair + values).T, errors.T, name)


def fraction_drawn(sizes: Ints, n: int) -> Floats:
    """Compute the part that was drawn of all coalitions of each size or its complement's, `(n + 1,)`."""
    per_size = np.bincount(sizes, minlength=n + 1).astype(np.float64)
    every = np.asarray([float(min(math.comb(n, s), UNLIMITED)) for s in range(n + 1)])
    fraction: Floats = (per_size + per_size[::-1]) / (every + every[::-1])
    return fraction


def unit_variance(weight: Floats, residuals: Floats, sample: Sample, rows: Ints, undrawn: Floats) -> Floats:
    """Compute the variance `(n, k)` of Σ weight · residual over independent units, stratified by size.

    `weight` is `(u, n)`, `residuals` `(u, k)`, both of the `rows` of the sample; `undrawn` `(n + 1,)` is the part of
    the coalitions of each size that was not drawn: the others add no variance.
    """
    n = weight.shape[1]
    units = sample.units[rows]
    starts = np.flatnonzero(np.diff(units, prepend=-1))
    sizes = np.minimum(sample.sizes, n - sample.sizes)[rows][starts]
    order = np.argsort(sizes, kind="stable")
    sizes = sizes[order]
    begin = np.flatnonzero(np.diff(sizes, prepend=-1))
    number = np.diff(np.append(begin, len(sizes)))[:, None]
    variances = []
    for target in residuals.T:
        parts = weight * target[:, None]
        if len(starts) < len(parts):
            parts = np.add.reduceat(parts, starts, axis=0)
        parts = parts[order]
        sums, squares = np.add.reduceat(parts, begin, axis=0), np.add.reduceat(parts**2, begin, axis=0)
        spread = np.where(number > 1, (squares - sums**2 / number) * number / np.maximum(number - 1, 1), squares)
        variances.append(undrawn[sizes[begin]] @ np.maximum(spread, 0))
    return np.stack(variances, axis=1)
