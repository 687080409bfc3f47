"""Evaluate a game on many coalitions: in batches, on several workers, with every answer checked."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Generator, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import array_api_compat
import numpy as np

from equilib._namespace import Array, Floats, Namespace, get_namespace, is_torch_array

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
        self._game, self._xp, self._executor = game, xp, executor
        self.device = device
        # Where coalitions are made and answers added up, so that neither leaves a device; jax has no float64 of itself.
        self.space, self.space_device = xp, device
        if array_api_compat.is_jax_namespace(xp):
            self.space, self.space_device = get_namespace(None), None
        self._batch_size = batch_size or max(1, DEFAULT_BATCH_ENTRIES // n)

    def __call__(self, source: Source | Coalitions, rows: int | None = None) -> Floats:
        """Evaluate the coalitions of an array or of a source of `rows` coalitions: `(rows, k)` float64, in NumPy."""
        if not callable(source):
            table = source
            rows = len(table)
            return self(lambda start, stop: table[start:stop].copy(), rows)  # the game may write into what it gets
        answers = [to_numpy(answer) for answer in self._answers(source, rows or 0)]
        return np.concatenate(answers) if answers else np.zeros((0, self.n_outputs or 1))

    def on_device(self, source: Source, rows: int) -> Array:
        """Evaluate a source of `rows` coalitions made in `space`: `(rows, k)` float64 in `space`, on the device."""
        kept = (self.space.asarray(answer, device=self.space_device) for answer in self._answers(source, rows))
        return self.space.concat(list(kept), axis=0)

    def _answers(self, source: Source, rows: int) -> Iterator[Array]:
        answers = self._here(source, rows) if self._executor is None else self._elsewhere(source, rows)
        with contextlib.closing(answers):  # a bad answer cancels what is still to come, at once
            for answer in answers:
                yield self._check(*answer)

    def _here(self, source: Source, rows: int) -> Generator[tuple[Any, int, int]]:
        for start, stop in self._slices(rows):
            yield self._guard(partial(play, self._game, self._make(source, start, stop)), start, stop)

    def _elsewhere(self, source: Source, rows: int) -> Generator[tuple[Any, int, int]]:
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
        if self._xp is array_api_compat.array_namespace(coalitions) and (
            self.device is None or not isinstance(coalitions, np.ndarray)
        ):
            return coalitions
        return self._xp.asarray(np.ascontiguousarray(coalitions), device=self.device)

    def _guard(self, run: Callable[[], Any], start: int, stop: int) -> tuple[Any, int, int]:
        try:
            return run(), start, stop
        except Exception as error:
            first = self.count
            error.add_note(f"raised by the game on a batch of {stop - start} coalitions (evaluations from {first})")
            if isinstance(error, StopIteration):  # would end the generator that asks, not the estimate
                raise RuntimeError("the game raised StopIteration") from error
            raise

    def _check(self, answer: Any, start: int, stop: int) -> Array:
        rows = stop - start
        values, xp = self._read(answer)
        expected = f"({rows},) or ({rows}, k)" if self.n_outputs is None else str((rows, self.n_outputs)[: self._ndim])
        shape = tuple(values.shape)
        if len(shape) not in (1, 2) or shape[0] != rows or shape[-1] == 0:
            raise ValueError(f"game must return values of shape {expected} for {rows} coalitions, got {shape}")
        outputs = 0 if len(shape) == 1 else shape[1]
        if self.n_outputs is None:
            self.n_outputs = outputs
        elif outputs != self.n_outputs:
            raise ValueError(f"game must return values of shape {expected} for {rows} coalitions, got {shape}")
        values = xp.reshape(values, (rows, -1))
        if not bool(xp.all(xp.isfinite(values))):
            table = to_numpy(values)
            row = int(np.argmin(np.isfinite(table).all(axis=1)))
            wrong = float(table[row][~np.isfinite(table[row])][0])
            raise ValueError(f"game must return finite values, got {wrong} in evaluation {self.count + row}")
        self.count += rows
        return values

    def _read(self, answer: Any) -> tuple[Array, Namespace]:
        """Answers of the library of `space` stay where they are, all others are copied to NumPy; float64."""
        xp = self.space
        if array_api_compat.is_array_api_obj(answer) and array_api_compat.array_namespace(answer) is xp:
            if is_torch_array(answer):
                answer = answer.detach()
            if xp.isdtype(answer.dtype, ("bool", "real floating", "integral")):
                return xp.astype(answer, xp.float64), xp
        return to_numpy(answer), get_namespace(None)

    @property
    def _ndim(self) -> int:
        return 2 if self.n_outputs else 1


def play(game: Game, coalitions: Array) -> Any:
    """Call a game: a function of this module, so that it can be sent to another process."""
    return game(coalitions)


def to_numpy(answer: Any) -> Floats:
    """Copy the answer of a game to NumPy.

    Raises:
        ValueError: it does not consist of real numbers.
    """
    if is_torch_array(answer):
        answer = answer.detach().cpu()
        answer = answer.double() if answer.is_floating_point() else answer  # NumPy has no bfloat16
    elif array_api_compat.is_cupy_array(answer):
        answer = answer.get()  # cupy refuses to be copied silently
    try:
        values = np.asarray(answer)
        if values.dtype.kind not in "buif":
            raise TypeError(f"dtype {values.dtype}")
    except (TypeError, ValueError) as error:
        raise ValueError(f"game must return an array of real numbers, got {type(answer).__name__} ({error})") from error
    return values.astype(np.float64)
