"""Processes that decode files, in order, with little of them in memory at a time.

They are started by running this package, not by forking or by `multiprocessing`: a fork would copy the locks of
torch's threads in whatever state, and `multiprocessing` would run the user's script once more in each process, which
needs `if __name__ == "__main__"` there.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TypeAlias

from equilib_torch.data.media import MediaKind, MediaOptions, UnreadableError, decode
from equilib_torch.data.modality import Array

Outcome: TypeAlias = "dict[str, Array] | str"
"""What came of a file: arrays by part, or why there are none."""

_FEW: dict[MediaKind, int] = {
    "image": 200,
    "audio": 200,
    "video": 8,
    "frames": 60,
    "array": 1000,
}  # decoded sooner than processes start
_AHEAD = 32  # files per process that may be decoded before an earlier one is, so that memory stays bounded
_QUEUED = 2  # files that a process is given at once, so that it need not wait for the next
_BOOT = "import sys; sys.path[:] = {path!r}; from equilib_torch.data.decoders import serve; serve({descriptor})"


def decode_all(kind: MediaKind, paths: Sequence[Path], options: MediaOptions) -> Generator[Outcome, None, None]:
    """Decode files one after the other, in several processes where there are many.

    A process that dies of a file (decoders of damaged files sometimes do) costs that file, and is replaced.

    Args:
        kind: What they hold.
        paths: Where they are.
        options: How to decode, and the number of processes.

    Yields:
        What came of each, in the order of the paths.
    """
    workers = min(_cores(), 8) if options.workers is None else options.workers
    if workers == 0 or len(paths) < _FEW[kind]:
        for path in paths:
            yield _outcome(kind, path, options)
        return
    pool = _Pool(kind, paths, options, min(workers, len(paths)))
    try:
        yield from pool.outcomes()
    finally:
        pool.close()


def serve(descriptor: int) -> None:
    """Decode what a connection asks for until it ends; what a worker does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is for the parent to end it
    with suppress(EOFError, OSError), Connection(descriptor) as connection:
        connection.send(None)
        while True:
            kind, path, options = connection.recv()
            connection.send(_outcome(kind, path, options))


def _outcome(kind: MediaKind, path: Path, options: MediaOptions) -> Outcome:
    try:
        return decode(kind, path, options)
    except UnreadableError as error:
        return str(error)


class _Worker:
    """A process, and the positions of the files that it has been given, in order."""

    def __init__(self) -> None:
        self.connection, other = Pipe()
        boot = _BOOT.format(path=sys.path, descriptor=other.fileno())
        self.process = subprocess.Popen(  # noqa: S603 - this Python
            [sys.executable, "-c", boot],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # decoders written in C print there what they think of a file
            pass_fds=[other.fileno()],
            env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
        other.close()  # or the end of the process would not be the end of what can be read
        self.given: deque[int] = deque()
        self.started = False

    def stop(self) -> None:
        self.connection.close()
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class _Pool:
    """Hands out files to workers, and their outcomes in order."""

    def __init__(self, kind: MediaKind, paths: Sequence[Path], options: MediaOptions, workers: int) -> None:
        self._kind, self._paths, self._options = kind, paths, options
        self._waiting = deque(range(len(paths)))
        self._done: dict[int, Outcome] = {}
        self._next = 0
        self._ahead = _AHEAD * workers
        self._workers: dict[Connection, _Worker] = {}
        for _ in range(workers):
            self._start()

    def outcomes(self) -> Iterator[Outcome]:
        while self._next < len(self._paths):
            for worker in self._workers.values():
                self._give(worker)
            for connection in wait(list(self._workers)):
                self._receive(self._workers[connection])  # type: ignore[index]  # only connections were waited for
            while self._next in self._done:
                yield self._done.pop(self._next)
                self._next += 1

    def close(self) -> None:
        for worker in self._workers.values():
            worker.stop()

    def _start(self) -> None:
        worker = _Worker()
        self._workers[worker.connection] = worker

    def _give(self, worker: _Worker) -> None:
        with suppress(OSError):  # it died meanwhile; reading from it will say so
            while (
                worker.started
                and len(worker.given) < _QUEUED
                and self._waiting
                and self._waiting[0] < self._next + self._ahead
            ):
                worker.given.append(self._waiting.popleft())
                worker.connection.send((self._kind, self._paths[worker.given[-1]], self._options))

    def _receive(self, worker: _Worker) -> None:
        try:
            outcome = worker.connection.recv()
        except (EOFError, OSError):
            self._replace(worker)
            return
        if not worker.started:
            worker.started = True
        else:
            self._done[worker.given.popleft()] = outcome

    def _replace(self, worker: _Worker) -> None:
        del self._workers[worker.connection]
        with suppress(subprocess.TimeoutExpired):
            worker.process.wait(5)  # for its own exit code
        worker.stop()
        if not worker.started:
            raise RuntimeError(
                f"a process that decodes files ended at its start, with code {worker.process.returncode}"
            )
        if worker.given:
            culprit = worker.given.popleft()
            self._done[culprit] = f"the decoder died of it, with code {worker.process.returncode}"
            self._waiting.extendleft(reversed(worker.given))
        self._start()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
