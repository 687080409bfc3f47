"""Games with known Shapley values: to try an estimator on, and to measure its error.

A game is a callable with a number of players: coalitions `(m, n)` bool of any array-API library in, values `(m,)` of
the library's default float out. Games are plain data and can be sent to other processes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np

from equilib._namespace import Array, as_floating, as_int, device_of
from equilib._voting import MAX_STEPS, as_fraction_exactly, chances_to_decide
from equilib.shapley import coalitions as all_coalitions
from equilib.shapley import shapley_values

MAX_TABULATED = 24
"""Seats of a vote whose coalitions can be listed, where its weights are no multiples of one step."""


@runtime_checkable
class Game(Protocol):
    """A cooperative game whose Shapley values are known."""

    @property
    def n_players(self) -> int:
        """Number of players n."""

    @property
    def shapley_values(self) -> np.ndarray[Any, Any]:
        """Exact Shapley values, `(n,)` float64."""

    def __call__(self, coalitions: Array) -> Array:
        """Return the values `(m,)` of coalitions `(m, n)` bool."""


@dataclass(frozen=True)
class Additive:
    """Everybody brings a value of their own: v(S) = Σ_{i∈S} w_i, so φ = w."""

    weights: Sequence[float]

    @property
    def n_players(self) -> int:
        """Number of players."""
        return len(self.weights)

    @property
    def shapley_values(self) -> np.ndarray[Any, Any]:
        """The weights."""
        return np.asarray(self.weights, dtype=np.float64)

    def __call__(self, coalitions: Array) -> Array:
        """Add up the weights of the members."""
        members, weights = _numbers(coalitions, self.weights)
        return members @ weights


@dataclass(frozen=True)
class Glove:
    """Left and right gloves, one each: v(S) is the number of pairs. The first `n_left` players have left ones."""

    n_left: int
    n_right: int

    @property
    def n_players(self) -> int:
        """Number of players."""
        return self.n_left + self.n_right

    @cached_property
    def shapley_values(self) -> np.ndarray[Any, Any]:
        """Sum over the sizes (a, b) of the two sides a player may find on arrival."""
        n = self.n_players

        def value(own: int, other: int) -> float:
            # One's glove makes a pair if fewer of the own side (a) than of the other (b) came before.
            return sum(
                math.comb(own - 1, a) * math.comb(other, b) / (n * math.comb(n - 1, a + b))
                for a in range(own)
                for b in range(a + 1, other + 1)
            )

        left, right = self.n_left, self.n_right
        return np.asarray([value(left, right)] * left + [value(right, left)] * right)

    def __call__(self, coalitions: Array) -> Array:
        """Count the pairs."""
        side = [1.0] * self.n_left + [0.0] * self.n_right
        members, is_left = _numbers(coalitions, side)
        left, right = members @ is_left, members @ (1 - is_left)
        return (left + right - abs(left - right)) / 2


@dataclass(frozen=True)
class Airport:
    """Planes share a runway: v(S) = max_{i∈S} c_i, the length its longest member needs (c ≥ 0)."""

    costs: Sequence[float]

    @property
    def n_players(self) -> int:
        """Number of players."""
        return len(self.costs)

    @cached_property
    def shapley_values(self) -> np.ndarray[Any, Any]:
        """Each piece of runway is shared equally by those who need it (Littlechild & Owen, 1973)."""
        costs = np.asarray(self.costs, dtype=np.float64)
        order = np.argsort(costs)
        pieces = np.diff(costs[order], prepend=0.0) / np.arange(len(costs), 0, -1)
        values = np.empty_like(costs)
        values[order] = np.cumsum(pieces)
        return values

    def __call__(self, coalitions: Array) -> Array:
        """Find the longest runway needed."""
        members, costs = _numbers(coalitions, self.costs)
        xp = as_floating(members, "members")[1]
        return xp.max(members * costs, axis=-1)


@dataclass(frozen=True)
class WeightedVoting:
    """A motion passes if the votes for it exceed the quota: v(S) = 1 if Σ_{i∈S} w_i > q, else 0.

    With `inclusive=True` the quota itself is enough: v(S) = 1 if Σ_{i∈S} w_i ≥ q. Numbers are taken as they are
    written: 0.1 is a tenth, so that 0.1 and 0.2 meet a quota of 0.3 and do not exceed it, in every library.

    Attributes:
        weights: votes of each seat, real numbers from 0.
        quota: what the votes are compared with, a real number.
        inclusive: whether a motion passes whose votes are equal to the quota.

    Raises:
        ValueError: a weight is negative or, like the quota, no finite real number; there is no seat; `inclusive` is
            neither True nor False.

    Example:
        >>> WeightedVoting((50, 49, 1), 51, inclusive=True).shapley_values.round(4)
        array([0.6667, 0.1667, 0.1667])
    """

    weights: Sequence[float]
    quota: float
    inclusive: bool = False

    def __post_init__(self) -> None:
        if not len(self.weights):
            raise ValueError("weights must list at least one seat, got none")
        for seat, weight in enumerate(self.weights):
            if as_fraction_exactly(weight, f"weights[{seat}]") < 0:
                raise ValueError(f"weights must not be negative, got {weight} for seat {seat}")
        as_fraction_exactly(self.quota, "quota")
        if not isinstance(self.inclusive, bool):
            raise ValueError(f"inclusive must be True or False, got {self.inclusive!r}")

    @property
    def n_players(self) -> int:
        """Number of players."""
        return len(self.weights)

    @cached_property
    def shapley_values(self) -> np.ndarray[Any, Any]:
        """How probable it is that a seat turns the motion, when all arrive in random order.

        Raises:
            ValueError: the weights are too large, or too fine, to be counted in steps.
        """
        weights, needed = self._in_steps
        if sum(weights) <= MAX_STEPS:
            return chances_to_decide(weights, needed)
        if self.n_players > MAX_TABULATED:
            raise ValueError(
                f"weights must add up to at most {MAX_STEPS} of the largest step that divides them all, where there "
                f"are more than {MAX_TABULATED} seats, got {sum(weights)}"
            )
        return np.asarray(shapley_values(self(all_coalitions(self.n_players))))

    @cached_property
    def _in_steps(self) -> tuple[list[int], int]:
        """Count weights, and the votes needed at least, in the largest step that all weights are multiples of."""
        weights = [as_fraction_exactly(weight, "weights") for weight in self.weights]
        step = Fraction(math.gcd(*(w.numerator for w in weights)), math.lcm(*(w.denominator for w in weights)))
        steps = [int(weight / step) if step else 0 for weight in weights]
        quota = as_fraction_exactly(self.quota, "quota") / (step or 1)
        needed = math.ceil(quota) if self.inclusive else math.floor(quota) + 1
        return steps, min(max(needed, 0), sum(steps) + 1)

    def __call__(self, coalitions: Array) -> Array:
        """Hold the vote."""
        weights, needed = self._in_steps
        members, _ = _numbers(coalitions, 0.0)
        xp = as_floating(members, "members")[1]
        # Digits so small that the library's float adds up those of all seats exactly.
        base = 2 ** (-round(math.log2(xp.finfo(members.dtype).eps)) - len(weights).bit_length())
        digits = 1 + max(sum(weights) + 1, 1).bit_length() // (base.bit_length() - 1)
        columns = [[weight // base**place % base for weight in weights] for place in range(digits)]
        reached, carry = xp.ones(members.shape[:-1], dtype=xp.bool, device=device_of(members)), 0.0
        for place, column in enumerate(columns):
            votes = members @ _numbers(coalitions, column)[1] + carry
            carry = xp.floor(votes / base)
            votes, wanted = votes - carry * base, float(needed // base**place % base)
            reached = (votes > wanted) | ((votes == wanted) & reached)
        return xp.astype(reached, members.dtype)


@dataclass(frozen=True)
class SumOfUnanimity:
    """Teams that work only if complete: v(S) = Σ_t c_t [T_t ⊆ S], shared equally: φ_i = Σ_{t∋i} c_t/|T_t|."""

    teams: Sequence[Sequence[int]]
    worths: Sequence[float]
    n_players: int

    @property
    def shapley_values(self) -> np.ndarray[Any, Any]:
        """Share each team's worth among its members."""
        values = np.zeros(self.n_players)
        for team, worth in zip(self.teams, self.worths, strict=True):
            values[list(team)] += worth / len(team)
        return values

    def __call__(self, coalitions: Array) -> Array:
        """Add up the worths of the complete teams."""
        membership = np.zeros((self.n_players, len(self.teams)))
        for column, team in enumerate(self.teams):
            membership[list(team), column] = 1
        absent, needed = _numbers(~coalitions, membership)
        xp = as_floating(absent, "absent")[1]
        worths = xp.asarray(self.worths, dtype=needed.dtype, device=device_of(needed))
        return xp.astype(absent @ needed < 0.5, needed.dtype) @ worths


