"""Evaluate a game on many coalitions: in batches, on several workers, with every answer checked."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import array_api_compat
import numpy as np

from equilib._namespace import Array, Floats, Namespace, is_torch_array

if TYPE_CHECKING:
    from concurrent.futures import Executor

Coalitions: TypeAlias = np.ndarray[Any, np.dtype[np.bool_]]
Game: TypeAlias = Callable[[Array], Array]
Source: TypeAlias = Callable[[int, int], Array]
"""Makes the coalitions `(stop - start, n)` of the evaluations from `start` to `stop`."""

DEFAULT_BATCH_ENTRIES = 2**22
"""Booleans in a batch unless its size is given: 4 MiB."""
BATCHES_IN_FLIGHT = 32
"""Batches handed to an executor and not collected yet, at most: they and their answers are in memory."""


class Evaluator:
    """Counts and checks the evaluations of one game.

    A batch is a slice of a :data:`Source`, so coalitions exist only while they are needed, and where batches begin
    never changes what is evaluated.
    """

    def __init__(
        self, game: Game, n: int, *, xp: Namespace, device: Any, batch_size: int | None, executor: Executor | None
    ) -> None:
        self.n = n
        self.count = 0
        self.n_outputs: int | None = None  # None until the first answer, 0 for answers (m,)
        self._game, self._xp, self._device, self._executor = game, xp, device, executor
        self._batch_size = batch_size or max(1, DEFAULT_BATCH_ENTRIES // n)

    def __call__(self, source: Source | Coalitions, rows: int | None = None) -> Floats:
        """Evaluate the coalitions of an array or of a source of `rows` coalitions: `(rows, k)` float64."""
        if not callable(source):
            table = source
            rows = len(table)
            return self(lambda start, stop: table[start:stop], rows)
        if not rows:
            return np.zeros((0, self.n_outputs or 1))
        answers = self._here(source, rows) if self._executor is None else self._elsewhere(source, rows)
        return np.concatenate([self._check(*answer) for answer in answers])

    def _here(self, source: Source, rows: int) -> Iterator[tuple[Any, int, int]]:
        for start, stop in self._slices(rows):
            yield self._guard(partial(play, self._game, self._make(source, start, stop)), start, stop)

    def _elsewhere(self, source: Source, rows: int) -> Iterator[tuple[Any, int, int]]:
        submit = cast("Executor", self._executor).submit
        pending: deque[tuple[Any, int, int]] = deque()
        try:
            for start, stop in self._slices(rows):
                if len(pending) >= BATCHES_IN_FLIGHT:
                    future, *where = pending.popleft()
                    yield self._guard(future.result, *where)
                future = submit(play, self._game, self._make(source, start, stop))
                pending.append((future, start, stop))
            while pending:
                future, *where = pending.popleft()
                yield self._guard(future.result, *where)
        finally:
            for future, *_ in pending:
                future.cancel()

    def _slices(self, rows: int) -> Iterator[tuple[int, int]]:
        for start in range(0, rows, self._batch_size):
            yield start, min(start + self._batch_size, rows)

    def _make(self, source: Source, start: int, stop: int) -> Array:
        coalitions = source(start, stop)
        if self._xp is array_api_compat.array_namespace(coalitions) and self._device is None:
            return coalitions
        return self._xp.asarray(np.ascontiguousarray(coalitions), device=self._device)

    def _guard(self, run: Callable[[], Any], start: int, stop: int) -> tuple[Any, int, int]:
        try:
            return run(), start, stop
        except Exception as error:
            first = self.count
            error.add_note(f"raised by the game on a batch of {stop - start} coalitions (evaluations from {first})")
            raise

    def _check(self, answer: Any, start: int, stop: int) -> Floats:
        rows = stop - start
        values = _to_numpy(answer)
        expected = f"({rows},) or ({rows}, k)" if self.n_outputs is None else str((rows, self.n_outputs)[: self._ndim])
        if values.ndim not in (1, 2) or len(values) != rows or (values.ndim == 2 and values.shape[1] == 0):
            raise ValueError(f"game must return values of shape {expected} for {rows} coalitions, got {values.shape}")
        outputs = 0 if values.ndim == 1 else values.shape[1]
        if self.n_outputs is None:
            self.n_outputs = outputs
        elif outputs != self.n_outputs:
            raise ValueError(f"game must return values of shape {expected} for {rows} coalitions, got {values.shape}")
        finite = np.isfinite(values)
        if not finite.all():
            row = int(np.argmin(finite.reshape(rows, -1).all(axis=1)))
            wrong = values.reshape(rows, -1)[row]
            where = f"evaluation {self.count + row}"
            raise ValueError(f"game must return finite values, got {float(wrong[~np.isfinite(wrong)][0])} in {where}")
        self.count += rows
        return values.reshape(rows, -1)

    @property
    def _ndim(self) -> int:
        return 2 if self.n_outputs else 1


def play(game: Game, coalitions: Array) -> Any:
    """Call a game: a function of this module, so that it can be sent to another process."""
    return game(coalitions)


def _to_numpy(answer: Any) -> Floats:
    """Copy the answer of a game to NumPy.

    Raises:
        ValueError: it does not consist of real numbers.
    """
    if is_torch_array(answer):
        answer = answer.detach().cpu()
    elif hasattr(answer, "get") and not isinstance(answer, (dict, np.ndarray)):
        answer = answer.get()  # cupy refuses to be copied silently
    try:
        values = np.asarray(answer)
        if values.dtype.kind not in "buif":
            raise TypeError(f"dtype {values.dtype}")
    except (TypeError, ValueError) as error:
        raise ValueError(f"game must return an array of real numbers, got {type(answer).__name__} ({error})") from error
    return values.astype(np.float64)
