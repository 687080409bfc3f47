"""A dozen games that no estimator here was tuned to: models, data, votes, costs and graphs, 14 to 60 players.

All values are known exactly: from a closed form, or from the complete table. The games were written down before any
estimator had been run on them, and stay as they are: an estimator that is changed because of them is tuned to them.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np

from equilib import coalitions, shapley_values
from equilib.games import Airport, Game, WeightedVoting

Array = np.ndarray[Any, Any]
# Electoral votes of the states of the USA and of the District of Columbia, from the census of 2020.
ELECTORS = (54, 40, 30, 28, 19, 19, 17, 16, 16, 15, 14, 13, 12, *[11] * 4, *[10] * 5, 9, 9, 8, 8, 8, 7, 7, *[6] * 6)
ELECTORS = (*ELECTORS, 5, 5, *[4] * 7, *[3] * 7)


@dataclass(frozen=True, eq=False)
class Tabulated:
    """A game given by the values of all coalitions, in the order of `equilib.coalitions`."""

    table: Array  # (2**n,)

    @property
    def n_players(self) -> int:
        return len(self.table).bit_length() - 1

    @cached_property
    def shapley_values(self) -> Array:
        return np.asarray(shapley_values(self.table))

    def __call__(self, members: Any) -> Array:
        return self.table[np.asarray(members, dtype=np.int64) @ (1 << np.arange(self.n_players))]


def tabulated(rule: Callable[[Array], Array], n: int) -> Tabulated:
    """Ask a rule for the values of all coalitions, some thousands at a time."""
    members = coalitions(n)
    return Tabulated(np.concatenate([rule(members[at : at + 2**13]) for at in range(0, len(members), 2**13)]))


@dataclass(frozen=True, eq=False)
class Neighbours:
    """What each training sample is worth to a classifier by k nearest neighbours.

    v(S) = mean over test samples of the number of right labels among the k samples of S nearest to them, over k.
    """

    right: Array  # (tests, n) bool: the label of a training sample is the test sample's
    order: Array  # (tests, n) int: training samples from the nearest to the farthest
    k: int

    @property
    def n_players(self) -> int:
        return self.order.shape[1]

    @cached_property
    def shapley_values(self) -> Array:
        """From the farthest sample to the nearest (Jia et al., 2019, theorem 1)."""
        n, k, values = self.n_players, self.k, np.zeros(self.order.shape)
        right = np.take_along_axis(self.right, self.order, axis=1).astype(np.float64)
        worth = right[:, -1] * min(k, n) / (n * k)
        for rank in range(n, 0, -1):
            if rank < n:
                worth = worth + (right[:, rank - 1] - right[:, rank]) * min(k, rank) / (k * rank)
            np.put_along_axis(values, self.order[:, rank - 1 : rank], worth[:, None], axis=1)
        return values.mean(axis=0)

    def __call__(self, members: Any) -> Array:
        members = np.asarray(members, dtype=bool)
        values = np.zeros(len(members))
        for right, order in zip(self.right, self.order, strict=True):
            inside = members[:, order]
            nearest = inside & (np.cumsum(inside, axis=1, dtype=np.int16) <= self.k)
            values += nearest @ right[order].astype(np.float64)
        return values / (self.k * len(self.order))


@dataclass(frozen=True, eq=False)
class Coverage:
    """What is covered by somebody counts once: v(S) = Σ_j w_j [S covers j]. It is shared by all who cover it."""

    covers: Array  # (n, items) bool
    worths: Array  # (items,)

    @property
    def n_players(self) -> int:
        return len(self.covers)

    @property
    def shapley_values(self) -> Array:
        return self.covers @ (self.worths / self.covers.sum(axis=0))

    def __call__(self, members: Any) -> Array:
        return (np.asarray(members, dtype=np.float64) @ self.covers > 0.5) @ self.worths


@dataclass(frozen=True, eq=False)
class Graph:
    """Nodes and edges: v(S) = Σ_{i∈S} w_i + Σ_{i<j∈S} e_ij. An edge is shared by its two ends."""

    nodes: Array  # (n,)
    edges: Array  # (n, n), symmetric, zeros on the diagonal

    @property
    def n_players(self) -> int:
        return len(self.nodes)

    @property
    def shapley_values(self) -> Array:
        return self.nodes + self.edges.sum(axis=1) / 2

    def __call__(self, members: Any) -> Array:
        inside = np.asarray(members, dtype=np.float64)
        return inside @ self.nodes + ((inside @ self.edges) * inside).sum(axis=1) / 2


@dataclass(frozen=True, eq=False)
class Rules:
    """Decision trees that ask who is present: v(S) = Σ c_l over the leaves l that S reaches.

    A leaf asks for p players to be present and q to be absent: each of the first is worth c (p−1)! q! / (p+q)!,
    each of the others −c p! (q−1)! / (p+q)!.
    """

    present: Array  # (leaves, n) bool
    absent: Array  # (leaves, n) bool
    worths: Array  # (leaves,)

    @property
    def n_players(self) -> int:
        return self.present.shape[1]

    @cached_property
    def shapley_values(self) -> Array:
        values = np.zeros(self.n_players)
        for present, absent, worth in zip(self.present, self.absent, self.worths, strict=True):
            p, q = int(present.sum()), int(absent.sum())
            orders = math.comb(p + q, p)
            values += worth * (present / (max(p, 1) * orders) - absent / (max(q, 1) * orders))
        return values

    def __call__(self, members: Any) -> Array:
        inside = np.asarray(members, dtype=np.float64)
        wanting = (1 - inside) @ self.present.T + inside @ self.absent.T
        return (wanting < 0.5) @ self.worths


def boosting(n: int = 16) -> Tabulated:
    """Gradient boosting, log-odds of one patient's tumour being benign; absent features from 8 other patients."""
    from sklearn.datasets import load_breast_cancer
    from sklearn.ensemble import GradientBoostingClassifier

    inputs, labels = load_breast_cancer(return_X_y=True)
    inputs = inputs[:, :n]
    model = GradientBoostingClassifier(random_state=0).fit(inputs[69:], labels[69:])
    patient, others = inputs[0], inputs[1:9]

    def log_odds(members: Array) -> Array:
        mixed = np.where(members[:, None], patient, others)  # (m, 8, n)
        return np.asarray(model.decision_function(mixed.reshape(-1, n)).reshape(len(members), -1).mean(axis=1))

    return tabulated(log_odds, n)


