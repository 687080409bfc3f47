"""Evaluate a game on many coalitions: in batches, on several workers, with every answer checked.

Evaluator: coalitions → batches → play_here or play_on_workers → answers, checked and counted
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import array_api_compat
import numpy as np

from equilib._namespace import (
    Array,
    Floats,
    Ints,
    Namespace,
    get_namespace,
    has_float64,
    is_torch_array,
    to_host,
    wait_for_device,
)
from equilib._record import Coalitions, Evaluations
from equilib._refusals import refuse_wrapped

if TYPE_CHECKING:
    from concurrent.futures import Executor

ValueFunction: TypeAlias = Callable[[Array], Array]
"""A game to be estimated: coalitions `(m, n)` in, their values `(m,)` or `(m, k)` out."""
Source: TypeAlias = Callable[[int, int], Array]
"""Makes the coalitions `(stop - start, n)` of the evaluations from `start` to `stop`."""

DEFAULT_BATCH_ENTRIES = 2**22
"""Booleans in a batch unless its size is given: 4 MiB, which stay in a processor's cache."""
DEVICE_BATCH_ENTRIES = 2**26
"""The same on a device with memory of its own, at most: 64 MiB, beside which the start of a kernel takes no time."""
MEMORY_SHARE = 1024
"""What part of such a device's memory a batch may take: what the game makes of it takes far more."""
BATCHES_IN_FLIGHT = 32
"""Batches handed to an executor and not collected yet, at most: they and their answers are in memory."""
BATCHES_PER_WORKER = 4
"""Batches of everything asked at once for each worker, at least: the last to finish keeps the others waiting."""


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
        batch_entries: booleans in a batch, about, unless its size is given.
        record: the evaluations so far.
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
        start: Evaluations | None = None,
    ) -> None:
        self.n, self.device = n, device
        self.sampling_namespace, self.sampling_device = xp, device
        # NumPy adds up where the library cannot: no float64 there, or no way to put contributions in their place.
        if array_api_compat.is_jax_namespace(xp) or not hasattr(xp, "take_along_axis") or not has_float64(xp, device):
            self.sampling_namespace, self.sampling_device = get_namespace(None), None
        self.batch_entries = count_batch_entries(xp, device)
        self.record = Evaluations(n) if start is None else start.copy()
        self.output_shape: tuple[int, ...] | None = self.record.output_shape if len(self.record) else None
        self._xp = xp
        self._batch_size = batch_size
        self._executor = executor
        self._game = game
        self._play = partial(play_here, game) if executor is None else partial(play_on_workers, game, executor)

    def stop(self) -> None:
        """Forget what was asked and not answered."""
        self.record = self.record.copy()

    @property
    def count(self) -> int:
        """Evaluations so far."""
        return len(self.record)

    @property
    def noise(self) -> Floats:
        """Variances of the noise in the answers so far, `(k,)`: the squares of the attribute `noise` of the game.

        Raises:
            ValueError: it is no standard deviation, nor one for each output.
        """
        noise, k = getattr(self._game, "noise", 0.0), math.prod(self.output_shape or ())
        rule = f"game.noise must be a standard deviation, or one for each of {k} outputs, got {noise!r}"
        try:
            deviations = np.asarray(noise, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(rule) from error
        if deviations.shape not in ((), (1,), (k,)) or not (np.isfinite(deviations) & (deviations >= 0)).all():
            raise ValueError(rule)
        variances: Floats = np.broadcast_to(deviations**2, (k,))
        return variances

    def __call__(self, coalitions: Coalitions) -> Floats:
        """Evaluate coalitions `(m, n)`: values `(m, k)` float64, in NumPy."""
        self.record.ask(coalitions)
        # The game may write into what it gets.
        parts = self._evaluate(lambda start, stop: coalitions[start:stop].copy(), len(coalitions))
        values = [to_numpy(part) for part in parts]
        return np.concatenate(values) if values else np.zeros((0, *(self.output_shape or (1,))))

    def orders(self, ranks: Ints) -> Array:
        """Evaluate the first 1 to n − 1 players of orders, given by ranks `(m, n)`: `(m, n − 1, k)`.

        Only the ranks go to the device: the coalitions, n − 1 times as many, are made there, in the sampling
        namespace, and there the values stay.
        """
        self.record.ask_orders(ranks)
        xp, device, n = self.sampling_namespace, self.sampling_device, self.n
        there = xp.asarray(ranks, device=device)

        def prefixes(start: int, stop: int) -> Array:
            rows = xp.arange(start, stop, device=device)
            return xp.take(there, rows // (n - 1), axis=0) <= (rows % (n - 1))[:, None]

        parts = self._evaluate(prefixes, len(ranks) * (n - 1))
        values = xp.concat([xp.asarray(part, device=device) for part in parts], axis=0)
        return xp.reshape(values, (len(ranks), n - 1, -1))

    def _evaluate(self, source: Source, rows: int) -> Iterator[Array]:
        with contextlib.closing(self._play(self._batches(source, rows, self.count))) as answers:
            for answer, number in answers:  # a bad answer closes them: what is still to come is cancelled at once
                yield self._check(answer, number)

    def _batches(self, source: Source, rows: int, first: int) -> Iterator[Batch]:
        size = self._batch_size or max(1, self.batch_entries // self.n)
        if self._batch_size is None and self._executor is not None and rows > 2:
            size = min(size, -(-rows // (BATCHES_PER_WORKER * count_workers(self._executor))))
        for start in range(0, rows, size):
            stop = min(start + size, rows)
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
        self.record.answer(to_numpy(values), shape[1:])
        return values


def count_batch_entries(xp: Namespace, device: Any) -> int:
    """Count the booleans that a batch on a device should have.

    That depends on all of its memory, not on what is free now: a game may round differently in batches of other sizes.
    """
    memory = find_memory(xp, device)
    if memory is None:
        return DEFAULT_BATCH_ENTRIES
    return min(max(memory // MEMORY_SHARE, DEFAULT_BATCH_ENTRIES), DEVICE_BATCH_ENTRIES)


def find_memory(xp: Namespace, device: Any) -> int | None:
    """Find out how many bytes of memory of its own a device has; None for CPUs and where the library does not tell."""
    if array_api_compat.is_torch_namespace(xp):
        torch = sys.modules["torch"]
        device = torch.get_default_device() if device is None else torch.device(device)
        return int(torch.cuda.get_device_properties(device).total_memory) if device.type == "cuda" else None
    if array_api_compat.is_cupy_namespace(xp):
        device = sys.modules["cupy"].cuda.Device() if device is None else device
        return int(device.mem_info[1])
    return None


def count_workers(executor: Executor) -> int:
    """Count the workers of an executor: those of `concurrent.futures` know, for others it is this machine's cores."""
    return int(getattr(executor, "_max_workers", None) or os.cpu_count() or 1)


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
