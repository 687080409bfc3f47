"""The definitions, spelled out slowly: what the fast code is tested against."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import permutations


def shapley_by_permutations(values: Sequence[float]) -> list[Fraction]:
    """Average each player's marginal contribution over all n! orders of arrival."""
    n = len(values).bit_length() - 1
    orders = list(permutations(range(n)))
    totals = [Fraction(0)] * n
    for order in orders:
        coalition = 0
        for player in order:
            joined = coalition | 1 << player
            totals[player] += Fraction(values[joined]) - Fraction(values[coalition])
            coalition = joined
    return [total / len(orders) for total in totals]


def shares(shapley: Sequence[float]) -> list[Fraction]:
    """Positive parts over their sum; equal where there is none."""
    positive = [max(Fraction(x), Fraction(0)) for x in shapley]
    total = sum(positive)
    return [x / total if total else Fraction(1, len(positive)) for x in positive]


def edm(shapley: Sequence[float], target: Sequence[float] | None = None) -> Fraction:
    """Sum of the distances between the shares and the target."""
    psi = shares(shapley)
    eta = [Fraction(1, len(psi))] * len(psi) if target is None else [Fraction(x) for x in target]
    return sum((abs(a - b) for a, b in zip(eta, psi, strict=True)), Fraction(0))


def updates(shapley: Sequence[float], n_updates: int, *, to_strong: bool = False) -> list[int]:
    """One update each, the others in proportion to 1 - share, rounded down, what is left to the weakest.

    To the strong: in proportion to the share, what is left to the strongest.
    """
    n = len(shapley)
    psi = shares(shapley)
    favourite_first = sorted(range(n), key=lambda i: (-shapley[i] if to_strong else shapley[i], i))
    weights = psi if to_strong or n == 1 else [(1 - p) / (n - 1) for p in psi]
    result = [1 + int((n_updates - n) * weight) for weight in weights]
    for i in favourite_first[: n_updates - sum(result)]:
        result[i] += 1
    return result


def expected_when_missing(values: Sequence[float], rate: float) -> Fraction:
    """Average over the non-empty coalitions, by their probability."""
    n = len(values).bit_length() - 1
    p = Fraction(rate)
    weights = [(1 - p) ** row.bit_count() * p ** (n - row.bit_count()) if row else 0 for row in range(2**n)]
    return sum((w * Fraction(v) for w, v in zip(weights, values, strict=True)), Fraction(0)) / sum(weights)