@dataclass(frozen=True)
class KernelMachine:
    """The probability a support vector machine gives a point, absent features at a baseline.

    v(S) = 1 / (1 + exp(−Σ_j a_j exp(−γ‖x_S − c_j‖²))), where x_S is the point on S and 0 elsewhere.
    """

    point: Sequence[float]
    centres: Sequence[Sequence[float]]
    coefficients: Sequence[float]
    gamma: float

    @property
    def n_players(self) -> int:
        """Number of features."""
        return len(self.point)

    @cached_property
    def shapley_values(self) -> np.ndarray[Any, Any]:
        """From the complete table: at most 20-odd players."""
        n, block = self.n_players, 16
        low = all_coalitions(min(n, block))
        high = all_coalitions(n - block) if n > block else np.zeros((1, 0), dtype=bool)
        rows = (np.concatenate([low, np.broadcast_to(row, (len(low), len(row)))], axis=1) for row in high)
        return np.asarray(shapley_values(np.concatenate([self(chunk) for chunk in rows])))

    def __call__(self, coalitions: Array) -> Array:
        """Classify the masked points."""
        point, centres = np.asarray(self.point), np.asarray(self.centres)
        # ‖x_S − c‖² = ‖c‖² + Σ_{i∈S} (x_i² − 2 x_i c_i)
        members, change = _numbers(coalitions, (point**2 - 2 * point * centres).T)
        xp = as_floating(members, "members")[1]
        norms, coefficients = (
            xp.asarray(x, dtype=change.dtype, device=device_of(change))
            for x in ((centres**2).sum(axis=1), np.asarray(self.coefficients))
        )
        margin = xp.exp(-self.gamma * (members @ change + norms)) @ coefficients
        return 1 / (1 + xp.exp(-margin))


