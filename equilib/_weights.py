"""The weights of every coalition's value in the Shapley values, for this package and for kernels of others.

With w(s) = s!(n−1−s)!/n! and w(n) = w(−1) = 0, the value of a coalition of s players has the weight w(s−1) for its
members and −w(s) for all others.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from equilib._namespace import Array, Floats, Ints, Namespace, device_of


def size_weights(n: int) -> tuple[list[float], list[float]]:
    """List w(s−1) and w(s) for s = 0..n: weights of v(S) for the players in S and, negated, for those outside."""
    weights = [1 / (n * math.comb(n - 1, s)) for s in range(n)]
    return [0.0, *weights], [*weights, 0.0]


@functools.cache
def weight_matrix(n: int) -> Floats:
    """Compute the weight of every coalition's value in every player's Shapley value: `(2**n, n)`."""
    inside, outside = size_weights(n)
    members = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
    sizes = members.sum(1, keepdims=True)
    matrix: Floats = np.where(members, np.take(inside, sizes), -np.take(outside, sizes))
    return matrix


def coalition_sizes(n: int) -> Ints:
    """Count the players of every coalition: `(2**n,)`."""
    sizes = np.zeros(1, np.int64)
    for _ in range(n):
        sizes = np.concatenate([sizes, sizes + 1])
    return sizes


def spread_by_size(weights: list[float], like: Array, *, xp: Namespace) -> Array:
    """Give every coalition of s players `weights[s]`, s = 0..n: `(2**n,)`, dtype and device of `like`. Traceable."""
    n, device = len(weights) - 1, device_of(like)
    # The sum of two broadcast halves: a compiler would compute a whole table of constants before it runs anything.
    low, high = (_traceable_sizes(bits, xp=xp, device=device) for bits in ((n + 1) // 2, n // 2))
    sizes = xp.reshape(high[:, None] + low[None, :], (2**n,))
    return xp.take(xp.asarray(weights, dtype=like.dtype, device=device), sizes)


def _traceable_sizes(n: int, *, xp: Namespace, device: Any) -> Array:
    sizes = xp.asarray([0], device=device)
    for _ in range(n):
        sizes = xp.concat([sizes, sizes + 1])  # the next player is absent in the first half, present in the second
    return sizes
