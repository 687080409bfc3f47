"""Where the time of a run goes: seconds by part, each moment counted once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from equilib_torch.training.device import synchronise


class Clock:
    """Adds up seconds by part of a run.

    Attributes:
        seconds: of the parts train, schedule and evaluate. A part that begins within another stops that one's clock.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._running: list[str] = []
        self._since = 0.0
        self.seconds = {"train": 0.0, "schedule": 0.0, "evaluate": 0.0}

    @contextmanager
    def measure(self, part: str) -> Iterator[None]:
        """Count the time spent inside to `part`."""
        self._credit()
        self._running.append(part)
        try:
            yield
        finally:
            self._credit()
            self._running.pop()

    def _credit(self) -> None:
        """Give the time since the last call to the part that is running."""
        synchronise(self._device)
        now = time.perf_counter()
        if self._running:
            self.seconds[self._running[-1]] += now - self._since
        self._since = now
