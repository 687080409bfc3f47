"""Exact Shapley values of coalition tables `(..., 2**n)`, read once.

With w(s) = s!(n−1−s)!/n!, w(n) = w(−1) = 0 and u(S) = v(S)(w(|S|−1) + w(|S|)), the Shapley value is
φ_i = Σ_{S∋i} u(S) − Σ_S w(|S|) v(S). v(∅) is subtracted first: a large common offset would cancel badly.
"""

from __future__ import annotations

import functools
import math

import numpy as np

from equilib._kernels import find_kernels
from equilib._namespace import Array, Floats, Ints, Namespace, device_of, is_traced

PRODUCT_PLAYERS = 14
"""Up to here a table is multiplied by the matrix of all weights, 1.75 MiB: faster than any fold."""

_CHUNK = 2**15
"""Values of a batch that are multiplied at a time, so that their differences to v(∅) stay in the cache."""


def exact_shapley(table: Array, n: int, *, xp: Namespace) -> Array:
    """Compute the Shapley values `(..., n)` of tables `(..., 2**n)`, coalitions last."""
    if isinstance(table, np.ndarray):
        tables = table.reshape(-1, 2**n)
        shapley = np.empty((len(tables), n), table.dtype)
        if n <= PRODUCT_PLAYERS:
            _multiply_chunks(tables, n, shapley)
        else:
            for row, out in zip(tables, shapley, strict=True):
                out[:] = _read_blocks(row, n)
        return shapley.reshape(*table.shape[:-1], n)
    kernels = find_kernels(table)
    if kernels is not None:
        return xp.reshape(kernels.shapley_values(xp.reshape(table, (-1, 2**n)), n), (*table.shape[:-1], n))
    gains = table - table[..., :1]
    if n <= PRODUCT_PLAYERS and not is_traced(table):  # torch.compile would trace how the matrix is made, too
        return gains @ xp.asarray(_weight_matrix(n), dtype=table.dtype, device=device_of(table))
    return _fold(gains, n, xp=xp)


def weigh_by_size(weights: list[float], like: Array, *, xp: Namespace) -> Array:
    """Spread `weights[s]`, s = 0..n, over the coalitions of s players: `(2**n,)`, dtype and device of `like`."""
    sizes = xp.asarray([0], device=device_of(like))
    for _ in weights[1:]:
        sizes = xp.concat([sizes, sizes + 1])  # the next player is absent in the first half, present in the second
    return xp.take(xp.asarray(weights, dtype=like.dtype, device=device_of(like)), sizes)


def _size_weights(n: int) -> tuple[list[float], list[float]]:
    """List w(s−1) and w(s) for s = 0..n: weights of v(S) for the players in S and, negated, for those outside."""
    weights = [1 / (n * math.comb(n - 1, s)) for s in range(n)]
    return [0.0, *weights], [*weights, 0.0]


@functools.cache
def _weight_matrix(n: int) -> Floats:
    """`(2**n, n)`: the weight of every coalition's value in every player's Shapley value."""
    inside, outside = _size_weights(n)
    members = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
    sizes = members.sum(1, keepdims=True)
    matrix: Floats = np.where(members, np.take(inside, sizes), -np.take(outside, sizes))
    return matrix


def _multiply_chunks(tables: Array, n: int, out: Array) -> None:
    matrix, step = _weight_matrix(n), max(1, _CHUNK >> n)
    for start in range(0, len(tables), step):
        rows = tables[start : start + step]
        out[start : start + step] = np.subtract(rows, rows[:, :1], dtype=np.float64) @ matrix


def _read_blocks(table: Array, n: int) -> Floats:
    """Fold a large table in blocks that stay in the cache, in float64 whatever its dtype.

    The high bits H of a coalition name a row of 2**k values, the low bits a place in it. A player among the high bits
    needs one number per row, its product with the weights of size class |H|; one among the low bits needs, per class,
    the sum of its rows. So every value is read once, and no temporary is as large as the table.
    """
    k = 13 if n < 22 else 14
    rows = table.reshape(-1, 2**k)
    sizes, both, outside = _block_weights(n, k)
    by_row, by_place = np.empty(len(rows)), np.zeros(2**k)
    absent = 0.0
    gains, total = np.empty(2**k), np.empty(2**k)
    for size in range(n - k + 1):
        total[:] = 0.0
        for row in np.flatnonzero(sizes == size).tolist():
            np.subtract(rows[row], table[0], out=gains, dtype=np.float64)
            by_row[row] = gains.dot(both[size])
            np.add(total, gains, out=total)
        by_place += total * both[size]
        absent += total.dot(outside[size])
    return np.concatenate([_sums_with_player(by_place, k), _sums_with_player(by_row, n - k)]) - absent


@functools.lru_cache(maxsize=4)
def _block_weights(n: int, k: int) -> tuple[Ints, Floats, Floats]:
    """Size of every row's high bits, and the weights of the places in a row, `(n − k + 1, 2**k)`, by that size."""
    inside, outside = (np.asarray(weights) for weights in _size_weights(n))
    by_size = np.arange(n - k + 1)[:, None] + _sizes(k)
    return _sizes(n - k), np.take(inside + outside, by_size), np.take(outside, by_size)


def _fold(gains: Array, n: int, *, xp: Namespace) -> Array:
    """Compute the Shapley values `(..., n)` of tables without offset, by operations every namespace has."""
    inside, outside = _size_weights(n)
    absent = xp.sum(gains * weigh_by_size(outside, gains, xp=xp), axis=-1)
    both = [a + b for a, b in zip(inside, outside, strict=True)]
    present = _sums_with_player(gains * weigh_by_size(both, gains, xp=xp), n, xp=xp)
    return present - absent[..., None]


def _sums_with_player(terms: Array, n: int, *, xp: Namespace = np) -> Array:
    """Σ_{S∋i} of terms `(..., 2**n)` for every player i: `(..., n)`.

    The upper half sums to the last player's; adding the halves leaves the same problem without that player.
    """
    sums = []
    for player in reversed(range(n)):
        lower, upper = terms[..., : 2**player], terms[..., 2**player :]
        sums.append(xp.sum(upper, axis=-1))
        terms = lower + upper
    return xp.stack(sums[::-1], axis=-1)


def _sizes(n: int) -> Ints:
    """`(2**n,)`: the number of players in each coalition."""
    sizes = np.zeros(1, np.int64)
    for _ in range(n):
        sizes = np.concatenate([sizes, sizes + 1])
    return sizes
