"""What players are worth together: interactions of pairs, their synergy, and the Banzhaf value.

Each is a sum Σ_T v(T) c(T) over all coalitions T, where c depends on the size of T and on which of the pair are in T.
With weights α (both in), β (the first), γ (the second) and δ (neither), all functions of the size t,

    c = m_i m_j (α − β − γ + δ)(t) + m_i (β − δ)(t) + m_j (γ − δ)(t) + δ(t),    m = 1 for members, else 0,

so that four sums of weighted tables give all pairs at once. The sums over the pairs come from the fold that
:mod:`equilib._exact` uses: O(2ⁿ) operations for all pairs together. Small tables are multiplied by all the weights.
"""

from __future__ import annotations

import functools
import math
from typing import Any, TypeAlias

import numpy as np

from equilib._exact import exact_shapley, sums_with_player
from equilib._namespace import (
    Array,
    Floats,
    Ints,
    Namespace,
    device_of,
    ignore_overflow,
    is_traced,
    move_axis,
    wide_dtype,
)
from equilib._weights import coalition_sizes, spread_by_size, weight_matrix
from equilib.shapley import read_table, require_finite_result

PRODUCT_PLAYERS = 12
"""Up to here a table is multiplied by the matrix of all weights, at most 4.7 MiB: faster than the calls of a fold."""

_SLAB = 2**14
"""Values of a large table that are weighed at a time, so that they stay in the cache."""

_Weights: TypeAlias = tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...], tuple[float, ...]]
"""The weights α, β, γ, δ, each for the sizes 0 to n."""


def shapley_interactions(values: Any, *, axis: int = -1) -> Array:
    """Compute how the players' contributions depend on each other, as a matrix whose rows add up to Shapley values.

    Off the diagonal, half the pairwise Shapley interaction index,
    ½ Σ_{S∌i,j} |S|! (n−|S|−2)! / (n−1)! · (v(S∪ij) − v(S∪i) − v(S∪j) + v(S)): above 0 where two players achieve
    together what neither does alone, below 0 where they do the same work twice. On the diagonal, what is left of φ_i.

    Args:
        values: `(..., 2**n)` real, the coalition values v(S) along `axis` in the order of :func:`equilib.coalitions`;
            the other dimensions are a batch. Integers and truth values are computed in the library's default float.
        axis: dimension of `values` that lists the coalitions.

    Returns:
        `(..., n, n)` symmetric, in the unit of `values`; library, dtype and device of `values`; the pairs take the
        place of the coalitions. Differentiable (it is linear) and traceable.

    Raises:
        ValueError: the length along `axis` is not a power of two from 2 up, `values` are not real and finite, their
            differences overflow the dtype, or there is no such axis.

    Source:
        M. Grabisch & M. Roubens, "An axiomatic approach to the concept of interaction among players" (1999); halves
        off the diagonal, and the rest on it, as in S. Lundberg et al., "From local explanations to global understanding
        with explainable AI for trees" (2020).

    Example:
        A left glove (player 0) and two right ones: each right one needs the left, and either makes the other needless.

        >>> shapley_interactions([0, 0, 0, 1, 0, 1, 0, 1]).round(4)
        array([[ 0.1667,  0.25  ,  0.25  ],
               [ 0.25  ,  0.1667, -0.25  ],
               [ 0.25  , -0.25  ,  0.1667]])
    """
    table, n, xp = read_table(values, axis)
    with ignore_overflow(table):
        result = _interact(table, n, xp=xp)
    require_finite_result(result, table, xp=xp)
    return _move_pairs(result, axis, xp=xp)


