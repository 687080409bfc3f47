"""What a model is worth when modalities go missing."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

from equilib._namespace import Array, Namespace, as_floating_like, as_fraction, beside, is_traced, require_finite
from equilib._weights import spread_by_size
from equilib.shapley import read_table


def expected_when_missing(values: Any, rate: Any, *, axis: int = -1) -> Array:
    """Compute the expected value when each modality is absent with probability `rate`, at least one being kept.

    Σ_{S≠∅} P(S) v(S) with P(S) = Π_{i∈S} (1−p_i) Π_{i∉S} p_i / (1 − Π_i p_i): exact, without drawing anything.

    Args:
        values: `(..., 2**n)` real, the coalition values v(S) along `axis` in the order of
            :func:`equilib.coalitions`; v(∅) takes no part. The other dimensions are a batch.
        rate: the probability p that a modality is absent, independently of the others, in [0, 1); or `(n,)`, one for
            each modality, in [0, 1] and not all 1.
        axis: dimension of `values` that lists the coalitions.

    Returns:
        `(...)`, without `axis`, in the unit of `values`; v(N) for a rate of 0. Library, dtype and device of `values`.
        Differentiable, in `values` and in rates that are arrays, and traceable.

    Raises:
        ValueError: the length along `axis` is not a power of two from 2 up, `values` are not real and finite, there
            is no such axis, or `rate` is neither a number in [0, 1) nor `(n,)` probabilities of which one is below 1.

    Source:
        The protocol (each modality missing at random, one kept) is our decision; arXiv 2506.00030 leaves it open.

    Example:
        Accuracy 0.8 with the first modality alone, 0.6 with the second, 0.9 with both, each absent half of the time;
        then the first absent 70 % of the time, the second 30 %:

        >>> table = [0.1, 0.8, 0.6, 0.9]
        >>> float(expected_when_missing(table, 0.5).round(4)), float(expected_when_missing(table, [0.7, 0.3]).round(4))
        (0.7667, 0.7025)
    """
    table, n, xp = read_table(values, axis)
    require_finite(table, "values", xp=xp)
    dtype = table.dtype
    with beside(table):
        # Probabilities of many players are too small for half precision.
        table = xp.astype(table, dtype if dtype == xp.float64 else xp.float32, copy=False)
        if rate is None or isinstance(rate, (bool, str, Real, complex)):
            expected = _with_equal_rates(table, n, as_fraction(rate, "rate"), xp=xp)
        else:
            expected = _with_own_rates(table, n, _read_rates(rate, table, n, xp=xp), xp=xp)
        return xp.astype(expected, dtype, copy=False)


def _with_equal_rates(table: Array, n: int, p: float, *, xp: Namespace) -> Array:
    # 1 - p**n would lose its digits as p approaches 1.
    kept = -math.expm1(n * math.log(p)) if p > 0 else 1.0
    probabilities = [0.0, *((1 - p) ** size * p ** (n - size) / kept for size in range(1, n + 1))]
    return xp.sum(table * spread_by_size(probabilities, table, xp=xp), axis=-1)


def _with_own_rates(table: Array, n: int, rates: Array, *, xp: Namespace) -> Array:
    # Added up player by player, the probability of a non-empty coalition needs no 1 - Πp, which would lose its digits.
    weighed = xp.concat([xp.zeros_like(table[..., :1]), table[..., 1:]], axis=-1)  # v(∅) takes no part
    kept = xp.zeros_like(rates[0])
    for player in reversed(range(n)):
        absent, present = weighed[..., : 2**player], weighed[..., 2**player :]
        weighed = absent * rates[player] + present * (1 - rates[player])
        kept = kept * rates[player] + (1 - rates[player])
    return weighed[..., 0] / kept


def _read_rates(rate: Any, table: Array, n: int, *, xp: Namespace) -> Array:
    """Read one rate per player, `(n,)`, or one for all, `()`, as `(n,)`."""
    rates = as_floating_like(rate, "rate", table, xp=xp)
    if tuple(rates.shape) not in ((), (n,)):
        raise ValueError(f"rate must be a number or {n} of them, one per player, got shape {tuple(rates.shape)}")
    if rates.ndim == 0:
        rates = xp.broadcast_to(rates, (n,))
    lowest, highest = xp.min(rates), xp.max(rates)
    if not is_traced(lowest):
        require_finite(rates, "rate", xp=xp)
        if lowest < 0 or highest > 1:
            raise ValueError(f"rate must be in [0, 1] for every player, got {float(lowest if lowest < 0 else highest)}")
        if xp.min(rates) == 1:
            raise ValueError("rate must be below 1 for a player at least, or nothing is left, got 1 for all")
    return rates
