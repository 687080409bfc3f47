"""Processes that train one run after the other, and are gone when that is done, interrupted or their parent dead."""

from __future__ import annotations

import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, TypeVar

T = TypeVar("T")
Train = Callable[[T, Callable[[], None]], str]
Tell = Callable[[T, str | None], None]


def run_in_workers(train: Train[T], queue: Sequence[T], jobs: int, tell: Tell[T]) -> None:
    """Train everything in the queue, `jobs` at a time, each in a process of its own.

    Args:
        train: a function of a module, called in a worker with options and what to call after every epoch; returns why
            it failed, or nothing.
        queue: options of each run.
        jobs: number of workers.
        tell: called here with a run and None after every epoch of it, and with the reason or "" at its end.
    """
    waiting, idle = deque(queue), list["_Worker"]()
    busy: dict[Connection, tuple[_Worker, T]] = {}
    try:
        while waiting or busy:
            while waiting and len(busy) < jobs:
                worker = idle.pop() if idle else _Worker(train)
                busy[worker.connection] = worker, waiting.popleft()
                with suppress(OSError):  # it died meanwhile; reading from it will say so
                    worker.connection.send(busy[worker.connection][1])
            for connection in wait(list(busy)):
                worker, options = busy[connection]  # type: ignore[index]  # only connections were waited for
                try:
                    message = worker.connection.recv()
                except (EOFError, OSError):
                    del busy[worker.connection]
                    worker.process.join(5)
                    worker.stop()
                    message = f"its process ended with exit code {worker.process.exitcode}"
                else:
                    if message is not None:
                        idle.append(busy.pop(worker.connection)[0])
                tell(options, message)
    finally:
        for worker, _ in busy.values():
            worker.stop()
        for worker in idle:
            worker.dismiss()


class _Worker:
    """A process that waits for options, one run at a time."""

    def __init__(self, train: Train[Any]) -> None:
        context = get_context("spawn")
        self.connection, other = context.Pipe()
        self.process: SpawnProcess = context.Process(target=_work, args=(train, other), daemon=True)
        with _uninterrupted():
            self.process.start()
        other.close()  # or the end of the process would not be the end of what can be read

    def dismiss(self) -> None:
        """Let it end by itself, for there is nothing more to do."""
        self.connection.close()
        self.process.join(5)
        self.stop()

    def stop(self) -> None:
        """End it, whatever it is doing."""
        self.process.terminate()
        self.process.join(5)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.connection.close()


def _work(train: Train[Any], connection: Connection) -> None:
    # The parent is gone when nothing can be read or written any more.
    with suppress(EOFError, OSError):
        while True:
            connection.send(train(connection.recv(), lambda: connection.send(None)))


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Processes started in here ignore Ctrl-C from their first moment; it is for the parent to end them."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may say what a signal does
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