def pairwise_synergy(values: Any, *, axis: int = -1) -> Array:
    """Tell how far the players of each pair need each other, or can stand in for each other.

    Let J be what the pair adds as one player (its Shapley value in the game where both always come together), a what
    the first adds in the game without the second, and b the second without the first. Then the interaction index is
    J − a − b, and the synergy is (J − a − b) / max(|J|, |a|, |b|), cut to [−1, 1]:

    * −1, redundant: either does what both do (J = a = b).
    * 0, independent: together they add what each adds (J = a + b).
    * 1, complementary: neither adds anything without the other (a = b = 0).

    Args:
        values: `(..., 2**n)` real, n >= 2, as for :func:`shapley_interactions`.
        axis: dimension of `values` that lists the coalitions.

    Returns:
        `(..., n, n)` symmetric, without unit, 0 on the diagonal and for pairs that add nothing; library, dtype and
        device of `values`; the pairs take the place of the coalitions. Traceable, differentiable where it is not cut.

    Raises:
        ValueError: as for :func:`shapley_interactions`, or there is one player only.

    Source:
        I_ij = φ_[ij] − φ_i(N∖j) − φ_j(N∖i) is the recursion of Grabisch & Roubens (1999), section 4. Dividing by the
        largest term is our decision: without harmful players that is J.

    Example:
        >>> pairwise_synergy([0, 1, 1, 1])[0, 1], pairwise_synergy([0, 0, 0, 1])[0, 1]
        (np.float64(-1.0), np.float64(1.0))
    """
    table, n, xp = read_table(values, axis)
    if n < 2:
        raise ValueError(f"values must be of at least 2 players, got {n}")
    with ignore_overflow(table):
        gains = _gains(table, xp=xp)
        index = _pair_sums(gains, n, _index_weights(n), xp=xp)
        first = _pair_sums(gains, n, _alone_weights(n), xp=xp)
        second = xp.matrix_transpose(first)
        joint = index + first + second
        scale = xp.maximum(xp.abs(joint), xp.maximum(xp.abs(first), xp.abs(second)))
        # What is left of a pair that adds nothing is rounding, whose ratios would mean nothing.
        rounding = 8 * n * xp.finfo(gains.dtype).eps * xp.max(xp.abs(gains), axis=-1)[..., None, None]
        real = scale > rounding
        ratio = xp.where(real, index, xp.zeros_like(index)) / xp.where(real, scale, xp.ones_like(scale))
        ratio = xp.minimum(xp.maximum(ratio, -xp.ones_like(ratio)), xp.ones_like(ratio))
    require_finite_result(scale, table, xp=xp)
    apart = 1 - xp.eye(n, dtype=ratio.dtype, device=device_of(ratio))
    return _move_pairs(xp.astype(ratio * apart, table.dtype), axis, xp=xp)


def banzhaf_values(values: Any, *, axis: int = -1) -> Array:
    """Compute the Banzhaf value of every player: what it adds to the others on average, all coalitions being as likely.

    β_i = 2^{−(n−1)} Σ_{S∌i} (v(S∪i) − v(S)). Unlike Shapley values, Banzhaf values do not add up to v(N) − v(∅); they
    change less when the values are noisy.

    Args:
        values: `(..., 2**n)` real, the coalition values v(S) along `axis` in the order of :func:`equilib.coalitions`;
            the other dimensions are a batch. Integers and truth values are computed in the library's default float.
        axis: dimension of `values` that lists the coalitions.

    Returns:
        `(..., n)` in the unit, library, dtype and device of `values`; the players take the place of the coalitions.
        Differentiable (it is linear) and traceable.

    Raises:
        ValueError: the length along `axis` is not a power of two from 2 up, `values` are not real and finite, their
            differences overflow the dtype, or there is no such axis.

    Source:
        J. F. Banzhaf, "Weighted voting doesn't work" (1965), not normalised, for any game as in P. Dubey &
        L. S. Shapley (1979); its robustness to noise: J. T. Wang & R. Jia, "Data Banzhaf" (2023).

    Example:
        >>> banzhaf_values([0, 0, 0, 1, 0, 1, 0, 1])  # two right gloves (players 1 and 2) and a left one
        array([0.75, 0.25, 0.25])
    """
    table, n, xp = read_table(values, axis)
    with ignore_overflow(table):
        gains = _gains(table, xp=xp) * 2.0 ** (1 - n)
        if _is_small(gains, n):
            banzhaf = gains @ _constant(2 * _members(n) - 1, gains, xp=xp)
        else:
            banzhaf = 2 * sums_with_player(gains, n, xp=xp) - xp.sum(gains, axis=-1)[..., None]
        banzhaf = xp.astype(banzhaf, table.dtype)
    require_finite_result(banzhaf, table, xp=xp)
    return move_axis(banzhaf, -1, axis, xp=xp)


