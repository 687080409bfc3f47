"""Exact Shapley values from a complete table of coalition values."""

import math
from typing import Any

from equilib._namespace import (
    Array,
    Namespace,
    as_floating,
    as_int,
    device_of,
    get_namespace,
    ignore_overflow,
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
    xp = get_namespace(xp)
    rows, players = xp.arange(2**n), xp.arange(n)
    return (rows[:, None] >> players[None, :]) % 2 == 1


def shapley_values(values: Any, *, axis: int = -1) -> Array:
    """Compute the Shapley value of every player from the values of all coalitions.

    φ_i = Σ_{S∌i} |S|! (n−|S|−1)! / n! · (v(S∪i) − v(S)), in O(2ⁿ) operations rather than the formula's O(n 2ⁿ).
    The values of the players add up to v(N) − v(∅), in the unit of `values`.

    Args:
        values: `(..., 2**n)` real, the coalition values v(S) along `axis` in the order of :func:`coalitions`; the
            other dimensions are a batch. Integers are computed in the library's default float.
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
    table, n, xp = read_table(values, axis)
    with ignore_overflow(table):
        shapley = _fold(table, n, xp=xp)
    # NaN or infinity anywhere reaches all n results: checking those spares a pass over the 2**n inputs.
    try:
        require_finite(shapley, "values", xp=xp)
    except ValueError as error:
        require_finite(table, "values", xp=xp)
        raise ValueError(f"values must have differences that {table.dtype} can hold, got an overflow") from error
    return move_axis(shapley, -1, axis, xp=xp)


def read_table(values: Any, axis: int) -> tuple[Array, int, Namespace]:
    """Read a coalition table: values `(..., 2**n)` with the coalitions last, n, and their namespace.

    Raises:
        ValueError: the length along `axis` is not a power of two from 2 up.
    """
    table, xp = as_floating(values, "values")
    table = move_axis_last(table, axis, "values", xp=xp)
    length = table.shape[-1]
    n = length.bit_length() - 1
    if n < 1 or length != 2**n:
        raise ValueError(f"values must list 2**n coalitions (n >= 1) along axis {axis}, got a length of {length}")
    return table, n, xp


def weigh_by_size(weights: list[float], like: Array, *, xp: Namespace) -> Array:
    """Spread `weights[s]`, s = 0..n, over the coalitions of s players: `(2**n,)`, dtype and device of `like`."""
    sizes = xp.asarray([0], device=device_of(like))
    for _ in weights[1:]:
        sizes = xp.concat([sizes, sizes + 1])  # the next player is absent in the first half, present in the second
    return xp.take(xp.asarray(weights, dtype=like.dtype, device=device_of(like)), sizes)


def _fold(table: Array, n: int, *, xp: Namespace) -> Array:
    """Compute the Shapley values `(..., n)` of a table `(..., 2**n)`.

    With w(s) = s!(n−1−s)!/n!, w(n) = w(−1) = 0 and u(S) = v(S)(w(|S|−1) + w(|S|)), the Shapley value is
    φ_i = Σ_{S∋i} u(S) − Σ_S w(|S|) v(S). Splitting u in halves on the top bit gives the first sum of the last
    player, and adding the halves leaves the same problem without that player.
    """
    weights = [1 / (n * math.comb(n - 1, s)) for s in range(n)]
    joined, left = [0.0, *weights], [*weights, 0.0]
    gains = table - table[..., :1]  # a large common offset would cancel badly below
    absent = xp.sum(gains * weigh_by_size(left, table, xp=xp), axis=-1)
    folded = gains * weigh_by_size([a + b for a, b in zip(joined, left, strict=True)], table, xp=xp)
    present = []
    for player in reversed(range(n)):
        low, high = folded[..., : 2**player], folded[..., 2**player :]
        present.append(xp.sum(high, axis=-1))
        folded = low + high
    return xp.stack(present[::-1], axis=-1) - absent[..., None]
