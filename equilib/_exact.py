"""Exact Shapley values of coalition tables `(..., 2**n)`, read once.

With w(s) = s!(n−1−s)!/n!, w(n) = w(−1) = 0 and u(S) = v(S)(w(|S|−1) + w(|S|)), the Shapley value is
φ_i = Σ_{S∋i} u(S) − Σ_S w(|S|) v(S). The last sum is the same for all players, so it need not be added up: the φ_i add
up to v(N) − v(∅). A large common offset would cancel badly: then v(∅) is subtracted first.

Sums are kept in float64 where library and device have it, else in float32, whatever the dtype of the table.

    exact_shapley → _choose → _multiply_in_chunks, _read_in_blocks   NumPy, small and large
                              _launch_kernels                        libraries that somebody wrote kernels for
                              _multiply, _fold_in_blocks             other arrays with values, small and large
                              _fold                                  arrays that have none yet; compiled, jax's
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import TypeAlias, cast

import array_api_compat
import numpy as np

from equilib._kernels import CheckedKernels, Kernels, find_kernels
from equilib._namespace import (
    Array,
    Floats,
    Namespace,
    device_of,
    floating_dtype,
    is_dask_array,
    is_torch_array,
    is_traced,
    wide_dtype,
)
from equilib._weights import coalition_sizes, size_weights, spread_by_size, weight_matrix

Implementation: TypeAlias = Callable[[Array, int, Namespace], Array]
"""Computes the Shapley values `(..., n)` of tables `(..., 2**n)`, given n and their namespace."""

PRODUCT_PLAYERS = 14
"""Up to here a table is multiplied by the matrix of all weights, 1.75 MiB: faster than any fold."""

PAIRED_PLAYERS = 10
"""From here on the difference of a coalition and its complement, whose weights are opposite, is multiplied: half the
work. For fewer players the additional call takes longer than that."""

OFFSET = 64.0
"""How much larger than all Shapley values v(∅) may be before it is subtracted: that costs two digits at most."""

_CHUNK = 2**15
"""Values of a batch that are multiplied at a time, so that their differences to v(∅) stay in the cache."""

_ROWS = 32
"""Tables multiplied at a time, at least: for fewer, reading the weights would take longest."""


def exact_shapley(table: Array, n: int, *, xp: Namespace) -> Array:
    """Compute the Shapley values `(..., n)` of tables `(..., 2**n)`, coalitions last, of any real dtype or bool."""
    return _choose(table, n, xp)(table, n, xp)


def _choose(table: Array, n: int, xp: Namespace) -> Implementation:
    small = n <= PRODUCT_PLAYERS
    if isinstance(table, np.ndarray):
        return _multiply_in_chunks if small else _read_in_blocks
    if is_traced(table) or is_dask_array(table):
        return _fold
    if find_kernels(table) is not None:
        return _launch_kernels
    if array_api_compat.is_jax_array(table):
        return _compile_fold
    if not small:
        return _fold_in_blocks
    # A product adds up in no particular order: in float32 it loses digits.
    return _multiply if wide_dtype(table, xp=xp) == xp.float64 else _fold


def _multiply_in_chunks(table: Array, n: int, xp: Namespace) -> Array:
    """Multiply NumPy tables by the matrix of weights, in float64 whatever their dtype."""
    tables = table.reshape(-1, 2**n)
    shapley = np.empty((len(tables), n), floating_dtype(table, xp=xp))
    half, step = 2 ** (n - 1) if n >= PAIRED_PLAYERS else 0, max(_ROWS, _CHUNK >> n)
    matrix = weight_matrix(n)[half:]
    for start in range(0, len(tables), step):
        rows = tables[start : start + step]
        others = rows[:, half - 1 :: -1] if half else rows[:, :1]
        shapley[start : start + step] = np.subtract(rows[:, half:], others, dtype=np.float64) @ matrix
    return shapley.reshape(*table.shape[:-1], n)


def _read_in_blocks(table: Array, n: int, xp: Namespace) -> Array:
    """Read large NumPy tables one by one, in float64 whatever their dtype; none is copied, whatever its strides."""
    shapley = np.empty((*table.shape[:-1], n), floating_dtype(table, xp=xp))
    for place in np.ndindex(table.shape[:-1]):
        shapley[place] = _read_table(table[place], n)
    return shapley


def _launch_kernels(table: Array, n: int, xp: Namespace) -> Array:
    kernels = cast(Kernels, find_kernels(table))
    table = xp.astype(table, floating_dtype(table, xp=xp), copy=False)
    return xp.reshape(kernels.shapley_values(xp.reshape(table, (-1, 2**n)), n), (*table.shape[:-1], n))


def launch_checked(table: Array, n: int, *, xp: Namespace) -> tuple[Array, bool] | None:
    """Compute the Shapley values and whether all are finite in one go; None where no kernels do that."""
    kernels = find_kernels(table)
    if not hasattr(kernels, "checked_shapley_values"):
        return None
    table = xp.astype(table, floating_dtype(table, xp=xp), copy=False)
    shapley, bad = cast(CheckedKernels, kernels).checked_shapley_values(xp.reshape(table, (-1, 2**n)), n)
    return xp.reshape(shapley, (*table.shape[:-1], n)), not bool(bad[0])


def _multiply(table: Array, n: int, xp: Namespace) -> Array:
    """Multiply tables by the matrix of weights, in float64."""
    half = 2 ** (n - 1) if n >= PAIRED_PLAYERS else 0
    others = xp.flip(table[..., :half], axis=-1) if half else table[..., :1]
    gains = xp.astype(table[..., half:], xp.float64, copy=False) - xp.astype(others, xp.float64, copy=False)
    product = gains @ xp.asarray(weight_matrix(n)[half:], dtype=xp.float64, device=device_of(table))
    return xp.astype(product, floating_dtype(table, xp=xp), copy=False)


def _fold(table: Array, n: int, xp: Namespace) -> Array:
    """Weigh tables and add them up twice, by operations that every namespace has and every tracer knows.

    In float32 at least. As in :func:`_read_blocks`, the low bits of a coalition are its place in a row: the players of
    either half need the sums over the other.
    """
    dtype = floating_dtype(table, xp=xp)
    wide = xp.astype(table, dtype if dtype == xp.float64 else xp.float32, copy=False)
    k = (n + 1) // 2
    terms = (wide - wide[..., :1]) * spread_by_size(_term_weights(n), wide, xp=xp)
    terms = xp.reshape(terms, (*table.shape[:-1], 2 ** (n - k), 2**k))
    by_place, by_row = xp.sum(terms, axis=-2), xp.sum(terms, axis=-1)
    present = xp.concat([_sum_members(by_place, k, xp=xp), _sum_members(by_row, n - k, xp=xp)], axis=-1)
    return xp.astype(_balance(present, wide[..., -1:] - wide[..., :1], n, xp=xp), dtype, copy=False)


def _sum_members(terms: Array, n: int, *, xp: Namespace) -> Array:
    """Compute what :func:`sums_with_player` does in three operations instead of 3 n, for a compiler's sake."""
    rows, players = (xp.arange(size, device=device_of(terms)) for size in (2**n, n))
    members = (rows[:, None] >> players[None, :]) % 2 == 1
    return xp.sum(xp.where(members, terms[..., None], xp.zeros_like(terms[..., None])), axis=-2)