@cache
def patches() -> Tabulated:
    """A neural network's probability of the right digit from 4 x 4 patches of a picture, absent ones at their mean."""
    from sklearn.datasets import load_digits
    from sklearn.neural_network import MLPClassifier

    inputs, labels = load_digits(return_X_y=True)
    inputs = inputs / 16
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it could be trained for longer
        model = MLPClassifier((32,), max_iter=40, random_state=0).fit(inputs[100:], labels[100:])
    picture, mean = inputs[0], inputs[100:].mean(axis=0)
    row, column = np.divmod(np.arange(64), 8)
    patch = row // 2 * 4 + column // 2

    def probability(members: Array) -> Array:
        seen = np.where(members[:, patch], picture, mean)
        return np.asarray(model.predict_proba(seen)[:, labels[0]])

    return tabulated(probability, 16)


def neighbours(n: int = 50, tests: int = 40, k: int = 5, seed: int = 0) -> Neighbours:
    """Wines, a fifth of the training labels wrong."""
    from sklearn.datasets import load_wine

    rng = np.random.default_rng(seed)
    inputs, labels = load_wine(return_X_y=True)
    inputs, rows = (inputs - inputs.mean(axis=0)) / inputs.std(axis=0), rng.permutation(len(labels))
    train, test = rows[:n], rows[n : n + tests]
    given = np.where(rng.random(n) < 0.2, rng.integers(0, 3, n), labels[train])
    distances = ((inputs[test, None] - inputs[train]) ** 2).sum(axis=2)
    return Neighbours(given == labels[test, None], np.argsort(distances, axis=1, kind="stable"), k)


def regression(n: int = 14) -> Tabulated:
    """The R² of a linear regression of the progress of diabetes on ten features and four of their squares."""
    from sklearn.datasets import load_diabetes

    inputs, target = load_diabetes(return_X_y=True)
    inputs = np.concatenate([inputs, inputs[:, [0, 2, 3, 8]] ** 2], axis=1)[:, :n]
    inputs = (inputs - inputs.mean(axis=0)) / inputs.std(axis=0)
    target = (target - target.mean()) / target.std()
    gram, towards = inputs.T @ inputs / len(target), inputs.T @ target / len(target)

    def explained(members: Array) -> Array:
        both = members[:, :, None] & members[:, None]
        slopes = np.linalg.solve(np.where(both, gram, np.eye(n)), (members * towards)[..., None])[..., 0]
        return np.asarray(slopes @ towards)

    return tabulated(explained, n)


