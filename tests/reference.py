"""The definitions, spelled out slowly: what the fast code is tested against."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import combinations, permutations
from math import factorial, prod


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


def expected_when_missing(values: Sequence[float], rate: float | Sequence[float]) -> Fraction:
    """Average over the non-empty coalitions, by their probability; `rate` is one for all, or one per player."""
    n = len(values).bit_length() - 1
    rates = [Fraction(p) for p in rate] if isinstance(rate, Sequence) else [Fraction(rate)] * n
    weights = [prod(1 - p if row >> i & 1 else p for i, p in enumerate(rates)) if row else 0 for row in range(2**n)]
    return sum((w * Fraction(v) for w, v in zip(weights, values, strict=True)), Fraction(0)) / sum(weights)


def interactions(values: Sequence[float]) -> list[list[Fraction]]:
    """Half the averaged second differences of every pair, and on the diagonal what is left of the Shapley values."""
    n = len(values).bit_length() - 1
    matrix = [[Fraction(0)] * n for _ in range(n)]
    for i, j in combinations(range(n), 2):
        for row in range(2**n):
            if not row >> i & 1 and not row >> j & 1:
                size = row.bit_count()
                weight = Fraction(factorial(size) * factorial(n - size - 2), factorial(n - 1))
                both, one, other, none = (
                    Fraction(values[row | extra]) for extra in (1 << i | 1 << j, 1 << i, 1 << j, 0)
                )
                matrix[i][j] += weight * (both - one - other + none) / 2
        matrix[j][i] = matrix[i][j]
    for i, total in enumerate(shapley_by_permutations(values)):
        matrix[i][i] = total - sum(matrix[i])
    return matrix


def synergy(values: Sequence[float], i: int, j: int) -> Fraction:
    """Merge the pair into one player, and leave out either: three games, and their Shapley values."""
    n = len(values).bit_length() - 1
    others = [k for k in range(n) if k not in (i, j)]

    def value_of(members: int) -> Fraction:
        """Compute the Shapley value of a new last player, who stands for `members`, among the others."""
        rows = [sum(1 << k for b, k in enumerate(others) if row >> b & 1) for row in range(2 ** (n - 2))]
        return shapley_by_permutations([values[row | extra] for extra in (0, members) for row in rows])[-1]

    joint, first, second = value_of(1 << i | 1 << j), value_of(1 << i), value_of(1 << j)
    scale = max(abs(joint), abs(first), abs(second))
    return max(min((joint - first - second) / scale, Fraction(1)), Fraction(-1)) if scale else Fraction(0)


def banzhaf(values: Sequence[float]) -> list[Fraction]:
    """Average each player's marginal contribution over all coalitions of the others."""
    n = len(values).bit_length() - 1
    totals = [
        sum(Fraction(values[row | 1 << i]) - Fraction(values[row]) for row in range(2**n) if not row >> i & 1)
        for i in range(n)
    ]
    return [Fraction(total) / 2 ** (n - 1) for total in totals]
