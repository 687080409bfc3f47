"""How far training is: a bar on a terminal, a bounded number of lines in a log, or nothing; showing it never fails."""

from __future__ import annotations

import math
import sys
from typing import Any, Literal, Protocol, TextIO

from tqdm import tqdm

from equilib_torch.streams import write_text

Mode = Literal["auto", "bar", "lines", "none"]

MAX_LINES = 40
"""Most lines that a run writes where there is no terminal, however many epochs it has."""

_SHOWN = ("run", "epoch", "accuracy", "edm")


class Progress(Protocol):
    """What is told how far training is; its methods never raise."""

    def start(self, total_updates: int) -> None:
        """Begin; there will be so many advances."""

    def advance(self, n: int = 1) -> None:
        """Count n more."""

    def show(self, record: dict[str, Any]) -> None:
        """Show a measurement: a line of metrics.jsonl."""

    def close(self) -> None:
        """End, complete or not."""


class NoProgress:
    """Show nothing."""

    def start(self, total_updates: int) -> None:
        """Do nothing."""

    def advance(self, n: int = 1) -> None:
        """Do nothing."""

    def show(self, record: dict[str, Any]) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class ProgressBar:
    """A bar on a terminal; gone for good once the terminal refuses it."""

    def __init__(self, stream: TextIO, unit: str) -> None:
        self._stream, self._unit = stream, unit
        self._bar: tqdm[Any] | None = None

    def start(self, total_updates: int) -> None:
        """Draw the empty bar."""
        try:
            self._bar = tqdm(total=total_updates, unit=self._unit, file=self._stream)
        except (OSError, ValueError):
            self._bar = None

    def advance(self, n: int = 1) -> None:
        """Move the bar."""
        if self._bar is not None:
            try:
                self._bar.update(n)
            except (OSError, ValueError):
                self._give_up()

    def show(self, record: dict[str, Any]) -> None:
        """Name the measurement behind the bar, when it is drawn next."""
        if self._bar is not None:
            try:
                self._bar.set_postfix_str(describe(record), refresh=False)
            except (OSError, ValueError):
                self._give_up()

    def close(self) -> None:
        """Leave the bar as it is and begin a new line."""
        if self._bar is not None:
            try:
                self._bar.close()
            except (OSError, ValueError):
                self._give_up()
            self._bar = None

    def _give_up(self) -> None:
        if self._bar is not None:
            self._bar.disable = True  # or it would try again when it is collected
            self._bar = None


class ProgressLines:
    """A line per measurement, evenly spaced where that would be more than `MAX_LINES`."""

    def __init__(self, stream: TextIO) -> None:
        self._stream: TextIO | None = stream
        self._total, self._done, self._lines = 0, 0, 0

    def start(self, total_updates: int) -> None:
        """Remember how long it will be."""
        self._total, self._done, self._lines = total_updates, 0, 0

    def advance(self, n: int = 1) -> None:
        """Count."""
        self._done += n

    def show(self, record: dict[str, Any]) -> None:
        """Write a line if the next fortieth of the training is done."""
        part = self._done / self._total if self._total else 1.0
        # Rounded down, so that the last measurement is always shown.
        if self._stream is None or math.floor(MAX_LINES * part + 1e-9) <= self._lines:
            return
        self._lines = math.floor(MAX_LINES * part + 1e-9)
        if write_text(f"{part:4.0%}  {describe(record)}\n", self._stream):
            self._stream = None

    def close(self) -> None:
        """Do nothing: every line is complete."""


def make_progress(mode: Mode = "auto", stream: TextIO | None = None, *, unit: str = "batch") -> Progress:
    """Make what shows the progress: with "auto" a bar on a terminal, else lines.

    Args:
        mode: "auto", "bar", "lines" or "none".
        stream: Where to; default: standard error, and nothing if that is closed.
        unit: What is counted.

    Example:
        >>> from io import StringIO
        >>> log = StringIO()
        >>> progress = make_progress(stream=log)
        >>> progress.start(200)
        >>> for epoch in range(1, 201):
        ...     progress.advance()
        ...     progress.show({"epoch": epoch, "accuracy": 0.5, "edm": 0.25})
        >>> len(log.getvalue().splitlines()), log.getvalue().splitlines()[-1]
        (40, '100%  epoch 200, accuracy 0.500, EDM 0.25')
    """
    stream = sys.stderr if stream is None else stream
    if mode == "none" or stream is None or getattr(stream, "closed", False):
        return NoProgress()
    if mode == "bar" or (mode == "auto" and _is_terminal(stream)):
        return ProgressBar(stream, unit)
    return ProgressLines(stream)


def describe(record: dict[str, Any]) -> str:
    """Describe a measurement in a few words.

    Example:
        >>> describe({"epoch": 3, "accuracy": 0.91234, "edm": 0.5, "train_loss": 1.0})
        'epoch 3, accuracy 0.912, EDM 0.50'
    """
    written = {"accuracy": "accuracy {:.3f}", "edm": "EDM {:.2f}"}
    return ", ".join(written.get(key, f"{key} {{}}").format(record[key]) for key in _SHOWN if key in record)


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except (AttributeError, OSError, ValueError):
        return False
