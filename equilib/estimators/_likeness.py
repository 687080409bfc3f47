"""A model that carries over what was seen of one coalition to those like it, with Shapley values in closed form.

v(S) ≈ β·x + Σ_T α_T k(S, T) over some of the coalitions T that were drawn, the centres (x_i = 1 for members, −1 for
others), and products of players where they stand out. Players count by their relevance r. With h(d) = 1/(1 + λ d) =
∫₀¹ ρ^{λ d} dρ, coalitions are alike

* in what they share, k = h(r(N∖(S∩T))) + h(r(S∪T)): a prior that gives teams of every size (that must be complete, or
  of whom one is enough) a say, for r = λ = 1 as if their size were drawn uniformly, then their members;
* or in whom they do not tell apart, k = h(r(S△T)): a prior for games that change little with each player.

For each ρ both are products over the players, f_i if present, g_i if absent, whose Shapley values are
φ_i = ∫₀¹ (f_i − g_i) Π_{j≠i} (q f_j + (1−q) g_j) dq (Owen's multilinear extension): Gauss–Legendre sums of both
integrals, exact to rounding. The odd part of a game, (v(S) − v(N∖S))/2, has the same ones.

Sources: Owen, "Multilinear extensions of games" (1972); kernel ridge regression on some centres: Williams & Seeger,
"Using the Nyström method to speed up kernel machines" (2001).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from equilib._namespace import Floats
from equilib._record import Coalitions
from equilib.estimators._products import Products

Kind = Literal["shared", "told apart"]

REACH: dict[Kind, float] = {"shared": 20.0, "told apart": 1.5}
"""λ r(N), by kernel: how fast likeness fades."""
NODES, POWER = 32, 4
"""Nodes of the integral over ρ = s**POWER: with the power, it is smooth at 0 for fractions of λ d, too."""
BLOCK_ENTRIES = 2**21
"""Centres times nodes that are worked on at once, about."""
TERM_PENALTY = 0.1
"""Penalty on the squared coefficient of a term that is no section, over the players."""


class Likeness(NamedTuple):
    """The model: linear terms, products of players if there are any, and sections of the kernel."""

    terms: Products
    kind: Kind
    centres: Coalitions  # (M, n)
    relevance: Floats  # (n,), of mean 1
    odd: bool  # whether only the odd parts of the sections are wanted

    def number(self, n: int) -> int:
        """Count the terms for n players."""
        return self.terms.number(n) + len(self.centres)

    def design(self, coalitions: Coalitions) -> Floats:
        """Evaluate the terms: `(m, number of terms)`."""
        signs = np.where(coalitions, 1.0, -1.0)
        return np.concatenate([self.terms.design(coalitions), self._sections(signs)], axis=1)

    def penalty(self, n: int) -> Floats:
        """Compute the matrix of the penalty: of the sections, a function's own norm."""
        few = self.terms.number(n)
        penalty = np.zeros((self.number(n),) * 2)
        penalty[:few, :few] = self.terms.penalty(n) * (TERM_PENALTY * n)
        own = self._sections(np.where(self.centres, 1.0, -1.0))
        penalty[few:, few:] = (own + own.T) / 2
        return penalty

    def shapley(self, coefficients: Floats, n: int) -> Floats:
        """Compute Shapley values `(n, k)`, beyond equal shares of the total, of coefficients `(number of terms, k)`."""
        few = self.terms.number(n)
        values = self.terms.shapley(coefficients[:few], n)
        values += (gains := _values_of_sections(self).T @ coefficients[few:]) - gains.mean(axis=0)
        return values

    def _sections(self, signs: Floats) -> Floats:
        """Evaluate the kernel between coalitions, as signs `(m, n)`, and the centres: `(m, M)`."""
        n, rate = signs.shape[1], REACH[self.kind] / signs.shape[1]
        centres = np.where(self.centres, 1.0, -1.0)
        weighted = signs * self.relevance
        if self.kind == "told apart":
            part = (weighted * (rate / 2)) @ centres.T
            # 1/(middle − part) is of T, 1/(middle + part) of N∖T.
            middle = 1 + rate * n / 2
            told: Floats = part / (middle**2 - part * part) if self.odd else 1 / (middle - part)
            return told
        part = (weighted * (rate / 4)) @ centres.T
        here, there = weighted.sum(axis=1, keepdims=True) * (rate / 4), centres @ self.relevance * (rate / 4)
        middle = 1 + 0.75 * rate * n
        sections = _sum_of_both(middle - part, here + there)
        if self.odd:
            sections -= _sum_of_both(middle + part, here - there)
            sections *= 0.5
        return sections


def _sum_of_both(near: Floats, half: Floats) -> Floats:
    """Compute 1/(near − half) + 1/(near + half), for what members and what others share; `half` is written to."""
    half *= half
    np.subtract(near * near, half, out=half)
    np.divide(near, half, out=half)
    half *= 2.0
    return half


def _values_of_sections(model: Likeness) -> Floats:
    """Compute the Shapley values of the sections, `(M, n)`."""
    n = len(model.relevance)
    s, weight = _legendre(NODES)
    rho, rho_weight = s**POWER, weight * POWER * s ** (POWER - 1)
    q, q_weight = _legendre(n // 2 + 1)
    members, values = model.centres.astype(np.float64), np.zeros(model.centres.shape)
    fade = rho[:, None] ** (REACH[model.kind] / n * model.relevance)  # (NODES, n)
    step = max(1, BLOCK_ENTRIES // (len(q) * max(len(members), n)))
    for start in range(0, NODES, step):
        block = slice(start, start + step)
        each, chance = fade[block, None, :], q[:, None]
        weights = (rho_weight[block, None] * q_weight).ravel()
        # What a member of T and another one contribute as factors, in expectation: present with probability q.
        inside = (chance + (1 - chance) * each).reshape(-1, n)
        outside = (chance * each + 1 - chance).reshape(-1, n)
        lost = np.broadcast_to(1 - each, (len(fade[block]), len(q), n)).reshape(-1, n)
        same = np.broadcast_to(each, (len(fade[block]), len(q), n)).reshape(-1, n)
        if model.kind == "told apart":
            product = weights * np.exp(_log_product(members, inside, outside))
            values += members * (product @ (lost / inside)) - (1 - members) * (product @ (lost / outside))
            continue
        product = weights * np.exp(_log_product(members, inside, same))
        values += members * (product @ (lost / inside))
        product = weights * np.exp(_log_product(members, same, outside))
        values -= (1 - members) * (product @ (lost / outside))
    return values


def _log_product(members: Floats, inside: Floats, outside: Floats) -> Floats:
    """Add up the logarithms of the factors of members and others: `(M, nodes)`."""
    logs: Floats = members @ np.log(inside).T + (1 - members) @ np.log(outside).T
    return logs


def _legendre(number: int) -> tuple[Floats, Floats]:
    """Compute nodes and weights of Gauss–Legendre sums over 0 to 1."""
    nodes, weights = np.polynomial.legendre.leggauss(number)
    return (nodes + 1) / 2, weights / 2
