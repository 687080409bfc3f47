"""Games whose answers are noisy: asked again and again, until it is known how noisy.

Repeated: coalitions → the same game, several times → the mean answers, and the standard deviation of their noise
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any

import numpy as np
from array_api_compat import array_namespace

from equilib._evaluation import to_numpy
from equilib._namespace import Array, Floats, as_int


class Repeated:
    """A noisy game that is asked several times about every coalition, and answers the mean.

    `estimate_shapley` reads the attribute `noise`, and its standard errors include it, those of `exact` too. The noise
    is taken to be independent from answer to answer and alike for all coalitions. Calls are counted where they are
    made: an executor of processes would leave none here.

    Attributes:
        n_players: number of players of the game, if it says so.

    Example:
        >>> from equilib import estimate_shapley
        >>> rng = np.random.default_rng(0)
        >>> game = Repeated(lambda z: z[:, 0] + rng.normal(0, 0.1, len(z)), 4)
        >>> estimate = estimate_shapley(game, 3, budget=8, seed=0)  # all coalitions, four times each
        >>> estimate.standard_errors.round(2).tolist()
        [0.03, 0.03, 0.03]
        >>> bool((abs(estimate.values - [1, 0, 0]) < 3 * estimate.standard_errors).all())
        True
    """

    def __init__(self, game: Callable[[Array], Any], times: int) -> None:
        """Ask `game` `times` times, 2 or more.

        Raises:
            ValueError: `times` is not an integer from 2 on.
        """
        self._game, self._times = game, as_int(times, "times")
        if self._times < 2:
            raise ValueError(f"times must be at least 2, got {times}")
        self.n_players: int | None = getattr(game, "n_players", None)
        self._squares, self._asked = np.zeros(1), 0
        self._lock = Lock()

    def __call__(self, coalitions: Array) -> Floats:
        """Return the mean values `(m,)` or `(m, k)` of coalitions `(m, n)` bool, in NumPy."""
        # Each time a copy, for a game may write into what it gets.
        xp = array_namespace(coalitions)
        copies = (xp.asarray(coalitions, copy=True) for _ in range(self._times))
        answers = np.stack([to_numpy(self._game(copy)) for copy in copies])
        mean: Floats = answers.mean(axis=0)
        squares = ((answers - mean) ** 2).sum(axis=(0, 1))
        with self._lock:
            self._squares = self._squares + squares
            self._asked += len(mean)
        return mean

    @property
    def noise(self) -> Floats:
        """Standard deviation of the noise in an answer, which is a mean: `(1,)` or `(k,)`.

        Raises:
            ValueError: nothing was asked yet, in this process.
        """
        if not self._asked:
            raise ValueError("noise is known when the game has been asked, in this process")
        deviation: Floats = np.sqrt(self._squares / (self._asked * (self._times - 1) * self._times))
        return deviation
