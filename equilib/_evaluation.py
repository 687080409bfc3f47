"""Evaluate a game on many coalitions: in batches, on several workers, with every answer checked.

Evaluator: coalitions → batches → play_here or play_on_workers → answers, checked and counted
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Generator, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import array_api_compat
import numpy as np

from equilib._namespace import (
    Array,
    Floats,
    Namespace,
    get_namespace,
    has_float64,
    is_torch_array,
    to_host,
    wait_for_device,
)
from equilib._refusals import refuse_wrapped

if TYPE_CHECKING:
    from concurrent.futures import Executor

Coalitions: TypeAlias = np.ndarray[Any, np.dtype[np.bool_]]
ValueFunction: TypeAlias = Callable[[Array], Array]
"""A game to be estimated: coalitions `(m, n)` in, their values `(m,)` or `(m, k)` out."""
Source: TypeAlias = Callable[[int, int], Array]
"""Makes the coalitions `(stop - start, n)` of the evaluations from `start` to `stop`."""

DEFAULT_BATCH_ENTRIES = 2**22
"""Booleans in a batch unless its size is given: 4 MiB."""
BATCHES_IN_FLIGHT = 32
"""Batches handed to an executor and not collected yet, at most: they and their answers are in memory."""


class Batch(NamedTuple):
    """Coalitions for one call of the game."""

    coalitions: Array  # (rows, n)
    rows: int
    first: int  # evaluations of the game before this batch


Answers: TypeAlias = Generator[tuple[Any, int]]
"""What the game returned, unchecked, and for how many coalitions: batch after batch."""


class Evaluator:
    """Counts and checks the evaluations of one game.

    A batch is a slice of a :data:`Source`, so coalitions exist only while they are needed, and where batches begin
    never changes what is evaluated.

    Attributes:
        n: number of players.
        device: of the coalitions that the game is given.
        sampling_namespace: where coalitions are made and answers added up, so that neither leaves a device: the
            library of the game, or NumPy instead of jax and others that lack what it takes, float64 above all.
        sampling_device: device for it.
        count: evaluations so far.
        output_shape: shape of one value, () or (k,); None before the first answer.
    """

    def __init__(
        self,
        game: ValueFunction,
        n: int,
        *,
        xp: Namespace,
        device: Any,
        batch_size: int | None,
        executor: Executor | None,
    ) -> None:
        self.n, self.device = n, device
        self.sampling_namespace, self.sampling_device = xp, device
        # NumPy adds up where the library cannot: no float64 there, or no way to put contributions in their place.
        if array_api_compat.is_jax_namespace(xp) or not hasattr(xp, "take_along_axis") or not has_float64(xp, device):
            self.sampling_namespace, self.sampling_device = get_namespace(None), None
        self.count = 0
        self.output_shape: tuple[int, ...] | None = None
        self._xp = xp
        self._batch_size = batch_size or max(1, DEFAULT_BATCH_ENTRIES // n)
        self._play = partial(play_here, game) if executor is None else partial(play_on_workers, game, executor)

    def __call__(self, coalitions: Coalitions) -> Floats:
        """Evaluate coalitions `(m, n)`: values `(m, k)` float64, in NumPy."""
        # The game may write into what it gets.
        return self.in_numpy(lambda start, stop: coalitions[start:stop].copy(), len(coalitions))

    def in_numpy(self, source: Source, rows: int) -> Floats:
        """Evaluate a source of `rows` coalitions: values `(rows, k)` float64, in NumPy."""
        values = [to_numpy(part) for part in self._evaluate(source, rows)]
        return np.concatenate(values) if values else np.zeros((0, *(self.output_shape or (1,))))

    def on_device(self, source: Source, rows: int) -> Array:
        """Evaluate a source of `rows` coalitions: values `(rows, k)` float64, in the sampling namespace."""
        xp, device = self.sampling_namespace, self.sampling_device
        return xp.concat([xp.asarray(part, device=device) for part in self._evaluate(source, rows)], axis=0)

    def _evaluate(self, source: Source, rows: int) -> Iterator[Array]:
        with contextlib.closing(self._play(self._batches(source, rows, self.count))) as answers:
            for answer, number in answers:  # a bad answer closes them: what is still to come is cancelled at once
                yield self._check(answer, number)

    def _batches(self, source: Source, rows: int, first: int) -> Iterator[Batch]:
        for start in range(0, rows, self._batch_size):
            stop = min(start + self._batch_size, rows)
            yield Batch(self._move(source(start, stop)), stop - start, first + start)

    def _move(self, coalitions: Array) -> Array:
        """Hand coalitions over to the library and device of the game."""
        if self._xp is array_api_compat.array_namespace(coalitions) and (
            self.device is None or not isinstance(coalitions, np.ndarray)
        ):
            return coalitions
        return self._xp.asarray(np.ascontiguousarray(coalitions), device=self.device)

    def _check(self, answer: Any, rows: int) -> Array:
        """Read an answer as `(rows, k)` float64, and count it."""
        values, xp = read_answer(answer, self.sampling_namespace)
        shape = tuple(values.shape)
        known = self.output_shape
        if len(shape) not in (1, 2) or shape[0] != rows or shape[-1] == 0 or (known is not None and shape[1:] != known):
            expected = f"({rows},) or ({rows}, k)" if known is None else (rows, *known)
            raise ValueError(f"game must return values of shape {expected} for {rows} coalitions, got {shape}")
        values = xp.reshape(values, (rows, -1))
        if not bool(xp.all(xp.isfinite(values))):
            table = to_numpy(values)
            row = int(np.argmin(np.isfinite(table).all(axis=1)))
            wrong = float(table[row][~np.isfinite(table[row])][0])
            raise ValueError(f"game must return finite values, got {wrong} in evaluation {self.count + row}")
        self.output_shape = shape[1:]
        self.count += rows
        return values


def play_here(game: ValueFunction, batches: Iterator[Batch]) -> Answers:
    """Play one batch after the other, in this thread."""
    for batch in batches:
        yield _collect(partial(play, game, batch.coalitions), batch.rows, batch.first)


def play_on_workers(game: ValueFunction, executor: Executor, batches: Iterator[Batch]) -> Answers:
    """Play batches on the workers of an executor, and collect the answers in order; cancel what waits when closed."""
    pending: deque[tuple[Any, int, int]] = deque()
    try:
        for batch in batches:
            wait_for_device(batch.coalitions)  # a worker has a stream of its own, which would not
            pending.append((executor.submit(play_and_wait, game, batch.coalitions), batch.rows, batch.first))
            if len(pending) == BATCHES_IN_FLIGHT:
                future, rows, first = pending.popleft()
                yield _collect(future.result, rows, first)
        while pending:
            future, rows, first = pending.popleft()
            yield _collect(future.result, rows, first)
    finally:
        for future, _, _ in pending:
            future.cancel()


def play(game: ValueFunction, coalitions: Array) -> Any:
    """Call a game: a function of this module, so that it can be sent to another process."""
    return game(coalitions)


def play_and_wait(game: ValueFunction, coalitions: Array) -> Any:
    """Call a game on a worker, and wait for its answer: whoever collects it has another stream."""
    answer = game(coalitions)
    wait_for_device(answer)
    return answer


def _collect(call: Callable[[], Any], rows: int, first: int) -> tuple[Any, int]:
    """Get an answer; what the game raises gets a note that names the batch."""
    try:
        return call(), rows
    except Exception as error:
        error.add_note(f"raised by the game on a batch of {rows} coalitions (evaluations from {first})")
        if isinstance(error, StopIteration):  # would end the generator that asks, not the estimate
            raise RuntimeError("the game raised StopIteration") from error
        raise


def read_answer(answer: Any, xp: Namespace) -> tuple[Array, Namespace]:
    """Read an answer as float64: an array of `xp` stays where it is, anything else is copied to NumPy.

    Returns:
        The array, and its namespace.

    Raises:
        ValueError: it does not consist of real numbers.
    """
    refuse_wrapped(answer, "what game returns")
    if array_api_compat.is_array_api_obj(answer) and array_api_compat.array_namespace(answer) is xp:
        if is_torch_array(answer):
            answer = answer.detach()
        if xp.isdtype(answer.dtype, ("bool", "real floating", "integral")):
            return xp.astype(answer, xp.float64), xp
    return to_numpy(answer), get_namespace(None)


def to_numpy(answer: Any) -> Floats:
    """Copy the answer of a game to NumPy.

    Raises:
        ValueError: it does not consist of real numbers.
    """
    try:
        values = to_host(answer)
        if values.dtype.kind not in "buif":
            raise TypeError(f"dtype {values.dtype}")
    except (RuntimeError, TypeError, ValueError) as error:  # torch's scalars in a list may refuse with the first
        raise ValueError(f"game must return an array of real numbers, got {type(answer).__name__} ({error})") from error
    table: Floats = values.astype(np.float64)
    return table