def coverage(n: int = 40, items: int = 400, seed: int = 0) -> Coverage:
    """Items of exponential worth, each covered by one player or by up to eight."""
    rng = np.random.default_rng(seed)
    counts = np.minimum(np.minimum(rng.geometric(0.4, items), 8), n)
    covers = np.argsort(rng.random((n, items)), axis=0) < counts
    return Coverage(covers, rng.exponential(size=items))


def airport(n: int = 60, seed: int = 0) -> Airport:
    """Runways of log-normal lengths."""
    return Airport(tuple(np.random.default_rng(seed).lognormal(size=n).tolist()))


def electors(n: int = 51) -> WeightedVoting:
    """The electoral college of the USA: a majority of all votes elects the president."""
    weights = ELECTORS[:n]
    return WeightedVoting(weights, sum(weights) // 2 + 1, inclusive=True)


def graph(n: int = 50, density: float = 0.1, seed: int = 0) -> Graph:
    """A random graph, nodes and edges of normal weights."""
    rng = np.random.default_rng(seed)
    nodes, upper = rng.normal(size=n), np.triu(rng.normal(size=(n, n)) * (rng.random((n, n)) < density), 1)
    return Graph(nodes, upper + upper.T)


def spanning(n: int = 14, seed: int = 0) -> Tabulated:
    """The shortest network of pipes between the members, at random places in a square, and a well in its corner."""
    places = np.concatenate([np.zeros((1, 2)), np.random.default_rng(seed).random((n, 2))])
    lengths = np.sqrt(((places[:, None] - places) ** 2).sum(axis=2))

    def cost(members: Array) -> Array:
        # Prim's algorithm, for all coalitions at once.
        total, rows = np.zeros(len(members)), np.arange(len(members))
        missing, nearest = members.copy(), np.broadcast_to(lengths[0, 1:], members.shape)
        for _ in range(n):
            reach = np.where(missing, nearest, np.inf)
            chosen = reach.argmin(axis=1)
            total += np.where(missing.any(axis=1), reach[rows, chosen], 0.0)
            missing[rows, chosen] = False
            nearest = np.minimum(nearest, np.where(members[rows, chosen, None], lengths[chosen + 1, 1:], np.inf))
        return total

    return tabulated(cost, n)


def saturation(n: int = 16, seed: int = 0) -> Tabulated:
    """The probability that one of several detectors finds what it looks for: v(S) = 1 − Π_{i∈S} (1 − p_i)."""
    misses = 1 - np.random.default_rng(seed).uniform(0.05, 0.5, n)
    return tabulated(lambda members: 1 - np.where(members, misses, 1.0).prod(axis=1), n)


def bankruptcy(n: int = 20, seed: int = 0) -> Tabulated:
    """What is left to the members when all others have been paid: v(S) = max(0, E − Σ_{i∉S} c_i), E half of all."""
    claims = np.random.default_rng(seed).lognormal(size=n)
    return tabulated(lambda members: np.maximum(0.0, claims.sum() / 2 - ~members @ claims), n)


def rules(n: int = 30, trees: int = 12, depth: int = 5, seed: int = 0) -> Rules:
    """Random trees, in which some players are asked about more often than others; leaves of normal worths."""
    rng = np.random.default_rng(seed)
    chances = 1 / np.arange(1, n + 1)
    leaves: list[tuple[Array, Array]] = []

    def grow(present: Array, absent: Array, depth: int) -> None:
        left = np.where(present | absent, 0.0, chances)
        if depth == 0 or not left.any():
            leaves.append((present, absent))
            return
        asked = np.arange(n) == rng.choice(n, p=left / left.sum())
        grow(present | asked, absent, depth - 1)
        grow(present, absent | asked, depth - 1)

    for _ in range(trees):
        grow(np.zeros(n, dtype=bool), np.zeros(n, dtype=bool), depth)
    present, absent = (np.stack(side) for side in zip(*leaves, strict=True))
    return Rules(present, absent, rng.normal(size=len(leaves)))


FRESH: dict[str, Callable[[], Game]] = {
    "boosting": boosting,
    "patches": patches,
    "neighbours": neighbours,
    "regression": regression,
    "coverage": coverage,
    "airport": airport,
    "electors": electors,
    "graph": graph,
    "spanning": spanning,
    "saturation": saturation,
    "bankruptcy": bankruptcy,
    "rules": rules,
}