def _interact(table: Array, n: int, *, xp: Namespace) -> Array:
    """Compute the interactions `(..., n, n)` of tables `(..., 2**n)`, coalitions last."""
    gains = _gains(table, xp=xp)
    if _is_small(gains, n):
        matrix, places = _interaction_matrix(n)
        triangle = gains @ _constant(matrix, gains, xp=xp)
        every = xp.take(triangle, xp.asarray(places, device=device_of(gains)), axis=-1)
        return xp.astype(xp.reshape(every, (*table.shape[:-1], n, n)), table.dtype)
    index = _pair_sums(gains, n, _index_weights(n), xp=xp)
    eye = xp.eye(n, dtype=gains.dtype, device=device_of(gains))
    halves = (index + xp.matrix_transpose(index)) / 4 * (1 - eye)  # symmetric to the last bit
    rest = exact_shapley(gains, n, xp=xp)[..., :, None] - xp.sum(halves, axis=-1, keepdims=True)
    return xp.astype(halves + rest * eye, table.dtype)


@functools.cache
def _interaction_matrix(n: int) -> tuple[Floats, Ints]:
    """Compute the weight of every coalition's value in every pair's entry, and each entry's place among them.

    Of both halves of the matrix only one is computed: `(2**n, n(n+1)/2)`, and places `(n*n,)`.
    """
    pairs = _pair_matrix(n, _index_weights(n)).reshape(2**n, n, n) / 2
    pairs[:, range(n), range(n)] = 0
    pairs[:, range(n), range(n)] = weight_matrix(n) - pairs.sum(2)
    rows, columns = np.tril_indices(n)
    places = np.empty((n, n), np.int64)
    places[rows, columns] = places[columns, rows] = np.arange(len(rows))
    return np.ascontiguousarray(pairs[:, rows, columns]), places.reshape(-1)


def _index_weights(n: int) -> _Weights:
    """List the weights of the interaction index: w(t−2) of T with both players, −w(t−1) with one, w(t) with none."""
    both, one, none = _pair_weights(n)
    minus = tuple(-w for w in one)
    return both, minus, minus, none


def _alone_weights(n: int) -> _Weights:
    """List the weights of the first player's value in the game without the second."""
    _, one, none = _pair_weights(n)
    nothing = (0.0,) * (n + 1)
    return nothing, one, nothing, tuple(-w for w in none)


def _pair_weights(n: int) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
    """List w(t−2), w(t−1) and w(t) for t = 0..n, w(s) = s!(n−s−2)!/(n−1)!, and 0 where there is no such s."""
    weights = [1 / ((n - 1) * math.comb(n - 2, s)) for s in range(n - 1)]
    rows = ([0.0, 0.0, *weights], [0.0, *weights, 0.0], [*weights, 0.0, 0.0])
    both, one, none = (tuple(row[: n + 1]) for row in rows)
    return both, one, none


def _pair_sums(gains: Array, n: int, weights: _Weights, *, xp: Namespace) -> Array:
    """Sum tables over the coalitions, `(..., n, n)`, by the weights of the module's head; undefined on the diagonal."""
    if _is_small(gains, n):
        matrix = _constant(_pair_matrix(n, weights), gains, xp=xp)
        return xp.reshape(gains @ matrix, (*gains.shape[:-1], n, n))

    if isinstance(gains, np.ndarray):
        return _pair_sums_in_slabs(gains, n, weights)

    def weighted(*signed: tuple[int, tuple[float, ...]]) -> Array:
        by_size = [sum(sign * w[size] for sign, w in signed) for size in range(n + 1)]
        return gains * spread_by_size(by_size, gains, xp=xp)

    both, first, second, none = weights
    pairs = _sums_with_pair(weighted((1, both), (-1, first), (-1, second), (1, none)), n, xp=xp)
    of_first = sums_with_player(weighted((1, first), (-1, none)), n, xp=xp)
    of_second = of_first if second is first else sums_with_player(weighted((1, second), (-1, none)), n, xp=xp)
    rest = xp.sum(weighted((1, none)), axis=-1)
    return pairs + of_first[..., :, None] + of_second[..., None, :] + rest[..., None, None]


