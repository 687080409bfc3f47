"""Exact Shapley values of coalition tables `(..., 2**n)`, read once.

With w(s) = s!(n−1−s)!/n!, w(n) = w(−1) = 0 and u(S) = v(S)(w(|S|−1) + w(|S|)), the Shapley value is
φ_i = Σ_{S∋i} u(S) − Σ_S w(|S|) v(S). v(∅) is subtracted first: a large common offset would cancel badly.

    exact_shapley → _choose → _multiply_in_chunks, _read_in_blocks   NumPy, small and large
                              _launch_kernels                        libraries that somebody wrote kernels for
                              _multiply, _fold                       any other array, the last one traced, too
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TypeAlias, cast

import numpy as np

from equilib._kernels import Kernels, find_kernels
from equilib._namespace import Array, Floats, Ints, Namespace, device_of, is_traced
from equilib._weights import coalition_sizes, size_weights, spread_by_size, weight_matrix

Implementation: TypeAlias = Callable[[Array, int, Namespace], Array]
"""Computes the Shapley values `(..., n)` of tables `(..., 2**n)`, given n and their namespace."""

PRODUCT_PLAYERS = 14
"""Up to here a table is multiplied by the matrix of all weights, 1.75 MiB: faster than any fold."""

_CHUNK = 2**15
"""Values of a batch that are multiplied at a time, so that their differences to v(∅) stay in the cache."""


def exact_shapley(table: Array, n: int, *, xp: Namespace) -> Array:
    """Compute the Shapley values `(..., n)` of tables `(..., 2**n)`, coalitions last."""
    return _choose(table, n)(table, n, xp)


def _choose(table: Array, n: int) -> Implementation:
    small = n <= PRODUCT_PLAYERS
    if isinstance(table, np.ndarray):
        return _multiply_in_chunks if small else _read_in_blocks
    if find_kernels(table) is not None:
        return _launch_kernels
    return _multiply if small and not is_traced(table) else _fold  # torch.compile would trace how the matrix is made


def _multiply_in_chunks(table: Array, n: int, xp: Namespace) -> Array:
    """Multiply NumPy tables by the matrix of weights, in float64 whatever their dtype."""
    tables = table.reshape(-1, 2**n)
    shapley = np.empty((len(tables), n), table.dtype)
    matrix, step = weight_matrix(n), max(1, _CHUNK >> n)
    for start in range(0, len(tables), step):
        rows = tables[start : start + step]
        shapley[start : start + step] = np.subtract(rows, rows[:, :1], dtype=np.float64) @ matrix
    return shapley.reshape(*table.shape[:-1], n)


def _read_in_blocks(table: Array, n: int, xp: Namespace) -> Array:
    """Fold large NumPy tables one by one, in float64 whatever their dtype."""
    tables = table.reshape(-1, 2**n)
    shapley = np.empty((len(tables), n), table.dtype)
    for row, out in zip(tables, shapley, strict=True):
        out[:] = _read_table(row, n)
    return shapley.reshape(*table.shape[:-1], n)


def _launch_kernels(table: Array, n: int, xp: Namespace) -> Array:
    kernels = cast(Kernels, find_kernels(table))
    return xp.reshape(kernels.shapley_values(xp.reshape(table, (-1, 2**n)), n), (*table.shape[:-1], n))


def _multiply(table: Array, n: int, xp: Namespace) -> Array:
    """Multiply tables by the matrix of weights, in their dtype."""
    return (table - table[..., :1]) @ xp.asarray(weight_matrix(n), dtype=table.dtype, device=device_of(table))


def _fold(table: Array, n: int, xp: Namespace) -> Array:
    """Fold tables in their dtype, by operations that every namespace has and every tracer knows."""
    gains = table - table[..., :1]
    inside, outside = size_weights(n)
    absent = xp.sum(gains * spread_by_size(outside, gains, xp=xp), axis=-1)
    both = [a + b for a, b in zip(inside, outside, strict=True)]
    present = sums_with_player(gains * spread_by_size(both, gains, xp=xp), n, xp=xp)
    return present - absent[..., None]


def _read_table(table: Array, n: int) -> Floats:
    """Compute the Shapley values `(n,)` of a large table in blocks that stay in the cache.

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
    return np.concatenate([sums_with_player(by_place, k), sums_with_player(by_row, n - k)]) - absent


@functools.lru_cache(maxsize=4)
def _block_weights(n: int, k: int) -> tuple[Ints, Floats, Floats]:
    """Count every row's high bits, and list the weights of the places in a row, `(n − k + 1, 2**k)`, by that count."""
    inside, outside = (np.asarray(weights) for weights in size_weights(n))
    by_size = np.arange(n - k + 1)[:, None] + coalition_sizes(k)
    return coalition_sizes(n - k), np.take(inside + outside, by_size), np.take(outside, by_size)


def sums_with_player(terms: Array, n: int, *, xp: Namespace = np) -> Array:
    """Sum terms `(..., 2**n)` over the coalitions of every player, Σ_{S∋i}: `(..., n)`.

    The upper half sums to the last player's; adding the halves leaves the same problem without that player.
    """
    sums = []
    for player in reversed(range(n)):
        lower, upper = terms[..., : 2**player], terms[..., 2**player :]
        sums.append(xp.sum(upper, axis=-1))
        terms = lower + upper
    return xp.stack(sums[::-1], axis=-1)