def _compile_fold(table: Array, n: int, xp: Namespace) -> Array:
    """Fold tables of jax that have values already: compiled as a whole, wherever their parts are."""
    return _compiled(n, xp)(table)


@functools.cache
def _compiled(n: int, xp: Namespace) -> Callable[[Array], Array]:
    compiled: Callable[[Array], Array] = sys.modules["jax"].jit(lambda table: _fold(table, n, xp))
    return compiled


def _fold_in_blocks(table: Array, n: int, xp: Namespace) -> Array:
    """Read large tables in blocks, of which only some are in memory in float64, as :func:`_read_table` does."""
    k = n - 4 if n < 20 else n - 7
    wide, device = wide_dtype(table, xp=xp), device_of(table)
    empty, full = (xp.astype(end, wide) for end in (table[..., :1], table[..., -1:]))
    rows = xp.reshape(table, (*table.shape[:-1], 2 ** (n - k), 2**k))
    # Of single blocks cut out, the gradient of each would be as large as the table.
    blocks = xp.unstack(rows, axis=-2) if is_torch_array(rows) else [rows[..., i, :] for i in range(2 ** (n - k))]
    weights, sizes = np.asarray(_term_weights(n)), coalition_sizes(k)
    # Rows are put in their place by adding, not kept one by one: between large blocks of memory that come and go, small
    # ones that stay would keep the allocator from using any block twice.
    places = xp.eye(2 ** (n - k), dtype=wide, device=device)
    by_row, by_place = (
        xp.zeros((2 ** (n - k),), dtype=wide, device=device),
        xp.zeros((2**k,), dtype=wide, device=device),
    )
    for size, members in enumerate(_rows_by_size(n - k)):
        of_size = xp.asarray(np.take(weights, size + sizes), dtype=wide, device=device)
        total = xp.zeros((2**k,), dtype=wide, device=device)
        for row in members:
            gains = xp.astype(blocks[row], wide) - empty
            by_row = by_row + xp.sum(gains * of_size, axis=-1, keepdims=True) * places[row, :]
            total = total + gains
        by_place = by_place + total * of_size
    present = [sums_with_player(by_place, k, xp=xp), sums_with_player(by_row, n - k, xp=xp)]
    shapley = _balance(xp.concat(present, axis=-1), full - empty, n, xp=xp)
    return xp.astype(shapley, floating_dtype(table, xp=xp), copy=False)


