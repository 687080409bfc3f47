"""What a game was asked and what it answered, in order."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from equilib._namespace import Floats, Ints

Coalitions: TypeAlias = np.ndarray[Any, np.dtype[np.bool_]]


class Evaluations:
    """The evaluations of a game: coalitions and their values, in the order of asking.

    Coalitions are kept as bits, those along whole orders as the order alone; both properties make an array of their
    own. The first two evaluations are of the empty coalition and of all players.

    Example:
        >>> from equilib import estimate_shapley
        >>> evaluations = estimate_shapley(lambda z: z.sum(1), 3, budget=8).evaluations
        >>> len(evaluations), evaluations.coalitions.shape, evaluations.values[:2].tolist()
        (8, (8, 3), [0.0, 3.0])
    """

    def __init__(self, n: int) -> None:
        self.n = n
        self._asked: list[tuple[str, np.ndarray[Any, Any]]] = []  # bits (rows, n/8), or ranks (orders, n)
        self._answers: list[Floats] = []
        self._number = 0
        self.output_shape: tuple[int, ...] = ()
        self.drawn = True  # coalitions one by one, not along orders

    def __len__(self) -> int:
        """Count the answers."""
        return self._number

    def ask(self, coalitions: Coalitions) -> None:
        """Note coalitions `(m, n)` that are about to be evaluated."""
        self._asked.append(("bits", np.packbits(coalitions, axis=1)))

    def ask_orders(self, ranks: Ints) -> None:
        """Note orders by the ranks of the players `(m, n)`: of each, what the first 1 to n − 1 players achieve."""
        self.drawn = False
        kind = np.min_scalar_type(self.n)
        self._asked.append(("ranks", ranks.astype(kind)))

    def answer(self, values: Floats, shape: tuple[int, ...]) -> None:
        """Note the answers `(m, k)` to the next of them, each of a shape."""
        self._answers.append(values)
        self._number += len(values)
        self.output_shape = shape

    def copy(self) -> Evaluations:
        """Copy, without copying what is never written to; what was asked and not answered is left out."""
        other = Evaluations(self.n)
        if len(self):
            rows = sum(len(part) * (self.n - 1 if kind == "ranks" else 1) for kind, part in self._asked)
            if rows == len(self):
                other._asked = list(self._asked)
            else:
                other.ask(self.coalitions)
            other._answers, other._number, other.output_shape = list(self._answers), self._number, self.output_shape
            other.drawn = self.drawn
        return other

    @property
    def coalitions(self) -> Coalitions:
        """Coalitions `(m, n)` bool."""
        parts = [np.zeros((0, self.n), dtype=bool)]
        for kind, part in self._asked:
            if kind == "bits":
                parts.append(np.unpackbits(part, axis=1, count=self.n).astype(bool))
            else:
                parts.append((part[:, None, :] <= np.arange(self.n - 1)[:, None]).reshape(-1, self.n))
        return np.concatenate(parts)[: len(self)]

    @property
    def values(self) -> Floats:
        """Values `(m,)`, or `(m, k)` for k outputs."""
        values = self.matrix
        return values[:, 0] if self.output_shape == () else values

    @property
    def matrix(self) -> Floats:
        """Values `(m, k)`, also for one output."""
        return np.concatenate(self._answers) if self._answers else np.zeros((0, 1))