def random_unanimity(n_players: int = 30, n_teams: int = 60, *, seed: int = 0) -> SumOfUnanimity:
    """Draw teams of uniform sizes 1 to n, uniform members and worths uniform in [−1, 1]."""
    n, rng = as_int(n_players, "n_players"), np.random.default_rng(seed)
    sizes = rng.integers(1, n + 1, n_teams)
    teams = tuple(tuple(sorted(rng.choice(n, size, replace=False).tolist())) for size in sizes)
    return SumOfUnanimity(teams, tuple(rng.uniform(-1, 1, n_teams).tolist()), n)


def random_voting(n_players: int = 30, *, seed: int = 0) -> WeightedVoting:
    """Draw integer weights uniform from 1 to 100, with half of the votes as quota."""
    weights = tuple(np.random.default_rng(seed).integers(1, 101, as_int(n_players, "n_players")).tolist())
    return WeightedVoting(weights, sum(weights) / 2)


def random_kernel_machine(n_players: int = 20, n_centres: int = 100, *, seed: int = 0) -> KernelMachine:
    """Draw a point and centres from standard normal distributions, coefficients of standard deviation 10; γ = 1/n."""
    n, rng = as_int(n_players, "n_players"), np.random.default_rng(seed)
    point, centres, coefficients = rng.normal(size=n), rng.normal(size=(n_centres, n)), 10 * rng.normal(size=n_centres)
    return KernelMachine(tuple(point), tuple(map(tuple, centres)), tuple(coefficients), 1 / n)


def _numbers(coalitions: Array, constants: Any) -> tuple[Array, Array]:
    """Turn coalitions into zeros and ones, and constants into an array beside them."""
    import array_api_compat

    xp = array_api_compat.array_namespace(coalitions)
    dtype = xp.__array_namespace_info__().default_dtypes()["real floating"]
    return xp.astype(coalitions, dtype), xp.asarray(constants, dtype=dtype, device=device_of(coalitions))
