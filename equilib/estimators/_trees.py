"""Boosted trees over the presence of players: what rules, maxima and thresholds decide, few products of players say.

A leaf of value c that asks for p players to be present and q to be absent is a game of its own, of which each of the p
gets c (p−1)! q!/(p+q)!, and each of the q loses c p! (q−1)!/(p+q)!: the Shapley values of a tree are the sums over its
leaves, exactly.

Sources: Friedman, "Greedy function approximation: a gradient boosting machine" (2001); as a control variate for Shapley
values: Witter et al., "Regression-adjusted Monte Carlo estimators for Shapley values" (2025).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from equilib._namespace import Floats, Ints
from equilib._record import Coalitions

N_TREES, DEPTH, RATE = 120, 6, 0.25
"""Trees, questions that each asks in a row, and the part of a tree's answer that counts."""
PART = 0.8
"""Part of the coalitions that each tree is grown on."""
SHRINK = 1.0
"""Coalitions of residual 0 that each leaf counts on top of its own."""
MIN_GAIN = 1e-12
"""Part of the squares that a question must explain to be asked."""


class Forest(NamedTuple):
    """Complete trees, in heap order: the children of node k are 2k + 1 (absent) and 2k + 2 (present)."""

    questions: Ints  # (trees, 2**depth - 1) player that is asked for, −1 where nothing is asked: all are absent
    leaves: Floats  # (trees, 2**depth) value

    def predict(self, coalitions: Coalitions) -> Floats:
        """Add up the trees: `(m,)`."""
        said = np.zeros(len(coalitions))
        padded = np.concatenate([coalitions, np.zeros((len(coalitions), 1), dtype=bool)], axis=1)  # −1 is the last
        rows = np.arange(len(coalitions))
        for questions, leaves in zip(self.questions, self.leaves, strict=True):
            node = np.zeros(len(coalitions), dtype=np.int64)
            for _ in range(DEPTH):
                node = 2 * node + 1 + padded[rows, questions[node]]
            said += leaves[node - len(questions)]
        return said

    def shapley(self, n: int) -> Floats:
        """Compute the exact Shapley values `(n,)`."""
        leaf = np.arange(2**DEPTH)
        present = (leaf[:, None] >> np.arange(DEPTH)[::-1]) & 1  # (leaves, depth) the answers on the way
        nodes = np.zeros((2**DEPTH, DEPTH), dtype=np.int64)
        for level in range(1, DEPTH):
            nodes[:, level] = 2 * nodes[:, level - 1] + 1 + present[:, level - 1]
        asked = self.questions[:, nodes]  # (trees, leaves, depth)
        real = asked >= 0
        # What lies behind a question that was not asked, with the answer yes, is never reached.
        worth = np.where((~real & (present == 1)).any(axis=2), 0.0, self.leaves)
        p, q = (real & (present == 1)).sum(axis=2), (real & (present == 0)).sum(axis=2)
        factorial = np.asarray([math.factorial(k) for k in range(DEPTH + 1)], dtype=np.float64)
        gain = worth * factorial[np.maximum(p - 1, 0)] * factorial[q] / factorial[p + q]
        loss = worth * factorial[p] * factorial[np.maximum(q - 1, 0)] / factorial[p + q]
        parts = np.where(present == 1, gain[..., None], -loss[..., None])
        values: Floats = np.bincount(asked[real], parts[real], minlength=n).astype(np.float64)
        return values


def grow(coalitions: Coalitions, targets: Floats, weights: Floats, rng: np.random.Generator) -> Forest:
    """Fit trees to targets `(m,)` of coalitions `(m, n)`, each to what the ones before it miss."""
    m = len(coalitions)
    members = coalitions.astype(np.float64)
    missed, weights = targets.copy(), weights / weights.mean()
    questions, leaves = np.full((N_TREES, 2**DEPTH - 1), -1), np.zeros((N_TREES, 2**DEPTH))
    for tree in range(N_TREES):
        rows = np.sort(rng.permutation(m)[: max(1, int(PART * m))])
        node = _grow_one(members[rows], missed[rows], weights[rows], questions[tree])
        weighted = np.bincount(node, weights[rows] * missed[rows], 2**DEPTH)
        leaves[tree] = RATE * weighted / (np.bincount(node, weights[rows], 2**DEPTH) + SHRINK)
        missed -= Forest(questions[tree : tree + 1], leaves[tree : tree + 1]).predict(coalitions)
    return Forest(questions, leaves)


def _grow_one(members: Floats, missed: Floats, weights: Floats, questions: Ints) -> Ints:
    """Choose the questions of one tree, level by level, and return the leaf of each row."""
    node = np.zeros(len(members), dtype=np.int64)  # within the level
    least = MIN_GAIN * float((weights * missed**2).sum())
    for level in range(DEPTH):
        width = 2**level
        here = np.zeros((len(members), 2 * width))
        here[np.arange(len(members)), node] = weights * missed
        here[np.arange(len(members)), width + node] = weights
        sums = here.sum(axis=0)
        yes = members.T @ here  # (n, 2 width)
        total, mass = sums[:width], sums[width:]
        yes_total, yes_mass = yes[:, :width], yes[:, width:]
        no_total, no_mass = total - yes_total, mass - yes_mass
        gain = yes_total**2 / (yes_mass + SHRINK) + no_total**2 / (no_mass + SHRINK) - total**2 / (mass + SHRINK)
        best = gain.argmax(axis=0)
        asked = gain[best, np.arange(width)] > least
        questions[width - 1 : 2 * width - 1] = np.where(asked, best, -1)
        node = 2 * node + np.where(asked[node], members[np.arange(len(members)), best[node]], 0).astype(np.int64)
    return node
