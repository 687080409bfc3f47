"""Models of a few products of players, beside the linear game, with Shapley values in closed form.

v(S) ≈ β·x + Σ_T β_T Π_{i∈T} x_i, x_i = 1 for members and −1 for others: the Walsh (Fourier) terms of a game, a few of
them, which are all there is where few players interact.

Source: O'Donnell, "Analysis of Boolean functions" (2014), chapter 1; as a surrogate for Shapley values: Fumagalli et
al., OddSHAP (2026).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from equilib._namespace import Floats, Ints
from equilib._record import Coalitions
from equilib.estimators._surrogate import TINY, Data


class Products(NamedTuple):
    """The model: every player, and products of several."""

    products: tuple[Ints, ...] = ()  # each (p, order) players

    def number(self, n: int) -> int:
        """Count the terms for n players."""
        return n + sum(map(len, self.products))

    def design(self, coalitions: Coalitions) -> Floats:
        """Evaluate the terms: `(m, number of terms)`."""
        signs = np.where(coalitions, 1.0, -1.0)
        columns = [signs]
        for products in self.products:
            product = signs[:, products[:, 0]]
            for players in products.T[1:]:
                product *= signs[:, players]
            columns.append(product)
        return np.concatenate(columns, axis=1) if len(columns) > 1 else signs

    def penalty(self, n: int) -> Floats:
        """Penalise all coefficients alike."""
        return np.eye(self.number(n))

    def shapley(self, coefficients: Floats, n: int) -> Floats:
        """Compute Shapley values `(n, k)`, beyond equal shares of the total, of coefficients `(number of terms, k)`.

        A product over T has equal values for its members, which share χ(N) − χ(∅) = 2 if |T| is odd, 0 if it is even.
        """
        values = 2 * coefficients[:n]
        start = n
        for products in self.products:
            stop, order = start + len(products), products.shape[1]
            if order % 2:
                for players in products.T:
                    np.add.at(values, players, coefficients[start:stop] * 2 / order)
            start = stop
        shapley: Floats = values - values.mean(axis=0)
        return shapley


LINEAR = Products()
"""The linear game."""


def screen(data: Data, residuals: Floats, order: int, number: int) -> tuple[Ints, Floats]:
    """Choose the products of `order` (2 or 3) players that explain most of residuals `(u, k)`: `(number, order)`.

    Returns:
        The products, strongest first, and the part of the residuals' squares that each explains.
    """
    signs = np.where(data.coalitions, 1.0, -1.0)
    weighted_targets = residuals * data.weights[:, None]
    n = signs.shape[1]
    later = np.arange(n)[:, None] < np.arange(n)
    strength = np.zeros((n,) * order)
    for target in weighted_targets.T:
        weighted = signs * target[:, None]
        if order == 2:
            strength += (weighted.T @ signs) ** 2 * later
            continue
        for player in range(n - 2):
            after = slice(player + 1, None)
            part = (weighted[:, after] * signs[:, player, None]).T @ signs[:, after]
            strength[player, after, after] += part**2 * later[after, after]
    best = np.argsort(-strength, axis=None, kind="stable")[: min(number, math.comb(n, order))]
    whole = data.weights.sum() * (data.weights[:, None] * residuals**2).sum() + TINY
    return np.stack(np.unravel_index(best, strength.shape), axis=1), strength.ravel()[best] / whole
