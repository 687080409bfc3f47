"""Who is told how far a run has come."""

from __future__ import annotations

from typing import Any, Protocol

from tqdm import tqdm


class Progress(Protocol):
    """Follows a run from its start to its end."""

    def start(self, total_updates: int) -> None:
        """Begin; a run that goes on advances at once by the updates that it has made before."""

    def advance(self, n: int = 1) -> None:
        """Note that n more updates were made."""

    def show(self, record: dict[str, Any]) -> None:
        """Note what was measured."""

    def close(self) -> None:
        """End, at the end of the run or where it failed."""


class NoProgress:
    """Shows nothing."""

    def start(self, total_updates: int) -> None:
        """Do nothing."""

    def advance(self, n: int = 1) -> None:
        """Do nothing."""

    def show(self, record: dict[str, Any]) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class ProgressBar:
    """Shows a bar on standard error."""

    def __init__(self) -> None:
        self._bar: tqdm[Any] | None = None

    def start(self, total_updates: int) -> None:
        """Draw it empty."""
        self._bar = tqdm(total=total_updates, unit="batch")

    def advance(self, n: int = 1) -> None:
        """Fill it further."""
        if self._bar is not None:
            self._bar.update(n)

    def show(self, record: dict[str, Any]) -> None:
        """Write accuracy and EDM behind it."""
        if self._bar is not None:
            self._bar.set_description(f"epoch {record['epoch']}", refresh=False)
            self._bar.set_postfix(accuracy=f"{record['accuracy']:.3f}", EDM=f"{record['edm']:.2f}", refresh=False)

    def close(self) -> None:
        """Leave it as it is, and go on below it."""
        if self._bar is not None:
            self._bar.close()


def make_progress(wanted: bool | Progress) -> Progress:
    """Make what shows progress: a bar if wanted, nothing if not, or what was given."""
    if isinstance(wanted, bool):
        return ProgressBar() if wanted else NoProgress()
    return wanted