def _pair_sums_in_slabs(gains: Floats, n: int, weights: _Weights) -> Floats:
    """Do the same for NumPy: the low bits of a coalition are its place in a row, and some rows stay in the cache."""
    both, first, second, none = (np.asarray(each) for each in weights)
    sets = [both - first - second + none, none, first - none]
    if weights[1] is not weights[2]:
        sets.append(second - none)
    k = n // 2
    low, high, sizes = _members(k), _members(n - k), coalition_sizes(n - k)
    # The weights of a row, by how many high bits it has.
    of_rows = [each[np.arange(n - k + 1)[:, None] + coalition_sizes(k)] for each in sets]
    step, tables = max(1, _SLAB >> k), gains.reshape(-1, len(high), len(low))
    result = np.empty((len(tables), n, n))
    for place, table in enumerate(tables):
        pairs, across = result[place], np.empty((len(high), k))
        by_place = np.zeros((len(sets), len(low)))
        by_row = np.empty((len(sets), len(high)))
        for start in range(0, len(high), step):
            rows = slice(start, start + step)
            for i, weights_of_rows in enumerate(of_rows):
                terms = weights_of_rows[sizes[rows]]
                terms *= table[rows]
                by_place[i] += terms.sum(0)
                by_row[i, rows] = terms.sum(1)
                if i == 0:
                    across[rows] = terms @ low
        pairs[:k, :k] = low.T @ (by_place[0, :, None] * low)
        pairs[k:, k:] = high.T @ (by_row[0, :, None] * high)
        pairs[k:, :k] = high.T @ across
        pairs[:k, k:] = pairs[k:, :k].T
        of_first, of_second = (np.concatenate([by_place[i] @ low, by_row[i] @ high]) for i in (2, -1))
        pairs += of_first[:, None] + of_second + by_row[1].sum()
    return result.reshape(*gains.shape[:-1], n, n)


@functools.lru_cache(maxsize=32)
def _pair_matrix(n: int, weights: _Weights) -> Floats:
    """Compute the weight of every coalition's value for every pair: `(2**n, n*n)`."""
    members = _members(n)
    first, second = members[:, :, None], members[:, None, :]
    by_size = np.asarray(weights)[:, coalition_sizes(n), None, None]
    both, one, other, none = by_size
    matrix: Floats = first * second * both + first * (1 - second) * one + (1 - first) * second * other
    matrix += (1 - first) * (1 - second) * none
    return matrix.reshape(2**n, n * n)


def _sums_with_pair(terms: Array, n: int, *, xp: Namespace) -> Array:
    """Sum terms `(..., 2**n)` over every pair's coalitions, Σ_{S∋i,j}: `(..., n, n)`, undefined on the diagonal."""
    # The upper half holds the coalitions of the last player, whose sums by player are its pairs; adding the halves
    # leaves the same problem without that player.
    rows = []
    for player in reversed(range(n)):
        lower, upper = terms[..., : 2**player], terms[..., 2**player :]
        blank = xp.zeros_like(upper[..., :1])
        parts = [sums_with_player(upper, player, xp=xp)] if player else []
        rows.append(xp.concat([*parts, *([blank] * (n - player))], axis=-1))
        terms = lower + upper
    triangle = xp.stack(rows[::-1], axis=-2)
    return triangle + xp.matrix_transpose(triangle)


@functools.lru_cache(maxsize=16)
def _members(n: int) -> Floats:
    """List the members of all coalitions as ones, the others as zeros: `(2**n, n)`."""
    members: Floats = ((np.arange(2**n)[:, None] >> np.arange(n)) & 1).astype(np.float64)
    return members


def _is_small(gains: Array, n: int) -> bool:
    """Tell whether to multiply by a matrix; while tracing, torch.compile would trace how that is made."""
    return n <= PRODUCT_PLAYERS and not is_traced(gains)


def _constant(matrix: Floats, like: Array, *, xp: Namespace) -> Array:
    return xp.asarray(matrix, dtype=like.dtype, device=device_of(like))


def _gains(table: Array, *, xp: Namespace) -> Array:
    """Subtract v(∅), against cancellation, in the precision to add up in: float64 where there is one, else float32."""
    if not is_traced(table):
        table = xp.astype(table, wide_dtype(table, xp=xp), copy=False)
    elif xp.finfo(table.dtype).bits < 32:
        table = xp.astype(table, xp.float32)
    return table - table[..., :1]


def _move_pairs(result: Array, axis: int, *, xp: Namespace) -> Array:
    """Move both axes of the pairs to where the coalitions were."""
    place = axis if axis < 0 else axis - (result.ndim - 1)  # from the end of the table: -1 is last
    if place == -1:
        return result
    result = move_axis(result, -2, place - 1, xp=xp)
    return move_axis(result, -1, place, xp=xp)
