"""Exact Shapley values from a complete table of coalition values."""

from __future__ import annotations

from typing import Any

import numpy as np

from equilib._exact import exact_shapley, launch_checked
from equilib._namespace import (
    Array,
    Namespace,
    as_int,
    as_numbers,
    as_numpy_view,
    floating_dtype,
    from_numpy_memory,
    gather_last,
    get_namespace,
    ignore_overflow,
    keep,
    move_axis,
    move_axis_last,
    require_finite,
)

MAX_PLAYERS = 30
"""A table of 2**30 values takes 4 to 8 GiB, and its index still fits 32 bits."""


def coalitions(n: int, *, xp: Namespace | None = None) -> Array:
    """List every coalition of `n` players, in the order of every coalition table.

    Args:
        n: number of players, 1 to 30.
        xp: array module of the result (numpy, torch, jax.numpy, ...); NumPy by default.

    Returns:
        `(2**n, n)` bool: in row s, player i is present if and only if bit i of s is set. The first row is the
        empty coalition, the last one holds everybody.

    Raises:
        ValueError: `n` is not an integer from 1 to 30, or `xp` is not an array module.

    Example:
        >>> coalitions(2).tolist()
        [[False, False], [True, False], [False, True], [True, True]]
    """
    n = as_int(n, "n")
    if not 1 <= n <= MAX_PLAYERS:
        raise ValueError(f"n must be from 1 to {MAX_PLAYERS}, got {n}")
    xp = np if xp is None else get_namespace(xp)
    # A column is its player's absence and presence, repeated: no integers, which take 8 times the memory.
    bit = xp.asarray([False, True])
    columns = [xp.broadcast_to(bit[None, :, None], (2 ** (n - 1 - i), 2, 2**i)) for i in range(n)]
    return xp.stack([xp.reshape(column, (2**n,)) for column in columns], axis=1)


def shapley_values(values: Any, *, axis: int = -1) -> Array:
    """Compute the Shapley value of every player from the values of all coalitions.

    φ_i = Σ_{S∌i} |S|! (n−|S|−1)! / n! · (v(S∪i) − v(S)), in O(2ⁿ) operations rather than the formula's O(n 2ⁿ).
    The values of the players add up to v(N) − v(∅), in the unit of `values`.

    Args:
        values: `(..., 2**n)` real, the coalition values v(S) along `axis` in the order of :func:`coalitions`; the
            other dimensions are a batch. Integers and truth values are computed in the library's default float.
        axis: dimension of `values` that lists the coalitions.

    Returns:
        `(..., n)` in the library, dtype and device of `values`; the players take the place of the coalitions.
        Differentiable (it is linear) and traceable.

    Raises:
        ValueError: the length along `axis` is not a power of two from 2 up, `values` are not real and finite, their
            differences overflow the dtype, or there is no such axis.

    Source:
        L. S. Shapley, "A value for n-person games" (1953), equation 12; used for modalities in arXiv 2506.00030.

    Example:
        Two gloves make a pair; player 0 has the left one, players 1 and 2 have a right one each.

        >>> shapley_values([0, 0, 0, 1, 0, 1, 0, 1]).round(4)
        array([0.6667, 0.1667, 0.1667])
    """
    view = as_numpy_view(values)
    if view is not None:
        return from_numpy_memory(shapley_values(view, axis=axis))
    table, n, xp = _read(values, axis)
    with ignore_overflow(table):
        checked = launch_checked(table, n, xp=xp)
        shapley, finite = checked or (keep(exact_shapley(table, n, xp=xp)), False)
        if not finite:
            require_finite_result(shapley, table, xp=xp)
        return move_axis(shapley, -1, axis, xp=xp)


def require_finite_result(result: Array, table: Array, *, xp: Namespace) -> None:
    """Check a table by what was computed from it: NaN or infinity anywhere reaches every result.

    That spares a pass over the 2**n inputs.

    Raises:
        ValueError: `table` is not finite, or has differences that its dtype cannot hold.
    """
    try:
        require_finite(result, "values", xp=xp)
    except ValueError as error:
        require_finite(table, "values", xp=xp)
        raise ValueError(f"values must have differences that {result.dtype} can hold, got an overflow") from error


def read_table(values: Any, axis: int) -> tuple[Array, int, Namespace]:
    """Read a coalition table: floating values `(..., 2**n)` with the coalitions last, n, and their namespace.

    Raises:
        ValueError: the length along `axis` is not a power of two from 2 up, or `values` are not real.
    """
    table, n, xp = _read(values, axis)
    return xp.astype(table, floating_dtype(table, xp=xp), copy=False), n, xp


def _read(values: Any, axis: int) -> tuple[Array, int, Namespace]:
    """Read a coalition table in its own dtype: a large one of integers would become 8 times as large."""
    table, xp = as_numbers(values, "values", allow_bool=True)
    table = gather_last(move_axis_last(table, axis, "values", xp=xp))
    length = table.shape[-1]
    n = length.bit_length() - 1
    if n < 1 or length != 2**n:
        raise ValueError(f"values must list 2**n coalitions (n >= 1) along axis {axis}, got a length of {length}")
    return table, n, xp