def _balance(present: Array, total: Array, n: int, *, xp: Namespace) -> Array:
    """Shift the sums Σ_{S∋i} u(S), `(..., n)`, to add up to v(N) − v(∅), `(..., 1)`."""
    return present - xp.mean(present, axis=-1, keepdims=True) + total / n


def _read_table(table: Array, n: int) -> Floats:
    """Compute the Shapley values `(n,)` of a large NumPy table, less v(∅) if it is large beside them."""
    empty, full = float(table[0]), float(table[-1])
    if abs(empty) <= OFFSET * abs(full - empty):  # their mean is 1/n of that
        shapley = _read_blocks(table, n, 0.0)
        if abs(empty) <= OFFSET * abs(shapley).max():
            return shapley
    return _read_blocks(table, n, empty)


def _read_blocks(table: Array, n: int, offset: float) -> Floats:
    """Compute the Shapley values `(n,)` of a table less an offset, in blocks that stay in the cache.

    The high bits H of a coalition name a row of 2**k values, the low bits a place in it. A player among the high bits
    needs one number per row, its product with the weights of size class |H|; one among the low bits needs, per class,
    the sum of its rows. So every value is read once, and no temporary is as large as the table.
    """
    k = min(14 if n > 22 else 13, max(11, n + table.itemsize.bit_length() - 11))
    rows = table.reshape(-1, 2**k)
    as_it_is = table.dtype == np.float64 and table.flags.c_contiguous and not offset
    by_row, by_place = np.empty(len(rows)), np.zeros(2**k)
    total, gains = np.empty(2**k), np.empty(0 if as_it_is else 2**k)
    for weights, members in zip(_block_weights(n, k), _rows_by_size(n - k), strict=True):
        total[:] = 0.0
        for i in members:
            row = rows[i]
            if not as_it_is:
                gains[:] = row
                gains -= offset
                row = gains
            by_row[i] = weights.dot(row)
            np.add(total, row, total)
        total *= weights
        by_place += total
    present = np.concatenate([sums_with_player(by_place, k), sums_with_player(by_row, n - k)])
    shapley: Floats = _balance(present, float(table[-1]) - float(table[0]), n, xp=np)
    return shapley


@functools.lru_cache(maxsize=4)
def _block_weights(n: int, k: int) -> Floats:
    """List the weights w(s−1) + w(s) of the places in a row, `(n − k + 1, 2**k)`, by how many high bits it has."""
    weights, sizes, by_size = np.asarray(_term_weights(n)), coalition_sizes(k), np.empty((n - k + 1, 2**k))
    for size, row in enumerate(by_size):
        row[:] = weights[size:][sizes]
    return by_size


@functools.lru_cache(maxsize=4)
def _rows_by_size(bits: int) -> list[list[int]]:
    """List the rows with s bits set, for s = 0..bits."""
    sizes = coalition_sizes(bits)
    return [np.flatnonzero(sizes == size).tolist() for size in range(bits + 1)]


def _term_weights(n: int) -> list[float]:
    """List w(s−1) + w(s) for s = 0..n."""
    return [inside + outside for inside, outside in zip(*size_weights(n), strict=True)]


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
